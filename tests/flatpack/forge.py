"""Makes flatpacks no honest program would: any tar stream, any statement, properly signed if wanted."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zstandard

from pantry.core.refs import Digest
from pantry.flatpack.archive import _frames, _tar
from pantry.flatpack.archive._tail import write_tail
from pantry.flatpack.archive.bundle import Bundle
from pantry.flatpack.signing.keys import PrivateKey
from pantry.flatpack.signing.signature import sign_payload
from pantry.flatpack.statement import Entry, Frame, Statement, dump_statement

MANIFEST = b"""\
flatpack = 2
kind = "model"
name = "ada/tiny"
version = "1.0.0"
summary = "Forged."
authors = ["Mallory"]
[model]
"""


def entry(path: str, content: bytes = b"", *, executable: bool = False) -> Entry:
    return Entry(path, Digest(hashlib.sha256(content).hexdigest()), len(content), executable)


def member(path: str, content: bytes = b"", *, executable: bool = False) -> bytes:
    return _tar.header(path, len(content), executable) + content + _tar.padding(len(content))


def frame_of(content: bytes) -> tuple[bytes, Frame]:
    data = zstandard.ZstdCompressor(level=1).compress(content)
    return data, Frame(len(data), len(content), Digest(hashlib.sha256(data).hexdigest()))


def assemble(
    path: Path,
    frames: Sequence[tuple[bytes, Frame]],
    entries: Sequence[Entry],
    *,
    keys: Sequence[PrivateKey] = (),
    edit: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Write a flatpack of these frames whose statement lists these entries, after `edit` of its JSON."""
    payload = dump_statement(Statement("ada/tiny", tuple(entries), tuple(frame for _, frame in frames)))
    if edit:
        table = json.loads(payload)
        edit(table)
        digests = [resource["digest"] for resource in table["predicate"]["resources"]]
        root = hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()
        table["subject"][0]["digest"]["sha256"] = root
        payload = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    bundle = sign_payload(payload, list(keys)) if keys else Bundle(payload)
    out = io.BytesIO()
    for data, _ in frames:
        out.write(data)
    write_tail(out, tuple(frame for _, frame in frames), bundle)
    path.write_bytes(out.getvalue())
    return path


def forge(
    path: Path,
    files: Sequence[tuple[str, bytes]] = (),
    *,
    tail: bytes | None = None,
    keys: Sequence[PrivateKey] = (),
    edit: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """A flatpack of the manifest and `files`; `tail` replaces the tar stream after the manifest."""
    entries = [entry("flatpack.toml", MANIFEST), *(entry(*file) for file in files)]
    rest = b"".join(member(*file) for file in files) + _tar.END if tail is None else tail
    frames = [frame_of(member("flatpack.toml", MANIFEST)), frame_of(rest)]
    return assemble(path, frames, entries, keys=keys, edit=edit)


def signature_frame(content: bytes) -> bytes:
    return _frames.skippable(_frames.SIGNATURE_MAGIC, content)
