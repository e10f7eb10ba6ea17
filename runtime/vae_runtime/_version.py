"""The version; packaging metadata and bundles take it from here."""

__version__ = "0.1.0"
