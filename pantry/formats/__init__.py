"""Readers of model files. They treat every file as hostile and never load weights or run code."""
