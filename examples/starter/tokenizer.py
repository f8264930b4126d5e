"""Train the byte-level BPE tokenizer, and turn documents into tokens.

The pre-tokenizer is the GPT-2 pattern (`tokenizers` ByteLevel with its own regex), which llama.cpp
knows as `tokenizer.ggml.pre = "gpt-2"`.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pantry.workshop.data.tokenizer import END_OF_TEXT, SPECIALS, TURN_END, TURN_START

PROMPT_WEIGHT = 0.1
"""Weight of the loss on what the user says. Answers are what the model is for; prompts are mostly random choice,
but a little of their loss keeps the model a language model of whole conversations."""


def read_documents(path: Path) -> Iterator[list[tuple[str, str]]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield [(role, text) for role, text in json.loads(line)]


def train(documents: Iterable[list[tuple[str, str]]], vocab: int) -> Tokenizer:
    """A byte-level BPE with `vocab` tokens; the three specials have ids 0, 1 and 2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIALS),
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator((f"{role}\n{text}" for document in documents for role, text in document), trainer)
    return tokenizer


def encode_document(tokenizer: Tokenizer, document: list[tuple[str, str]]) -> tuple[list[int], list[bool]]:
    """Token ids of a document as the chat template writes it, and for each whether it is the model's own word."""
    ids, own = [tokenizer.token_to_id(END_OF_TEXT)], [False]
    start, end = tokenizer.token_to_id(TURN_START), tokenizer.token_to_id(TURN_END)
    for role, text in document:
        if role == "text":
            words = [*tokenizer.encode(text).ids, tokenizer.token_to_id(END_OF_TEXT)]
            ids += words
            own += [True] * len(words)
            continue
        head = [start, *tokenizer.encode(f"{role}\n").ids]
        body = [*tokenizer.encode(text).ids, end]
        tail = tokenizer.encode("\n").ids
        mine = role == "assistant"
        ids += head + body + tail
        own += [False] * len(head) + [mine] * len(body) + [False] * len(tail)
    return ids, own


@dataclass(frozen=True)
class Corpus:
    """Tokenised documents end to end: `tokens` and `own` share one index, document i is [starts[i], starts[i + 1])."""

    tokens: np.ndarray
    own: np.ndarray
    starts: np.ndarray

    def save(self, path: Path) -> None:
        np.savez(path, tokens=self.tokens, own=self.own, starts=self.starts)

    @classmethod
    def load(cls, path: Path) -> Corpus:
        with np.load(path) as data:
            return cls(data["tokens"], data["own"], data["starts"])

    def padded(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Token ids (documents, longest) padded with end-of-text, and `own` of the same shape, False on padding."""
        sizes = self.starts[documents + 1] - self.starts[documents]
        ids = np.zeros((len(documents), int(sizes.max())), np.int64)
        own = np.zeros(ids.shape, bool)
        for row, (document, size) in enumerate(zip(documents, sizes, strict=True)):
            start = self.starts[document]
            ids[row, :size], own[row, :size] = self.tokens[start : start + size], self.own[start : start + size]
        return ids, own


def encode_corpus(tokenizer: Tokenizer, documents: Iterable[list[tuple[str, str]]], length: int) -> Corpus:
    """All documents as tokens, each cut to `length` + 1."""
    tokens, own, starts = array("H"), array("b"), [0]
    for document in documents:
        ids, mine = encode_document(tokenizer, document)
        tokens.extend(ids[: length + 1])
        own.extend(mine[: length + 1])
        starts.append(len(tokens))
    return Corpus(np.array(tokens, np.uint16), np.array(own, bool), np.array(starts, np.int64))
