"""Which model a file, a folder or the files of a package are: its format, and the role of each file in it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pantry.core.errors import BadFileError, UsageError
from pantry.formats.gguf import read_header
from pantry.formats.kinds import ECHO, GGUF, SAFETENSORS, ModelFormat, format_of
from pantry.formats.memory import Architecture
from pantry.formats.parts import PlacedPart, Role, role_of
from pantry.formats.safetensors_folder import CONFIG, names_a_model
from pantry.formats.split import part_name

MAX_FILES = 10_000  # files of a folder that are looked at
_GGUF_ROLES: dict[str, Role] = {"adapter": "adapter", "mmproj": "projector"}
"""What `general.type` of a GGUF header says (llama.cpp, gguf-py/gguf/constants.py); other types are models."""


@dataclass(frozen=True)
class FoundModel:
    """A model and the files that it is made of, each with its role; `facts` are what they say of it."""

    format: ModelFormat
    parts: tuple[PlacedPart, ...]
    facts: dict[str, Any]


def model_of_file(file: Path) -> FoundModel:
    """The model that one file is. Raises BadFileError when it is damaged or not a whole model."""
    if file.exists() and not file.is_file():
        raise UsageError(f"{file} is not a regular file.", hint=f"Name a model file, like model{GGUF.suffix}.")
    kind = format_of(file.name) or GGUF  # whatever it is called, it may be one
    if kind.folder:
        raise BadFileError(
            f"{file.name} is not a whole model: its configuration and tokenizer are files beside it.",
            hint=f"Add the folder: pantry add {file.parent}",
        )
    parts = (PlacedPart(f"model{kind.suffix}", "weights", file),)
    return FoundModel(kind, parts, kind.facts(parts))


def architecture_of_file(file: Path) -> tuple[Architecture, str]:
    """What decides about the memory of a file of weights, with the configuration beside it, and their type.

    Raises BadFileError when it is damaged.
    """
    kind = format_of(file.name) or GGUF
    beside = file.with_name(CONFIG)
    parts = [PlacedPart(file.name, "weights", file)]
    if kind.folder and beside.is_file():
        parts.append(PlacedPart(CONFIG, "config", beside))
    return kind.architecture(parts)


def model_of_folder(folder: Path) -> FoundModel:
    """The model in a folder. Raises BadFileError when there is none, or more than one."""
    files = {file.relative_to(folder).as_posix(): file for file in _files_in(folder)}
    found = model_in(files)
    if found is None:
        raise BadFileError(
            f"{folder} holds no model: expected a {GGUF.title} file, or {SAFETENSORS.title} files beside a {CONFIG} "
            "with a model_type.",
            hint="Name the folder that the files lie in.",
        )
    return found


def model_in(files: Mapping[str, Path], named: str | None = None) -> FoundModel | None:
    """The model among files that came together, by their paths; None when no format knows one.

    `named` is the file that the publisher says is to be loaded. Raises BadFileError when that one is missing, when it
    is needed and was not said, and for damaged files.
    """
    if named is not None and named not in files:
        raise BadFileError(f"The manifest names the file {named!r}, which is not among the files.")
    if named is not None and format_of(named) is None:
        return None
    roles = _roles(files)
    whole = [path for path, role in roles.items() if role == "weights" and format_of(path) in (GGUF, ECHO)]
    if named is None and len(whole) > 1:
        raise BadFileError(f"The files are {len(whole)} models, and no manifest says which to load.")
    chosen = named or (whole[0] if whole else None)
    kind = format_of(chosen) if chosen else SAFETENSORS
    if kind is None or (kind.folder and not _is_folder_model(files, roles)):
        return None
    taken = [path for path, role in roles.items() if _belongs(path, role, kind, chosen)]
    parts = tuple(PlacedPart(path, roles[path], files[path]) for path in taken)
    return FoundModel(kind, parts, kind.facts(parts))


def _belongs(path: str, role: Role, kind: ModelFormat, chosen: str | None) -> bool:
    """Whether a file is a part of the chosen model. A one-file model has its configuration and tokenizer inside."""
    if kind.folder:
        other = format_of(path)
        return other is None or other is kind
    return path == chosen or (role in ("projector", "adapter") and format_of(path) is kind)


def _roles(files: Mapping[str, Path]) -> dict[str, Role]:
    """The roles of the files that have one, by path. Among several GGUF files their headers tell what each is."""
    roles = {path: role for path in sorted(files) if (role := role_of(path)) is not None}
    ggufs = [path for path in roles if format_of(path) is GGUF]
    for path in ggufs if len(ggufs) > 1 else ():
        with contextlib.suppress(BadFileError):  # a file beside the one that is named; of a model's own it comes up
            header = read_header(files[path])
            kind = header.text("general.type") or ("mmproj" if header.architecture == "clip" else "model")
            roles[path] = _GGUF_ROLES.get(kind, roles[path])
    return roles


def _is_folder_model(files: Mapping[str, Path], roles: Mapping[str, Role]) -> bool:
    """Whether there are weights, and beside them a configuration that says what they are."""
    weights = [path for path, role in roles.items() if role == "weights" and format_of(path) is SAFETENSORS]
    configs = {str(PurePosixPath(path).parent / CONFIG) for path in weights}
    return any(config in files and names_a_model(files[config]) for config in configs)


def _files_in(folder: Path) -> list[Path]:
    found = []
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.is_file() and not hidden and role_of(file.name) is not None:
            found.append(file)
        if len(found) > MAX_FILES:
            raise BadFileError(f"{folder} holds more than {MAX_FILES} files of models.", hint="Name one model.")
    if any(part_name(file.name) for file in found):
        raise BadFileError(f"{folder} holds a model in parts.", hint="Add its first part; the others are found.")
    return found
