"""The tensors of a file, whatever its format."""

from __future__ import annotations

import stat
from pathlib import Path

from pantry.core.errors import BadFileError
from pantry.core.files import storage_errors
from pantry.formats import gguf, safetensors, torch_file
from pantry.formats.layout import Layout


def read_layout(path: Path, name: str | None = None) -> Layout:
    """The layout of a file, by what its first bytes say; a file of no known format has no tensors.

    `name` is how the file is called, where that is not its name on disk.

    Raises BadFileError when a safetensors or GGUF file is damaged, or when the path is not a plain file, and
    StorageError when it cannot be read.
    """
    with storage_errors(f"Reading {path}"):
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise BadFileError(f"{path} is not a plain file.")
        with path.open("rb") as file:
            first = file.read(9)
    if first[:4] == gguf.MAGIC:
        return gguf.read_layout(path)
    if (name or path.name).endswith(".safetensors"):
        return safetensors.read_layout(path)
    if first[:4] == b"PK\x03\x04":
        return torch_file.read_layout(path)
    return Layout("other", found.st_size)
