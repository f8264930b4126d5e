"""A bounded sample of a corpus, to calibrate a quantisation by or to measure a model on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heappop, heappush

from pantry.core.errors import UsageError
from pantry.workshop.data.documents import Document, Turn, is_conversation, to_line
from pantry.workshop.data.encoding import Encoder

PASSAGE = 8192
"""Characters of a passage: longer texts are cut, so that one book does not fill the sample."""


@dataclass(frozen=True)
class Sample:
    """Passages, and the token ids of each; those of the last are cut where the number asked for is reached."""

    passages: tuple[Document, ...]
    ids: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """Of all passages; less than asked for when the documents hold no more."""
        return sum(map(len, self.ids))


def draw_sample(documents: Iterable[Document], encoder: Encoder, tokens: int, seed: int) -> Sample:
    """Passages of `tokens` tokens in all, chosen and put in order by the hash of their content with `seed`.

    The order of the documents does not matter, and no passage comes twice. One pass; in memory are the sample, a
    document, and nothing more. Raises UsageError for less than one token or a seed that is not in 0 to 2^63 - 1.
    """
    if tokens < 1 or not 0 <= seed < 1 << 63:
        raise UsageError(f"A sample takes at least 1 token and a seed from 0 to 2^63 - 1; got {tokens} and {seed}.")
    drawn: list[tuple[int, tuple[int, ...], Document]] = []  # the largest hash first, as its negative
    held: set[int] = set()
    total = 0
    for passage in _passages(documents):
        place = -_hash(passage, seed)
        if place in held or (total >= tokens and place < drawn[0][0]):
            continue
        ids = tuple(encoder.encode(passage)[0])
        heappush(drawn, (place, ids, passage))
        held.add(place)
        total += len(ids)
        while total - len(drawn[0][1]) >= tokens:
            out, spare, _ = heappop(drawn)
            held.remove(out)
            total -= len(spare)
    drawn.sort(reverse=True)
    ids_of_all = [ids for _, ids, _ in drawn]
    if total > tokens:
        ids_of_all[-1] = ids_of_all[-1][: tokens - total]
    return Sample(tuple(passage for _, _, passage in drawn), tuple(ids_of_all))


def _hash(passage: Document, seed: int) -> int:
    return int.from_bytes(blake2b(to_line(passage), digest_size=16, salt=seed.to_bytes(8)).digest())


def _passages(documents: Iterable[Document]) -> Iterator[Document]:
    """Conversations as they are; texts in parts, cut after a line, else after a word, else anywhere."""
    for document in documents:
        if is_conversation(document):
            yield document
            continue
        text, at = document[0].text, 0
        while at < len(text):
            end = at + PASSAGE
            if end < len(text):
                end = text.rfind("\n", at, end) + 1 or text.rfind(" ", at, end) + 1 or end
            yield (Turn(document[0].role, text[at:end]),)
            at = end
