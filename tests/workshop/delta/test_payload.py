"""The payload's index is foreign data: whatever it claims is checked before anything is built."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pantry.core.errors import BadFileError, NotFoundError
from pantry.formats.layout import OpenFile
from pantry.workshop.delta.payload import END_MAGIC, FOOTER, MAGIC, MAX_INDEX, PAYLOAD_NAME, Payload
from tests.formats.model_files import base_tensors, safetensors, tuned_tensors, write_folder
from tests.workshop.delta.deltas import apply, make


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    base = write_folder(tmp_path / "base", {"m.safetensors": safetensors(base_tensors()), "c.json": b"{}" * 40_000})
    tree = {"m.safetensors": safetensors(tuned_tensors()), "c.json": b"{ }" * 40_000}
    make(base, write_folder(tmp_path / "target", tree), tmp_path / "delta")
    return tmp_path / "delta"


def rewrite(file: Path, change: Callable[[Any], None]) -> None:
    """Change the index and give it a right checksum, as a hostile publisher would."""
    content = file.read_bytes()
    offset, packed, _, _, _ = FOOTER.unpack(content[-FOOTER.size :])
    index = json.loads(zstandard.ZstdDecompressor().decompress(content[offset : offset + packed]))
    change(index)
    write_index(file, content[:offset], json.dumps(index).encode())


def write_index(file: Path, blocks: bytes, plain: bytes, claimed: int | None = None) -> None:
    stored = zstandard.ZstdCompressor().compress(plain)
    length = len(plain) if claimed is None else claimed
    footer = FOOTER.pack(len(blocks), len(stored), length, hashlib.sha256(stored).digest(), END_MAGIC)
    file.write_bytes(blocks + stored + footer)


def piece(index: Any, op: str, file: int = 1) -> Any:
    return next(piece for piece in index["files"][file]["pieces"] if piece["op"] == op)


LIES: list[tuple[str, Callable[[Any], None]]] = [
    ("do not fill it", lambda index: index["files"][1].update(size=7)),
    ("wrong at .*path", lambda index: index["files"][1].update(path="../escape")),
    ("wrong at .*path", lambda index: index["files"][1].update(path="/etc/passwd")),
    ("wrong at .*files", lambda index: index.update(files=[])),
    ("wrong at .*surprise", lambda index: index.update(surprise=1)),
    ("wrong at .*length", lambda index: piece(index, "sub").update(length=-5)),
    ("wrong at .*length", lambda index: piece(index, "sub").update(length="10")),
    ("wrong at .*digest", lambda index: piece(index, "sub").update(digest="abc")),
    ("wrong at .*start", lambda index: piece(index, "sub")["base"].update(start=1)),
    ("wrong at .*op", lambda index: piece(index, "sub").update(op="run")),
    ("does not fit it", lambda index: piece(index, "sub").update(op="patch")),
    ("does not fit it", lambda index: piece(index, "patch", 0).update(op="sub")),
    ("wrong base", lambda index: piece(index, "sub").pop("base")),
    ("wrong base", lambda index: piece(index, "sub").update(op="full")),
    ("wrong base", lambda index: piece(index, "sub").update(base={"file": "c.json", "length": 3})),
    ("blocks; 1 expected", lambda index: piece(index, "sub").update(blocks=[])),
    ("blocks; 0 expected", lambda index: piece(index, "sub").update(op="copy")),
    ("factors", lambda index: piece(index, "sub").update(op="lowrank")),
    ("its blocks have", lambda index: piece(index, "sub")["blocks"][0].update(length=2**50)),
    ("whole elements", lambda index: piece(index, "sub").update(dtype="f64", length=5121)),
]


@pytest.mark.parametrize(("fault", "lie"), LIES)
def test_an_index_that_lies_is_refused(delta: Path, fault: str, lie: Callable[[Any], None]) -> None:
    def change(index: Any) -> None:
        before = sum(piece["length"] for piece in index["files"][1]["pieces"])
        lie(index)
        after = (
            sum(int(piece["length"]) for piece in index["files"][1]["pieces"]) if len(index["files"]) > 1 else before
        )
        if after != before:
            index["files"][1]["size"] += after - before

    rewrite(delta / PAYLOAD_NAME, change)
    with pytest.raises(BadFileError, match=fault):
        Payload(OpenFile(delta / PAYLOAD_NAME))


FACTORS = {
    "dtype": "f32", "rows": 300, "columns": 128, "rank": 4, "scale": 1.0, "merge": "sum",
    "blocks": [{"length": 0, "crc": 0}] * 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"rows": 299}, "another shape"),
        ({"rank": 5000}, "wrong at .*rank"),
        ({"scale": float("nan")}, "wrong at .*scale"),
        ({"rows": 1, "columns": 38400, "rank": 4096}, "larger than 64 MiB"),
    ],
)
def test_factors_that_lie_are_refused(delta: Path, change: dict[str, Any], fault: str) -> None:
    def lie(index: Any) -> None:
        found = next(p for p in index["files"][1]["pieces"] if p.get("name") == "layer.up.weight")
        found.update(op="lowrank", factors={**FACTORS, **change})

    rewrite(delta / PAYLOAD_NAME, lie)
    with pytest.raises(BadFileError, match=fault):
        Payload(OpenFile(delta / PAYLOAD_NAME))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"tensor": "nothing"}, "which the base lacks"),
        ({"dtype": "f32"}, "which the base lacks"),
        ({"tensor": "layer.steps", "dtype": "i64"}, "casts"),
        ({"tensor": "layer.norm.weight", "dtype": "f32"}, "more elements"),
    ],
)
def test_a_payload_that_asks_the_base_for_what_it_lacks_is_refused(
    tmp_path: Path, delta: Path, change: dict[str, Any], fault: str
) -> None:
    def lie(index: Any) -> None:
        found = next(p for p in index["files"][1]["pieces"] if p.get("name") == "layer.up.weight")
        found["base"].update(change)

    rewrite(delta / PAYLOAD_NAME, lie)
    with pytest.raises(BadFileError, match=fault):
        apply(tmp_path / "base", delta, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_payload_that_asks_for_other_files_of_the_disk_is_refused(tmp_path: Path, delta: Path) -> None:
    rewrite(delta / PAYLOAD_NAME, lambda index: piece(index, "patch", 0)["base"].update(file="secret.txt"))
    with pytest.raises(BadFileError, match="does not list"):
        apply(tmp_path / "base", delta, tmp_path / "out")


@pytest.mark.parametrize("name", ["m.safetensors", "M.safetensors", "m.safetensors/inner"])
def test_result_names_that_clash_are_refused(tmp_path: Path, delta: Path, name: str) -> None:
    rewrite(delta / PAYLOAD_NAME, lambda index: index["files"][0].update(path=name))
    manifest = delta / "flatpack.toml"
    head, results, tail = manifest.read_text().partition("[[delta.results]]")
    manifest.write_text(head + results + tail.replace('path = "c.json"', f'path = "{name}"'))
    with pytest.raises(BadFileError, match=r"twice|differ only by case|both a file and a folder"):
        apply(tmp_path / "base", delta, tmp_path / "out")


def test_an_index_that_claims_to_be_huge_is_refused_unread(delta: Path) -> None:
    file = delta / PAYLOAD_NAME
    blocks = file.read_bytes()[:8]
    write_index(file, blocks, b"{}", claimed=MAX_INDEX + 1)
    with pytest.raises(BadFileError, match="claims"):
        Payload(OpenFile(file))
    write_index(file, blocks, b" " * 10_000_000, claimed=10_000_000)
    with pytest.raises(BadFileError, match="out of measure"):
        Payload(OpenFile(file))
    write_index(file, blocks, b" " * 10_000_000, claimed=100)
    with pytest.raises(BadFileError, match="damaged"):
        Payload(OpenFile(file))


@pytest.mark.parametrize("cut", [0, 7, 8, 60, -1, -40])
def test_a_payload_cut_short_is_refused(delta: Path, cut: int) -> None:
    file = delta / PAYLOAD_NAME
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(BadFileError, match=r"not a delta payload|cut short"):
        Payload(OpenFile(file))


READ = """
import sys
from pathlib import Path
from pantry.core.errors import BadFileError
from pantry.formats.layout import OpenFile
from pantry.workshop.delta.payload import Payload

try:
    print(len(Payload(OpenFile(Path(sys.argv[1]))).index.files[0].pieces))
except BadFileError as error:
    print(error.message)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1000)
"""


def read_apart(file: Path) -> tuple[str, int]:
    """What a process of its own says of the payload, and its peak memory in MB."""
    run = subprocess.run([sys.executable, "-c", READ, str(file)], capture_output=True, text=True, check=True)
    said, peak = run.stdout.splitlines()
    return said, int(peak)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_an_index_takes_memory_in_proportion(tmp_path: Path) -> None:
    """That of a model with 40,000 tensors, and one that lists millions of empty blocks."""
    digests = (hashlib.sha256(str(number).encode()).hexdigest() for number in range(40_000))
    part = '{{"name":"layer.{0}.weight","dtype":"bf16","shape":[1024,7168],"length":14680064,"op":"sub","base":{{"tensor":"layer.{0}.weight","dtype":"bf16"}},"digest":"{1}","blocks":[{2}],"change":0.01}}'  # noqa: E501
    blocks = ",".join(['{"length":0,"crc":12345}'] * 4)
    pieces = ",".join(part.format(number, digest, blocks) for number, digest in enumerate(digests))
    head = '{{"files":[{{"path":"m","size":{},"digest":"{}","format":"x","pieces":[{}]}}]}}'
    write_index(tmp_path / "large", MAGIC, head.format(14680064 * 40_000, "0" * 64, pieces).encode())
    said, peak = read_apart(tmp_path / "large")
    assert said == "40000"
    assert peak < 250

    empty = ",".join(f'{{"length":0,"crc":{number * 2654435761 % 2**32}}}' for number in range(1_700_000))
    piece = f'{{"length":1,"op":"stored","digest":"{"0" * 64}","blocks":[{empty}]}}'
    write_index(tmp_path / "hostile", MAGIC, head.format(1, "0" * 64, piece).encode())
    said, peak = read_apart(tmp_path / "hostile")
    assert "out of measure" in said
    assert peak < 250


@given(st.binary(max_size=300))
def test_random_bytes_are_no_payload(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("fuzz") / PAYLOAD_NAME
    file.write_bytes(data)
    with pytest.raises(BadFileError):
        Payload(OpenFile(file))


def test_a_delta_without_its_payload_says_so(tmp_path: Path, delta: Path) -> None:
    (delta / PAYLOAD_NAME).unlink()
    with pytest.raises(NotFoundError, match=r"weights\.pdelta"):
        apply(tmp_path / "base", delta, tmp_path / "out")


def test_a_damaged_block_is_named_by_its_byte(tmp_path: Path, delta: Path) -> None:
    file = delta / PAYLOAD_NAME
    content = bytearray(file.read_bytes())
    content[3000] ^= 1
    file.write_bytes(content)
    with pytest.raises(BadFileError, match="damaged at byte"):
        apply(tmp_path / "base", delta, tmp_path / "out")
