"""From the recipe's files to tokenizer and token files, kept in the working folder and made again when they differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pantry.core.errors import BadFileError
from pantry.core.files import staged_file, storage_errors, write_atomically
from pantry.workshop.data import tokenizer as tok
from pantry.workshop.data.cleaning import Cleaned, clean
from pantry.workshop.data.documents import Document, Turn, is_conversation
from pantry.workshop.data.hub_dataset import PinnedDataset, pin_dataset, read_dataset
from pantry.workshop.data.sources import data_digest, find_files, read_documents
from pantry.workshop.data.tokens import TokenFile, write_tokens
from pantry.workshop.recipe import RecipeFolder, TrainingRecipe

FEW_DOCUMENTS = 20
"""With fewer, the end of each text is held out instead of whole documents."""
_SETTINGS = (
    "tokenizer", "vocab", "validation", "text_field", "deduplicate", "near_duplicates", "near_threshold", "scrub",
    "languages", "dataset", "dataset_config", "dataset_split", "min_characters", "max_characters",
    "shard_tokens",
)  # fmt: skip
"""What decides about the token files."""
_FORMAT = 2


@dataclass(frozen=True)
class Prepared:
    """Tokens to train on and held-out ones, with what is known of the data. Bytes are UTF-8 of the model's words."""

    tokenizer: Tokenizer
    train: TokenFile
    validation: TokenFile
    validation_bytes: int
    chat: bool
    data_digest: str
    files: tuple[tuple[str, str, int], ...]
    """Name, digest and size of every file read."""
    cleaned: Cleaned
    dataset: PinnedDataset | None = None

    @property
    def vocab(self) -> int:
        return self.tokenizer.get_vocab_size()


def prepare(recipe: RecipeFolder, room: Path, *, offline: bool = False, renew: bool = False) -> Prepared:
    """Read, clean and encode the recipe's data into `room`; what is there from the same data and settings is used.

    `offline` looks up no dataset on the hub, `renew` looks it up again. Raises NotFoundError and BadFileError for
    faults in the data, DownloadError for a dataset that cannot be fetched, StorageError when the disk is full.
    """
    settings = recipe.settings
    dataset = pin_dataset(recipe, room, offline=offline, renew=renew)
    files = find_files(recipe.folder, recipe.data, required=dataset is None)
    digest = data_digest(files, dataset.line if dataset else "")
    key = {"format": _FORMAT, "data": digest, **{name: getattr(recipe.settings, name) for name in _SETTINGS}}
    index = room / "data.json"
    facts = _read_index(index, key)
    if facts is None:
        index.unlink(missing_ok=True)
        documents = read_documents(files, settings.text_field)
        if dataset:
            documents = chain(documents, read_dataset(dataset, recipe.folder, room, settings.text_field))
        facts = {"key": key, **_build(documents, settings, room)}
        write_atomically(index, json.dumps(facts, indent=1).encode())
    tokenizer = tok.load_tokenizer(str(room / "tokenizer.json"))
    vocab = tokenizer.get_vocab_size()
    prepared = Prepared(
        tokenizer, TokenFile.open(room / "train.tokens", vocab), TokenFile.open(room / "validation.tokens", vocab),
        facts["validation_bytes"], facts["chat"], digest, tuple((f.name, f.digest, f.size) for f in files),
        _cleaned(facts["cleaned"]), dataset,
    )  # fmt: skip
    _check_enough(prepared, recipe.settings)
    return prepared


def _read_index(index: Path, key: dict[str, object]) -> dict[str, Any] | None:
    try:
        facts = json.loads(index.read_bytes())
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and facts.get("key") == key else None


def _build(documents: Iterator[Document], recipe: TrainingRecipe, room: Path) -> dict[str, Any]:
    with storage_errors(f"Making {room}"):
        room.mkdir(parents=True, exist_ok=True)
    cleaned = Cleaned()
    kept = room / "documents.jsonl"
    chat = False
    with staged_file(kept) as file:
        for document in clean(documents, recipe, cleaned):
            chat = chat or is_conversation(document)
            file.write(json.dumps([[turn.role, turn.text] for turn in document]).encode() + b"\n")
    if not cleaned.kept:
        left_out = "; ".join(cleaned.sentences())
        raise BadFileError("The data hold no text.", hint=f"{left_out}." if left_out else "The files are empty.")
    whole = cleaned.kept >= FEW_DOCUMENTS
    tokenizer = (
        tok.byte_tokenizer()
        if recipe.tokenizer == "bytes"
        else tok.train_bpe(_part(kept, recipe.validation, whole, held_out=False), recipe.vocab)
    )
    tokenizer.save(str(room / "tokenizer.json"))
    vocab = tokenizer.get_vocab_size()
    held_out_bytes = 0
    for name, held_out in (("train", False), ("validation", True)):
        part = _part(kept, recipe.validation, whole, held_out=held_out)
        encoded = (tok.encode_document(tokenizer, document) for document in part)
        write_tokens(encoded, room / f"{name}.tokens", vocab, marks=chat, shard=recipe.shard_tokens)
    for document in _part(kept, recipe.validation, whole, held_out=True):
        held_out_bytes += tok.own_bytes(document)
    kept.unlink()
    return {"validation_bytes": held_out_bytes, "chat": chat, "cleaned": vars(cleaned)}


def _part(kept: Path, share: float, whole: bool, *, held_out: bool) -> Iterator[Document]:
    """The documents to train on, or the held-out ones; of few texts, their beginnings or their ends."""
    with kept.open("rb") as lines:
        for line in lines:
            document = tuple(Turn(role, text) for role, text in json.loads(line))
            if whole or is_conversation(document):
                if _is_held_out(line, share) == held_out:
                    yield document
            else:
                yield from _cut(document, share, held_out)


def _is_held_out(line: bytes, share: float) -> bool:
    """By the content's hash: equal documents are never on both sides."""
    return int.from_bytes(blake2b(line, digest_size=4).digest()) < share * 2**32


def _cut(document: Document, share: float, held_out: bool) -> Iterator[Document]:
    text = document[0].text
    at = round(len(text) * (1 - share))
    at = text.rfind("\n", 0, at) + 1 or at
    if part := text[at:] if held_out else text[:at]:
        yield (Turn(document[0].role, part),)


def _cleaned(facts: dict[str, Any]) -> Cleaned:
    counts = {name: Counter(facts[name]) for name in ("removed", "scrubbed")}
    return Cleaned(**{**facts, **counts})


def _check_enough(prepared: Prepared, recipe: TrainingRecipe) -> None:
    if len(prepared.train) <= recipe.context:
        raise BadFileError(
            f"The data are too few: {len(prepared.train)} tokens to train on; a context of {recipe.context} needs "
            f"at least {recipe.context + 1}.",
            hint="Add text, or set a smaller context.",
        )
    if len(prepared.validation) < 2:
        raise BadFileError(
            "Nothing could be held out to measure the loss: the data are too few documents.",
            hint="Add documents, or raise `validation`, the share that is held out.",
        )
