"""Tells the language of a document with py3langid (its model is in its wheel), for the filter `languages`."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from pantry.core.errors import BadFileError, MissingExtraError, did_you_mean
from pantry.workshop.data.documents import Document

LOOKED_AT = 4000
"""Characters of a document by which its language is told."""
CERTAIN, HARDLY = 0.5, 0.1
"""Left out is what is in another language with the first probability, and in a wanted one with less than the second."""


class LanguageFilter:
    """Keeps documents in the wanted languages (ISO 639 codes), and those too short to tell.

    Raises MissingExtraError without py3langid, BadFileError for a language it does not know.
    """

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = frozenset(wanted)
        known: list[str] = list(_identifier().labels)
        for code in wanted:
            if code not in known:
                hint = did_you_mean(code, known, f"Known: {', '.join(sorted(known))}.")
                raise BadFileError(f"languages: {code!r} is not a language that can be recognised.", hint=hint)

    def other(self, document: Document) -> str | None:
        """The code of the other language that the document is in; None when it stays."""
        text = "\n".join(turn.text for turn in document)[:LOOKED_AT]
        chances: dict[str, float] = dict(_identifier().rank(text))
        likeliest = max(chances, key=chances.__getitem__)
        wanted = sum(chances[code] for code in self._wanted)
        return likeliest if chances[likeliest] >= CERTAIN and wanted < HARDLY else None


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ModuleNotFoundError:
        raise MissingExtraError("Telling languages", "train") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
