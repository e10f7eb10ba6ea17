"""Files: read within limits, written atomically or as a stream."""
