"""A repository whose files come slowly, for tests of what happens in the middle of a pull."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pantry.core.paths import Paths
from pantry.operations.repositories import add_repository
from tests.repository.flatpacks import Published, gguf, make_flatpack, trust_signer
from tests.repository.servers import Faults, FileServer, serving


@contextlib.contextmanager
def serving_slowly(paths: Paths, folder: Path) -> Iterator[FileServer]:
    """A server of a repository with the model `big`, known to this home and its signer trusted."""
    lab = Published(folder / "lab").create()
    lab.publish(make_flatpack(folder / "work", "big", content=gguf("big") + os.urandom(3_000_000)))
    with serving(lab.folder, Faults(pause=0.2, only="targets/")) as server:
        trust_signer(paths)
        add_repository(paths, "lab", server.url, lab.folder / "root.json")
        yield server
