"""What a bundle can be turned into: C source, a Triton model repository, an HTML page."""
