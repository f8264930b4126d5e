"""The programs of worker processes: `python -m pantry.engines.processes.NAME`."""
