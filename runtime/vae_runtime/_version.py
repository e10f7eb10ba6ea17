"""The version, which packaging metadata and bundles take from here."""

__version__ = "0.1.0"
