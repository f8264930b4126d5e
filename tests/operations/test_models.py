from pathlib import Path

import pytest

from pantry.core.errors import BadFileError
from pantry.formats.model_files import model_of_file
from pantry.install.model_facts import merge_facts


def test_what_a_manifest_tells_stands_beside_the_licence_of_the_header() -> None:
    facts = {"licence": "cc-by-nc-4.0", "context": 2048}
    told = {"licence": "mit", "family": "", "version": "1.0.0"}
    assert merge_facts(facts, told) == {
        "licence": "mit",
        "header_licence": "cc-by-nc-4.0",
        "context": 2048,
        "version": "1.0.0",
    }
    assert merge_facts(facts, {"licence": None}) == facts


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": ' * 50_000, "{}" + " " * 1_000_001, "[]", "\udcff", ""])
def test_echo_model_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "fox.echo"
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(BadFileError, match=r"fox\.echo"):
        model_of_file(file)
