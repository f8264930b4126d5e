"""Keys, signatures, and who is trusted for which names."""
