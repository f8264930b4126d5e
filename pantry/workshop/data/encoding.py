"""Documents as token ids, by any tokenizer: a layout says where special tokens stand, a callable encodes the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from pantry.core.errors import BadFileError, UsageError
from pantry.core.files import storage_errors
from pantry.workshop.data.documents import Document, is_conversation

Part = tuple[str | int, bool]
"""A text in which nothing is special, or the id of a special token; and whether it is the model's own word."""
Layout = Callable[[Document], Iterable[Part]]


@dataclass(frozen=True)
class Encoder:
    """A tokenizer as a callable from text to ids below `vocab`, and how a document is laid out for it."""

    ids_of: Callable[[str], Sequence[int]]
    vocab: int
    layout: Layout

    def encode(self, document: Document) -> tuple[list[int], list[bool]]:
        """Token ids, and for each whether it is the model's own word. Raises UsageError for an id out of bounds."""
        ids: list[int] = []
        own: list[bool] = []
        for part, mine in self.layout(document):
            new = [part] if isinstance(part, int) else self.ids_of(part)
            ids += new
            own += [mine] * len(new)
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab:
            wrong = next(number for number in ids if not 0 <= number < self.vocab)
            raise UsageError(f"The tokenizer gave the token {wrong}; its vocabulary ends at {self.vocab - 1}.")
        return ids, own


def text_layout(begin: Sequence[int] = (), end: Sequence[int] = ()) -> Layout:
    """Every text between special tokens, all of it the model's own. It raises BadFileError for a conversation."""

    def layout(document: Document) -> Iterator[Part]:
        if is_conversation(document):
            raise BadFileError(
                "The data hold a conversation, and how this tokenizer's model lays one out is not known.",
                hint="Use data of plain texts.",
            )
        yield from ((number, True) for number in begin)
        yield document[0].text, True
        yield from ((number, True) for number in end)

    return layout


def encoder_of_file(path: Path, layout: Layout | None = None) -> Encoder:
    """The tokenizer of an existing model, from its `tokenizer.json`; without a layout, texts as it frames them itself.

    Special tokens in plain text stay plain text. Raises StorageError, BadFileError for another kind of file.
    """
    with storage_errors(f"Reading {path}"):
        content = path.read_bytes()
    try:
        tokenizer = Tokenizer.from_buffer(content)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        frame = tokenizer.encode("a")
        vocab = 1 + max(tokenizer.get_vocab().values())  # ids may have gaps
    except Exception as error:  # the library raises nothing more special
        raise BadFileError(
            f"{path} is not the file of a working tokenizer: {error}.", hint="Name a tokenizer.json."
        ) from None
    at = next((at for at, special in enumerate(frame.special_tokens_mask) if not special), len(frame.ids))
    after = next((at for at, special in enumerate(reversed(frame.special_tokens_mask)) if not special), 0)
    tokenizer.encode_special_tokens = True

    def ids_of(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    return Encoder(ids_of, vocab, layout or text_layout(frame.ids[:at], frame.ids[len(frame.ids) - after :]))
