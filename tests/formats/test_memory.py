"""The memory rules; the last test holds them against real workers."""

import dataclasses
import json
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.core.errors import UsageError
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.engines.adapter import ENGINES, LoadOptions, ModelFiles
from pantry.formats.gguf import GGUFHeader, TensorInfo, read_header
from pantry.formats.memory import (
    CACHE_TYPES,
    PROCESS,
    Architecture,
    Layer,
    architecture_of,
    estimate,
    layer_cache,
    layers_that_fit,
    longest_context,
)
from pantry.formats.parts import PlacedPart
from tests.random_model import write_random_model

MB = 1_000_000
MODEL = Architecture(
    tuple(Layer(10 * MB, 1024) for _ in range(4)),
    5 * MB,
    7 * MB,
    vocabulary=1000,
    width=512,
    feed_forward=1024,
    context=8192,
)
architectures = st.builds(
    lambda layers, weights, width, window, vocabulary: Architecture(
        tuple(Layer(weights, width, window) for _ in range(layers)), MB, MB, vocabulary, 64, 128, 4096
    ),
    st.integers(1, 12),
    st.integers(0, 10**9),
    st.integers(0, 4096),
    st.none() | st.integers(1, 4096),
    st.integers(0, 10**5),
)


def header(architecture: str = "llama", tensors: tuple[TensorInfo, ...] | None = None, **facts: object) -> GGUFHeader:
    """A header with these facts; one tensor for each block unless `tensors` are given."""
    named = {f"{architecture}.{name.replace('__', '.')}": value for name, value in facts.items()}
    count = facts.get("block_count", 0)
    assert isinstance(count, int)
    rows = tuple(row(f"blk.{n}.a", 0) for n in range(count)) if tensors is None else tensors
    return GGUFHeader(3, {"general.architecture": architecture} | named, rows, 0, 0)  # type: ignore[arg-type]


def row(name: str, size: int, shape: tuple[int, ...] = (1,)) -> TensorInfo:
    return TensorInfo(name, shape, "F16", 0, size)


def test_cache_is_width_times_tokens_times_bytes() -> None:
    # 4 layers x 1024 elements x 4096 tokens x 2 bytes
    assert estimate(MODEL, 4096).cache == 4 * 1024 * 4096 * 2
    assert estimate(MODEL, 4096, cache_type="q8_0").cache == 4 * 1024 * 4096 * 34 // 32
    assert estimate(MODEL, 4096, parallel=3).cache == 3 * estimate(MODEL, 4096).cache


def test_window_bounds_the_cache_of_its_layers() -> None:
    assert layer_cache(Layer(0, 100, window=512), 100_000, 2.0, 1) == 100 * (512 + 256) * 2
    assert layer_cache(Layer(0, 100, window=512), 256, 2.0, 1) == 100 * 256 * 2


def test_recurrent_layer_keeps_a_fixed_state() -> None:
    layer = Layer(0, 0, state=5000)
    assert layer_cache(layer, 100, 2.0, 2) == layer_cache(layer, 100_000, 2.0, 2) == 10_000


def test_unknown_cache_type_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="q8_0"):
        estimate(MODEL, 256, cache_type="q8_1")


def test_offload_moves_layers_from_the_last_and_the_output_at_the_end() -> None:
    none, two, all_of_them = (estimate(MODEL, 1024, device_layers=n) for n in (0, 2, 5))
    assert none.vram == 0
    assert two.device_weights == 20 * MB
    assert two.weights == 20 * MB + 12 * MB
    assert two.device_cache == two.cache
    assert all_of_them.device_weights == 47 * MB
    assert all_of_them.weights == 5 * MB
    assert all_of_them.offloaded_layers == 5


@given(architectures, st.integers(1, 65536), st.sampled_from(sorted(CACHE_TYPES)), st.integers(0, 20))
def test_offload_loses_no_weights_and_no_cache(model: Architecture, context: int, kind: str, layers: int) -> None:
    whole = estimate(model, context, cache_type=kind)
    split = estimate(model, context, cache_type=kind, device_layers=layers)
    assert split.weights + split.device_weights == whole.weights
    assert split.cache + split.device_cache == whole.cache
    assert split.ram <= whole.ram


@given(architectures, st.integers(0, 5 * 10**9))
def test_layers_that_fit_do_fit_and_one_more_does_not(model: Architecture, vram: int) -> None:
    layers = layers_that_fit(model, 2048, vram)
    assert layers == 0 or estimate(model, 2048, device_layers=layers).vram <= vram
    if layers <= len(model.layers):
        assert estimate(model, 2048, device_layers=layers + 1).vram > vram


@given(architectures, st.integers(0, 10**10))
def test_longest_context_fits_and_a_longer_one_does_not(model: Architecture, ram: int) -> None:
    context = longest_context(model, ram)
    assert context <= 4096
    assert context == 0 or estimate(model, context).ram <= ram
    if context < 4096:
        assert estimate(model, context + 256).ram > ram or estimate(model, context + 256) == estimate(model, context)


@given(architectures, st.integers(1, 30_000))
def test_more_context_never_needs_less(model: Architecture, context: int) -> None:
    assert estimate(model, context + 1).ram >= estimate(model, context).ram


def test_header_gives_layers_embedding_and_output() -> None:
    tensors = (row("token_embd.weight", 100, (8, 50)), row("blk.0.a", 10), row("blk.1.a", 20), row("output.weight", 30))
    facts = {"block_count": 2, "embedding_length": 8, "attention__head_count": 4, "attention__head_count_kv": 2}
    found = architecture_of(header(tensors=tensors, **facts))
    assert [layer.weights for layer in found.layers] == [10, 20]
    assert (found.embedding, found.output, found.vocabulary) == (100, 30, 50)
    assert found.layers[0].cache_width == 2 * (2 + 2)


def test_tensor_of_a_block_that_does_not_exist_is_counted_still() -> None:
    assert architecture_of(header(tensors=(row("blk.7.a", 10), row("blk.x", 5)), block_count=1)).weights == 15


def test_heads_may_differ_by_layer() -> None:
    facts = {"block_count": 3, "embedding_length": 8, "attention__head_count": 4, "attention__head_count_kv": [0, 2, 1]}
    assert [layer.cache_width for layer in architecture_of(header(**facts)).layers] == [0, 8, 4]


def test_windows_follow_the_pattern_of_the_architecture() -> None:
    facts = {"block_count": 12, "embedding_length": 8, "attention__head_count": 2, "attention__sliding_window": 512}
    windows = [layer.window for layer in architecture_of(header("gemma3", **facts)).layers]
    assert windows == [512, 512, 512, 512, 512, None] * 2
    flags = [True, False] * 6
    given_flags = header("new", attention__sliding_window_pattern=flags, **facts)
    assert [layer.window for layer in architecture_of(given_flags).layers] == [512, None] * 6
    assert {layer.window for layer in architecture_of(header("unheard-of", **facts)).layers} == {None}


def test_latent_attention_caches_its_compressed_vector() -> None:
    facts = {
        "block_count": 1,
        "attention__head_count": 128,
        "attention__kv_lora_rank": 512,
        "rope__dimension_count": 64,
    }
    assert architecture_of(header("deepseek2", **facts)).layers[0].cache_width == 576


def test_state_space_layers_have_a_state_and_no_cache() -> None:
    facts = {"block_count": 2, "ssm__inner_size": 1000, "ssm__state_size": 16, "ssm__conv_kernel": 4}
    mamba = architecture_of(header("mamba", **facts))
    assert mamba.layers[0].state == 4 * (16_000 + 3 * 1000)
    hybrid = header("hybrid", attention__head_count=4, embedding_length=8, attention__head_count_kv=[0, 2], **facts)
    first, second = architecture_of(hybrid).layers
    assert (first.state > 0, first.cache_width) == (True, 0)
    assert (second.state, second.cache_width > 0) == (0, True)


def test_empty_header_gives_an_empty_architecture() -> None:
    found = architecture_of(header())
    assert found.layers == ()
    assert estimate(found, 4096).ram == PROCESS


SIZES = [
    {"layers": 8, "width": 512, "heads": 8, "kv": 4, "ff": 1376, "vocabulary": 8000, "type": "F16", "context": 4096},
    {
        "layers": 12,
        "width": 768,
        "heads": 12,
        "kv": 12,
        "ff": 2048,
        "vocabulary": 32000,
        "type": "Q8_0",
        "context": 2048,
    },
    {  # a large vocabulary; few layers, since one thread reads a thousand tokens through each
        "layers": 4,
        "width": 1024,
        "heads": 16,
        "kv": 4,
        "ff": 2816,
        "vocabulary": 64000,
        "type": "F16",
        "context": 1024,
    },
]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size['layers']}x{size['width']}")
def test_estimate_is_within_15_percent_of_a_real_worker(tmp_path: Path, size: dict[str, object]) -> None:
    psutil = pytest.importorskip("psutil")
    file = tmp_path / "model.gguf"
    write_random_model(file, **size)  # type: ignore[arg-type]
    context = int(str(size["context"]))
    wanted = estimate(architecture_of(read_header(file)), context).ram
    with tempfile.TemporaryDirectory() as folder:
        model = ModelFiles(ModelName("m"), "gguf", (PlacedPart(file.name, "weights", file),))
        options, socket = LoadOptions(context, 1, threads=1, prompt_cache=0), Path(folder) / "w.sock"
        command = ENGINES.get("llama_cpp").command(model, options, socket, Settings())
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            _fill_context(socket, int(context * 0.95))
            used = psutil.Process(worker.pid).memory_info().rss
        finally:
            worker.kill()
            worker.wait()
            assert worker.stdin is not None
            worker.stdin.close()
    assert abs(wanted / used - 1) < 0.15, f"estimated {wanted / 1e6:.0f} MB, used {used / 1e6:.0f} MB"


def _fill_context(socket: Path, tokens: int) -> None:
    """Wait for the worker and let it read a prompt that fills the context, so that all memory is really used."""
    from pantry.client.connection import _UnixConnection

    until = time.monotonic() + 120
    body = json.dumps({"prompt": [5 + n % 200 for n in range(tokens)], "max_tokens": 2})
    while True:
        try:
            connection = _UnixConnection(str(socket))
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                break
        except OSError:
            assert time.monotonic() < until, "the worker did not start"
        finally:
            connection.close()
        time.sleep(0.1)
    connection = _UnixConnection(str(socket))
    connection.timeout = 120
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    assert connection.sock is not None
    connection.sock.settimeout(120)
    assert connection.getresponse().status == 200
    connection.close()


def test_need_adds_up() -> None:
    need = estimate(MODEL, 1024, device_layers=2)
    parts = dataclasses.asdict(need)
    assert need.ram == parts["weights"] + parts["cache"] + parts["compute"] + parts["vocabulary"] + PROCESS


def test_header_that_claims_more_blocks_than_tensors_does_not_fill_the_memory() -> None:
    assert architecture_of(header(tensors=(row("blk.0.a", 5),), block_count=2**40)).weights == 5
