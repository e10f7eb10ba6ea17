"""Reduced precision and 8-bit output for decoders, each measured against the float32 graph."""
