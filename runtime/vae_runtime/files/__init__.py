"""Read files within size limits and write files atomically."""
