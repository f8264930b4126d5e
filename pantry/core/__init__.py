"""What every room may use: names, errors, settings, folders, files. Standard library and pydantic only."""
