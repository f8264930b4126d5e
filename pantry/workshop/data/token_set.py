"""A corpus as token files in a folder, split into training and held-out part; made anew when anything differs.

`data.json` says from what the files were made and names every file. It is written last and deleted first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pantry.core.errors import BadFileError
from pantry.core.files import staged_file, storage_errors, write_atomically
from pantry.workshop.data.cleaning import Cleaned
from pantry.workshop.data.corpus import Corpus
from pantry.workshop.data.documents import Document, from_line, is_conversation, own_bytes, to_line
from pantry.workshop.data.encoding import Encoder
from pantry.workshop.data.split import Split
from pantry.workshop.data.tokens import SHARD, TokenFile, token_paths, write_tokens

INDEX = "data.json"
_DOCUMENTS = "documents.jsonl"
_FORMAT = 3

MakeEncoder = Callable[[Iterator[Document]], Encoder]
"""Gives the encoder, and may learn it from the documents of the training part."""


@dataclass(frozen=True)
class TokenSet:
    """Tokens to learn from and held-out ones. `validation_bytes` are UTF-8 of the model's own words held out."""

    train: TokenFile
    validation: TokenFile
    validation_bytes: int
    chat: bool
    cleaned: Cleaned


def token_set(
    corpus: Corpus,
    room: Path,
    make_encoder: MakeEncoder,
    *,
    key: Mapping[str, object],
    beside: Sequence[str] = (),
    shard: int = SHARD,
    tell: Callable[[str], None] = lambda _: None,
) -> TokenSet:
    """Clean, split and encode `corpus` into `room`; what is there from the same corpus, settings and `key` is used.

    `key` says what else decides about the tokens, `beside` names files in `room` that `make_encoder` leaves there.
    `tell` hears why files that should be there are made anew. `shard` is the tokens in one file.

    Raises BadFileError for faults in the data and when nothing is left of them, StorageError when the disk is full.
    """
    whole_key = {"format": _FORMAT, "data": corpus.digest, "settings": asdict(corpus.settings), "shard": shard, **key}
    whole_key = json.loads(json.dumps(whole_key))
    index = room / INDEX
    facts = _read_index(index, whole_key)
    if facts and (missing := _missing(room, facts["files"])):
        tell(f"{missing} in {room}; the data are prepared anew")
        facts = None
    if facts is None:
        index.unlink(missing_ok=True)
        facts = {"key": whole_key, **_make(corpus, room, make_encoder, shard)}
        names = [*beside, *(path.name for part in ("train", "validation") for path in token_paths(_path(room, part)))]
        facts["files"] = {name: (room / name).stat().st_size for name in names}
        write_atomically(index, json.dumps(facts, indent=1).encode())
    train, validation = (TokenFile.open(_path(room, part), facts["vocab"]) for part in ("train", "validation"))
    return TokenSet(train, validation, facts["validation_bytes"], facts["chat"], _cleaned(facts["cleaned"]))


def _path(room: Path, part: str) -> Path:
    return room / f"{part}.tokens"


def _read_index(index: Path, key: dict[str, object]) -> dict[str, Any] | None:
    try:
        facts = json.loads(index.read_bytes())
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and facts.get("key") == key else None


def _missing(room: Path, files: dict[str, int]) -> str | None:
    """What is not as it was written, in words; sizes alone are compared, so that it costs nothing."""
    for name, size in files.items():
        path = room / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
    return None


def _make(corpus: Corpus, room: Path, make_encoder: MakeEncoder, shard: int) -> dict[str, Any]:
    with storage_errors(f"Making {room}"):
        room.mkdir(parents=True, exist_ok=True)
    cleaned, chat = Cleaned(), False
    kept = room / _DOCUMENTS
    try:
        with staged_file(kept) as file:
            for document in corpus.documents(cleaned):
                chat = chat or is_conversation(document)
                file.write(to_line(document))
        if not cleaned.kept:
            left_out = "; ".join(cleaned.sentences())
            raise BadFileError("The data hold no text.", hint=f"{left_out}." if left_out else "The files are empty.")
        split = Split.of(corpus.settings.validation, cleaned.kept)
        encoder = make_encoder(split.training(_read(kept)))
        for part, documents in (("train", split.training), ("validation", split.held_out)):
            encoded = map(encoder.encode, documents(_read(kept)))
            write_tokens(encoded, _path(room, part), encoder.vocab, marks=chat, shard=shard)
        held_out_bytes = sum(map(own_bytes, split.held_out(_read(kept))))
    finally:
        kept.unlink(missing_ok=True)
    return {"validation_bytes": held_out_bytes, "chat": chat, "vocab": encoder.vocab, "cleaned": vars(cleaned)}


def _read(kept: Path) -> Iterator[Document]:
    with kept.open("rb") as lines:
        yield from map(from_line, lines)


def _cleaned(facts: dict[str, Any]) -> Cleaned:
    counts = {name: Counter(facts[name]) for name in ("removed", "scrubbed")}
    return Cleaned(**{**facts, **counts})
