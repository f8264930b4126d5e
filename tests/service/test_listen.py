"""Sockets in the file system: in place of a dead one of ours, of nothing else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pantry.core.errors import ConflictError
from pantry.service.listen import bind_unix


def dead_socket(path: Path) -> None:
    """What a killed program leaves: a socket nobody listens on."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def test_a_dead_socket_is_replaced_by_one_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    dead_socket(path)
    with bind_unix(path):
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a socket away; CI runs as root")
def test_a_socket_of_another_user_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    dead_socket(path)
    os.chown(path, 65534, 65534)
    before = path.stat()
    with pytest.raises(ConflictError, match="not a socket of yours"):
        bind_unix(path)
    assert path.stat() == before


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    with pytest.raises(ConflictError, match="not a socket of yours"):
        bind_unix(tmp_path / "s")
    assert (tmp_path / "s").read_text() == "mine"
