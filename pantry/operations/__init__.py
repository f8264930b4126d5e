"""The use-cases, which are also the Python API."""
