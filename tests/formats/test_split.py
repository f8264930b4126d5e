"""Models in several files: what gguf-split's layout holds becomes one file, and anything else is refused."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pantry.core.errors import BadFileError
from pantry.formats.gguf import read_header
from pantry.formats.split import join, part_name, parts_beside
from tests.gguf_files import value


def split_model(folder: Path, name: str = "fox", *, tensors: int = 5, each: int = 2) -> list[Path]:
    """A small model in parts, written by the reference library."""
    writer = gguf.GGUFWriter(folder / f"{name}.gguf", "llama", split_max_tensors=each)
    writer.add_name("Fox")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_token_list([f"t{n}" for n in range(300)])
    for number in range(tensors):
        shape = (4, 32 + 32 * number)
        writer.add_tensor(f"blk.{number}.weight", np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob(f"{name}-*.gguf"))


def joined(parts: list[Path]) -> bytes:
    out = io.BytesIO()
    digest = join(parts, out)
    assert digest.hex == hashlib.sha256(out.getvalue()).hexdigest()
    return out.getvalue()


def test_parts_become_the_model_they_were(tmp_path: Path) -> None:
    parts = split_model(tmp_path)
    assert [part.name for part in parts] == [f"fox-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    whole = tmp_path / "whole.gguf"
    whole.write_bytes(joined(parts))
    reader = gguf.GGUFReader(whole)
    assert not [name for name in reader.fields if name.startswith("split.")]
    assert reader.fields["general.name"].contents() == "Fox"
    assert len(reader.fields["tokenizer.ggml.tokens"].contents()) == 300
    assert [tensor.name for tensor in reader.tensors] == [f"blk.{number}.weight" for number in range(5)]
    for number, tensor in enumerate(reader.tensors):
        shape = (4, 32 + 32 * number)
        assert np.array_equal(tensor.data, np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + number)
    assert read_header(whole).parameters == sum(read_header(part).parameters for part in parts)


def test_names_of_parts() -> None:
    assert part_name("fox.gguf") is None
    assert part_name("fox-00001-of-00001.gguf") is None
    part = part_name("Q4/fox-00002-of-00003.gguf")
    assert part is not None
    assert (part.number, part.whole, part.all[0]) == (2, "Q4/fox.gguf", "Q4/fox-00001-of-00003.gguf")
    for name in ("fox-00004-of-00003.gguf", "fox-00000-of-00003.gguf", "fox-00001-of-99999.gguf"):
        with pytest.raises(BadFileError, match="cannot be"):
            part_name(name)


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    parts = split_model(tmp_path)
    assert parts_beside(parts[1]) == parts
    parts[2].unlink()
    with pytest.raises(BadFileError, match="fox-00003-of-00003"):
        parts_beside(parts[0])


@pytest.mark.parametrize("fault", ["order", "twice", "foreign", "fewer", "cut"])
def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path, fault: str) -> None:
    parts = split_model(tmp_path)
    (tmp_path / "other").mkdir()
    foreign = split_model(tmp_path / "other", tensors=6)
    chosen: dict[str, Any] = {
        "order": [parts[1], parts[0], parts[2]],
        "twice": [parts[0], parts[1], parts[1]],
        "foreign": [parts[0], parts[1], foreign[2]],
        "fewer": parts[:2],
        "cut": parts,
    }
    if fault == "cut":
        parts[1].write_bytes(parts[1].read_bytes()[:-100])
    with pytest.raises(BadFileError):
        joined(chosen[fault])


def test_hostile_numbers_in_the_split_keys_are_refused(tmp_path: Path) -> None:
    from tests.gguf_files import GGUFBuilder

    file = tmp_path / "x-00001-of-00002.gguf"
    for number, count, total in ((0, 2, 2**31 - 1), (7, 2, 4), (0, 2, 2)):
        builder = GGUFBuilder()
        builder.metadata |= {
            "split.no": value(4, number), "split.count": value(4, count), "split.tensors.count": value(5, total),
        }  # fmt: skip
        file.write_bytes(builder.build())
        with pytest.raises(BadFileError):
            joined([file, file])
