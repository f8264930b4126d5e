"""A model as a folder of safetensors with `config.json` and tokenizer: its facts, and what decides about memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pantry.core.errors import BadFileError
from pantry.core.foreign_json import parse_file_json
from pantry.formats.facts import shortened
from pantry.formats.memory import Architecture, Layer
from pantry.formats.parts import PlacedPart, of_role
from pantry.formats.safetensors import SafetensorsHeader, read_header

CONFIG = "config.json"
_INDEX = ".index.json"
_MAX_CONFIG = 10_000_000  # bytes; tokenizer_config.json of large vocabularies has some
_MAX_LAYERS = 10_000


def folder_facts(parts: Sequence[PlacedPart]) -> dict[str, Any]:
    """What configuration and headers say. Raises BadFileError for weights or a configuration damaged or missing."""
    _check_shards(parts)
    headers, config = _headers(parts), _read(parts, CONFIG)
    if not config:
        raise BadFileError(f"There is no {CONFIG} beside the weights that says which model they are.")
    return shortened(
        {
            "architecture": str(config.get("model_type") or "unknown"),
            "title": None,
            "parameters": sum(header.parameters for header in headers),
            "quantisation": _commonest_type(headers),
            "context": _number(config, "max_position_embeddings") or None,
            "licence": None,
            "description": None,
            "chat": bool(of_role(parts, "template")) or "chat_template" in _read(parts, "tokenizer_config.json"),
        }
    )


def folder_architecture(parts: Sequence[PlacedPart]) -> tuple[Architecture, str]:
    """The architecture and the commonest type of the weights; without a configuration the cache counts as nothing."""
    headers, config = _headers(parts), _read(parts, CONFIG)
    size = sum(header.file_size - header.data_start for header in headers)
    layers = min(_number(config, "num_hidden_layers"), _MAX_LAYERS) or 1
    heads, width = _number(config, "num_attention_heads"), _number(config, "hidden_size")
    head = _number(config, "head_dim") or (width // heads if heads else 0)
    cached = 2 * (_number(config, "num_key_value_heads") or heads) * head
    architecture = Architecture(
        layers=tuple(Layer(size // layers, cached) for _ in range(layers)),
        embedding=0,
        output=size - layers * (size // layers),
        vocabulary=_number(config, "vocab_size"),
        width=width,
        feed_forward=_number(config, "intermediate_size"),
        context=_number(config, "max_position_embeddings") or None,
    )
    return architecture, _commonest_type(headers)


def names_a_model(config: Path) -> bool:
    """Whether a `config.json` says which architecture the weights beside it have, so that an engine can load them."""
    return isinstance(_parsed(config, CONFIG).get("model_type"), str)


def _check_shards(parts: Sequence[PlacedPart]) -> None:
    """Raises BadFileError when a file of weights is missing that an index beside the others lists."""
    known = {part.path for part in parts}
    for part in parts:
        whole = part.path.removesuffix(_INDEX)
        if whole == part.path or whole in known:  # no index, or one that is left over beside the whole file
            continue
        listed = _parsed(part.place, part.path).get("weight_map")
        names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
        folder = PurePosixPath(part.path).parent
        if missing := [name for name in names if str(folder / name) not in known]:
            raise BadFileError(
                f"{missing[0][:200]} is missing: {part.path} lists {len(names)} files of weights.",
                hint="Fetch the missing files as well.",
            )


def _headers(parts: Sequence[PlacedPart]) -> list[SafetensorsHeader]:
    return [read_header(place) for place in of_role(parts, "weights")]


def _commonest_type(headers: Sequence[SafetensorsHeader]) -> str:
    kinds = [tensor.dtype.upper() for header in headers for tensor in header.tensors]
    return max(sorted(set(kinds)), key=kinds.count) if kinds else "unknown"


def _read(parts: Sequence[PlacedPart], name: str) -> dict[str, Any]:
    """A JSON file among the parts, the one nearest to the root; an empty object when there is none that is readable."""
    named = sorted((part for part in parts if PurePosixPath(part.path).name == name), key=lambda part: len(part.path))
    return _parsed(named[0].place, name) if named else {}


def _parsed(file: Path, name: str) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            found = parse_file_json(opened.read(_MAX_CONFIG), name)
    except (OSError, BadFileError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(config: dict[str, Any], name: str) -> int:
    value = config.get(name)
    return value if type(value) is int and 0 <= value < 2**32 else 0
