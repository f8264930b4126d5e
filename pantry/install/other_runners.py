"""Models that other runners keep on this machine: found on request, and taken in without copying where that is safe.

Hugging Face and Ollama keep files by their digest and never change them in place; those are linked. LM Studio keeps
the user's own files, which may change; those are cloned where the file system can, else copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pantry.core.errors import BadFileError, PantryError, UsageError
from pantry.core.foreign_json import parse_file_json
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.formats.kinds import is_whole_model
from pantry.formats.model_files import model_of_file
from pantry.formats.parts import role_of
from pantry.formats.split import part_name, parts_beside
from pantry.install.installed import add_model
from pantry.install.model_facts import name_from_file
from pantry.store.models import Store

Runner = Literal["huggingface", "ollama", "lmstudio"]
_MANIFEST_LIMIT = 1 << 20
_OLLAMA_MODEL = "application/vnd.ollama.image.model"


@dataclass(frozen=True)
class Found:
    """A model file of another runner. `unchanging`: that runner never writes into it."""

    runner: Runner
    name: ModelName
    file: Path
    size: int
    unchanging: bool


@dataclass(frozen=True)
class Outcome:
    """What became of one: how it was taken in, or why not."""

    found: Found
    how: str
    error: PantryError | None = None


def find_models(environment: dict[str, str] | None = None) -> list[Found]:
    """GGUF models in the caches of other runners, found where their own variables say."""
    env = dict(os.environ) if environment is None else environment
    home = Path(env.get("HOME", str(Path.home())))
    found = [*_hugging_face(env, home), *_ollama(env, home), *_lm_studio(home)]
    return sorted({each.file: each for each in found}.values(), key=lambda each: (each.runner, str(each.name)))


def add_found(paths: Paths, found: Sequence[Found]) -> Iterator[Outcome]:
    """Check each and take it into the store; one that cannot be taken does not keep the others from it."""
    with Store.open(paths) as store:
        for each in found:
            source = f"{each.runner}: {each.file}"
            try:
                if part_name(each.file.name):
                    model = add_model(store, each.file, each.name, source=source)
                else:
                    taken = model_of_file(each.file)
                    model = store.add(
                        each.name,
                        each.file,
                        format=taken.format.name,
                        source=source,
                        facts=taken.facts,
                        link=each.unchanging,
                    )
            except PantryError as error:
                yield Outcome(each, "", error)
                continue
            linked = store.blobs.path(model.digest).samefile(each.file)
            yield Outcome(each, "linked" if linked else "added")


def _hugging_face(env: dict[str, str], home: Path) -> Iterator[Found]:
    cache = Path(env.get("XDG_CACHE_HOME", str(home / ".cache"))) / "huggingface"
    hub = Path(env.get("HF_HUB_CACHE") or Path(env.get("HF_HOME", str(cache))) / "hub")
    for link in filter(_is_model, hub.glob("models--*/snapshots/*/**/*")):
        if part_name(link.name):  # its parts are known by their names
            yield from _found("huggingface", link.name, link, unchanging=False)
            continue
        blob = link.resolve()
        repository = link.relative_to(hub).parts[0]
        inside = blob.is_relative_to((hub / repository / "blobs").resolve())
        yield from _found("huggingface", link.name, blob, unchanging=inside)


def _ollama(env: dict[str, str], home: Path) -> Iterator[Found]:
    root = Path(env.get("OLLAMA_MODELS") or home / ".ollama" / "models")
    for manifest in (root / "manifests").glob("*/*/*/*"):
        digest = _ollama_digest(manifest)
        if digest is not None:
            name, tag = manifest.parent.name, manifest.name
            yield from _found(
                "ollama", name if tag == "latest" else f"{name}:{tag}", root / "blobs" / digest, unchanging=True
            )


def _ollama_digest(manifest: Path) -> str | None:
    """The file name of the model's blob, as the manifest (a Docker image manifest) names it."""
    try:
        if not manifest.is_file() or manifest.stat().st_size > _MANIFEST_LIMIT:
            return None
        content = parse_file_json(manifest.read_bytes(), manifest.name)
        for layer in content["layers"]:
            digest = str(layer["digest"])
            if layer["mediaType"] == _OLLAMA_MODEL and digest.startswith("sha256:") and digest[7:].isalnum():
                return digest.replace(":", "-")
    except (OSError, BadFileError, KeyError, TypeError):
        return None
    return None


def _lm_studio(home: Path) -> Iterator[Found]:
    for folder in (home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"):
        for file in filter(_is_model, folder.glob("*/*/*")):
            yield from _found("lmstudio", file.name, file, unchanging=False)


def _is_model(file: Path) -> bool:
    return is_whole_model(file.name)


def _found(runner: Runner, name: str, file: Path, *, unchanging: bool) -> Iterator[Found]:
    if role_of(name) == "projector":
        return
    try:
        parsed = name_from_file(Path(name)) if is_whole_model(name) else ModelName.parse(name)
        part = part_name(name)
        if part is not None and part.number > 1:
            return
        parts = parts_beside(file) if part else [file]
        size = sum(each.stat().st_size for each in parts) if file.is_file() else 0
    except (UsageError, BadFileError, OSError):
        return
    if size:
        yield Found(runner, parsed, file, size, unchanging)
