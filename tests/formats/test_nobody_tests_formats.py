"""Rooms above `formats/` and `engines/` ask a format what can be done with it; none tests it by its name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantry.formats.kinds import FORMATS

PACKAGE = Path(__file__).parent.parent.parent / "pantry"
BELOW = {"core", "formats", "engines"}
NAMES = {each.name for each in FORMATS}
SUFFIXES = {each.suffix for each in FORMATS if each.suffix} | {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
PLAIN = NAMES - {"remote", "echo"} | SUFFIXES
"""Texts that mean a format wherever they stand; the words remote and echo mean other things too."""
ALLOWED = {
    ("catalogue/search.py", "gguf"): "a word of a question that tells nothing, like `model`",
    ("workshop/recipe.py", "gguf"): "the key of a recipe that says as what to export",
    ("workshop/training/extra.py", "gguf"): "the name of a Python module",
    ("workshop/training/extra.py", "safetensors"): "the name of a Python module",
    ("workshop/training/provenance.py", "gguf"): "the name of a Python distribution",
    ("workshop/training/provenance.py", "safetensors"): "the name of a Python distribution",
}
FILES = [
    file.relative_to(PACKAGE)
    for file in sorted(PACKAGE.rglob("*.py"))
    if file.relative_to(PACKAGE).parts[0] not in BELOW
]


def texts(node: ast.AST) -> Iterator[str]:
    return (each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str))


def named_formats(source: str) -> set[str]:
    """Names and suffixes of formats in a module: alone as a text, ending a pattern of files, or compared with."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            ends = {each for each in SUFFIXES if node.value.endswith(f"*{each}")}
            found |= ends | ({node.value} & PLAIN)
        compared = isinstance(node, ast.Compare | ast.MatchValue)
        if compared and any(isinstance(each, ast.Attribute) and each.attr == "format" for each in ast.walk(node)):
            found |= set(texts(node)) & NAMES
    return found


def test_no_room_above_names_a_format() -> None:
    named = {(file.as_posix(), each) for file in FILES for each in named_formats((PACKAGE / file).read_text())}
    assert named <= set(ALLOWED), "ask pantry/formats/kinds.py or parts.py what can be done with a file"


def test_every_exception_is_still_needed() -> None:
    for file, text in ALLOWED:
        assert text in named_formats((PACKAGE / file).read_text()), f"{file} names {text} no more"


@pytest.mark.parametrize(
    "source",
    [
        'if model.format == "gguf": pass',
        'if model.format != "remote": pass',
        'if model.format in ("echo", "x"): pass',
        'name.endswith((".gguf", ".txt"))',
        '_TENSORS = (".safetensors",)',
        'folder.glob("*/*.gguf")',
    ],
)
def test_a_test_by_name_is_found(source: str) -> None:
    assert named_formats(source)


@pytest.mark.parametrize("source", ['answer["remote"]', 'note("GGUF files run")', 'open("model.gguf")'])
def test_other_words_are_left_alone(source: str) -> None:
    assert not named_formats(source)
