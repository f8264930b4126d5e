"""Hostile pickles: named after what they try."""

import collections
import contextlib
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.formats.pickle import looks_like_pickle, scan_pickle
from pantry.formats.safety import scan


class _Call:
    def __init__(self, function: object, *arguments: object) -> None:
        self.how = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.how  # type: ignore[return-value]


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


HOSTILE = {
    "os_system": pickle.dumps(_Call(os.system, "id")),
    "eval": pickle.dumps(_Call(eval, "1")),
    "import_module": b"cimportlib\nimport_module\n(S'os'\ntR.",
    "resolve_name": b"cpkgutil\nresolve_name\n(S'os:system'\ntR.",
    "getattr_chain": b"cbuiltins\ngetattr\n(cos\nS'system'\ntR.",
    "instance_opcode": b"(S'id'\nios\nsystem\n.",
    "import_without_call": b"cos\nsystem\n.",
    "operator_attrgetter": b"coperator\nattrgetter\n(S'system'\ntR.",
    "unknown_module": b"cmy_evil_module\nrun\n(tR.",
    # a memo written in two ways, so that a careless reader sees torch._utils where os.system is meant
    "memo_confusion": b"\x80\x04" + text("os") + b"q\x00" + text("system") + b"q\x01" + text("torch._utils") + b"\x94"
    + text("_rebuild_tensor_v2") + b"\x94h\x00h\x01\x93" + text("id") + b"\x85R.",
    "runs_before_it_breaks_off": b"cos\nsystem\n(S'id'\ntR",
    "second_pickle_in_the_file": pickle.dumps([1]) + pickle.dumps(_Call(os.system, "id")),
}  # fmt: skip


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["file", "archive"])
def test_every_protocol_is_known_whatever_the_name(tmp_path: Path, protocol: int, place: str) -> None:
    content = pickle.dumps(_Call(os.system, "id"), protocol)
    assert looks_like_pickle(content)
    file = tmp_path / "notes.txt"
    if place == "file":
        file.write_bytes(content)
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("notes", content)
    assert scan_pickle(file).level == "refused"
    assert scan(file).level == "refused"


@pytest.mark.parametrize("name", HOSTILE)
def test_pickle_with_code_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(HOSTILE[name])
    verdict = scan_pickle(file)
    assert verdict.level == "refused"
    assert not verdict.safe


def test_refusal_names_what_would_be_imported(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(b"csubprocess\nPopen\n.")
    assert "subprocess.Popen" in str(scan_pickle(tmp_path / "x.pkl").findings[0])


@pytest.mark.parametrize(
    "content",
    [{"a": [1, 2.0, "x", None]}, collections.OrderedDict(a=1), numpy.zeros(3)],
    ids=["plain", "ordered", "array"],
)
def test_pickle_of_data_is_noted_as_such(tmp_path: Path, content: object) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    assert scan_pickle(tmp_path / "x.pkl").level == "note"


def archive(tmp_path: Path, **members: bytes) -> Path:
    file = tmp_path / "model.pt"
    with zipfile.ZipFile(file, "w") as written:
        for name, content in members.items():
            written.writestr(name, content)
    return file


def test_archive_is_searched_whatever_its_members_are_called(tmp_path: Path) -> None:
    file = archive(tmp_path, **{"m/data.pkl": pickle.dumps({}), "m/data/0": HOSTILE["os_system"]})
    findings = scan_pickle(file).findings
    assert [(finding.level, finding.where) for finding in findings] == [("note", "m/data.pkl"), ("refused", "m/data/0")]


def test_archive_without_pickle_is_not_understood(tmp_path: Path) -> None:
    assert scan_pickle(archive(tmp_path, readme=b"hello")).level == "unknown"


def test_damaged_archive_is_refused(tmp_path: Path) -> None:
    content = bytearray(archive(tmp_path, **{"data.pkl": pickle.dumps(list(range(1000)))}).read_bytes())
    content[60:90] = b"\xff" * 30
    (tmp_path / "bad.pt").write_bytes(content)
    assert scan_pickle(tmp_path / "bad.pt").level == "refused"


def test_archive_that_lies_about_sizes_does_not_fill_the_memory(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("data.pkl", b"\x80\x04" + b"N0" * 40_000_000)
    (tmp_path / "bomb.pt").write_bytes(buffer.getvalue())
    finding = scan_pickle(tmp_path / "bomb.pt").findings[0]
    assert finding.level == "refused"
    assert "larger than" in finding.what


@pytest.mark.slow
def test_files_of_torch_are_data(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "new.pt")
    torch.save({"w": torch.zeros(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert scan_pickle(tmp_path / "new.pt").level == "note"
    assert scan_pickle(tmp_path / "old.pt").level == "note"


@given(st.binary(max_size=200))
def test_any_bytes_give_a_verdict(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.pkl"
    for written in (content, b"\x80\x04" + content, struct.pack("<4s", b"PK\x03\x04") + content):
        file.write_bytes(written)
        with contextlib.suppress(RecursionError):
            assert scan_pickle(file).level in ("note", "refused", "unknown")


def test_code_behind_many_harmless_pickles_is_found_or_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("true",)

    file = tmp_path / "many.pkl"
    file.write_bytes(pickle.dumps([1]) * 64 + pickle.dumps(Evil()))
    assert any(finding.level == "refused" for finding in scan_pickle(file).findings)


@pytest.mark.parametrize(
    "content", [b"\x80\x04K\x01K\x02\x93.", b"noise, no pickle", b"h\x05.", b"\x80\x04\x8c\x01at."]
)
def test_nothing_of_a_hostile_file_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    """What a command prints as JSON must stay JSON."""
    (tmp_path / "x.pkl").write_bytes(content)
    scan_pickle(tmp_path / "x.pkl")
    assert capfd.readouterr() == ("", "")
