"""Read files within limits, write them atomically."""
