"""What was learned in torch is what llama.cpp, transformers and onnxruntime run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from pantry.core.errors import MissingExtraError, StorageError
from pantry.formats.gguf import read_header
from pantry.workshop.data import tokenizer as tok
from pantry.workshop.data.documents import Turn
from pantry.workshop.shape import Shape
from pantry.workshop.training.export_gguf import About, export_gguf, pairwise
from pantry.workshop.training.export_huggingface import export_huggingface
from pantry.workshop.training.export_onnx import export_onnx
from pantry.workshop.training.model import Llama, build_model
from tests.workshop.data.test_tokens import TEXTS
from tests.workshop.training.llama_cpp import Engine

STEPS = 200
SMALLEST = -60.0
BYTES = tok.byte_tokenizer()
BPE = tok.train_bpe([(Turn("text", text * 3),) for text in TEXTS], 320)
BASE = Shape(vocab=0, width=64, layers=2, heads=4, kv_heads=2, hidden=96, context=256)
CASES = {
    "llama": (BPE, BASE),
    "untied": (BPE, dataclasses.replace(BASE, tied=False, kv_heads=4)),
    "bytes": (BYTES, dataclasses.replace(BASE, kv_heads=1)),
    "qk-norm": (BPE, dataclasses.replace(BASE, qk_norm=True)),
}
PROMPT = "What is 3 + 4?"


def make(case: str) -> tuple[Llama, tok.Tokenizer]:
    """A network with large weights, so that its choices are far from even, and no end of text among them."""
    tokenizer, shape = CASES[case]
    model = build_model(dataclasses.replace(shape, vocab=tokenizer.get_vocab_size()), 5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(6 if name != "embedding.weight" or not shape.tied else 12)
            else:
                parameter.uniform_(0.5, 1.5)
    return model, tokenizer


def choices(logits: torch.Tensor) -> list[int]:
    """The likeliest tokens that do not end a text or turn."""
    open_ended = logits.clone()
    open_ended[..., [tok.END_OF_TEXT_ID, tok.TURN_END_ID]] = -torch.inf
    chosen: list[int] = open_ended.argmax(-1).reshape(-1).tolist()
    return chosen


@torch.no_grad()
def greedy(model: Llama, ids: list[int], count: int) -> tuple[list[int], torch.Tensor]:
    """The tokens, and the logits (count, vocab) each was chosen from."""
    ids, logits = list(ids), []
    for _ in range(count):
        logits.append(model(torch.tensor([ids]))[0, -1])
        ids += choices(logits[-1])
    return ids[-count:], torch.stack(logits)


def compare(logits: torch.Tensor, probabilities: dict[int, float]) -> list[float]:
    """Differences of log-probabilities, of all tokens whose probability float32 still holds."""
    expected = logits.log_softmax(-1)
    return [abs(float(expected[token]) - value) for token, value in probabilities.items() if value > SMALLEST]


def test_rotary_order_of_rows() -> None:
    weight = torch.arange(48.0).reshape(16, 3).numpy()
    assert pairwise(weight, 1)[:4, 0].tolist() == [0, 24, 3, 27]


@pytest.mark.parametrize("case", CASES)
def test_llama_cpp_says_the_same(tmp_path: Path, case: str) -> None:
    model, tokenizer = make(case)
    export_gguf(model, tokenizer, About("m", "A test."), tmp_path / "m.gguf")
    prompt = [tok.END_OF_TEXT_ID, *tok.encode_text(tokenizer, PROMPT)]
    wanted, logits = greedy(model, prompt, STEPS)
    with Engine(tmp_path / "m.gguf", 256) as engine:
        assert [engine.tokenize(text) for text in TEXTS] == [tok.encode_text(tokenizer, text) for text in TEXTS]
        assert engine.greedy(prompt, STEPS) == wanted
        differences = [
            difference
            for step in range(0, STEPS, 4)
            for difference in compare(logits[step], engine.probabilities([*prompt, *wanted[:step]], model.shape.vocab))
        ]
    assert len(differences) > 2 * model.shape.vocab
    assert max(differences) < 1e-4


@pytest.mark.parametrize(("kind", "most"), [("f16", 0.01), ("q8_0", 0.3)])
def test_smaller_types_stay_close(tmp_path: Path, kind: str, most: float) -> None:
    model, tokenizer = make("llama")
    export_gguf(model, tokenizer, About("m", "A test.", "CC0-1.0", chat=True), tmp_path / "m.gguf", kind)
    header = read_header(tmp_path / "m.gguf")
    assert header.chat_template == tok.CHAT_TEMPLATE
    assert header.text("general.license") == "CC0-1.0"
    assert header.parameters == model.shape.parameters
    prompt = [tok.END_OF_TEXT_ID, *tok.encode_text(tokenizer, PROMPT)]
    with Engine(tmp_path / "m.gguf", 256) as engine:
        differences = compare(greedy(model, prompt, 1)[1][0], engine.probabilities(prompt, model.shape.vocab))
    assert 1e-6 < sum(differences) / len(differences) < most


def test_a_full_disk_leaves_no_gguf(tmp_path: Path) -> None:
    model, tokenizer = make("llama")
    with pytest.raises(StorageError):
        export_gguf(model, tokenizer, About("m", "A test."), tmp_path / "no" / "folder" / "m.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", ["llama", "qk-norm", "untied"])
@pytest.mark.slow
def test_transformers_loads_it_and_says_the_same(tmp_path: Path, case: str) -> None:
    transformers = pytest.importorskip("transformers")
    model, tokenizer = make(case)
    export_huggingface(model, tokenizer, About("m", "A test.", chat=True), tmp_path)
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS[:-1]:
        assert theirs(text)["input_ids"] == [tok.END_OF_TEXT_ID, *tok.encode_text(tokenizer, text)]
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    text = theirs.apply_chat_template(messages, tokenize=False)
    assert "<|endoftext|>" + text == tokenizer.decode(
        tok.encoder_of(tokenizer).encode((Turn("user", "Hi"), Turn("assistant", "Ho")))[0], skip_special_tokens=False
    )
    prompt = [tok.END_OF_TEXT_ID, *tok.encode_text(tokenizer, PROMPT)]
    wanted, _ = greedy(model, prompt, STEPS)
    ids = torch.tensor([[*prompt, *wanted]])
    with torch.no_grad():
        ours, other = model(ids), loaded(ids).logits
    assert choices(other[0, len(prompt) - 1 : -1]) == wanted
    assert float((ours - other).abs().max()) < 1e-4


def test_the_hugging_face_files_hold_every_weight_once(tmp_path: Path) -> None:
    from safetensors import safe_open

    for case in CASES:
        model, tokenizer = make(case)
        export_huggingface(model, tokenizer, About("m", "A test."), tmp_path / case)
        with safe_open(tmp_path / case / "model.safetensors", "pt") as file:
            assert sum(file.get_tensor(name).numel() for name in file.keys()) == model.shape.parameters  # noqa: SIM118
        config = json.loads((tmp_path / case / "config.json").read_text())
        assert config["vocab_size"] == tokenizer.get_vocab_size()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["llama", "qk-norm"])
def test_onnxruntime_says_the_same(tmp_path: Path, case: str) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, tokenizer = make(case)
    export_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    prompt = [tok.END_OF_TEXT_ID, *tok.encode_text(tokenizer, PROMPT)]
    wanted, _ = greedy(model, prompt, STEPS)
    ids = torch.tensor([[*prompt, *wanted]])
    found = session.run(None, {"input_ids": ids.numpy()})[0]
    with torch.no_grad():
        assert float((model(ids) - torch.from_numpy(found)).abs().max()) < 1e-4
    assert choices(torch.from_numpy(found)[0, len(prompt) - 1 : -1]) == wanted
    assert session.run(None, {"input_ids": ids[:, :1].repeat(3, 1).numpy()})[0].shape == (3, 1, model.shape.vocab)


def test_without_the_extra_onnx_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantry.workshop.training.export_onnx.onnx_is_there", lambda: False)
    with pytest.raises(MissingExtraError, match=r"pantry-llm\[onnx\]"):
        export_onnx(make("llama")[0], tmp_path / "m.onnx")
