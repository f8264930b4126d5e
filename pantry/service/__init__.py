"""The HTTP front of the service."""
