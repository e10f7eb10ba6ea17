"""The bundle format (spec, manifest, zip, checksums) and the code that opens bundles."""
