"""PyTorch files are read without executing their pickles."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pantry.formats.tensor_files import read_layout

torch = pytest.importorskip("torch")


def saved(tmp_path: Path, content: Any, **options: Any) -> Path:
    file = tmp_path / "model.bin"
    torch.save(content, file, **options)
    return file


def check(file: Path, wanted: dict[str, Any]) -> None:
    layout, content = read_layout(file), file.read_bytes()
    assert layout.format == "torch"
    assert {tensor.name for tensor in layout.tensors} == set(wanted)
    for tensor in layout.tensors:
        expected = wanted[tensor.name]
        assert tensor.shape == tuple(expected.shape)
        assert content[tensor.start : tensor.end] == expected.contiguous().view(torch.uint8).numpy().tobytes()


def test_tensors_of_every_format_are_found(tmp_path: Path) -> None:
    floats = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
    names = (*floats, "int64", "int32", "int16", "int8", "uint8")
    tensors = {name: torch.arange(24).reshape(4, 6).to(getattr(torch, name)) for name in names}
    check(saved(tmp_path, tensors), tensors)


def test_nested_dictionaries_and_parameters_are_named_by_their_keys(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    file = saved(tmp_path, {"model": layer.state_dict(), "step": 7, "extra": {"p": torch.nn.Parameter(torch.ones(2))}})
    check(file, {"model.weight": layer.weight, "model.bias": layer.bias, "extra.p": torch.ones(2)})


def test_tied_and_sliced_tensors_keep_to_their_storage(tmp_path: Path) -> None:
    whole = torch.arange(100, dtype=torch.float32)
    file = saved(tmp_path, {"a": whole, "tied": whole, "part": whole[10:20], "strided": whole.reshape(10, 10).T})
    layout = read_layout(file)
    assert {tensor.name for tensor in layout.tensors} == {"a", "tied", "part"}
    assert [t.name for _, _, t in layout.segments() if t] == ["a"]
    assert sum(end - start for start, end, _ in layout.segments()) == file.stat().st_size


def test_the_old_format_and_other_objects_count_as_plain_bytes(tmp_path: Path) -> None:
    assert read_layout(saved(tmp_path, {"a": torch.ones(3)}, _use_new_zipfile_serialization=False)).tensors == ()
    assert read_layout(saved(tmp_path, {"a": Path("x")})).tensors == ()


class Trap:
    """An object whose pickle would run a command."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.witness)!r}, 'w').close()",))


def test_a_pickle_that_would_run_code_runs_nothing(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    file = saved(tmp_path, {"a": torch.ones(3), "trap": Trap(witness)})
    assert [tensor.name for tensor in read_layout(file).tensors] == ["a"]
    assert not witness.exists()


def zipped(tmp_path: Path, table: bytes, **members: bytes) -> Path:
    file = tmp_path / "hostile.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", table)
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    return file


@pytest.mark.parametrize(
    "table",
    [
        b"",
        b"garbage",
        b"\x80\x02.",
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02h\x05.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x02(" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" * 10 + b"a" * 9 + b".",
        pickle.dumps({"a": {1, 2, 3}}),
        b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00idQ.",
    ],
)
def test_a_hostile_table_gives_no_tensors(tmp_path: Path, table: bytes) -> None:
    assert read_layout(zipped(tmp_path, table)).tensors == ()


def test_endless_nesting_gives_no_tensors(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    assert read_layout(zipped(tmp_path, pickle.dumps(loop, 2))).tensors == ()


def test_a_dictionary_that_multiplies_itself_gives_no_tensors(tmp_path: Path) -> None:
    level: dict[str, Any] = {"leaf": None}
    for _ in range(30):
        level = {"a": level, "b": level, "c": level}
    assert read_layout(zipped(tmp_path, pickle.dumps(level, 2))).tensors == ()


def test_a_tensor_larger_than_its_storage_is_left_out(tmp_path: Path) -> None:
    good = io.BytesIO()
    torch.save({"a": torch.ones(4)}, good)
    with zipfile.ZipFile(good) as archive:
        table = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    file = tmp_path / "short.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", table)
        archive.writestr("x/data/0", bytes(15))
    assert read_layout(file).tensors == ()


def test_a_compressed_storage_is_left_out(tmp_path: Path) -> None:
    file = saved(tmp_path, {"a": torch.ones(400)})
    other = tmp_path / "deflated.pth"
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert read_layout(other).tensors == ()
