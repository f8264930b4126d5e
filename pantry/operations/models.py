"""Adding model files to the store, and what a model file says of itself."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from pantry.client.connection import ServiceConnection
from pantry.core.errors import BadFileError, ServiceUnavailableError, UsageError
from pantry.core.foreign_json import parse_file_json
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.core.units import printable
from pantry.formats.gguf import GGUFHeader, read_header
from pantry.formats.split import part_name
from pantry.install.split_files import whole_model
from pantry.store.blobs import Progress
from pantry.store.models import InstalledModel, Store
from pantry.store.packages import Packages

STARTER = ModelName("starter")
"""The model that travels inside the package."""
_MAX_ECHO = 1_000_000  # bytes
LONGEST_FACT = 400  # characters of a text from a model file that are kept


def add_model(
    store: Store,
    file: Path,
    name: ModelName | None = None,
    *,
    source: str | None = None,
    progress: Progress | None = None,
) -> InstalledModel:
    """Check a model file and copy it into the store, by default under its file name; parts of a model as one.

    Raises BadFileError when it is damaged or no model Pantry can run, StorageError when it cannot be read or stored,
    ConflictError when the name is taken by another model.
    """
    chosen, source = name or name_from_file(file), source or str(file.absolute())
    with whole_model(file, store.blobs.folder, progress) as whole:
        kind, facts = inspect_file(whole)
        link = whole != file  # a joined file is nobody else's
        return store.add(chosen, whole, format=kind, source=source, facts=facts, progress=progress, link=link)


def inspect_file(file: Path) -> tuple[str, dict[str, Any]]:
    """The format of a model file and the facts in its header. Raises BadFileError for anything Pantry cannot run."""
    if file.exists() and not file.is_file():
        raise UsageError(f"{file} is no regular file.", hint="Name a model file, like model.gguf.")
    if file.suffix == ".echo":
        return "echo", _echo_facts(file)
    return "gguf", gguf_facts(read_header(file))


def gguf_facts(header: GGUFHeader) -> dict[str, Any]:
    """The facts of a GGUF header that listing, selection and memory estimates use."""
    facts = {
        "architecture": header.architecture,
        "title": header.name,
        "parameters": header.parameters,
        "quantisation": header.quantisation,
        "context": header.context_length,
        "licence": header.text("general.license"),
        "description": header.text("general.description"),
        "chat": header.chat_template is not None,
    }
    if not header.tensors:
        raise BadFileError("The file holds no tensors: it is a vocabulary, not a model.")
    if (parts := header.number("split.count") or 1) > 1:
        raise BadFileError(f"The file is one of {parts} parts of a model.", hint="Add it where the others lie beside.")
    blocks = header.number("block_count")
    if blocks is None or not 1 <= blocks <= len(header.tensors):
        raise BadFileError(f"The file claims {blocks} blocks with {len(header.tensors)} tensors: it is damaged.")
    if header.context_length is not None and header.context_length < 1:
        raise BadFileError(f"The file claims a context of {header.context_length} tokens: it is damaged.")
    return {key: printable(value)[:LONGEST_FACT] if isinstance(value, str) else value for key, value in facts.items()}


def with_told(facts: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """The facts of a header with what a manifest or repository tells beside them; empty values tell nothing.

    The header's own licence is kept as `header_licence`: both bind.
    """
    given = {key: value for key, value in told.items() if value}
    if "licence" in given and facts.get("licence"):
        given["header_licence"] = facts["licence"]
    return facts | given


def name_from_file(file: Path) -> ModelName:
    """A model name from a file name: `Qwen3-0.6B-Q8_0.gguf` becomes `qwen3-0.6b-q8_0`."""
    part = part_name(file.name)
    stem = part.stem if part else file.stem
    text = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")
    if not text:
        raise UsageError(f"{file.name!r} gives no model name.", hint="Give one with --name.")
    return ModelName.parse(re.sub(r"\.{2,}", ".", text)[:128].strip("-._"))


def _echo_facts(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_ECHO + 1)
    except OSError as error:
        raise BadFileError(f"{file.name} is not an echo model: {error}") from None
    if len(raw) > _MAX_ECHO:
        raise BadFileError(f"{file.name} is not an echo model: it is larger than {_MAX_ECHO} bytes.")
    content = parse_file_json(raw, f"The echo model {file.name}")
    if not isinstance(content, dict):
        raise BadFileError(f"{file.name} is not an echo model: expected a JSON object.")
    context = content.get("context", 512)
    if not isinstance(context, int) or context < 1:
        raise BadFileError(f"{file.name} is not an echo model: context is {context!r}.")
    return {"architecture": "echo", "context": context, "chat": True}


def model_named(text: str) -> ModelName:
    """The name of a model here, from that name or from the one it was pulled by: `ada/fox:1.0` is `ada-fox:1.0`.

    Raises UsageError.
    """
    publisher, slash, rest = text.strip().partition("/")
    if slash and publisher and rest:
        with contextlib.suppress(UsageError):
            return ModelName.parse(f"{publisher}-{rest}")
    return ModelName.parse(text)


def find_model(paths: Paths, store: Store, name: ModelName) -> InstalledModel:
    """The installed model called `name`; the starter model is installed on the way when it is not there yet.

    Raises ModelNotFoundError with the nearest name, and for the starter what `install_starter` raises. Blocking.
    """
    if name == STARTER and store.find(name) is None:
        from pantry.install.starter import install_starter

        return install_starter(paths)
    return store.get(name)


def installed_models(paths: Paths) -> list[InstalledModel]:
    """All installed models by name."""
    with Store.open(paths) as store:
        return store.list()


def installed_model(paths: Paths, name: str) -> InstalledModel:
    """The model of that name. Raises ModelNotFoundError with the nearest name."""
    with Store.open(paths) as store:
        return find_model(paths, store, model_named(name))


def model_path(paths: Paths, name: str) -> Path:
    """The path of a model's file, its digest checked. Raises ModelNotFoundError or VerificationError."""
    with Store.open(paths) as store:
        return store.verified_file(find_model(paths, store, model_named(name)))


def remove_model(paths: Paths, name: str) -> int:
    """Unload a model if a service runs, forget it, and delete its file unless another uses it; the bytes freed.

    A package without a model that is called so goes as well.

    Raises ModelNotFoundError, or ConflictError while the model writes an answer.
    """
    from pantry.operations.packages import package_without_model

    with Store.open(paths) as store:
        if (package := package_without_model(store, name)) is not None:
            return Packages(store).remove(package)
        parsed = model_named(name)
        store.get(parsed)
        with contextlib.suppress(ServiceUnavailableError):
            ServiceConnection(paths).post("/admin/unload", {"model": str(parsed)})
        return store.remove(parsed)
