"""What is asked for, and how people write it: requirements, preferences, fallback modes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from pantry.catalogue.rights import parse_use
from pantry.catalogue.tags import parse_tag
from pantry.core.errors import UsageError, did_you_mean
from pantry.core.units import format_bytes, parse_bytes
from pantry.evaluation.capabilities import KNOWN_CAPABILITIES

Fallback = Literal["none", "requirements", "requirements_load", "load", "requirements_download"]
"""What may be done when the named model is not running. The first four are those of the 2023 interface.

`none`: the named model or an error. `requirements`: any running model that meets them. `requirements_load`: also an
installed one, to be loaded. `load`: the named model, loaded if need be. `requirements_download`: also one that the
catalogue knows and that would have to be downloaded.
"""
MODES: tuple[Fallback, ...] = get_args(Fallback)
MAX_NEEDS = 64  # requirements in one request
MAX_AMOUNT = 10**18
"""Of tokens, weights or bytes in a requirement: more fits no database and no machine."""
AUTO = "auto"


@dataclass(frozen=True)
class Need:
    """One hard requirement. `label` is how people write it."""

    kind: Literal[
        "tag", "capability", "context", "licence", "ram", "download", "params", "speed", "family", "reads", "local"
    ]
    name: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def label(self) -> str:
        if self.kind in ("tag", "licence", "family", "reads"):
            return f"{self.kind}:{self.name}"
        if self.kind == "local":
            return "local"
        name = self.name if self.kind == "capability" else self.kind
        value = self.at_least if self.at_least is not None else self.at_most
        sign = ">=" if self.at_least is not None else "<="
        shown = format_bytes(value or 0) if self.kind in ("ram", "download") else f"{value:.15g}"
        return f"{name}{sign}{shown}"


@dataclass(frozen=True)
class Request:
    """What is asked for: requirements, preferences in order, what may be done, and a model by name if one is wanted."""

    needs: tuple[Need, ...] = ()
    preferences: tuple[str, ...] = ()
    mode: Fallback = "none"
    model: str | None = None


@dataclass(frozen=True)
class Vocabulary:
    """The words a request may use. `floors` maps a tag to a capability and the measured score that confirms it."""

    tags: frozenset[str]
    capabilities: frozenset[str] = KNOWN_CAPABILITIES
    floors: Mapping[str, tuple[str, float]] = field(default_factory=dict)


_ITEM = re.compile(r"\s*([A-Za-z][A-Za-z0-9_. -]*?)\s*(>=|<=|=|:)\s*(.+?)\s*")
_AT_LEAST = ("context", "params", "speed")
_AT_MOST = ("ram", "download", "params")
_READS = ("text", "image", "audio", "video")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([kmbt]?)", re.IGNORECASE)
_FACTORS = {"": 1, "k": 1000, "m": 1e6, "b": 1e9, "t": 1e12}
PREFERENCES = ("speed", "quality", "small", "newest", "context", "local")


def parse_needs(text: str, vocabulary: Vocabulary) -> tuple[Need, ...]:
    """Requirements separated by commas: `tag:CODING`, `CODING`, `coding>=3`, `context>=8192`, `ram<=6GB`,
    `licence:commercial`, `family:qwen`, `reads:image`, `speed>=20`, `params<=4B`, `local`.

    Raises UsageError with the nearest name for a tag, capability or use that does not exist.
    """
    parts = [part for part in text.split(",") if part.strip()]
    if len(parts) > MAX_NEEDS:
        raise UsageError(f"{len(parts)} requirements are too many; at most {MAX_NEEDS} are allowed.")
    return tuple(dict.fromkeys(_parse_need(part, vocabulary) for part in parts))


def parse_auto(model: str, vocabulary: Vocabulary) -> tuple[Need, ...] | None:
    """The requirements in `auto` or `auto:tag,tag,key>=n`; None when `model` is the name of a model."""
    if model == AUTO:
        return ()
    head, colon, rest = model.partition(":")
    return parse_needs(rest, vocabulary) if head == AUTO and colon else None


def parse_preferences(text: str | Sequence[str], vocabulary: Vocabulary) -> tuple[str, ...]:
    """Preferences in order: `speed`, `quality`, `small`, `newest`, `context`, `local`, a capability, `family:NAME`."""
    parts = text.split(",") if isinstance(text, str) else list(text)
    known = [*PREFERENCES, *sorted(vocabulary.capabilities)]
    found = []
    for part in (part.strip().lower() for part in parts):
        if part and part not in known and not part.startswith("family:"):
            raise UsageError(
                f"There is no preference {part[:60]!r}.", hint=did_you_mean(part, known, f"Known: {', '.join(known)}.")
            )
        if part:
            found.append(part)
    return tuple(dict.fromkeys(found))


def parse_mode(text: str) -> Fallback:
    """A fallback mode by its name. Raises UsageError with the nearest one."""
    name = text.strip().lower().replace("-", "_")
    for mode in MODES:
        if mode == name:
            return mode
    raise UsageError(
        f"There is no fallback mode {text[:60]!r}.", hint=did_you_mean(name, MODES, f"Known: {', '.join(MODES)}.")
    )


def _parse_need(part: str, vocabulary: Vocabulary) -> Need:
    match = _ITEM.fullmatch(part)
    if match is None:
        word = part.strip()
        if word.lower() == "local":
            return Need("local")
        values = (*_AT_LEAST, *_AT_MOST, *vocabulary.capabilities)
        if word.lower() in values and word.upper() not in vocabulary.tags:
            raise UsageError(
                f"The requirement {word!r} lacks its value.",
                hint=f"Write it like '{word}>=3', in quotes: the shell takes > for itself. {word}=3 means the same.",
            )
        return Need("tag", parse_tag(word, vocabulary.tags))
    name, sign, value = match[1].lower(), match[2], match[3]
    if name == "tag":
        return Need("tag", parse_tag(value, vocabulary.tags))
    if name in ("licence", "license", "licence-use", "use"):
        return Need("licence", parse_use(value))
    if name == "family":
        return Need("family", value.lower())
    if name == "reads":
        if value.lower() not in _READS:
            raise UsageError(
                f"No model reads {value[:40]!r}.",
                hint=did_you_mean(value.lower(), _READS, f"Known: {', '.join(_READS)}."),
            )
        return Need("reads", value.lower())
    return _parse_limit(part.strip(), name, sign, value, vocabulary)


def _parse_limit(part: str, name: str, sign: str, value: str, vocabulary: Vocabulary) -> Need:
    keys = [*_AT_LEAST, *_AT_MOST, *vocabulary.capabilities, "tag", "licence", "family", "reads"]
    if name not in keys:
        raise UsageError(
            f"There is no capability or requirement {name[:60]!r}.",
            hint=did_you_mean(name, keys, f"Known: {', '.join(sorted(set(keys)))}."),
        )
    least = sign in (">=", "=", ":")
    if name in ("ram", "download"):
        if sign == ">=":
            raise UsageError(f"{part!r}: {name} is a limit; write {name}<={value}.")
        return Need(_kind(name), at_most=_bounded(part, parse_bytes(value)))
    if sign == "<=" and name != "params":
        raise UsageError(f"{part!r}: write {name}>={value}; only ram, download and params have upper limits.")
    number = _NUMBER.fullmatch(value)
    if number is None:
        raise UsageError(f"{part!r}: {value[:40]!r} is not a number.", hint=f"Write it like {name}>=3.")
    amount = _bounded(part, float(number[1]) * _FACTORS[number[2].lower()])
    if name in vocabulary.capabilities and name not in _AT_LEAST:
        if amount > 10:
            raise UsageError(f"{part!r}: scores go from 0 to 10.")
        return Need("capability", name, at_least=amount)
    return Need(_kind(name), at_least=amount) if least else Need(_kind(name), at_most=amount)


def _bounded(part: str, amount: float) -> float:
    if amount > MAX_AMOUNT:
        raise UsageError(f"{part[:60]!r}: no model has so much; the number is too large.")
    return amount


def _kind(name: str) -> Literal["context", "params", "speed", "ram", "download"]:
    kinds: dict[str, Literal["context", "params", "speed", "ram", "download"]] = {
        "context": "context", "params": "params", "speed": "speed", "ram": "ram", "download": "download",
    }  # fmt: skip
    return kinds[name]
