"""What to do when no model meets a request: which requirement to leave out or ask for otherwise, and what to pull."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from pantry.core.errors import ModelNotFoundError
from pantry.core.units import format_bytes
from pantry.selection import Choice, Need, Request, Vocabulary

MAX_TRIED = 8
"""Requirements that are left out one after the other to see what would do then."""
Decide = Callable[[Request], Choice]
Size = Callable[[str], int | None]


def advise(
    request: Request, error: ModelNotFoundError, decide: Decide, vocabulary: Vocabulary, size: Size
) -> ModelNotFoundError:
    """`error` with what the wider modes and fewer requirements would give, and the command for it.

    `decide` makes a choice for a request or raises ModelNotFoundError; `size` tells the bytes to download a model.
    """
    if request.mode == "requirements":
        with contextlib.suppress(ModelNotFoundError):
            found = decide(replace(request, mode="requirements_load"))
            hint = f"{found.model} is installed and would do: allow requirements_load, or: pantry load {found.model}"
            return ModelNotFoundError(error.message, hint=hint)
    wide = replace(request, mode="requirements_download")
    message = error.message
    if request.mode != wide.mode:
        try:
            return ModelNotFoundError(message, hint=_told(decide(wide), size, ""))
        except ModelNotFoundError as wider:
            message = f"{message} To download: {wider.message[0].lower()}{wider.message[1:]}"
    for words, other in _easier(wide, vocabulary):
        with contextlib.suppress(ModelNotFoundError):
            return ModelNotFoundError(message, hint=_told(decide(other), size, words))
    return ModelNotFoundError(message, hint="Leave out more than one of the requirements, or see: pantry search")


def _told(choice: Choice, size: Size, condition: str) -> str:
    would = f"{condition}{choice.model} would do"
    if choice.action == "use":
        return f"{would}; it is {'loaded' if choice.state == 'loaded' else 'at a provider'}."
    if choice.action == "load":
        return f"{would}; it is installed: pantry run {choice.model}"
    download = size(choice.model)
    return f"{would}: pantry pull {choice.model}" + (f" ({format_bytes(download)})" if download else "")


def _easier(request: Request, vocabulary: Vocabulary) -> Iterator[tuple[str, Request]]:
    """The request with a tag in place of a score, then with one requirement less."""
    tags = {capability: tag for tag, (capability, _) in vocabulary.floors.items()}
    for need in request.needs[:MAX_TRIED]:
        if need.kind == "capability" and need.name in tags:
            rest = tuple(Need("tag", tags[need.name]) if each is need else each for each in request.needs)
            yield f"With tag:{tags[need.name]} in place of {need.label}, ", replace(request, needs=rest)
    for need in sorted(request.needs[:MAX_TRIED], key=lambda need: need.kind == "licence"):  # rights are given up last
        rest = tuple(each for each in request.needs if each is not need)
        yield f"Without {need.label}, ", replace(request, needs=rest)
