"""Tokenizers of our own: byte-level BPE, learned from the data, or plain bytes; and how documents are laid out.

The pre-tokenizer is the pattern of GPT-2 (`ByteLevel` with its own expression), which llama.cpp knows as
`tokenizer.ggml.pre = "gpt-2"`, so the exported files cut any text alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from pantry.workshop.data.documents import TEXT, Document
from pantry.workshop.data.encoding import Encoder, Part

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIALS = (END_OF_TEXT, TURN_START, TURN_END)
"""The first begins every document, and so ends the one before."""
END_OF_TEXT_ID, TURN_START_ID, TURN_END_ID = 0, 1, 2
LEARNING_CHARACTERS = 100_000_000
"""The merges are learned from so many characters at most."""
_PIECE = 1 << 20  # characters encoded at once
_CUT = re.compile(r"(?<=\S)\n")
_LONG_WORD = re.compile(r"(\S{1000})(?=\S)")
"""Learning merges takes time with the square of a word's length; what has no spaces, like a genome, is cut for it."""
_NEVER = "\u00ff"  # how byte-level BPE writes the byte 0xFF, which is in no UTF-8 text

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML, as `chatml_layout` lays conversations out."""


def train_bpe(documents: Iterable[Document], vocab: int) -> Tokenizer:
    """A byte-level BPE with at most `vocab` tokens (fewer when the text is small), the specials first."""
    tokenizer = _finish(Tokenizer(models.BPE()))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIALS),
        show_progress=False,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(_texts(documents), trainer)
    return _finish(tokenizer)


def byte_tokenizer() -> Tokenizer:
    """One token a byte. Its only merge is of two bytes that no text has: llama.cpp wants a list of merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*SPECIALS, *letters, _NEVER * 2]
    model = models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[(_NEVER, _NEVER)])
    return _finish(Tokenizer(model))


def load_tokenizer(path: str) -> Tokenizer:
    """A tokenizer saved earlier; special tokens in plain text stay plain text."""
    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
    return tokenizer


def _finish(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    if tokenizer.get_vocab_size():
        tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIALS])
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, END_OF_TEXT_ID)]
        )
    tokenizer.encode_special_tokens = True
    return tokenizer


def _texts(documents: Iterable[Document]) -> Iterator[str]:
    left = LEARNING_CHARACTERS
    for document in documents:
        for turn in document:
            for piece in pieces(turn.text if turn.role == TEXT else f"{turn.role}\n{turn.text}"):
                yield _LONG_WORD.sub(r"\1\n", piece)
                left -= len(piece)
        if left <= 0:
            return


def pieces(text: str, size: int = _PIECE) -> Iterator[str]:
    """Parts of a long text that encode alone as they do together: cut before a line end that follows a letter."""
    start = 0
    while len(text) - start > size and (cut := _CUT.search(text, start + size)):
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a plain text; nothing in it is read as a special token."""
    return [number for piece in pieces(text) for number in tokenizer.encode(piece, add_special_tokens=False).ids]


def chatml_layout(document: Document) -> Iterator[Part]:
    """All of a text is the model's own word, of a conversation the answers; every document begins with END_OF_TEXT."""
    if document[0].role == TEXT:
        yield from ((END_OF_TEXT_ID, True), (document[0].text, True))
        return
    yield END_OF_TEXT_ID, False
    for turn in document:
        mine = turn.role == "assistant"
        yield from ((TURN_START_ID, False), (f"{turn.role}\n", False), (turn.text, mine), (TURN_END_ID, mine))
        yield "\n", False


def encoder_of(tokenizer: Tokenizer) -> Encoder:
    """What encodes documents with a tokenizer of this module."""
    return Encoder(partial(encode_text, tokenizer), tokenizer.get_vocab_size(), chatml_layout)
