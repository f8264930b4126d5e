"""A strict reader of tar streams that others made: files and folders only, every header bounded.

The standard library's reader takes pax headers of any size into memory and knows many kinds of members; what is
needed here is little, and comes from strangers. Format: POSIX pax (IEEE 1003.1-2017) and GNU long names.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pantry.core.errors import BadFileError
from pantry.flatpack.archive._tar import BLOCK, describe
from pantry.flatpack.names import NameGuard

MAX_HEADER = 1 << 20
"""Largest pax or long-name header, in bytes."""
MAX_MEMBERS = 1_000_000
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)

Read = Callable[[int], bytes]
"""Gives exactly that many bytes, fewer only at the end of the stream."""


@dataclass(frozen=True)
class Member:
    """A file or folder; of a file, `size` bytes of content follow."""

    path: str
    size: int
    executable: bool
    is_folder: bool


def is_tar(block: bytes) -> bool:
    """Whether these 512 bytes are a tar header; zeros are not."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def read_members(read: Read) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """Each member with its content, which is used up before the next.

    Raises BadFileError for links, devices, sparse files, unsafe or clashing names, and a stream that is cut short.
    """
    guard, named, position, count = NameGuard(), "", 0, 0

    def take(size: int) -> bytes:
        nonlocal position
        data = read(size)
        if len(data) < size:
            raise BadFileError(f"The tar stream is cut short at byte {position + len(data)}.")
        position += size
        return data

    def body(size: int) -> Iterator[bytes]:
        left = size
        while left:
            piece = take(min(left, 1 << 20))
            left -= len(piece)
            yield piece
        take(-size % BLOCK)

    while True:
        block = take(BLOCK)
        if not any(block):
            return
        info = _parse(block, position - BLOCK)
        if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
            if info.size > MAX_HEADER:
                raise BadFileError(f"A header of {info.size} bytes at byte {position}; at most {MAX_HEADER} are read.")
            content = take(info.size)
            take(-info.size % BLOCK)
            if info.type == tarfile.XHDTYPE:
                named = _pax_path(content) or named
            elif info.type == tarfile.GNUTYPE_LONGNAME:
                named = _text(content.rstrip(b"\0"))
            continue
        member = _member(info, named, block)
        named = ""
        if not member.path:
            continue
        count += 1
        if count > MAX_MEMBERS:
            raise BadFileError(f"There are more than {MAX_MEMBERS} files.")
        guard.add_folder(member.path) if member.is_folder else guard.add(member.path)
        content_of = body(member.size)
        yield member, content_of
        for _ in content_of:
            pass


def _parse(block: bytes, position: int) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError as error:
        raise BadFileError(f"There is no tar header at byte {position}: {error}.") from None
    if info.size < 0:
        raise BadFileError(f"The tar header at byte {position} tells a size below zero.")
    return info


def _member(info: tarfile.TarInfo, named: str, block: bytes) -> Member:
    is_folder = info.type == tarfile.DIRTYPE
    if not is_folder and info.type not in _FILES:
        raise BadFileError(f"The archive holds {describe(block)}; only files and folders are unboxed.")
    path = named or info.name
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    if is_folder:
        path = path.rstrip("/")
    return Member("" if path == "." else path, 0 if is_folder else info.size, bool(info.mode & 0o100), is_folder)


def _pax_path(content: bytes) -> str:
    """The path a pax header gives, or nothing. Raises BadFileError for sizes and sparse files given that way."""
    path = ""
    while content:
        length_text = content.partition(b" ")[0]
        if not length_text.isdigit() or len(length_text) > 8 or not len(length_text) + 1 < int(length_text):
            raise BadFileError("A pax header is broken.")
        length = int(length_text)
        if length > len(content):
            raise BadFileError("A pax header is broken.")
        key, _, value = content[len(length_text) + 1 : length - 1].partition(b"=")
        if key == b"path":
            path = _text(value)
        elif key == b"size" or key.startswith(b"GNU.sparse"):
            raise BadFileError("A member is sparse or larger than 8 GiB; such a file cannot be unboxed from a tar.")
        content = content[length:]
    return path


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadFileError(f"The name {raw[:80]!r} is not UTF-8.") from None
