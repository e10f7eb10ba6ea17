"""What a bundle is: spec, manifest, archive, checksums, and how one is opened."""
