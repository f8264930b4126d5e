"""Pantry: a local-first platform for open language models."""

__version__ = "0.1.0"
