"""The files of an installed model: blobs by digest, each with its path in the model and its role."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from pantry.core.refs import Digest, ModelName
from pantry.formats.parts import Role
from pantry.store.database import Database


@dataclass(frozen=True)
class ModelPart:
    """One file of an installed model. `size` is in bytes."""

    path: str
    role: Role
    digest: Digest
    size: int


def digest_of_parts(parts: Iterable[tuple[str, Digest]]) -> Digest:
    """The digest that a model goes by, from the path and digest of each part.

    That of its file where it is one; else SHA-256 over the files' digests in order of their paths, as with packages.
    """
    digests = [digest for _, digest in sorted(parts, key=lambda part: part[0])]
    if len(digests) == 1:
        return digests[0]
    return Digest(hashlib.sha256(b"".join(bytes.fromhex(digest.hex) for digest in digests)).hexdigest())


def folder_name(parts: Iterable[ModelPart]) -> str:
    """The name of the folder with these files: the same content under other paths is another folder."""
    placed = sorted((part.path, part.digest.hex) for part in parts)
    return hashlib.sha256(json.dumps(placed).encode()).hexdigest()


def write_parts(database: Database, name: ModelName, parts: Iterable[tuple[str, Role, Digest]]) -> None:
    """Write down the parts of a model whose row and blobs are there; in the caller's transaction."""
    for path, role, digest in parts:
        database.execute(
            "INSERT INTO model_parts (name, tag, path, role, digest) VALUES (?, ?, ?, ?, ?)",
            (name.name, name.tag, path, role, str(digest)),
        )


def parts_of(database: Database, name: ModelName) -> tuple[ModelPart, ...]:
    """The parts of one model, by path."""
    return tuple(
        map(_part, database.rows(f"{_SELECT} WHERE name = ? AND tag = ? ORDER BY path", (name.name, name.tag)))
    )


def parts_by_model(database: Database) -> dict[tuple[str, str], tuple[ModelPart, ...]]:
    """The parts of all models, by name and tag."""
    found: dict[tuple[str, str], list[ModelPart]] = {}
    for row in database.rows(f"{_SELECT} ORDER BY name, tag, path"):
        found.setdefault((row["name"], row["tag"]), []).append(_part(row))
    return {key: tuple(parts) for key, parts in found.items()}


_SELECT = "SELECT name, tag, path, role, digest, size FROM model_parts JOIN blobs USING (digest)"


def _part(row: sqlite3.Row) -> ModelPart:
    return ModelPart(row["path"], row["role"], Digest.parse(row["digest"]), row["size"])
