"""What a delta rebuilds is the target, bit for bit, whatever its format and however it differs from the base."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.core.errors import BadFileError, NotFoundError, UsageError
from pantry.formats.dtypes import ELEMENTS
from pantry.workshop.delta.lowrank import find_factors
from tests.formats.model_files import (
    base_tensors,
    bf16,
    gguf,
    normal,
    read_tree,
    safetensors,
    sharded,
    tuned_tensors,
    write_folder,
)
from tests.workshop.delta.deltas import apply, make, operations

Tree = dict[str, bytes]
CONFIG = json.dumps({"hidden_size": 64, "vocab": [f"token {n}" for n in range(9000)]}).encode()


def round_trip(tmp_path: Path, base: Tree, target: Tree, **options: Any) -> tuple[dict[str, str], int]:
    """(operation by tensor, bytes of the payload), after checking that the target comes back."""
    old, new = write_folder(tmp_path / "base", base), write_folder(tmp_path / "target", target)
    index = make(old, new, tmp_path / "delta", **options)
    apply(old, tmp_path / "delta", tmp_path / "out")
    built = tmp_path / "out"
    assert read_tree(built) == (target if built.is_dir() else {"out": next(iter(target.values()))})
    return operations(index), (tmp_path / "delta" / "weights.pdelta").stat().st_size


def test_a_single_safetensors_file(tmp_path: Path) -> None:
    target = safetensors(tuned_tensors(), {"format": "pt"}, pad=3)
    found, size = round_trip(tmp_path, {"m.safetensors": safetensors(base_tensors())}, {"m.safetensors": target})
    assert found["layer.norm.weight"] == found["layer.steps"] == "copy"
    assert found["layer.up.weight"] == "sub"
    assert size < 0.5 * len(target)


def test_a_folder_with_shards_an_index_and_other_files(tmp_path: Path) -> None:
    base = {**sharded(base_tensors(), 2), "config.json": CONFIG, "tokenizer/merges.txt": b"a b\n" * 500}
    target = {**sharded(tuned_tensors(), 3), "config.json": CONFIG.replace(b"64", b"65"), "empty.txt": b"",
              "tokenizer/merges.txt": b"a b\n" * 500, "new.bin": bytes(range(256))}  # fmt: skip
    round_trip(tmp_path, base, target)


def test_gguf_with_floating_point_and_quantised_tensors(tmp_path: Path) -> None:
    dice = np.random.default_rng(3)
    blocks = dice.bytes(34 * 64)
    base, target = base_tensors(), tuned_tensors()
    for tensors, data in ((base, blocks), (target, blocks[:2000] + dice.bytes(len(blocks) - 2000))):
        del tensors["layer.steps"]
        tensors["quantised.weight"] = ("q8_0", (32, 64), data)
    found, _ = round_trip(tmp_path, {"m.gguf": gguf(base)}, {"m.gguf": gguf(target)})
    assert found["layer.up.weight"] == "sub"
    assert found["quantised.weight"] in ("sub", "full")


def test_a_change_in_other_files_alone_takes_few_bytes(tmp_path: Path) -> None:
    weights = safetensors(base_tensors())
    base = {"m.safetensors": weights, "config.json": CONFIG}
    target = {"m.safetensors": weights, "config.json": CONFIG.replace(b"token 7", b"token seven")}
    found, size = round_trip(tmp_path, base, target)
    assert set(found.values()) == {"copy"}
    assert size < 2000


def test_the_same_folder_takes_almost_nothing(tmp_path: Path) -> None:
    tree = {"m.safetensors": safetensors(base_tensors()), "config.json": CONFIG}
    assert round_trip(tmp_path, tree, tree)[1] < 1500


def test_added_and_removed_tensors(tmp_path: Path) -> None:
    target = tuned_tensors()
    del target["layer.up.weight"]
    target["new.weight"] = ("bf16", (8, 64), bf16(normal(7, 8, 64)))
    found, _ = round_trip(
        tmp_path, {"m.safetensors": safetensors(base_tensors())}, {"m.safetensors": safetensors(target)}
    )
    assert found["new.weight"] == "full"


def test_renamed_tensors_by_a_map(tmp_path: Path) -> None:
    target = {f"model.{name}": tensor for name, tensor in tuned_tensors().items()}
    renames = {f"model.{name}": name for name in base_tensors()}
    trees = {"m.safetensors": safetensors(base_tensors())}, {"m.safetensors": safetensors(target)}
    plain, large = round_trip(tmp_path / "plain", *trees)
    mapped, small = round_trip(tmp_path / "mapped", *trees, renames=renames)
    assert set(plain.values()) == {"full"}
    assert mapped["model.layer.norm.weight"] == "copy"
    assert small < 0.6 * large


@pytest.mark.parametrize(
    ("pair", "hint"), [(("nothing", "embed.weight"), None), (("embed.weight", "embd.weight"), "'embed.weight'")]
)
def test_a_map_that_names_no_tensor_is_refused_with_the_nearest_name(
    tmp_path: Path, pair: tuple[str, str], hint: str | None
) -> None:
    tree = {"m.safetensors": safetensors(base_tensors())}
    with pytest.raises(UsageError, match="has no tensor") as raised:
        round_trip(tmp_path, tree, tree, renames=dict([pair]))
    if hint is None:
        assert raised.value.hint is None
    else:
        assert hint in str(raised.value.hint)


def test_an_enlarged_vocabulary_keeps_the_old_rows(tmp_path: Path) -> None:
    base = {"embed.weight": ("bf16", (400, 64), bf16(normal(1, 400, 64)))}
    values = np.concatenate([normal(1, 400, 64) + normal(2, 400, 64, scale=0.0003), normal(3, 3, 64)])
    target = {"embed.weight": ("bf16", (403, 64), bf16(values))}
    found, size = round_trip(tmp_path, {"a.safetensors": safetensors(base)}, {"a.safetensors": safetensors(target)})
    assert found == {"embed.weight": "sub+full"}
    assert size < 0.5 * 403 * 128


def test_a_shrunk_vocabulary_uses_the_first_rows(tmp_path: Path) -> None:
    base = {"embed.weight": ("bf16", (400, 64), bf16(normal(1, 400, 64)))}
    target = {"embed.weight": ("bf16", (390, 64), bf16(normal(1, 390, 64)))}
    found, _ = round_trip(tmp_path, {"a.safetensors": safetensors(base)}, {"a.safetensors": safetensors(target)})
    assert found == {"embed.weight": "copy"}


def test_a_reshaped_tensor_is_compared_in_order(tmp_path: Path) -> None:
    base = {"w": ("bf16", (400, 64), bf16(normal(1, 400, 64)))}
    target = {"w": ("bf16", (64, 400), bf16(normal(1, 400, 64)))}
    found, _ = round_trip(tmp_path, {"a.safetensors": safetensors(base)}, {"a.safetensors": safetensors(target)})
    assert found == {"w": "copy"}


@pytest.mark.parametrize(("old", "new"), [("f32", "bf16"), ("f32", "f16"), ("bf16", "f32"), ("f64", "f16")])
def test_a_cast_tensor_is_predicted_through_the_cast(tmp_path: Path, old: str, new: str) -> None:
    def stored(dtype: str, values: Any) -> tuple[str, tuple[int, ...], bytes]:
        code = {"f64": "<f8", "f32": "<f4", "f16": "<f2"}
        return dtype, values.shape, bf16(values) if dtype == "bf16" else values.astype(code[dtype]).tobytes()

    values = normal(1, 200, 64)
    base, target = {"w": stored(old, values)}, {"w": stored(new, values)}
    found, size = round_trip(tmp_path, {"a.safetensors": safetensors(base)}, {"a.safetensors": safetensors(target)})
    assert found["w"] in ("copy", "sub")
    assert size < 0.6 * len(target["w"][2])


def test_a_tensor_of_another_kind_is_stored_whole(tmp_path: Path) -> None:
    base = {"w": ("bf16", (10, 10), bf16(normal(1, 10, 10))), "v": ("i8", (4,), b"abcd")}
    target = {"w": ("bf16", (7, 9), bf16(normal(1, 7, 9))), "v": ("f32", (4,), normal(2, 4).tobytes())}
    found, _ = round_trip(tmp_path, {"a.safetensors": safetensors(base)}, {"a.safetensors": safetensors(target)})
    assert found == {"w": "full", "v": "full"}


def test_scalars_and_empty_tensors(tmp_path: Path) -> None:
    base: Any = {"scalar": ("f32", (), b"\0\0\x80\x3f"), "empty": ("f32", (0, 4), b"")}
    target: Any = {"scalar": ("f32", (), b"\0\0\0\x40"), "empty": ("f32", (0, 4), b""), "more": ("bf16", (0,), b"")}
    round_trip(tmp_path, {"a.safetensors": safetensors(base)}, {"a.safetensors": safetensors(target)})


def test_files_without_tensors_larger_than_a_block(tmp_path: Path) -> None:
    dice = np.random.default_rng(1)
    base = dice.bytes(9_000_000)
    target = base[:5_000_000] + b"changed" + base[5_000_000:]
    _, size = round_trip(tmp_path, {"a.bin": base, "same.bin": base}, {"a.bin": target, "same.bin": base})
    assert size < 20_000


def test_a_tensor_larger_than_a_block(tmp_path: Path) -> None:
    values = normal(1, 5_000_001)
    base = {"w": ("bf16", (5_000_001,), bf16(values))}
    target = {"w": ("bf16", (5_000_001,), bf16(values + normal(2, 5_000_001, scale=0.0005)))}
    _, size = round_trip(tmp_path, {"a.safetensors": safetensors(base)}, {"a.safetensors": safetensors(target)})
    assert size < 0.39 * 10_000_000


words = st.sampled_from(sorted(ELEMENTS))


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.tuples(words, st.integers(0, 300), st.binary(min_size=1, max_size=64), st.booleans()),
        min_size=1,
    ),
    st.integers(0, 2**32),
)
def test_any_pair_of_tensor_files_comes_back(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any], seed: int
) -> None:
    dice = np.random.default_rng(seed)
    base, target = {}, {}
    for name, (dtype, count, pattern, in_base) in tensors.items():
        if dtype in ("u64", "u32", "u16"):
            dtype = "i8"
        length = count * ELEMENTS[dtype].width
        data = (pattern * (length // len(pattern) + 1))[:length]
        target[name] = (dtype, (count,), data)
        if in_base:
            noise = dice.integers(0, 2, length, dtype=np.uint8)
            base[name] = (dtype, (count,), (np.frombuffer(data, np.uint8) ^ noise).tobytes())
    folder = tmp_path_factory.mktemp("pair")
    round_trip(folder, {"m.safetensors": safetensors(base)}, {"m.safetensors": safetensors(target)})


def write_adapter(folder: Path, up: Any, down: Any, **config: Any) -> Path:
    tensors = {
        "base_model.model.w.lora_A.weight": ("f32", down.shape, down.astype("<f4").tobytes()),
        "base_model.model.w.lora_B.weight": ("f32", up.shape, up.astype("<f4").tobytes()),
    }
    settings = {"r": down.shape[0], "lora_alpha": 2 * down.shape[0], **config}
    return write_folder(
        folder,
        {
            "adapter_model.safetensors": safetensors(tensors),
            "adapter_config.json": json.dumps(settings).encode(),
        },
    )


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 2 * 4 / 2.0),
        ({"alpha_pattern": {"w": 12}}, 3.0),
        ({"fan_in_fan_out": True}, 2),
    ],
)
def test_a_merged_lora_is_stored_as_its_matrices(tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    up, down = normal(1, 320, 4, scale=0.1), normal(2, 4, 320, scale=0.1)
    change = (up @ down) * scale
    if config.get("fan_in_fan_out"):
        change = change.T
    values = np.frombuffer(bf16(normal(3, 320, 320)), np.uint16).astype(np.uint32) << 16
    base = {"w.weight": ("bf16", (320, 320), bf16(values.view(np.float32)))}
    merged = values.view(np.float32).reshape(320, 320) + change.astype(np.float32)
    target = {"w.weight": ("bf16", (320, 320), bf16_nearest(merged))}
    adapter = write_adapter(tmp_path / "adapter", up, down, **config)
    trees = {"m.safetensors": safetensors(base)}, {"m.safetensors": safetensors(target)}
    found, size = round_trip(tmp_path, *trees, adapter=adapter)
    assert found == {"w.weight": "lowrank"}
    assert size < 0.08 * 320 * 320 * 2
    assert round_trip(tmp_path / "without", *trees)[1] > 5 * size


def bf16_nearest(values: Any) -> bytes:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


@pytest.mark.parametrize(("dtype", "most"), [("bf16", 0.12), ("f32", 0.20)])
def test_a_merged_lora_is_found_without_its_matrices(tmp_path: Path, dtype: str, most: float) -> None:
    change = normal(1, 600, 4, scale=0.05) @ normal(2, 4, 500, scale=0.05)
    base_values = np.frombuffer(bf16(normal(3, 600, 500)), np.uint16).astype(np.uint32) << 16
    old = base_values.view(np.float32).reshape(600, 500)
    new = old + change.astype(np.float32)
    stored = {"bf16": bf16_nearest, "f32": lambda values: np.ascontiguousarray(values).tobytes()}[dtype]
    trees = [{"m.safetensors": safetensors({"w": (dtype, (600, 500), stored(values))})} for values in (old, new)]
    found, size = round_trip(tmp_path, *trees, find=find_factors)
    assert found == {"w": "lowrank"}
    assert size < most * len(trees[1]["m.safetensors"])
    assert round_trip(tmp_path / "without", *trees)[1] > 2 * size


def test_no_low_rank_is_found_where_there_is_none(tmp_path: Path) -> None:
    old, new = normal(1, 400, 300), normal(1, 400, 300) + normal(2, 400, 300, scale=0.001)
    new[0, 0] = np.inf
    trees = [{"m.safetensors": safetensors({"w": ("bf16", (400, 300), bf16(values))})} for values in (old, new)]
    assert round_trip(tmp_path, *trees, find=find_factors)[0] == {"w": "sub"}
    new[0, 0] = 0
    trees[1] = {"m.safetensors": safetensors({"w": ("bf16", (400, 300), bf16(new))})}
    assert round_trip(tmp_path / "finite", *trees, find=find_factors)[0] == {"w": "sub"}


def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    tree = {"m.safetensors": safetensors(base_tensors())}
    adapter = write_adapter(tmp_path / "adapter", normal(1, 32, 4), normal(2, 4, 32))
    with pytest.raises(UsageError, match="none of which the target has"):
        round_trip(tmp_path, tree, tree, adapter=adapter)


def test_a_wrong_adapter_for_the_right_tensor_costs_nothing(tmp_path: Path) -> None:
    base = {"w.weight": ("bf16", (64, 64), bf16(normal(3, 64, 64)))}
    target = {"w.weight": ("bf16", (64, 64), bf16(normal(3, 64, 64) + normal(4, 64, 64, scale=0.0002)))}
    adapter = write_adapter(tmp_path / "adapter", normal(1, 64, 4), normal(2, 4, 64))
    trees = {"m.safetensors": safetensors(base)}, {"m.safetensors": safetensors(target)}
    assert round_trip(tmp_path, *trees, adapter=adapter)[0] == {"w.weight": "sub"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"adapter_config.json": b"{"}, "not valid JSON"),
        ({"adapter_config.json": b"[]"}, "not an adapter"),
        ({"adapter_config.json": b'{"lora_alpha": "much"}'}, "lora_alpha"),
        ({"adapter_config.json": b'{"use_dora": true}'}, "DoRA"),
        ({"adapter_model.safetensors": safetensors({"x": ("f32", (1,), bytes(4))})}, "holds no pair"),
    ],
)
def test_a_bad_adapter_is_refused(tmp_path: Path, change: Tree, fault: str) -> None:
    base = {"m.safetensors": safetensors({"w.weight": ("bf16", (64, 64), bf16(normal(3, 64, 64)))})}
    adapter = write_adapter(tmp_path / "adapter", normal(1, 64, 4), normal(2, 4, 64))
    write_folder(adapter, change)
    target = {"m.safetensors": safetensors({"w.weight": ("bf16", (64, 64), bf16(normal(4, 64, 64)))})}
    with pytest.raises((BadFileError, UsageError), match=fault):
        round_trip(tmp_path, base, target, adapter=adapter)


def test_an_adapter_without_its_configuration_is_refused(tmp_path: Path) -> None:
    tree = {"m.safetensors": safetensors(base_tensors())}
    with pytest.raises(NotFoundError, match=r"adapter_config\.json"):
        round_trip(tmp_path, tree, tree, adapter=write_folder(tmp_path / "adapter", {"x": b""}))


def test_pytorch_files_are_rebuilt_byte_for_byte(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for part, seed in (("base", 1), ("target", 2)):
        (tmp_path / part).mkdir()
        tensors = {"w": torch.from_numpy(normal(1, 300, 64) + normal(seed, 300, 64, scale=0.0003)).bfloat16()}
        torch.save({**tensors, "norm": torch.ones(64)}, tmp_path / part / "pytorch_model.bin")
    index = make(tmp_path / "base", tmp_path / "target", tmp_path / "delta")
    apply(tmp_path / "base", tmp_path / "delta", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "target" / "pytorch_model.bin").read_bytes()
    assert operations(index) == {"w": "sub", "norm": "copy"}


MEASURED = """
import sys
from pathlib import Path
from tests.workshop.delta.deltas import apply, make
folder = Path(sys.argv[2])
if sys.argv[1] == "make":
    make(folder / "base", folder / "target", folder / "delta")
else:
    apply(folder / "base", folder / "delta", folder / "out")
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1000)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_memory_stays_below_300_megabytes(tmp_path: Path) -> None:
    """Make and apply over 660 MB of weights and a 100 MB file without tensors, in processes of their own."""
    base, target = normal(1, 15_000_000), normal(2, 15_000_000, scale=0.0005)
    target += base
    for part, values in (("base", base), ("target", target)):
        write_folder(tmp_path / part, {"big.bin": np.random.default_rng(1).bytes(100_000_000) + part.encode()})
        for number in range(10):
            tensors = {
                f"a{number}": ("bf16", (15_000_000,), bf16(values)),
                f"b{number}": ("f32", (9_000_000,), values[:9_000_000].tobytes()),
            }
            write_folder(tmp_path / part, {f"m{number}.safetensors": safetensors(tensors)})
    for step in ("make", "apply"):
        run = subprocess.run([sys.executable, "-c", MEASURED, step, str(tmp_path)], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert int(run.stdout) < 300, step
    for file in (tmp_path / "target").iterdir():
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()
