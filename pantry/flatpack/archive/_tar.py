"""The one tar form a flatpack has: headers that follow from path, size and mode alone (POSIX pax, IEEE 1003.1-2017).

Owners, times and all else are zero. So the whole tar stream follows from the list of files, and a reader compares
bytes instead of interpreting what a stranger wrote.
"""

from __future__ import annotations

import functools
import tarfile

from pantry.flatpack.statement import Entry

BLOCK = 512
END = bytes(2 * BLOCK)
_MAX_PLAIN = 8**11 - 1
_FORM = (
    b"%b%07o\x00"  # name, mode
    b"0000000\x000000000\x00%011o\x0000000000000\x00"  # owner, group, size, time
    b"        %b%100b"  # checksum (filled in after), kind, link name
    b"ustar\x0000%64b0000000\x000000000\x00%167b"  # magic, owner names, device numbers, prefix
)


def header(path: str, size: int, executable: bool) -> bytes:
    """The tar header of a file, with a pax header before it where name or size (bytes) do not fit the plain one."""
    name = path.encode()
    mode = 0o755 if executable else 0o644
    if _is_plain(path, size):
        return _plain(name, size, mode, b"0")
    records = _record(b"path", name)
    if size > _MAX_PLAIN:
        records += _record(b"size", b"%d" % size)
    short = path.encode("ascii", "replace")[:100]
    extension = _plain(b"././@PaxHeader", len(records), 0o644, b"x")
    return extension + records + padding(len(records)) + _plain(short, min(size, _MAX_PLAIN), mode, b"0")


def span(entry: Entry) -> int:
    """The bytes a file takes in the stream: header, content, padding."""
    size = entry.known_size
    plain = _is_plain(entry.path, size)
    return (BLOCK if plain else len(header(entry.path, size, entry.executable))) + size + -size % BLOCK


def _is_plain(path: str, size: int) -> bool:
    return len(path) <= 100 and size <= _MAX_PLAIN and path.isascii()


def padding(size: int) -> bytes:
    """The zeros that fill the last block after `size` bytes."""
    return _zeros(-size % BLOCK)


def stream_size(entries: tuple[Entry, ...]) -> int:
    """The length of the whole tar stream in bytes, end mark included."""
    return sum(map(span, entries)) + len(END)


def describe(block: bytes) -> str:
    """What a foreign tar header block says, for messages: `a symbolic link 'x' to '/etc/passwd'`."""
    kinds = {
        tarfile.SYMTYPE: "a symbolic link",
        tarfile.LNKTYPE: "a hard link",
        tarfile.DIRTYPE: "a folder",
        tarfile.CHRTYPE: "a character device",
        tarfile.BLKTYPE: "a block device",
        tarfile.FIFOTYPE: "a pipe",
        tarfile.REGTYPE: "the file",
    }
    try:
        found = tarfile.TarInfo.frombuf(block[:BLOCK].ljust(BLOCK, b"\0"), "utf-8", "backslashreplace")
    except tarfile.TarError:
        return "no tar header"
    kind = kinds.get(found.type, f"a member of type {found.type!r}")
    target = f" to {found.linkname[:100]!r}" if found.linkname else ""
    return f"{kind} {found.name[:100]!r}{target} of {found.size} bytes"


@functools.cache
def _zeros(count: int) -> bytes:
    return bytes(count)


def _plain(name: bytes, size: int, mode: int, kind: bytes) -> bytes:
    block = bytearray(_FORM % (name.ljust(100, b"\0"), mode, size, kind, bytes(100), bytes(64), bytes(167)))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _record(key: bytes, value: bytes) -> bytes:
    """One pax record: its own length in decimal, a space, `key=value`, a line end."""
    body = b" %b=%b\n" % (key, value)
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return b"%d%b" % (length, body)
