"""Reduced-precision and 8-bit-output decoders, each measured against the float32 graph."""
