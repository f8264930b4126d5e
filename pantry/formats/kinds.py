"""The formats of models, and what the rest of Pantry asks of them: one object a format, asked instead of its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pantry.core.errors import BadFileError

if TYPE_CHECKING:  # reading files is imported where files are read: whoever lists models reads none
    from pantry.formats.memory import Architecture
    from pantry.formats.parts import PlacedPart
    from pantry.formats.verdict import FormatVerdict, SafetyFinding


@dataclass(frozen=True)
class ModelFormat:
    """A format. `name` is what the store calls it, `title` what people do.

    `suffix` is how its files of weights end. `remote`: the file describes a model that runs elsewhere. `tensors`: it
    holds weights, so it can be scanned, its memory estimated, and a delta made on it. `folder`: a model comes with
    configuration and tokenizer as files of their own.
    """

    name: str
    title: str
    suffix: str = ""
    remote: bool = False
    tensors: bool = False
    folder: bool = False

    def facts(self, parts: Sequence[PlacedPart]) -> dict[str, Any]:
        """What the files say of the model. Raises BadFileError when they are damaged or not a whole model."""
        return {}

    def architecture(self, parts: Sequence[PlacedPart]) -> tuple[Architecture, str]:
        """What decides about memory, and the type of the weights. Raises BadFileError where there is no telling."""
        raise BadFileError(f"It is of the format {self.title}, whose memory cannot be estimated.")

    def scan(self, parts: Sequence[PlacedPart]) -> FormatVerdict | None:
        """Whether the files are safe to open; None for a format whose files hold nothing that could be dangerous."""
        if not self.tensors:
            return None
        from pantry.formats.verdict import FormatVerdict

        return FormatVerdict(self.name, tuple(_findings(parts)))


def _findings(parts: Sequence[PlacedPart]) -> Iterator[SafetyFinding]:
    from dataclasses import replace

    from pantry.formats.safety import scan

    for part in parts:
        for finding in scan(part.place, part.path).findings:
            inside = f"{part.path}, {finding.where}" if finding.where else part.path
            yield replace(finding, where=inside) if len(parts) > 1 else finding


class _GGUF(ModelFormat):
    def facts(self, parts: Sequence[PlacedPart]) -> dict[str, Any]:
        from pantry.formats.facts import gguf_facts
        from pantry.formats.gguf import read_header

        return gguf_facts(read_header(_weights(parts)))

    def architecture(self, parts: Sequence[PlacedPart]) -> tuple[Architecture, str]:
        from pantry.formats.gguf import read_header
        from pantry.formats.memory import architecture_of

        header = read_header(_weights(parts))
        return architecture_of(header), header.quantisation


class _Safetensors(ModelFormat):
    def facts(self, parts: Sequence[PlacedPart]) -> dict[str, Any]:
        from pantry.formats.safetensors_folder import folder_facts

        return folder_facts(parts)

    def architecture(self, parts: Sequence[PlacedPart]) -> tuple[Architecture, str]:
        from pantry.formats.safetensors_folder import folder_architecture

        return folder_architecture(parts)


class _Echo(ModelFormat):
    def facts(self, parts: Sequence[PlacedPart]) -> dict[str, Any]:
        from pantry.formats.facts import echo_facts

        return echo_facts(_weights(parts))


GGUF: ModelFormat = _GGUF("gguf", "GGUF", ".gguf", tensors=True)
SAFETENSORS: ModelFormat = _Safetensors("safetensors", "safetensors", ".safetensors", tensors=True, folder=True)
ECHO: ModelFormat = _Echo("echo", "echo", ".echo")
REMOTE = ModelFormat("remote", "remote", remote=True)
FORMATS = (GGUF, SAFETENSORS, ECHO, REMOTE)


def format_called(name: str) -> ModelFormat:
    """The format that the store calls so. One that only an engine of another distribution knows is a bare name."""
    return next((each for each in FORMATS if each.name == name), ModelFormat(name, name))


def format_of(path: str) -> ModelFormat | None:
    """The format of weights in a file of such a name; None for other files."""
    suffix = Path(path).suffix.lower()
    return next((each for each in FORMATS if each.suffix and each.suffix == suffix), None)


def is_whole_model(path: str) -> bool:
    """Whether a file of such a name can be a model by itself, with weights in it."""
    found = format_of(path)
    return found is not None and found.tensors and not found.folder


def _weights(parts: Sequence[PlacedPart]) -> Path:
    from pantry.formats.parts import of_role

    found = of_role(parts, "weights")
    if not found:
        raise BadFileError("There are no weights among its files.")
    return found[0]
