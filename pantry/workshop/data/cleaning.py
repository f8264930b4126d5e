"""Leaves out repeated documents and those of the wrong length or language, and counts what it left out."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from pantry.workshop.data.documents import Document, characters
from pantry.workshop.data.languages import LanguageFilter
from pantry.workshop.data.scrubbing import scrub
from pantry.workshop.data.settings import DataSettings

HASHES = 128
"""Numbers in a signature: the share of common word groups is then known to about 0.04 (1/(2 sqrt(128)))."""
GROUP = 5
"""Words in a group."""
_WORD = re.compile(r"\w+")
_PRIME = (1 << 61) - 1


@dataclass
class Cleaned:
    """How many documents and characters came in and stayed, and what was left out or blanked, by reason."""

    documents: int = 0
    kept: int = 0
    characters: int = 0
    kept_characters: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    scrubbed: Counter[str] = field(default_factory=Counter)

    def sentences(self) -> list[str]:
        """What was done, one line each; empty when nothing was."""
        lines = [f"left out {counted(count, 'documents')}: {why}" for why, count in sorted(self.removed.items())]
        return lines + [f"blanked out {counted(count, kind)}" for kind, count in sorted(self.scrubbed.items()) if count]


def counted(count: int, things: str) -> str:
    """A number of things in words: "1 document", "2,500 documents"."""
    return f"{count:,} {things.removesuffix('s') if count == 1 else things}"


def clean(documents: Iterable[Document], settings: DataSettings, found: Cleaned) -> Iterator[Document]:
    """The documents that stay, in their order; `found` is filled on the way."""
    seen: set[bytes] = set()
    near = NearDuplicates(settings.near_threshold)
    languages = LanguageFilter(settings.languages) if settings.languages else None
    for document in documents:
        found.documents += 1
        found.characters += characters(document)
        kept = scrub(document, settings.scrub, found.scrubbed) if settings.scrub else document
        if why := _why_not(kept, settings, seen, near, languages):
            found.removed[why] += 1
            continue
        found.kept += 1
        found.kept_characters += characters(kept)
        yield kept


def _why_not(
    document: Document, settings: DataSettings, seen: set[bytes], near: NearDuplicates, languages: LanguageFilter | None
) -> str | None:
    size = characters(document)
    if size < settings.min_characters:
        return f"shorter than {settings.min_characters} characters"
    if settings.max_characters is not None and size > settings.max_characters:
        return f"longer than {settings.max_characters} characters"
    if languages and (other := languages.other(document)):
        return f"in another language ({other})"
    if settings.deduplicate:
        digest = hashlib.blake2b(repr(document).encode(), digest_size=16).digest()
        if digest in seen:
            return "the same as an earlier one"
        seen.add(digest)
    if settings.near_duplicates and near.seen_before(" ".join(turn.text for turn in document)):
        return "nearly the same as an earlier one"
    return None


class NearDuplicates:
    """Remembers texts by MinHash (Broder 1997) and finds earlier ones by bands (Leskovec et al., chapter 3).

    Two texts are alike when the share of groups of five words they have in common reaches the threshold.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.rows = _rows(threshold)
        dice = np.random.default_rng(20)
        self._factors = dice.integers(1, 1 << 31, HASHES, dtype=np.uint64) | np.uint64(1)
        self._offsets = dice.integers(0, 1 << 31, HASHES, dtype=np.uint64)
        self._bands: dict[bytes, list[int]] = {}
        self._signatures: list[np.ndarray] = []

    def seen_before(self, text: str) -> bool:
        """Whether an earlier text is alike; if not, this one is remembered."""
        signature = self._signature(text)
        if signature is None:
            return False
        keys = [
            number.to_bytes(2) + signature[at : at + self.rows].tobytes()
            for number, at in enumerate(range(0, HASHES - self.rows + 1, self.rows))
        ]
        for other in {other for key in keys for other in self._bands.get(key, ())}:
            if float((self._signatures[other] == signature).mean()) >= self.threshold:
                return True
        self._signatures.append(signature)
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._signatures) - 1)
        return False

    def _signature(self, text: str) -> np.ndarray | None:
        words = _WORD.findall(text.lower())
        if not words:
            return None
        groups = {" ".join(words[at : at + GROUP]) for at in range(max(1, len(words) - GROUP + 1))}
        hashes = np.array(
            [int.from_bytes(hashlib.blake2b(group.encode(), digest_size=4).digest()) for group in groups], np.uint64
        )
        least = np.full(HASHES, _PRIME, np.uint64)
        for at in range(0, len(hashes), 4096):
            part = hashes[at : at + 4096]
            mixed = (part[:, None] * self._factors + self._offsets) % np.uint64(_PRIME)
            least = np.minimum(least, mixed.min(axis=0))
        return least


def _rows(threshold: float) -> int:
    """Rows of a band, so that texts a little below the threshold still meet in some band."""
    fitting = [rows for rows in range(1, 33) if (rows / HASHES) ** (1 / rows) <= threshold - 0.1]
    return max(fitting, default=1)
