"""Measurements: each module is a command that prints a Markdown table of ratios taken in one run."""
