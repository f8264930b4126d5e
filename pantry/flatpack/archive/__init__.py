"""The file format: tar in zstd frames, signature bundle, seek table."""
