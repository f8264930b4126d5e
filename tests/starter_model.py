"""The GGUF file inside the flatpack that ships, for tests that hand it to an engine directly."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from pantry.flatpack.archive.archive import Reader
from pantry.starter import FLATPACK, MODEL

FOLDER = Path(__file__).parents[1] / "pantry" / "starter"


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory(prefix="pantry-starter-", ignore_cleanup_errors=True)
    with Reader(FOLDER / FLATPACK) as reader:
        reader.unbox(Path(made.name, "files"), only=MODEL)
    return made


def starter_gguf() -> Path:
    """The file, unboxed once for the whole run."""
    return Path(_folder().name, "files", MODEL)
