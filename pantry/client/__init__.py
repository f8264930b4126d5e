"""The Python client of a running service: finds it, asks it, streams its answers."""
