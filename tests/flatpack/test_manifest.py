from __future__ import annotations

import time
from pathlib import Path

import pytest

from pantry.core.errors import BadFileError, NotFoundError
from pantry.core.refs import Digest
from pantry.flatpack.manifest import (
    Adapter,
    Delta,
    DeltaBase,
    FileFact,
    Licences,
    Manifest,
    ModelFacts,
    Provenance,
    Recipe,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from tests.flatpack.conftest import MANIFEST

DIGEST = Digest("ab" * 32)


def changed(**lines: str) -> bytes:
    """The test manifest with some of its first lines replaced or added."""
    kept = [line for line in MANIFEST.splitlines() if line.partition(" ")[0] not in lines]
    return "\n".join([*(f"{name} = {value}" for name, value in lines.items() if value), *kept]).encode()


@pytest.mark.parametrize(
    "manifest",
    [
        Manifest(
            kind="model",
            name="ada/tiny",
            version="1.0.0",
            summary='quotes " and \\ and\ttabs, ünïcode \x7f',
            authors=("Ada", "Bob <bob@example.org>"),
            licence=Licences(code="MIT", data="CC-BY-4.0", weights="Apache-2.0 OR MIT"),
            model=ModelFacts(family="toy", parameters=10**12, context=512, tags=("a",), chat_template="chat.jinja"),
            provenance=Provenance(datasets=(DIGEST,), recipe=DIGEST, weights=DIGEST, evaluation=DIGEST),
        ),
        Manifest(
            kind="delta",
            name="tuned",
            version="2.0rc1",
            summary="A delta.",
            authors=("Ada",),
            delta=Delta(
                bases=(
                    DeltaBase(
                        name="base",
                        repository="https://example.org/models",
                        contents=DIGEST,
                        files=(FileFact(path="model.safetensors", digest=DIGEST, size=5),),
                    ),
                    DeltaBase(name="base, other cut", contents=DIGEST),
                ),
                results=(FileFact(path="a/b.safetensors", digest=DIGEST, size=0),),
                contents=DIGEST,
            ),
        ),
        Manifest(
            kind="adapter",
            name="lora",
            version="1",
            summary="An adapter.",
            authors=("Ada",),
            adapter=Adapter(base="base", contents=DIGEST, rank=8),
        ),
        Manifest(
            kind="recipe",
            name="tales",
            version="0.1.0-beta.2+build",
            summary="A recipe.",
            authors=("Ada",),
            recipe=Recipe(
                run="train.sh", data=("data",), settings={"preset": "nano", "steps": 5, "lr": 0.1, "x": True}
            ),
        ),
        Manifest(kind="dataset", name="d", version="2026.1", summary="Data.", authors=("Ada",)),
    ],
    ids=lambda manifest: manifest.kind,
)
def test_every_kind_survives_writing_and_reading(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(manifest, tmp_path)
    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (changed(sumary='"x"', summary=""), "there is no key 'sumary'; did you mean 'summary'?"),
        (changed(summary=""), "'summary' is missing"),
        (MANIFEST.replace("family", "famly").encode(), "there is no key 'model.famly'; did you mean 'family'?"),
        (changed(name='"Ada Tiny"'), "name: 'Ada Tiny' is not a name; write it like"),
        (changed(name='"../evil"'), "name: '../evil' is not a name; write it like"),
        (changed(version='"newest"'), "'newest' is not a version"),
        (
            changed(kind='"modle"'),
            "kind: 'modle' is not known; expected 'model', 'recipe', 'delta', 'adapter' or 'dataset'; did you mean",
        ),
        (changed(kind='"delta"'), "kind = 'delta' needs a table [delta]"),
        (changed(flatpack="3"), "flatpack: 3 is not known; expected 2"),
        (changed(flatpack=""), "has no line 'flatpack = 2'"),
        (changed(authors="[]"), "authors: it is empty"),
        (MANIFEST.encode() + b"[licence]\ncode = 'Apache-3.0'\n", "did you mean 'Apache-2.0'?"),
        (MANIFEST.encode() + b"[licence]\ncode = 'MIT AND'\n", "is not a licence expression"),
        (MANIFEST.encode() + b"[licence]\ncode = ''\n", "a licence is missing"),
        (
            MANIFEST.replace("data_unknown", "recipe").encode(),
            "provenance.recipe: 'The weights are noise.' is not a digest",
        ),
        (MANIFEST.encode() + b"file = '../weights'\n", "leaves the folder"),
        (b"\xff", "is not UTF-8 at byte 0"),
        (b"a = ", "is not valid TOML"),
        (b"a = " + b"[" * 100_000, "is not valid TOML"),
        (b"#" * (5 << 20), "at most"),
    ],
)
def test_what_is_wrong_is_named(content: bytes, words: str) -> None:
    with pytest.raises(BadFileError) as error:
        parse_manifest(content)
    assert words in error.value.message


@pytest.mark.parametrize(
    "content",
    [
        ".".join("a" * 1_000_000) + " = 1",
        "[" + ".".join("a" * 1_000_000) + "]",
        'x = {a = """\n""", ' + ".".join(["b"] * 500_000) + " = 1}",
        '"' + '"."'.join("a" * 300_000) + '" = 1',
    ],
    ids=["key", "table", "inline", "quoted"],
)
def test_a_key_of_a_million_parts_does_not_take_for_ever(content: str) -> None:
    start = time.process_time()
    with pytest.raises(BadFileError, match="more than 300 dots"):
        parse_manifest(content.encode())
    assert time.process_time() - start < 5


def test_as_many_dots_as_the_limit_are_read() -> None:
    """What is read is no manifest, and told so; one dot more, and it is not read."""
    for dots, words in ((300, "has no line 'flatpack = 2'"), (301, "more than 300 dots")):
        with pytest.raises(BadFileError, match=words):
            parse_manifest((".".join(["a"] * (dots + 1)) + " = 1").encode())


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(BadFileError) as error:
        parse_manifest(b'flatpack = 2\nkind = "model"\nnam = "x"\n')
    assert error.value.message.count("\n") >= 4


def test_fields_in_brackets_are_named_with_their_line() -> None:
    text = 'flatpack = 2\nname = "[publisher/name]" # here\n# "[not this]"\n[licence]\ndata = "[licence]"\n'
    text += 'tags = [\n  "[tag]",\n]\n'
    with pytest.raises(BadFileError) as error:
        parse_manifest(text.encode())
    assert error.value.message.splitlines() == [
        "flatpack.toml, line 2: name is still [publisher/name].",
        "flatpack.toml, line 5: licence.data is still [licence].",
        "flatpack.toml, line 7: licence.tags is still [tag].",
    ]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("mit or apache-2.0", "MIT OR Apache-2.0"),
        ("LicenseRef-Mine", "LicenseRef-Mine"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("llama-2-community", "llama-2-community"),
    ],
)
def test_licences_of_spdx_and_of_the_catalogue(given: str, kept: str) -> None:
    assert Licences(weights=given).weights == kept


def test_a_card_is_needed_unless_the_manifest_says_why_there_is_none() -> None:
    silent = parse_manifest(changed().replace(b'data_unknown = "The weights are noise."', b""))
    assert silent.needs_card
    assert not parse_manifest(MANIFEST.encode()).needs_card


@pytest.mark.parametrize(
    "told",
    [
        {"licence": {"data": "MIT"}},
        {"provenance": {"data_unknown": "Not ours.", "datasets": [str(DIGEST)]}},
        {"kind": "dataset"},
        {"kind": "recipe", "recipe": {"run": "train.sh"}},
    ],
)
def test_who_tells_of_the_data_cannot_say_that_they_are_unknown(told: dict[str, object]) -> None:
    table = parse_manifest(MANIFEST.encode()).model_dump(mode="json", exclude_none=True)
    with pytest.raises(ValueError, match=r"data_unknown contradicts"):
        Manifest.model_validate(table | told)


def test_no_manifest_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="pantry init"):
        read_manifest(tmp_path)
    with pytest.raises(NotFoundError, match=r"There is no .*/folder\."):
        read_manifest(tmp_path / "folder")


def test_very_many_faults_are_counted_not_told() -> None:
    with pytest.raises(BadFileError, match="and 19955 faults more") as caught:
        parse_manifest(("flatpack = 2\n" + "".join(f"x{number} = 1\n" for number in range(20_000))).encode())
    assert len(str(caught.value)) < 20_000
