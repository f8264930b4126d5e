"""Splits documents into those to learn from and those held out, by their content alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from pantry.workshop.data.documents import Document, Turn, is_conversation, to_line

FEW_DOCUMENTS = 20
"""With fewer, the end of each text is held out instead of whole documents."""


@dataclass(frozen=True)
class Split:
    """The share held out; if `whole`, of whole documents, else of each text its end (conversations stay whole).

    Whole documents are chosen by their hash: equal ones are never on both sides, in whatever order they come.
    """

    share: float
    whole: bool = True

    @classmethod
    def of(cls, share: float, documents: int) -> Split:
        """The split for so many documents."""
        return cls(share, documents >= FEW_DOCUMENTS)

    def training(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents, or parts of them, to learn from."""
        return self._part(documents, held_out=False)

    def held_out(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The others."""
        return self._part(documents, held_out=True)

    def _part(self, documents: Iterable[Document], *, held_out: bool) -> Iterator[Document]:
        for document in documents:
            if not self.whole and not is_conversation(document):
                yield from self._cut(document, held_out)
            elif self._chosen(document) == held_out:
                yield document

    def _chosen(self, document: Document) -> bool:
        return int.from_bytes(blake2b(to_line(document), digest_size=4).digest()) < self.share * 2**32

    def _cut(self, document: Document, held_out: bool) -> Iterator[Document]:
        text = document[0].text
        at = round(len(text) * (1 - self.share))
        at = text.rfind("\n", 0, at) + 1 or at
        if part := text[at:] if held_out else text[:at]:
            yield (Turn(document[0].role, part),)
