"""Tokenizer, trainer and export: what was learned in PyTorch is what llama.cpp runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")

import torch
from tokenizers import Tokenizer

from examples.starter import tokenizer as tok
from examples.starter.engine import Engine
from examples.starter.export import export, load, split_half, stored_weights
from examples.starter.generate import training_documents
from pantry.workshop.shape import Shape
from pantry.workshop.training.export_gguf import pairwise
from pantry.workshop.training.model import Llama

ROOT = Path(__file__).parents[2]
TEXTS = (
    "Hello, world! 123 4567\n\n  two  spaces\tTab", "naïve café — “quotes” 日本語 🙂🙂", " leading", "a\r\nb",
    "x²½ ١٢٣",
    "What is 3 + 4 = ?\nDon't we'll I'd  \n",
)  # fmt: skip
TINY = Shape(vocab=600, width=64, layers=2, heads=2, kv_heads=1, hidden=96, context=128)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tok.train(training_documents(seed=1, limit=200_000), TINY.vocab)


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_the_tokenizer(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_only_the_answer_and_its_end_are_the_models_own_words(tokenizer: Tokenizer) -> None:
    ids, own = tok.encode_document(tokenizer, [("user", "Hi"), ("assistant", "Hello!")])
    assert tokenizer.decode([i for i, mine in zip(ids, own, strict=True) if mine], skip_special_tokens=False) == (
        "Hello!<|im_end|>"
    )
    assert tokenizer.decode(ids, skip_special_tokens=False) == (
        "<|endoftext|><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
    )


def test_padding_is_never_the_models_own_word(tokenizer: Tokenizer) -> None:
    documents = [[("text", "One.")], [("user", "Two?"), ("assistant", "Two, three, four.")]]
    corpus = tok.encode_corpus(tokenizer, documents, length=TINY.context)
    ids, own = corpus.padded(np.array([0, 1]))
    short = int(corpus.starts[1])
    assert ids.shape == own.shape == (2, len(corpus.tokens) - short)
    assert not own[0, short:].any()
    assert own[0, short - 1]


def test_rotary_order_there_and_back() -> None:
    weight = np.arange(48.0).reshape(16, 3)
    assert (split_half(pairwise(weight, 2), 2) == weight).all()
    assert pairwise(weight, 1)[:4, 0].tolist() == [0, 24, 3, 27]


def test_export_keeps_every_weight(tmp_path: Path, tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    model, copy = Llama(TINY), Llama(TINY)
    export(model, tokenizer, tmp_path / "m.gguf", "f32")
    stored_weights(copy, tmp_path / "m.gguf")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(copy.state_dict()[name], value)


@pytest.mark.slow
def test_a_trained_model_says_the_same_in_torch_and_in_llama_cpp(tmp_path: Path) -> None:
    run("generate", "--out", str(tmp_path), "--mb", "0.4", "--per-family", "1")
    sizes = {"vocab": TINY.vocab, "width": 64, "layers": 2, "heads": 2, "kv-heads": 1, "hidden": 96, "length": 128}
    options = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    run("train", "--folder", str(tmp_path), "--steps", "40", "--minutes", "2", "--threads", "1", *options)
    run("export", "--folder", str(tmp_path), "--out", str(tmp_path / "tiny.gguf"))

    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    model, state = load(tmp_path / "model.pt")
    assert state["steps"] == 40
    assert state["loss"] < 6.4, "a model that learned nothing has log(600) = 6.4"
    stored_weights(model, tmp_path / "tiny.gguf")
    prompt = tokenizer.encode("<|endoftext|><|im_start|>user\nWhat is a dog?<|im_end|>\n<|im_start|>assistant\n").ids
    with Engine(tmp_path / "tiny.gguf") as engine:
        assert [engine.tokenize(text) for text in TEXTS] == [tokenizer.encode(text).ids for text in TEXTS]
        assert engine.greedy(prompt, 12) == greedy(model, prompt, 12)


@torch.no_grad()
def greedy(model: Llama, ids: list[int], count: int) -> list[int]:
    ids = list(ids)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[-count:]


def run(step: str, *options: str) -> None:
    command = [sys.executable, "-m", f"examples.starter.{step}", *options]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
