"""The recipe: how to train, parsed once from `[recipe]` of a flatpack.toml into a frozen type."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pantry.core.errors import BadFileError, NotFoundError, UsageError, did_you_mean
from pantry.core.files import storage_errors
from pantry.flatpack.manifest import MANIFEST_NAME, explain, read_table
from pantry.flatpack.manifest import Recipe as RecipeTable
from pantry.workshop.data.settings import DataSettings
from pantry.workshop.shape import Shape

PRESETS: dict[str, dict[str, int]] = {
    "nano": {"layers": 4, "width": 128, "heads": 4, "kv_heads": 4, "hidden": 352, "context": 128, "vocab": 1024},
    "micro": {"layers": 6, "width": 256, "heads": 4, "kv_heads": 2, "hidden": 704, "context": 256, "vocab": 4096},
    "mini": {"layers": 8, "width": 512, "heads": 8, "kv_heads": 4, "hidden": 1408, "context": 512, "vocab": 8192},
    "small": {"layers": 12, "width": 768, "heads": 12, "kv_heads": 4, "hidden": 2048, "context": 1024, "vocab": 32000},
}
"""About 1 M, 6 M, 26 M and 105 M parameters."""
BATCH_TOKENS = {"nano": 2048, "micro": 8192, "mini": 32768, "small": 131072}
"""Tokens of a step, by preset."""
TOKENS_PER_PARAMETER = 20
"""How long to train when nobody says: Hoffmann et al. 2022."""
BUDGET = ("tokens", "minutes")
"""Settings that say how long; a resumed run may be given other ones."""
PACE = ("save_minutes", "evaluate_every", "evaluate_tokens", "patience", "gguf", "onnx", "tensorboard", "shard_tokens")
"""Settings that change nothing about the weights of a step."""
MEANS = ("parallel", "compile")
"""Settings that change nothing about them save their rounding."""


class TrainingRecipe(BaseModel):
    """Every setting of a training. Tokens, steps and characters are counts; `minutes` is wall time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Literal["nano", "micro", "mini", "small"] = "nano"
    layers: int = Field(ge=1, le=200)
    width: int = Field(ge=8, le=16384)
    heads: int = Field(ge=1, le=256)
    kv_heads: int = Field(ge=1, le=256)
    hidden: int = Field(ge=8, le=65536)
    context: int = Field(ge=8, le=65536, description="tokens the model sees at once")
    tied: bool = Field(True, description="the output layer is the embedding")
    qk_norm: bool = Field(False, description="normalise queries and keys; exported as architecture qwen3")

    tokenizer: Literal["bpe", "bytes"] = "bpe"
    vocab: int = Field(ge=260, le=262144)

    tokens: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0, le=525600)
    batch: int = Field(ge=1, le=65536, description="windows of `context` tokens in a step")
    accumulate: int = Field(1, ge=1, le=4096, description="parts into which the batch is cut to save memory")
    optimiser: Literal["muon", "adamw"] = "muon"
    learning_rate: float = Field(0.003, gt=0, le=1)
    weight_decay: float = Field(0.05, ge=0, le=1)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    schedule: Literal["stable", "cosine"] = "stable"
    warm_up: float = Field(0.02, ge=0, le=0.5, description="share of the training with a rising rate")
    decay: float = Field(0.4, gt=0, le=1, description="share with a falling rate, for schedule 'stable'")
    precision: Literal["auto", "f32", "bf16"] = "auto"
    seed: int = Field(1, ge=0, lt=2**32)
    parallel: Literal["ddp", "fsdp"] = Field("ddp", description="with torchrun: whole copies of the model, or parts")
    compile: Literal["auto", "on", "off"] = Field("auto", description="torch.compile; auto is on for CUDA")

    validation: float = Field(0.05, gt=0, le=0.5, description="share of the text held out")
    evaluate_every: int = Field(250, ge=1, description="steps")
    evaluate_tokens: int = Field(65536, ge=1)
    patience: int = Field(0, ge=0, description="end after so many evaluations without a better loss; 0 never")
    save_minutes: float = Field(3.0, gt=0)
    tensorboard: bool = Field(False, description="also write the losses for TensorBoard")

    gguf: Literal["f32", "f16", "q8_0"] = Field("f32", description="type of the matrices in the GGUF file")
    onnx: bool = Field(True, description="also write ONNX, where the extra `onnx` is installed")

    dataset: str = Field("", description="a Hugging Face dataset, owner/name, or ./folder of the recipe")
    dataset_config: str = ""
    dataset_split: str = Field("train", min_length=1)
    dataset_revision: str = Field("", description="branch, tag or commit; the commit is kept")
    text_field: str = Field("text", min_length=1)
    deduplicate: bool = True
    near_duplicates: bool = Field(False, description="also leave out documents that nearly repeat an earlier one")
    near_threshold: float = Field(0.8, ge=0.3, le=1, description="share of common word groups from which it does")
    scrub: str = Field("", description="what to blank out: emails, phones, keys; separated by commas")
    languages: str = Field("", description="keep only documents in these languages (ISO 639 codes, by commas)")
    min_characters: int = Field(1, ge=1)
    max_characters: int | None = Field(None, ge=1)
    shard_tokens: int = Field(1 << 28, ge=1, description="tokens in one file of the working folder")

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingRecipe:
        if self.width % self.heads:
            raise ValueError(
                f"heads = {self.heads} do not divide width = {self.width}; "
                f"try heads = {_divisor(self.width, self.heads)}"
            )
        if self.width // self.heads % 2:
            raise ValueError(f"a head is {self.width // self.heads} wide; rotary positions need an even width")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"kv_heads = {self.kv_heads} do not divide heads = {self.heads}; "
                f"try kv_heads = {_divisor(self.heads, self.kv_heads)}"
            )
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate = {self.accumulate} does not divide batch = {self.batch}")
        if self.gguf == "q8_0" and (self.width % 32 or self.hidden % 32):
            raise ValueError(
                f"gguf = 'q8_0' needs width and hidden to divide by 32; they are {self.width}, {self.hidden}"
            )
        _ = self.data_settings  # checks them
        return self

    @property
    def data_settings(self) -> DataSettings:
        """What of it is about the data alone. Raises ValueError when that does not fit together."""
        same = {field.name: getattr(self, field.name) for field in fields(DataSettings)}
        return DataSettings(**{**same, "scrub": _names(self.scrub), "languages": _names(self.languages.lower())})

    def shape(self, vocab: int | None = None) -> Shape:
        """The network's sizes, with the vocabulary as it really came out."""
        return Shape(
            vocab or self.vocab, self.width, self.layers, self.heads, self.kv_heads, self.hidden, self.context,
            self.tied, self.qk_norm,
        )  # fmt: skip

    @property
    def step_tokens(self) -> int:
        """Tokens of one step."""
        return self.batch * self.context

    def token_budget(self, parameters: int) -> int | None:
        """Tokens to train on; None when only the minutes count."""
        if self.tokens is None and self.minutes is None:
            return TOKENS_PER_PARAMETER * parameters
        return self.tokens

    def digest(self) -> str:
        """SHA-256 over all settings, as `sha256:<hex>`."""
        text = json.dumps(self.model_dump(), sort_keys=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """What differs from the settings of a checkpoint, as `name: before -> now`; budget and pace do not count."""
        mine = self.model_dump()
        added = {name: field.default for name, field in type(self).model_fields.items() if not field.is_required()}
        saved = {**added, **saved}  # a checkpoint from before a setting was added
        free = {*BUDGET, *PACE, *MEANS}
        names = [name for name in {**mine, **saved} if name not in free and mine.get(name) != saved.get(name)]
        return [f"{name}: {saved.get(name)!r} -> {mine.get(name)!r}" for name in names]


class RecipeFolder(BaseModel):
    """A folder with a recipe: its name, the data it names, and the settings. Licences are None until they are named."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    name: str
    data: tuple[str, ...]
    settings: TrainingRecipe
    authors: tuple[str, ...] = ()
    data_licence: str | None = None
    code_licence: str | None = None


def make_recipe(settings: dict[str, Any], where: str = "recipe") -> TrainingRecipe:
    """Settings with the preset's values under them. Raises BadFileError that names every fault."""
    preset = settings.get("preset", "nano")
    if preset not in PRESETS:
        raise BadFileError(
            f"{where}: preset: there is no preset {preset!r}.",
            hint=did_you_mean(str(preset), PRESETS, f"Known: {', '.join(PRESETS)}."),
        )
    filled: dict[str, Any] = {**PRESETS[preset], **settings}
    context = filled["context"]
    if "batch" not in settings and isinstance(context, int) and context > 0:
        filled["batch"] = max(1, BATCH_TOKENS[preset] // context)
    try:
        return TrainingRecipe.model_validate(filled)
    except ValidationError as error:
        raise BadFileError(
            explain(error, where, TrainingRecipe), hint="The settings are described in docs/training.md."
        ) from None


def read_recipe(folder: Path, overrides: dict[str, Any] | None = None) -> RecipeFolder:
    """The recipe in `folder`; fields of the manifest still in [brackets] do not matter for training.

    Raises NotFoundError without a flatpack.toml, BadFileError for faults in it, UsageError for another kind.
    """
    file = folder / MANIFEST_NAME
    if not file.is_file():
        raise NotFoundError(
            f"There is no {MANIFEST_NAME} in {folder}.", hint=f"Make one with: pantry init {folder} --template recipe"
        )
    with storage_errors(f"Reading {file}"):
        table = read_table(file.read_bytes(), str(file))
    kind = table.get("kind")
    if kind != "recipe" or not isinstance(table.get("recipe"), dict):
        raise UsageError(
            f"{file} describes a {kind or 'flatpack without a kind'}; training needs kind = 'recipe' and [recipe].",
            hint="Make one with: pantry init FOLDER --template recipe",
        )
    try:
        recipe = RecipeTable.model_validate(table["recipe"])
    except ValidationError as error:
        misplaced = any(fault["loc"][-1] in TrainingRecipe.model_fields for fault in error.errors())
        hint = "Settings of the training stand under [recipe.settings]." if misplaced else None
        raise BadFileError(explain(error, f"{file}, [recipe]", RecipeTable), hint=hint) from None
    where = f"{file}, [recipe.settings]"
    return RecipeFolder(
        folder=folder,
        name=_filled(table.get("name")) or folder.resolve().name.lower(),
        data=recipe.data or ("data",),
        settings=make_recipe({**recipe.settings, **(overrides or {})}, where),
        authors=tuple(filter(None, map(_filled, _list(table.get("authors"))))),
        data_licence=_filled(_table(table.get("licence")).get("data")),
        code_licence=_filled(_table(table.get("licence")).get("code")),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _filled(value: object) -> str | None:
    """Text that is there and not still in [brackets]."""
    return value.strip() if isinstance(value, str) and value.strip() and not value.strip().startswith("[") else None


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _divisor(number: int, wanted: int) -> int:
    """The divisor of `number` nearest to `wanted`."""
    return min((d for d in range(1, number + 1) if number % d == 0), key=lambda d: abs(d - wanted))
