"""Which user of this machine is at the other end of a TCP connection or port, as Linux lists it in /proc/net/tcp."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_LOCAL, _REMOTE, _STATE, _UID = 1, 2, 3, 7  # columns; see proc_net_tcp in the kernel's documentation
_LISTENS = "0A"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def user_at(peer: tuple[str, int], here: tuple[str, int]) -> int | None:
    """The user whose process connected from `peer` to `here`; None when it is elsewhere or the system does not tell."""
    wanted = (_endpoint(*peer), _endpoint(*here))
    for columns in _rows():
        if (_parsed(columns[_LOCAL]), _parsed(columns[_REMOTE])) == wanted:
            return int(columns[_UID])
    return None


def ports_of_others() -> frozenset[int]:
    """The TCP ports of this machine on which other users listen, root aside; empty where the system does not tell."""
    trusted = (0, os.getuid())
    found = (columns for columns in _rows() if columns[_STATE] == _LISTENS and int(columns[_UID]) not in trusted)
    return frozenset(_parsed(columns[_LOCAL])[1] for columns in found)


def _rows() -> Iterator[list[str]]:
    for table in _TABLES:
        with contextlib.suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                yield line.split()


def _endpoint(host: str, port: int) -> tuple[bytes, int]:
    return ipaddress.ip_address(host.partition("%")[0]).packed, port


def _parsed(text: str) -> tuple[bytes, int]:
    """An address of the table, `0100007F:1D42`: words of four bytes in this machine's order, then the port."""
    address, _, port = text.partition(":")
    raw = bytes.fromhex(address)
    words = (raw[start : start + 4] for start in range(0, len(raw), 4))
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    if packed.startswith(bytes(10) + b"\xff\xff"):  # IPv4 written as IPv6
        packed = packed[12:]
    return packed, int(port, 16)
