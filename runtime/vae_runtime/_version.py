"""The version; the package metadata and the bundles take it from this module."""

__version__ = "0.2.0"
