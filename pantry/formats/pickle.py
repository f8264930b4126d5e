"""Looks into pickles without loading them: which names would they import?

Pantry never loads a pickle. This scan says whether one carries more than tensors, so that the refusal can name it.
Parsing and the list of harmless names are fickling's (an allowlist; blocklists have been got around again and again).
"""

from __future__ import annotations

import ast
import functools
import importlib
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pantry.core.files import storage_errors
from pantry.formats.verdict import FormatVerdict, SafetyFinding

MAX_PICKLE = 64_000_000  # bytes of one pickle; tensors lie beside it, not in it
MAX_PICKLES = 64  # in one file
SUFFIXES = (".pkl", ".pickle")


def looks_like_pickle(start: bytes) -> bool:
    """Whether a file that begins with `start` may be a pickle (protocol 2 and later, or text) or a PyTorch archive."""
    return start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def scan_pickle(path: Path) -> FormatVerdict:
    """Scan the pickle, or every pickle in the zip archive, at `path`. Raises StorageError when it is unreadable."""
    with storage_errors(f"Reading {path.name}"):
        if zipfile.is_zipfile(path):
            return FormatVerdict("pytorch archive", tuple(_scan_archive(path)))
        with path.open("rb") as file:
            content = file.read(MAX_PICKLE + 1)
            return FormatVerdict("pickle", tuple(_scan_stream(content, None)))


def _scan_archive(path: Path) -> Iterator[SafetyFinding]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info for info in archive.infolist() if not info.is_dir()]
            found = False
            for info in names:
                with archive.open(info) as member:
                    start = member.read(2)
                    if not (info.filename.endswith(SUFFIXES) or looks_like_pickle(start)):
                        continue
                    found = True
                    if info.file_size > MAX_PICKLE:
                        yield SafetyFinding("refused", f"the pickle is larger than {MAX_PICKLE} bytes", info.filename)
                        continue
                    yield from _scan_stream(start + member.read(MAX_PICKLE), info.filename)
            if not found:
                yield SafetyFinding("unknown", "the archive holds no pickle and no model that Pantry knows")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        yield SafetyFinding("refused", f"the archive is damaged: {error}")


class _Nowhere(io.TextIOBase):
    """Where fickling's remarks go."""

    def write(self, text: str) -> int:
        return len(text)


class _QuietSys:
    """`sys` as fickling sees it, without the output of this program."""

    stdout = stderr = _Nowhere()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


@functools.cache
def _parser() -> Any:
    """fickling's parser, kept from printing.

    It writes parts of malformed files to standard output, in the midst of what a command prints there. Redirecting
    `sys.stdout` meanwhile would take it from the other threads too.
    """
    fickle: Any = importlib.import_module("fickling.fickle")
    fickle.sys = _QuietSys()
    return fickle.Pickled


def _scan_stream(content: bytes, where: str | None) -> Iterator[SafetyFinding]:
    """Every pickle in `content`, one after the other; what follows the last one is tensor data."""
    pickled_type = _parser()
    stream = io.BytesIO(content)
    if len(content) > MAX_PICKLE:
        yield SafetyFinding("refused", f"more than {MAX_PICKLE} bytes, so it cannot be judged whole", where)
    for number in range(MAX_PICKLES + 1):
        position = stream.tell()
        if number == MAX_PICKLES:
            if content[position:].strip(b"\0"):
                yield SafetyFinding("refused", f"more than {MAX_PICKLES} pickles, so not all can be judged", where)
            return
        try:
            pickled = pickled_type.load(stream, fail_on_decode_error=False)
            imports = [_names(node) for node in pickled.properties.imports] if len(pickled) else []
        except Exception as error:  # fickling raises many kinds for hostile bytes
            if number == 0 or looks_like_pickle(content[position : position + 2]):
                reason = str(error).rstrip(".") or type(error).__name__
                yield SafetyFinding("refused", f"not a readable pickle, so it cannot be judged ({reason})", where)
            return
        if stream.tell() == position:
            return
        yield from _judge([name for names in imports for name in names], where)
        if pickled.has_invalid_opcode:
            if number == 0 or looks_like_pickle(content[position : position + 2]):
                yield SafetyFinding("refused", "a pickle that breaks off or is damaged", where)
            return


def _judge(names: list[tuple[str, str]], where: str | None) -> Iterator[SafetyFinding]:
    from fickling.ml import ML_ALLOWLIST

    harmful = sorted({f"{module}.{name}" for module, name in names if name not in ML_ALLOWLIST.get(module, {})})
    if harmful:
        shown = ", ".join(harmful[:5]) + (f" and {len(harmful) - 5} more" if len(harmful) > 5 else "")
        yield SafetyFinding("refused", f"a pickle that would import {shown}, which can run any program", where)
    else:
        yield SafetyFinding("note", "a pickle that holds data only; Pantry does not load pickles all the same", where)


def _names(node: ast.stmt) -> list[tuple[str, str]]:
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "", alias.name) for alias in node.names]
    return [(alias.name, "") for alias in node.names] if isinstance(node, ast.Import) else [("unknown", "")]
