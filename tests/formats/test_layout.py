"""Where the tensors lie: safetensors, GGUF, other files; damaged ones are refused."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.core.errors import BadFileError, StorageError
from pantry.formats.layout import OpenFile
from pantry.formats.tensor_files import read_layout
from tests.formats.model_files import base_tensors, gguf, safetensors


def test_segments_cover_the_whole_file_in_order(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    file.write_bytes(safetensors(base_tensors(), pad=5))
    layout = read_layout(file)
    at = 0
    for start, end, _ in layout.segments():
        assert start == at
        at = end
    assert at == layout.size == file.stat().st_size
    assert [t.name for _, _, t in layout.segments() if t] == list(base_tensors())


def test_tensors_are_where_the_header_says(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    file.write_bytes(safetensors(base_tensors()))
    content = file.read_bytes()
    for tensor in read_layout(file).tensors:
        dtype, shape, data = base_tensors()[tensor.name]
        assert (tensor.dtype, tensor.shape) == (dtype, shape)
        assert content[tensor.start : tensor.end] == data


def test_gguf_tensors_have_the_slowest_dimension_first(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    tensors = {name: base_tensors()[name] for name in ("embed.weight", "layer.norm.weight")}
    tensors["quantised"] = ("q8_0", (4, 64), bytes(range(136)) * 2)
    file.write_bytes(gguf(tensors))
    content = file.read_bytes()
    found = {tensor.name: tensor for tensor in read_layout(file).tensors}
    for name, (dtype, shape, data) in tensors.items():
        assert (found[name].dtype, found[name].shape) == (dtype, shape)
        assert content[found[name].start : found[name].end] == data


def header_file(folder: Path, rows: object, data: bytes = bytes(8)) -> Path:
    text = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
    file = folder / "bad.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return file


def row(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ({"a": row(offsets=(0, 9))}, "needs 8 bytes, its range 0 to 9 has 9"),
        ({"a": row(offsets=(8, 0))}, "needs 8 bytes, its range 8 to 0 has -8"),
        ({"a": row(offsets=(-8, 0))}, "impossible shape or range"),
        ({"a": row(shape=(3,))}, "needs 12 bytes, its range 0 to 8 has 8"),
        ({"a": row(shape=(2.0,))}, "impossible shape or range"),
        ({"a": row(shape=(-1, -2))}, "impossible shape or range"),
        ({"a": row(shape=[True, 2])}, "impossible shape or range"),
        ({"a": row(shape=(2**63,))}, "impossible shape or range"),
        ({"a": row(shape=(1,) * 65)}, "impossible shape or range"),
        ({"a": row(shape=7)}, "impossible shape or range"),
        ({"a": 5}, "must have dtype, shape and data_offsets"),
        ({"a": row(), "b": row()}, "overlap"),
        (b'{"a": {}, "a": {}}', "twice"),
        (b"[1]", "does not start a JSON object"),
        (b"{", "its header is not JSON"),
        (b"[" * 100_000, "does not start a JSON object"),
        (b'{"a":' * 100_000, "its header is not JSON"),
        (b"\xff\xfe", "does not start a JSON object"),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path, rows: object, fault: str) -> None:
    with pytest.raises(BadFileError, match=fault):
        read_layout(header_file(tmp_path, rows))


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0", struct.pack("<Q", 2**40) + b"{}", b"<html>not found"])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m.safetensors"
    file.write_bytes(content)
    with pytest.raises(BadFileError, match=r"m\.safetensors is cut short or damaged"):
        read_layout(file)


def test_a_truncated_safetensors_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    file.write_bytes(safetensors(base_tensors())[:-1])
    with pytest.raises(BadFileError, match="its tensors end at byte"):
        read_layout(file)


WHOLE = safetensors(base_tensors())


@settings(max_examples=60)
@given(at=st.integers(0, 600), flip=st.integers(1, 255))
def test_a_changed_header_byte_is_refused_or_still_covers_the_file(
    tmp_path_factory: pytest.TempPathFactory, at: int, flip: int
) -> None:
    damaged = bytearray(WHOLE)
    damaged[at] ^= flip
    file = tmp_path_factory.mktemp("fuzz") / "m.safetensors"
    file.write_bytes(damaged)
    try:
        layout = read_layout(file)
    except BadFileError:
        return
    assert sum(end - start for start, end, _ in layout.segments()) == len(WHOLE)


def test_a_pipe_is_no_model_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(BadFileError, match="not a plain file"):
        read_layout(tmp_path / "pipe.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nothing_here"):
        read_layout(tmp_path / "nothing_here")


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(bytes(100))
    opened = OpenFile(file)
    file.write_bytes(bytes(10))
    with pytest.raises(BadFileError, match="ends at byte 10"):
        opened.read(0, 100)
    opened.close()
    opened.close()
