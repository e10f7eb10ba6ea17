"""Formats to convert a bundle to: C source, a Triton model repository, an HTML page."""
