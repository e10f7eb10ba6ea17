"""The bundle format: spec, manifest, zip, checksums, and opening a bundle."""
