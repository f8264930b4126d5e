"""The result of a training as a flatpack folder of kind `model`: weights, card, provenance, curve, ready to pack."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pantry.core.errors import BadFileError, ConflictError, StorageError
from pantry.core.files import TEMPORARY_PREFIX, storage_errors, write_atomically
from pantry.core.refs import Digest
from pantry.flatpack.cards.dataset_card import Card, CardField, check_card, parse_card, render_card
from pantry.flatpack.manifest import (
    CARD_NAME,
    MANIFEST_NAME,
    Licences,
    Manifest,
    ModelFacts,
    Provenance,
    write_manifest,
)
from pantry.flatpack.placeholders import find_placeholders
from pantry.workshop.data.hub_card import card_of
from pantry.workshop.recipe import RecipeFolder
from pantry.workshop.training.export_gguf import About, export_gguf
from pantry.workshop.training.export_huggingface import export_huggingface
from pantry.workshop.training.export_onnx import export_onnx, onnx_is_there
from pantry.workshop.training.loop import Trainer
from pantry.workshop.training.metrics import draw_losses, read_metrics

MODEL_FILE = "model.gguf"
PROVENANCE_FILE = "training/provenance.json"
SAMPLE_CHARACTERS = 200


@dataclass(frozen=True)
class Package:
    """The finished folder. `faults` are what is left to fill in before it can be packed, as whole sentences.

    `exports` are the names of what programs load, inside the folder.
    """

    folder: Path
    model: Path
    exports: tuple[str, ...]
    faults: tuple[str, ...]


def check_free(folder: Path) -> None:
    """Raises ConflictError when `folder` holds something that no training put there."""
    if folder.exists() and not (folder / PROVENANCE_FILE).is_file():
        raise ConflictError(
            f"{folder} exists and is not the result of a training.", hint="Move it away, or name another with --output."
        )


def write_package(recipe: RecipeFolder, trainer: Trainer, facts: dict[str, Any], notes: Path, folder: Path) -> Package:
    """Write everything to a folder beside `folder`, then put it in its place. Raises StorageError."""
    about = About(recipe.name, _summary(recipe, trainer), recipe.data_licence, trainer.data.chat)
    with _staged_folder(folder) as room:
        (room / "training").mkdir()
        export_gguf(trainer.model, trainer.data.tokenizer, about, room / MODEL_FILE, recipe.settings.gguf)
        export_huggingface(trainer.model, trainer.data.tokenizer, about, room / "huggingface")
        exports = [MODEL_FILE, "huggingface/"]
        if recipe.settings.onnx and onnx_is_there():
            export_onnx(trainer.model, room / "model.onnx")
            exports.append("model.onnx")
        _write_json(room / PROVENANCE_FILE, facts)
        noted = list(read_metrics(notes))
        write_atomically(room / "training/metrics.jsonl", "".join(json.dumps(n) + "\n" for n in noted).encode())
        draw_losses(noted, room / "training/loss.png")
        write_atomically(room / CARD_NAME, render_card(_card(recipe, trainer)).encode())
        write_atomically(room / "README.md", _readme(recipe, trainer, facts).encode())
        write_manifest(_manifest(recipe, trainer, facts, room), room)
        faults = tuple(_faults(room))
    return Package(folder, folder / MODEL_FILE, tuple(exports), faults)


def _faults(room: Path) -> Iterator[str]:
    for item in find_placeholders((room / MANIFEST_NAME).read_text()):
        yield f"{MANIFEST_NAME}, line {item.line}: {item.field} is still {item.text}."
    for fault in check_card((room / CARD_NAME).read_bytes()):
        yield f"{CARD_NAME}, line {fault.line}: {fault.message}"


def fill_recipe_card(recipe: RecipeFolder, trainer: Trainer) -> bool:
    """Write what is known of the data into the recipe's own card, while it is still the untouched template.

    Whether it was: a card that somebody wrote on, that is data itself, or that cannot be written, stays as it is.
    """
    file = recipe.folder / CARD_NAME
    try:
        if CARD_NAME in (name for name, _, _ in trainer.data.files) or file.read_bytes() != render_card().encode():
            return False
        card = replace(_card(recipe, trainer), preprocessing=_planned_steps(recipe))
        write_atomically(file, render_card(card).encode())
    except (OSError, StorageError):
        return False
    return True


@contextmanager
def _staged_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its place when the work is done, and goes when it fails."""
    with storage_errors(f"Writing {folder}"):
        check_free(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        room = folder.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        room.mkdir()
        try:
            yield room
            old = folder.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
            if folder.exists():
                folder.rename(old)
            room.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(room, ignore_errors=True)
            raise


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _summary(recipe: RecipeFolder, trainer: Trainer) -> str:
    count = trainer.shape.parameters
    size = f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
    return f"A language model of {size} parameters, trained from scratch on the text of {recipe.name}."


def _manifest(recipe: RecipeFolder, trainer: Trainer, facts: dict[str, Any], room: Path) -> Manifest:
    with (room / MODEL_FILE).open("rb") as file:
        weights = Digest(hashlib.file_digest(file, "sha256").hexdigest())
    return Manifest(
        kind="model",
        name=manifest_name(recipe.name),
        version="0.1.0",
        summary=_summary(recipe, trainer),
        authors=recipe.authors or ("[name <address>, like Ada Lovelace <ada@example.org>]",),
        licence=Licences.model_validate({"data": recipe.data_licence, "code": recipe.code_licence}),
        model=ModelFacts(
            family="qwen3" if trainer.shape.qk_norm else "llama",
            architecture="qwen3" if trainer.shape.qk_norm else "llama",
            parameters=trainer.shape.parameters,
            context=trainer.shape.context,
            quantisation=recipe.settings.gguf.upper(),
            chat_template=None,
            file=MODEL_FILE,
        ),
        provenance=Provenance(
            datasets=(Digest.parse(facts["data"]["digest"]),),
            recipe=Digest.parse(facts["recipe"]["digest"]),
            weights=weights,
            data_unknown=None,
        ),
    )


def manifest_name(text: str) -> str:
    """A name that a manifest may have: `publisher/name` or `name`, lower case."""
    parts = [re.sub(r"[^a-z0-9._-]+", "-", part.lower()).strip("._-") for part in text.split("/")[-2:]]
    return "/".join(part[:100] for part in parts if part) or "model"


def _card(recipe: RecipeFolder, trainer: Trainer) -> Card:
    """The recipe's own card; what it leaves open and is known from the data is filled in."""
    data = trainer.data
    written = _own_card(recipe.folder / CARD_NAME)
    if written.preprocessing == _planned_steps(recipe):
        written = replace(written, preprocessing=())  # what was done, with its counts, says more
    suffixes = sorted({Path(name).suffix.lstrip(".") or "plain text" for name, _, _ in data.files}) or ["dataset"]
    content = "messages" if data.chat else recipe.settings.text_field
    known = Card(
        name=recipe.name,
        version="0.1.0",
        licence=recipe.data_licence or "",
        contributors=", ".join(recipe.authors),
        contact_name=recipe.authors[0] if recipe.authors else "",
        data_type="text",
        format=", ".join(suffixes),
        fields=(CardField(content, "list" if data.chat else "string", _field_text(data.chat)),),
        preprocessing=(*_sentences(trainer), _split(trainer)),
        sample=({content: _sample(trainer)},),
        usage=("Train with: pantry train",),
    )
    if data.dataset:
        known = _over(known, card_of(data.dataset))
    return _over(known, written)


def _over(card: Card, better: Card) -> Card:
    """`card` with what `better` says."""
    return replace(card, **{name: value for name, value in vars(better).items() if value})


def _own_card(file: Path) -> Card:
    if not file.is_file():
        return Card()
    try:
        with storage_errors(f"Reading {file}"):
            return parse_card(file.read_bytes())[0]
    except BadFileError:
        return Card()


def _field_text(chat: bool) -> str:
    return "a conversation as objects with role and content" if chat else "a text to learn"


def _sentences(trainer: Trainer) -> tuple[str, ...]:
    cleaned = trainer.data.cleaned
    lines = tuple(f"{line[0].upper()}{line[1:]}." for line in cleaned.sentences())
    return lines or (f"Read {cleaned.documents:,} documents; none was left out.",)


def _planned_steps(recipe: RecipeFolder) -> tuple[str, ...]:
    """What happens to the data in any training: no counts, so that it stays true when data are added."""
    repeats = ("Documents that repeat an earlier one are left out.",) if recipe.settings.deduplicate else ()
    return (*repeats, f"{recipe.settings.validation:.0%} of the text is held out to measure the loss.")


def _split(trainer: Trainer) -> str:
    data = trainer.data
    return f"Kept {len(data.train):,} tokens for training and {len(data.validation):,} to measure the loss."


def _sample(trainer: Trainer) -> str:
    data = trainer.data
    text = data.tokenizer.decode(data.train.ids[:400].tolist(), skip_special_tokens=True)
    return re.sub(r"[\[\]]", "", text)[:SAMPLE_CHARACTERS]


def _readme(recipe: RecipeFolder, trainer: Trainer, facts: dict[str, Any]) -> str:
    samples = "\n\n".join("    " + sample.replace("\n", "\n    ") for sample in facts["samples"])
    return (
        f"# {recipe.name}\n\n{_summary(recipe, trainer)} Made {datetime.now(UTC).date().isoformat()} in "
        f"{facts['seconds'] / 60:.1f} minutes of training on {facts['tokens']:,} tokens.\n\n"
        f"Held-out text: {facts['held_out_loss']:.3f} nats per token, "
        f"{facts['held_out_bits_per_byte']:.3f} bits per byte.\n\n![loss](training/loss.png)\n\n"
        "| file | what it is |\n|---|---|\n"
        f"| `{MODEL_FILE}` | for llama.cpp and Pantry |\n"
        "| `huggingface/` | for transformers |\n"
        f"| `{PROVENANCE_FILE}` | data, recipe, code, machine, results |\n\n"
        f"What it writes by itself:\n\n{samples}\n"
    )
