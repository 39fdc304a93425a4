"""The version, where the face and what is saved read it."""

__version__ = "0.1.0"
