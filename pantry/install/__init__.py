"""From a name, file or address to a model in the store."""
