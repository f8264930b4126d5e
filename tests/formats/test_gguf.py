import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.core.errors import BadFileError, StorageError
from pantry.formats.gguf import LongArray, read_header
from tests.gguf_files import GGUFBuilder, array, value


def written(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    return file


def test_header_tells_architecture_shape_and_tensors(tiny_gguf: Path) -> None:
    header = read_header(tiny_gguf)
    assert (header.architecture, header.name, header.context_length) == ("llama", "Tiny", 512)
    assert [(t.name, t.type, t.size) for t in header.tensors] == [
        ("token_embd.weight", "F32", 1024),
        ("output_norm.weight", "Q8_0", 68),
    ]
    assert header.parameters == 64 * 4 + 64
    assert header.quantisation == "F32"
    assert header.metadata["tokenizer.ggml.tokens"] == LongArray(2000)


def test_short_arrays_are_kept(tmp_path: Path) -> None:
    builder = GGUFBuilder()
    builder.metadata["general.tags"] = array(8, ["a", "b"])
    assert read_header(written(tmp_path, builder.build())).metadata["general.tags"] == ["a", "b"]


def test_text_named_gguf_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="not a GGUF file: it starts with b'<htm'"):
        read_header(written(tmp_path, b"<html>not a model</html>"))


def test_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="not a GGUF file"):
        read_header(written(tmp_path, b""))


def test_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        read_header(tmp_path / "none.gguf")


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, keep: float) -> None:
    content = GGUFBuilder().build()
    with pytest.raises(BadFileError, match=r"cut short|not a GGUF"):
        read_header(written(tmp_path, content[: int(len(content) * keep)]))


BROKEN = {
    "version": (GGUFBuilder(version=9), "version 9"),
    "tensor count": (GGUFBuilder(tensor_count=2**60), "tensors"),
    "key count": (GGUFBuilder(key_count=2**60), "metadata keys"),
    "offset past the end": (GGUFBuilder(tensors=[("a", [64], 0, 10**9)]), "tensor 'a' ends at byte"),
    "offset wraps": (GGUFBuilder(tensors=[("a", [64], 0, 2**64 - 1)]), "tensor 'a' ends at byte"),
    "shape overflow": (GGUFBuilder(tensors=[("a", [2**63, 2**63], 0, 0)]), "impossible shape"),
    "zero shape": (GGUFBuilder(tensors=[("a", [0], 0, 0)]), "impossible shape"),
    "block does not divide": (GGUFBuilder(tensors=[("a", [33], 8, 0)]), "impossible shape"),
    "dimensions": (GGUFBuilder(tensors=[("a", [1] * 5, 0, 0)]), "5 dimensions"),
    "unknown tensor type": (GGUFBuilder(tensors=[("a", [64], 77, 0)]), "unknown type 77"),
    "tensor twice": (GGUFBuilder(tensors=[("a", [4], 0, 0), ("a", [4], 0, 0)]), "occurs twice"),
    "alignment": (GGUFBuilder(metadata={"general.alignment": value(4, 0)}), "alignment"),
    "nested array": (GGUFBuilder(metadata={"x": struct.pack("<IIQ", 9, 9, 1)}), "element type 9"),
    "huge string": (GGUFBuilder(metadata={"x": struct.pack("<IQ", 8, 2**50)}), "claims"),
    "huge string array": (GGUFBuilder(metadata={"x": struct.pack("<IIQ", 9, 8, 2**40)}), "strings"),
    "huge number array": (GGUFBuilder(metadata={"x": struct.pack("<IIQ", 9, 10, 2**62)}), "ends inside"),
    "unknown value type": (GGUFBuilder(metadata={"x": struct.pack("<I", 99)}), "unknown type 99"),
}


@pytest.mark.parametrize(("builder", "message"), BROKEN.values(), ids=BROKEN)
def test_lying_header_is_refused(tmp_path: Path, builder: GGUFBuilder, message: str) -> None:
    with pytest.raises(BadFileError, match=message):
        read_header(written(tmp_path, builder.build()))


def test_four_dimensions_are_the_most(tmp_path: Path) -> None:
    header = read_header(written(tmp_path, GGUFBuilder(tensors=[("a", [2, 2, 2, 2], 0, 0)]).build()))
    assert [tensor.shape for tensor in header.tensors] == [(2, 2, 2, 2)]


@settings(max_examples=300)
@given(data=st.data())
def test_any_damage_is_a_bad_file_or_still_a_header(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(GGUFBuilder().build())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    file = written(tmp_path_factory.mktemp("fuzz"), bytes(content))
    try:
        header = read_header(file)
    except BadFileError:
        return
    assert all(header.data_start + t.offset + t.size <= header.file_size for t in header.tensors)


@pytest.mark.parametrize("longest", [3, 40, 5000])
def test_long_vocabularies_are_passed_over_whole(tmp_path: Path, longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantry.formats.gguf.WINDOW", 1000)
    builder = GGUFBuilder()
    tokens = ["x" * (number * 37 % longest) for number in range(3000)]
    builder.metadata = {"tokenizer.ggml.tokens": array(8, tokens), **builder.metadata}
    header = read_header(written(tmp_path, builder.build()))
    assert header.architecture == "llama"
    content = builder.build()
    with pytest.raises(BadFileError):
        read_header(written(tmp_path, content[: len(content) // 3]))
