"""The port the service starts from, known to servers and clients alike."""

DEFAULT_PORT = 7490
PORT_TRIES = 16
"""How many ports, from the chosen one up, the service tries and clients look at."""
