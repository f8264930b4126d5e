"""What a training learns from: the recipe's data as token files in the working folder, and the tokenizer learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from pantry.core.errors import BadFileError
from pantry.workshop.data import tokenizer as tok
from pantry.workshop.data.cleaning import Cleaned
from pantry.workshop.data.corpus import find_corpus
from pantry.workshop.data.documents import Document
from pantry.workshop.data.encoding import Encoder
from pantry.workshop.data.hub_dataset import PinnedDataset
from pantry.workshop.data.token_set import TokenSet, token_set
from pantry.workshop.data.tokens import TokenFile
from pantry.workshop.recipe import RecipeFolder, TrainingRecipe

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Prepared:
    """Tokens to train on and held-out ones, with what is known of the data. Bytes are UTF-8 of the model's words."""

    tokenizer: Tokenizer
    train: TokenFile
    validation: TokenFile
    validation_bytes: int
    chat: bool
    data_digest: str
    files: tuple[tuple[str, str, int], ...]
    """Name, digest and size of every file read."""
    cleaned: Cleaned
    dataset: PinnedDataset | None = None

    @property
    def vocab(self) -> int:
        return self.tokenizer.get_vocab_size()


def prepare(
    recipe: RecipeFolder,
    room: Path,
    *,
    offline: bool = False,
    renew: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Read, clean and encode the recipe's data into `room`; what is there from the same data and settings is used.

    `offline` looks up no dataset on the hub, `renew` looks it up again; `tell` hears why files that should be there
    are made anew. Raises NotFoundError and BadFileError for faults in the data, DownloadError for a dataset that cannot
    be fetched, StorageError when the disk is full.
    """
    settings = recipe.settings
    corpus = find_corpus(recipe.folder, recipe.data, settings.data_settings, room, offline=offline, renew=renew)

    def learn(documents: Iterator[Document]) -> Encoder:
        learned = tok.train_bpe(documents, settings.vocab) if settings.tokenizer == "bpe" else tok.byte_tokenizer()
        learned.save(str(room / TOKENIZER))
        return tok.encoder_of(learned)

    key = {"tokenizer": settings.tokenizer, "vocab": settings.vocab}
    tokens = token_set(corpus, room, learn, key=key, beside=[TOKENIZER], shard=settings.shard_tokens, tell=tell)
    _check_enough(tokens, settings)
    return Prepared(
        tok.load_tokenizer(str(room / TOKENIZER)), tokens.train, tokens.validation, tokens.validation_bytes,
        tokens.chat, corpus.digest, tuple((file.name, file.digest, file.size) for file in corpus.files),
        tokens.cleaned, corpus.dataset.pinned if corpus.dataset else None,
    )  # fmt: skip


def _check_enough(tokens: TokenSet, recipe: TrainingRecipe) -> None:
    if len(tokens.train) <= recipe.context:
        raise BadFileError(
            f"The data are too few: {len(tokens.train)} tokens to train on; a context of {recipe.context} needs "
            f"at least {recipe.context + 1}.",
            hint="Add text, or set a smaller context.",
        )
    if len(tokens.validation) < 2:
        raise BadFileError(
            "Nothing could be held out to measure the loss: the data are too few documents.",
            hint="Add documents, or raise `validation`, the share that is held out.",
        )
