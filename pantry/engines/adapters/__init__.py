"""The engine adapters, one file each; the file name is the engine name (see docs/adr/0004)."""
