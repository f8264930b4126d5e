import contextlib
import json
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.core.errors import BadFileError
from pantry.formats.safetensors import MAX_HEADER, read_header


def build(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content) if length is None else length) + content + data


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    return file


def test_header_is_read(tmp_path: Path) -> None:
    header = {"__metadata__": {"format": "pt"}, "b": tensor([2], 4, 12), "a": tensor([1], 0, 4)}
    found = read_header(write(tmp_path, build(header, b"\x00" * 12)))
    assert [(each.name, each.dtype, each.start, each.length) for each in found.tensors] == [
        ("b", "f32", found.data_start + 4, 8),
        ("a", "f32", found.data_start, 4),
    ]
    assert found.parameters == 3
    assert found.metadata == {"format": "pt"}


def test_file_written_by_the_library_is_read(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    import numpy as np

    numpy.save_file({"w": np.zeros((3, 4), dtype=np.float16), "v": np.ones(5)}, tmp_path / "x.safetensors")
    assert read_header(tmp_path / "x.safetensors").parameters == 17


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "announces a header"),
        (b"\x01\x00", "announces a header"),
        (build({}, length=10**6), "announces a header of 1000000 bytes"),
        (struct.pack("<Q", MAX_HEADER + 1) + b"{}", "announces a header"),
        (build(b"[]"), "does not start a JSON object"),
        (build(b"{"), "not JSON"),
        (build(b'{"a":' + b"[" * 5000 + b"}"), "not JSON"),
        (build(b'{"a": {}, "a": {}}'), "the key 'a' occurs twice"),
        (build({"__metadata__": {"a": 1}}), "__metadata__"),
        (build({"a": {}}), "must have dtype"),
        (build({"a": tensor([1], 0, 4, "F33")}, b"1234"), "unknown data type 'F33'"),
        (build({"a": tensor([-1], 0, 4)}, b"1234"), "impossible"),
        (build({"a": tensor([True], 0, 4)}, b"1234"), "impossible"),
        (build({"a": tensor([2**61], 0, 4)}, b"1234"), "impossible"),
        (build({"a": tensor([2], 0, 4)}, b"1234"), "needs 8 bytes, its range 0 to 4 has 4"),
        (build({"a": tensor([1], 4, 8)}, b"12345678"), "leaves a gap"),
        (build({"a": tensor([1], 0, 4), "b": tensor([1], 2, 6)}, b"123456"), "overlaps"),
        (build({"a": tensor([1], 0, 4)}, b"123"), "end at byte 4 of the data, the data at byte 3"),
        (build({"a": tensor([1], 0, 4)}, b"12345"), "the data at byte 5"),
        (build({"a": tensor([3], 0, 1, "F4")}, b"1"), "needs 1.5 bytes"),
    ],
)
def test_file_that_lies_is_refused_with_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(BadFileError, match=message.replace("(", r"\(")):
        read_header(write(tmp_path, content))


def test_cut_file_is_refused_at_every_length(tmp_path: Path) -> None:
    content = build({"a": tensor([2], 0, 8)}, b"\x00" * 8)
    for length in range(len(content)):
        with pytest.raises(BadFileError):
            read_header(write(tmp_path, content[:length]))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    for written in (content, build(content), build(b"{" + content + b"}")):
        file.write_bytes(written)
        with contextlib.suppress(BadFileError):
            read_header(file)


def test_a_key_that_comes_twice_is_found_in_time_linear_in_the_keys(tmp_path: Path) -> None:
    keys = ",".join(f'"t{number}":0' for number in range(200_000))
    file = write(tmp_path, build(f'{{{keys},"t199999":0}}'.encode()))
    before = time.process_time()
    with pytest.raises(BadFileError, match="the key 't199999' occurs twice"):
        read_header(file)
    assert time.process_time() - before < 10, "quadratic, it would take an hour"
