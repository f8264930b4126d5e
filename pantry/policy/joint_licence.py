"""The licence of a fine-tune that was rebuilt: its own and its base's together."""

from __future__ import annotations

from collections.abc import Iterable

from pantry.core.errors import UsageError
from pantry.flatpack.licence import check_licence
from pantry.flatpack.manifest import Manifest


def stricter_licence(base: str | None, own: str | None) -> str | None:
    """The licence under which both must be kept: SPDX `A AND B`, or the one that is known.

    Raises UsageError for a name that neither SPDX nor the catalogue knows.
    """
    known = [text for text in (licence_named(base), licence_named(own)) if text]
    if not known:
        return None
    terms = dict.fromkeys(term for text in known for term in _joined_terms(text))
    return check_licence(" AND ".join(terms))


def _joined_terms(licence: str) -> list[str]:
    """The terms of `A AND B`; anything with alternatives is one term."""
    return [f"({licence})"] if " OR " in licence else licence.split(" AND ")


def licence_of_chain(deltas: Iterable[Manifest]) -> str | None:
    """The licence under which all of them must be kept."""
    licence: str | None = None
    for delta in deltas:
        licence = stricter_licence(licence, delta.licence.weights)
    return licence


def licence_named(text: str | None) -> str | None:
    """A licence as SPDX writes it. Raises UsageError for a name that neither SPDX nor the catalogue knows."""
    if text is None:
        return None
    try:
        return check_licence(text)
    except ValueError as error:
        raise UsageError(f"{str(error).rstrip('?')}{'?' if str(error).endswith('?') else '.'}") from None
