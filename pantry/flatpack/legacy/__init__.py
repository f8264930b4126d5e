"""The packages of 2023, read and written."""
