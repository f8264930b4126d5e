"""The manifest `flatpack.toml`, version 2: what a flatpack is, parsed once into frozen types.

A manifest starts with `flatpack = 2`. The form of 2023, without that line, is read by `pantry.flatpack.legacy.recipe`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from pantry.core.errors import BadFileError, NotFoundError, UsageError, nearest
from pantry.core.files import storage_errors, write_atomically
from pantry.core.refs import Digest
from pantry.core.toml import dump_toml
from pantry.flatpack.licence import check_licence
from pantry.flatpack.names import check_path
from pantry.flatpack.placeholders import Placeholder, find_placeholders

MANIFEST_NAME = "flatpack.toml"
CARD_NAME = "DATASET.md"
MANIFEST_LIMIT = 2 << 20
"""Largest manifest read, in bytes; a delta over thousands of shards stays well below."""
_MAX_DOTS = 300
"""Dots in one line: the time to parse a dotted key grows with the square of its parts."""
_MAX_SHOWN = 50
"""Faults told at once: more are hardly typed by hand."""

_NAME = r"[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?"
_SEMVER = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")


def _digest(value: Any) -> Digest:
    if isinstance(value, Digest):
        return value
    try:
        return Digest.parse(value if isinstance(value, str) else repr(value))
    except UsageError as error:
        raise ValueError(str(error)) from None


def _version(text: str) -> str:
    from packaging.version import InvalidVersion, Version

    if not _SEMVER.fullmatch(text):
        try:
            Version(text)
        except InvalidVersion:
            raise ValueError(f"{text!r} is not a version; write it like '1.0.0', '2.1rc1' or '1.0.0-beta.2'") from None
    return text


def _inner_path(text: str) -> str:
    try:
        return check_path(text)
    except BadFileError as error:
        raise ValueError(error.message) from None


DigestText = Annotated[
    Digest, PlainValidator(_digest), PlainSerializer(str), WithJsonSchema({"type": "string", "pattern": "^sha256:"})
]
_NAME_FORM = rf"^(?:{_NAME}/)?{_NAME}$"
Name = Annotated[str, StringConstraints(pattern=_NAME_FORM)]
"""`name` or `publisher/name`, lower case."""
Version = Annotated[str, StringConstraints(max_length=64), AfterValidator(_version)]
Licence = Annotated[str, AfterValidator(check_licence)]
InnerPath = Annotated[str, AfterValidator(_inner_path)]
"""A path inside the flatpack, with forward slashes."""
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Kind = Literal["model", "recipe", "delta", "adapter", "dataset"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Licences(_Part):
    """Licences, separately for code, data and weights."""

    code: Licence | None = None
    data: Licence | None = None
    weights: Licence | None = None


class ModelFacts(_Part):
    """What is known of the model: numbers in units of one (parameters, tokens of context)."""

    family: Line | None = None
    architecture: Line | None = None
    parameters: int | None = Field(None, gt=0)
    context: int | None = Field(None, gt=0)
    quantisation: Line | None = None
    tags: tuple[Line, ...] = ()
    chat_template: InnerPath | None = Field(None, description="File of the flatpack that holds the chat template.")
    file: InnerPath | None = Field(None, description="The file to load, where there is more than one.")


class Provenance(_Part):
    """Links from data to recipe to weights to evaluation, by digest; `base` are the models this one was made from."""

    datasets: tuple[DigestText, ...] = ()
    data_unknown: Line | None = None
    """Why nothing is told of the data, in place of a DATASET.md."""
    recipe: DigestText | None = None
    weights: DigestText | None = None
    evaluation: DigestText | None = None
    base: tuple[DigestText, ...] = ()


class FileFact(_Part):
    """One file: its path, the digest of its bytes, and its size in bytes."""

    path: InnerPath
    digest: DigestText
    size: int = Field(ge=0)


class DeltaBase(_Part):
    """One form of the base that a delta accepts. `contents` is the digest over tensor contents, for other file cuts."""

    name: Line
    repository: Line | None = None
    contents: DigestText | None = None
    files: tuple[FileFact, ...] = ()


class Delta(_Part):
    """What a delta is made against and what it rebuilds."""

    bases: tuple[DeltaBase, ...] = Field(min_length=1)
    results: tuple[FileFact, ...] = Field(min_length=1)
    contents: DigestText | None = Field(None, description="Digest over the tensor contents of the result.")


class Adapter(_Part):
    """The base model an adapter (LoRA) belongs to."""

    base: Line
    repository: Line | None = None
    contents: DigestText | None = None
    rank: int | None = Field(None, gt=0)


class Recipe(_Part):
    """How to train: a script or recipe file of the flatpack, its data, and settings for the trainer."""

    run: InnerPath
    data: tuple[InnerPath, ...] = ()
    settings: dict[str, str | int | float | bool] = Field(default_factory=dict)


class Manifest(_Part):
    """A flatpack's manifest. The table that its kind needs must be there."""

    flatpack: Literal[2] = 2
    kind: Kind
    name: Name
    version: Version
    summary: Line
    authors: tuple[Line, ...] = Field(min_length=1)
    homepage: Line | None = None
    licence: Licences = Licences()
    model: ModelFacts | None = None
    recipe: Recipe | None = None
    adapter: Adapter | None = None
    delta: Delta | None = None
    provenance: Provenance = Provenance()

    @model_validator(mode="after")
    def _kind_has_its_table(self) -> Manifest:
        if self.kind != "dataset" and getattr(self, self.kind) is None:
            raise ValueError(f"kind = {self.kind!r} needs a table [{self.kind}]")
        return self

    @model_validator(mode="after")
    def _unknown_data_are_not_told_of(self) -> Manifest:
        if self.provenance.data_unknown is not None:
            told = {
                f"kind = {self.kind!r}": self.kind in ("recipe", "dataset"),
                "licence.data": self.licence.data,
                "provenance.datasets": self.provenance.datasets,
            }
            if contrary := [name for name, given in told.items() if given]:
                raise ValueError(f"provenance.data_unknown contradicts {contrary[0]}; leave one of them out")
        return self

    @property
    def needs_card(self) -> bool:
        """Whether DATASET.md must describe the data: always, unless the manifest says why they are not known."""
        return self.provenance.data_unknown is None


def parse_manifest(content: bytes, where: str = MANIFEST_NAME) -> Manifest:
    """The manifest in `content`. Raises BadFileError with the field, what was expected, what came, the nearest name."""
    table = read_table(content, where)
    if unfilled := find_placeholders(content.decode()):
        raise BadFileError(
            _unfilled(where, unfilled), hint="Fill in what stands in brackets; `pantry licence list` names licences."
        )
    if "flatpack" not in table:
        raise BadFileError(
            f"{where} has no line 'flatpack = 2'.",
            hint="It may be of the format of 2023; `pantry unbox --containerfile` reads that one.",
        )
    try:
        return Manifest.model_validate(table)
    except ValidationError as error:
        raise BadFileError(explain(error, where, Manifest)) from None


def read_table(content: bytes, where: str) -> dict[str, Any]:
    """The TOML table in `content`, whatever its keys. Raises BadFileError with the line."""
    if len(content) > MANIFEST_LIMIT:
        raise BadFileError(f"{where} has {len(content)} bytes; at most {MANIFEST_LIMIT} are read.")
    try:
        text = content.decode()
        for number, line in enumerate(text.split("\n"), 1):
            if line.count(".") > _MAX_DOTS:
                raise BadFileError(f"{where}, line {number}: more than {_MAX_DOTS} dots. Break the line up.")
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise BadFileError(f"{where} is not UTF-8 at byte {error.start}.") from None
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise BadFileError(f"{where} is not valid TOML: {error}.") from None


def read_manifest(path: Path) -> Manifest:
    """The manifest at `path`, a `flatpack.toml` or a folder with one.

    Raises NotFoundError when there is none, and BadFileError as `parse_manifest`.
    """
    file = path / MANIFEST_NAME if path.is_dir() else path
    if not path.exists():
        raise NotFoundError(f"There is no {path}.")
    if not file.is_file():
        raise NotFoundError(f"There is no {MANIFEST_NAME} in {file.parent}.", hint="`pantry init` makes one.")
    with storage_errors(f"Reading {file}"):
        return parse_manifest(file.read_bytes(), str(file))


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write the manifest to `path` (a file, or a folder that gets a `flatpack.toml`), in one step."""
    write_atomically(path / MANIFEST_NAME if path.is_dir() else path, dump_manifest(manifest).encode())


def dump_manifest(manifest: Manifest) -> str:
    """The manifest as TOML text; what is not set is left out."""
    table = manifest.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return dump_toml({"flatpack": 2, **table})


def explain(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    """The faults of a validation in one message, the first `_MAX_SHOWN`: unknown keys with the nearest known one."""
    faults = error.errors(include_url=False)
    lines = [f"{where}: {_explain_one(dict(fault), model)}" for fault in faults[:_MAX_SHOWN]]
    if len(faults) > _MAX_SHOWN:
        lines.append(f"{where}: and {len(faults) - _MAX_SHOWN} faults more.")
    return "\n".join(lines)


def _explain_one(fault: dict[str, Any], model: type[BaseModel]) -> str:
    location = tuple(part for part in fault["loc"])
    name = ".".join(map(str, location))
    if fault["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        near = nearest(str(location[-1]), known)
        hint = f"did you mean {near!r}?" if near else f"known here: {', '.join(known)}."
        return f"there is no key {name!r}; {hint}"
    if fault["type"] == "missing":
        return f"{name!r} is missing."
    message = _expected(fault)
    end = "" if message.endswith(("?", ".")) else "."
    return f"{name}: {message}{end}" if name else f"{message}{end}"


def _expected(fault: dict[str, Any]) -> str:
    """What was expected and what came, in words of ours where the validator's are those of a programmer."""
    given = repr(fault["input"])[:100]
    match fault["type"]:
        case "value_error":
            return str(fault["msg"]).removeprefix("Value error, ")
        case "literal_error":
            known = str(fault["ctx"]["expected"])
            near = nearest(str(fault["input"]), re.findall(r"'([^']+)'", known))
            return f"{given} is not known; expected {known}" + (f"; did you mean {near!r}?" if near else "")
        case "string_pattern_mismatch" if fault["ctx"]["pattern"] == _NAME_FORM:
            return f"{given} is not a name; write it like fox or ada/fox: lower case letters, digits, '.', '_' and '-'"
        case "string_pattern_mismatch":
            return f"{given} is not of the form {fault['ctx']['pattern']}"
        case "string_too_short" | "too_short":
            return "it is empty; something must be there"
        case kind if kind.startswith("date"):
            return f"{given} is not a date; write it like 2026-01-31"
    return f"{given}: {str(fault['msg'])[:1].lower()}{str(fault['msg'])[1:]}"


def _fields_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The keys of the table at `location`, found by walking the field types."""
    for part in location:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(str(part))
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if found := _model_in(argument):
            return found
    return None


def _unfilled(where: str, found: list[Placeholder]) -> str:
    return "\n".join(f"{where}, line {item.line}: {item.field} is still {item.text}." for item in found)


def licence_of(manifest: Manifest) -> str | None:
    """The licence that counts for use: of the weights, else of the data, else of the code."""
    return manifest.licence.weights or manifest.licence.data or manifest.licence.code
