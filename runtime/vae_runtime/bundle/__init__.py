"""The bundle format: spec, manifest, zip, golden vectors, checksums, and opening a bundle."""
