"""Searching the catalogue by words: some ask for a tag, a size or an order, the others are looked up in its texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.query import Order, Query
from pantry.catalogue.rights import Circumstances
from pantry.catalogue.schema import ModelEntry, Use
from pantry.catalogue.tags import parse_tag

_TAGS: dict[str, str] = {
    **dict.fromkeys(("coding", "code", "coder", "coders", "programming", "programmer", "developer"), "CODING"),
    **dict.fromkeys(("chat", "chatbot", "chatting", "conversational", "conversation", "assistant"), "CONVERSATIONAL"),
    **dict.fromkeys(("multilingual", "translation", "translate", "languages"), "MULTILINGUAL"),
    **dict.fromkeys(("vision", "image", "images", "picture", "pictures", "photo", "photos", "vlm"), "VISION"),
    **dict.fromkeys(("audio", "speech", "voice"), "AUDIO"),
    **dict.fromkeys(("reasoning", "reasoner", "thinking", "math"), "REASONING"),
    **dict.fromkeys(("embedding", "embeddings", "embed"), "EMBEDDING"),
    **dict.fromkeys(("writing", "writer", "story", "stories"), "WRITING"),
}
"""Words that ask for a tag."""
_ORDERS = {
    **dict.fromkeys(("small", "smaller", "smallest", "little", "light", "lightweight", "tiny", "mini"), "small"),
    **dict.fromkeys(("fast", "faster", "fastest", "quick"), "speed"),
    **dict.fromkeys(("new", "newest", "latest", "recent"), "newest"),
    **dict.fromkeys(("long", "longest"), "context"),
    **dict.fromkeys(("good", "best", "better", "strong", "strongest", "large", "largest", "big", "biggest"), "quality"),
}
"""Words that ask for an order."""
_LARGEST = {
    **dict.fromkeys(("small", "smaller", "little", "light", "lightweight"), 10_000_000_000),
    **dict.fromkeys(("tiny", "mini"), 2_000_000_000),
}
_SMALLEST = dict.fromkeys(("large", "big"), 20_000_000_000)
"""Weights that words for a size set a limit to."""
_FILLERS = frozenset(
    {
        *("a", "an", "the", "for", "with", "and", "of", "to", "on", "in", "my", "me", "i", "is", "that", "can"),
        *("which", "model", "models", "llm", "llms", "ai", "gguf", "context"),
    }
)
_ENDING = re.compile(r"(?:[:._-](?:q\d\w*|iq\d\w*|f16|bf16|f32|fp16|latest|gguf))+$")
"""What other programs put behind a model's name: a quantisation, a format."""


@dataclass(frozen=True)
class _Wish:
    """What a search asks for. `named` are the words that asked for a tag, which may be a part of a name as well."""

    tags: tuple[str, ...]
    orders: tuple[Order, ...]
    words: tuple[str, ...]
    named: tuple[str, ...]
    largest: int | None
    smallest: int | None


def search(
    catalogue: Catalogue,
    text: str,
    *,
    uses: Sequence[Use] = (),
    max_memory: int | None = None,
    tags: Sequence[str] = (),
    circumstances: Circumstances | None = None,
    obtainable: bool = False,
    limit: int = 20,
) -> list[ModelEntry]:
    """Models for words like "small coding model" or a name however written: a model of exactly that name comes first.

    `uses` must be allowed, with or without conditions. Raises UsageError for an unknown tag.
    """
    known = tuple(parse_tag(tag, catalogue.tag_bits) for tag in tags)
    chains: frozenset[int] | None = None
    for use in uses:
        allowed = catalogue.chains_allowing(
            use, circumstances or Circumstances(), frozenset({"allowed", "conditional"})
        )
        chains = allowed if chains is None else chains & allowed
    query = Query(tags=known, max_memory=max_memory, chains=chains, obtainable=obtainable)
    wish = _understood(text)
    first = _called(catalogue, text, query)
    found = next((each for each in _tries(catalogue, text, wish, query, limit) if each), [])
    ids = {model.id for model in first}
    return [*first, *(model for model in found if model.id not in ids)][:limit]


def _tries(catalogue: Catalogue, text: str, wish: _Wish, query: Query, limit: int) -> Iterator[list[ModelEntry]]:
    """Answers to a search, the closest reading first, each looser than the one before."""
    tagged = replace(query, tags=(*query.tags, *wish.tags))
    sized = replace(tagged, max_parameters=wish.largest, min_parameters=wish.smallest)
    yield catalogue.search(wish.words, sized, wish.orders, limit)
    if sized != tagged:
        yield catalogue.search(wish.words, tagged, wish.orders, limit)
    if wish.named:
        yield catalogue.search((*wish.words, *wish.named), query, wish.orders, limit)
    names = catalogue.model_ids_like(_ENDING.sub("", text.strip().lower()))
    yield catalogue.shortlist(replace(query, ids=names), wish.orders, limit) if names else []


def _called(catalogue: Catalogue, text: str, query: Query) -> list[ModelEntry]:
    """The model that is called exactly `text`, or so without its ending, if it meets the limits."""
    for name in (text, _ENDING.sub("", text.strip().lower())):
        entry = catalogue.find_model(name)
        if entry is not None:
            return catalogue.shortlist(replace(query, ids=(entry.id,)), (), 1)
    return []


def _understood(text: str) -> _Wish:
    tags, orders, words, named = [], [], [], []
    largest = smallest = None
    for word in re.findall(r"[\w.-]+", text.lower()):
        if word in _TAGS:
            tags.append(_TAGS[word])
            named.append(word)
        elif word in _ORDERS:
            orders.append(Order(_ORDERS[word]))
            largest, smallest = _LARGEST.get(word, largest), _SMALLEST.get(word, smallest)
        elif word not in _FILLERS:
            words.append(word)
    return _Wish(tuple(tags), tuple(dict.fromkeys(orders)), tuple(words), tuple(named), largest, smallest)
