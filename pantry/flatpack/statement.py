"""The statement that is signed: which files, of which digest, in which frames.

It is an in-toto Statement v1 with the predicate of OpenSSF Model Signing (https://model_signing/signature/v1.0):
`serialization` and `resources` are that standard's own. Two things are added, which other verifiers pass over: `size`
and `executable` of each resource, and `archive`, the compressed frames of the `.fpk` with their digests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pantry.core.errors import BadFileError
from pantry.core.refs import Digest
from pantry.flatpack.names import BUNDLE_NAME, NameGuard, fold, sort_key

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
PAYLOAD_TYPE = "application/vnd.in-toto+json"

MAX_FILES = 400_000
MAX_FILE_SIZE = 1 << 50
MAX_FRAME = 64 << 20
"""Content of one frame, in bytes."""
_FREE_PARTS = 2000
_BYTES_PER_PART = 10
"""Values that JSON may have: so many, and one more for each so many bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a flatpack. `size` (bytes) is None only where another tool made the statement."""

    path: str
    digest: Digest
    size: int | None = None
    executable: bool = False

    @property
    def known_size(self) -> int:
        """The size in bytes. Raises BadFileError where the statement does not tell it."""
        if self.size is None:
            raise BadFileError(f"The statement does not tell the size of {self.path!r}.")
        return self.size


@dataclass(frozen=True, slots=True)
class Frame:
    """One zstd frame: its compressed size, the size of its content, and the digest of its compressed bytes."""

    size: int
    content: int
    digest: Digest


@dataclass(frozen=True)
class Statement:
    """What a signature says. `frames` is empty where another tool signed a folder."""

    name: str
    entries: tuple[Entry, ...]
    frames: tuple[Frame, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def contents(self) -> Digest:
        """The digest of the whole: SHA-256 over the files' digests, in order (the subject of the statement)."""
        return contents_digest(self.entries)


def contents_digest(entries: Iterable[Entry]) -> Digest:
    """SHA-256 over the raw digests of the files in canonical order, as `model_signing` computes it."""
    return Digest(hashlib.sha256(b"".join(bytes.fromhex(entry.digest.hex) for entry in entries)).hexdigest())


def dump_statement(statement: Statement) -> bytes:
    """The statement as JSON, always the same bytes for the same statement."""
    resources = [
        {"name": entry.path, "algorithm": "sha256", "digest": entry.digest.hex, "size": entry.size}
        | ({"executable": True} if entry.executable else {})
        for entry in statement.entries
    ]
    frames = [{"size": f.size, "content": f.content, "digest": f.digest.hex} for f in statement.frames]
    table = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": statement.name, "digest": {"sha256": statement.contents.hex}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [BUNDLE_NAME],
            },
            "resources": resources,
            "archive": {"version": 2, "frames": frames},
        },
    }
    return json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()


def load_statement(payload: bytes) -> Statement:
    """Parse and check a statement of ours or of `model_signing`.

    Raises BadFileError for another kind of statement, an unsafe or double path, or a root digest that does not fit.
    """
    table = read_json(payload, "The signed statement")
    try:
        _expect("_type", table["_type"], STATEMENT_TYPE)
        _expect("predicateType", table["predicateType"], PREDICATE_TYPE)
        predicate = table["predicate"]
        _expect("method", predicate["serialization"]["method"], "files")
        _expect("hash_type", predicate["serialization"]["hash_type"], "sha256")
        (subject,) = table["subject"]
        statement = Statement(
            _text(subject["name"]),
            _entries(predicate["resources"]),
            _frames(predicate.get("archive")),
            tuple(_text(path) for path in predicate["serialization"].get("ignore_paths", ())),
        )
        _expect("subject digest", subject["digest"]["sha256"], statement.contents.hex)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadFileError(f"The signed statement lacks or breaks a field: {error!r}.") from None
    return statement


def read_json(content: bytes, what: str) -> Any:
    """Parse JSON from a stranger. Raises BadFileError, also for JSON made to need far more memory than its length."""
    parts = content.count(b"[") + content.count(b"{") + max(content.count(b'"') // 2, content.count(b","))
    if parts > _FREE_PARTS + len(content) // _BYTES_PER_PART:
        raise BadFileError(f"{what} has {parts} values in {len(content)} bytes, more than any real one.")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{what} is not valid JSON: {error}.") from None


def _expect(field: str, found: object, wanted: str) -> None:
    if found != wanted:
        raise BadFileError(f"The signed statement has {field} {str(found)[:100]!r}; expected {wanted!r}.")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > 4096:
        raise ValueError(f"expected a short text, got {str(value)[:100]!r}")
    return value


def _count(value: object, limit: int) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise ValueError(f"expected a number from 0 to {limit}, got {str(value)[:40]}")
    return value


def _hex(value: object) -> Digest:
    if not isinstance(value, str):
        raise TypeError(f"expected a digest, got {str(value)[:100]!r}")
    if len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError(f"expected 64 hex digits, got {value[:100]!r}")
    return Digest(value)


def _entries(resources: list[dict[str, Any]]) -> tuple[Entry, ...]:
    if len(resources) > MAX_FILES:
        raise BadFileError(f"The statement lists {len(resources)} files; at most {MAX_FILES} are read.")
    guard = NameGuard()
    entries = []
    for resource in resources:
        path = resource["name"]
        if not isinstance(path, str):
            raise TypeError("expected a path")
        guard.add(path)
        if fold(path.partition("/")[0]) == BUNDLE_NAME:
            raise BadFileError(f"The path {path!r} is kept for the signature itself.")
        _expect("algorithm", resource["algorithm"], "sha256")
        size = resource.get("size")
        entries.append(
            Entry(
                path,
                _hex(resource["digest"]),
                None if size is None else _count(size, MAX_FILE_SIZE),
                resource.get("executable", False) is True,
            )
        )
    return tuple(entries)


def _frames(archive: dict[str, Any] | None) -> tuple[Frame, ...]:
    if archive is None:
        return ()
    if archive["version"] != 2:
        raise BadFileError(f"The archive is of version {str(archive['version'])[:20]}; this program reads version 2.")
    return tuple(map(_frame, archive["frames"]))


def _frame(frame: dict[str, Any]) -> Frame:
    content = _count(frame["content"], MAX_FRAME)
    # Empty blocks could make a frame of any length that holds nothing; stored blocks add 3 bytes to each 128 KiB.
    return Frame(_count(frame["size"], content + content // 8 + 1024), content, _hex(frame["digest"]))


def in_canonical_order(entries: tuple[Entry, ...], first: str) -> bool:
    """Whether the entry `first` leads and the others follow sorted by path."""
    paths = [entry.path for entry in entries]
    return paths[:1] == [first] and paths[1:] == sorted(paths[1:], key=sort_key)
