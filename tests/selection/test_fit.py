import json
from pathlib import Path

import pytest

from pantry.core.errors import BadFileError, NotFoundError
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.engines import machine
from pantry.evaluation.speeds import keep_speed
from pantry.formats.memory import estimate
from pantry.install.installed import add_model
from pantry.operations.fit import fit_named
from pantry.selection import fit
from pantry.store.models import Store
from tests.catalogue.shipped import BOOK

GB = 10**9
SMALL = machine.Machine(memory=8 * GB, free=6 * GB, bandwidth=2e10)


def test_rows_cover_every_quantisation_and_context() -> None:
    found = fit.fit_entry(BOOK.model("qwen3-0.6b"), SMALL)
    assert {row.quantisation for row in found.rows} == set(fit.QUANTISATIONS)
    assert {row.context for row in found.rows} == {4096, 8192, 16384, 32768}


def test_known_shape_gives_the_exact_cache() -> None:
    # Qwen3 0.6B: 28 layers, 8 heads of 128 for keys and for values, 2 bytes each
    row = next(r for r in fit.fit_entry(BOOK.model("qwen3-0.6b"), SMALL).rows if r.context == 8192)
    assert row.need.cache == 28 * 2 * 8 * 128 * 2 * 8192


def test_best_is_the_finest_quantisation_of_a_readable_speed() -> None:
    found = fit.fit_entry(BOOK.model("qwen3-1.7b"), SMALL)
    assert found.best is not None
    assert found.best.fits
    assert (found.best.speed or 0) >= fit.READABLE
    finer = [
        row for row in found.rows if row.context == found.best.context and row.need.weights > found.best.need.weights
    ]
    assert all(not row.fits or (row.speed or 0) < fit.READABLE for row in finer)


def test_model_that_is_too_large_has_no_best() -> None:
    found = fit.fit_entry(BOOK.model("llama-3.3-70b-instruct"), SMALL)
    assert found.best is None
    assert not any(row.fits for row in found.rows)
    assert found.longest_context == 0


def test_mixture_of_experts_is_faster_than_its_size() -> None:
    mixed, dense = (
        fit.fit_entry(BOOK.model(name), SMALL).rows[0].speed for name in ("qwen3-30b-a3b-instruct-2507", "qwen3.8-27b")
    )
    assert (mixed or 0) > 5 * (dense or 0)


def test_graphics_memory_takes_layers_off_main_memory() -> None:
    bare = fit.fit_entry(BOOK.model("qwen3-8b"), SMALL)
    card = fit.fit_entry(BOOK.model("qwen3-8b"), machine.Machine(8 * GB, 6 * GB, 2e10, vram=4 * GB))
    assert 0 < card.device_layers <= card.layers + 1
    assert card.best is not None
    assert card.best.need.vram <= 4 * GB
    assert bare.rows[0].need.ram > card.rows[0].need.ram


def test_quantised_cache_gives_longer_contexts() -> None:
    f16 = fit.fit_entry(BOOK.model("llama-3.1-8b-instruct"), SMALL)
    q8 = fit.fit_entry(BOOK.model("llama-3.1-8b-instruct"), SMALL, cache_type="q8_0")
    assert q8.longest_context > f16.longest_context


def test_model_of_unknown_size_and_remote_model_are_errors() -> None:
    with pytest.raises(NotFoundError, match="does not know the size"):
        fit.fit_entry(BOOK.model("koala"), SMALL)
    with pytest.raises(NotFoundError, match="at a provider"):
        fit.fit_entry(BOOK.model("gpt-4"), SMALL)


def test_what_fits_fits_and_puts_readable_speeds_first() -> None:
    found = fit.what_fits(BOOK, SMALL)
    assert found
    assert all(each.best is not None and each.best.need.ram <= SMALL.free for each in found)
    readable = [(each.best.speed or 0) >= fit.READABLE for each in found if each.best]
    assert readable == sorted(readable, reverse=True)


def test_nothing_fits_a_machine_without_memory() -> None:
    assert fit.what_fits(BOOK, machine.Machine(GB, 10_000_000, 1e10)) == []


@pytest.mark.parametrize(
    ("speed", "name"),
    [(80, "instant"), (20, "fluent"), (5, "readable"), (2, "slow"), (0.5, "too slow"), (None, "unknown")],
)
def test_speed_class(speed: float | None, name: str) -> None:
    assert fit.speed_class(speed) == name


def test_file_is_judged_by_its_header(tiny_gguf: Path) -> None:
    found = fit.fit_file(tiny_gguf, SMALL)
    assert found.exact
    assert found.rows[0].fits


def test_safetensors_file_is_judged_with_its_config(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    import numpy as np

    numpy.save_file({"w": np.zeros((1000, 100), dtype=np.float16)}, tmp_path / "model.safetensors")
    config = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 64}
    (tmp_path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    row = fit.fit_file(tmp_path / "model.safetensors", SMALL).rows[0]
    assert (row.quantisation, row.context) == ("F16", 4096)
    assert row.need.weights == 200_000
    assert row.need.cache == 4 * 2 * 2 * 8 * 2 * 4096


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        "[" * 200_000,
        '{"a":' * 90_000 + "1" + "}" * 90_000,
        '{"num_hidden_layers": "many"}',
        '{"num_hidden_layers": -3}',
    ],
)
def test_odd_config_does_not_break_the_estimate(tmp_path: Path, config: str) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"x" * 8)
    (tmp_path / "config.json").write_text(config)
    assert fit.fit_file(tmp_path / "m.safetensors", SMALL).rows[0].need.weights == 8


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadFileError):
        fit.fit_file(tmp_path / "x.gguf", SMALL)


def test_installed_model_is_read_once_and_kept_by_digest(paths: Paths, tiny_gguf: Path) -> None:
    with Store.open(paths) as store:
        model = add_model(store, tiny_gguf, ModelName.parse("tiny"))
        first = fit.fit_installed(paths, store, model, SMALL)
        kept = paths.data / "shapes" / f"{model.digest.hex}.json"
        assert fit.fit_installed(paths, store, model, SMALL) == first
        kept.write_text('{"layers": 5}')  # a damaged note is made again
        assert fit.fit_installed(paths, store, model, SMALL) == first
    assert fit_named(paths, BOOK, ["tiny", str(tiny_gguf), "phi-4"], SMALL)[0] == first


def test_measured_speed_takes_the_place_of_the_estimate(paths: Paths, tiny_gguf: Path) -> None:
    with Store.open(paths) as store:
        model = add_model(store, tiny_gguf, ModelName.parse("tiny"))
        keep_speed(store.database, model.digest, "llama_cpp", 12.5, 0.4)
        found = fit.fit_installed(paths, store, model, SMALL)
    assert {row.speed for row in found.rows} == {12.5}
    assert found.measured is not None
    assert found.to_json()["measured"]["engine"] == "llama_cpp"


def test_starter_model_is_known_before_it_was_ever_used(paths: Paths) -> None:
    (found,) = fit_named(paths, BOOK, ["starter"], SMALL)
    assert found.exact
    assert found.best is not None


def test_speed_of_the_memory_is_measured_once(paths: Paths) -> None:
    first = machine.memory_speed(paths)
    assert 1e8 < first < 1e13
    assert machine.memory_speed(paths) == first
    (paths.data / "machine.json").write_text("{")
    assert machine.memory_speed(paths) > 0


def test_card_is_found_by_the_tool_of_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.detect_gpu() == (None, 0)
    for script, found in [
        ("echo 'NVIDIA H200, 143771'", ("NVIDIA H200", 143771 * 1024**2)),
        ("exit 9", (None, 0)),
        ("echo 'No devices were found'", (None, 0)),
        ("true", (None, 0)),
    ]:
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        assert machine.detect_gpu() == found


def test_json_of_a_fit_has_every_part() -> None:
    content = json.loads(json.dumps(fit.fit_entry(BOOK.model("phi-4"), SMALL).to_json()))
    assert content["rows"][0]["parts"]["weights"] > 0
    assert content["exact"] is False


def test_estimate_of_an_entry_grows_with_its_bits() -> None:
    model = BOOK.model("phi-4")
    needs = [estimate(fit.architecture_from_entry(model, bits), 8192).ram for bits in fit.QUANTISATIONS.values()]
    assert needs == sorted(needs)
