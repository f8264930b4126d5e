from pathlib import Path

import pytest

from pantry.catalogue.check import Known, check_catalogue, dangling
from pantry.catalogue.files import read_file
from pantry.catalogue.lookup import catalogue_sources
from pantry.core.errors import NotFoundError
from pantry.core.paths import Paths

HEAD = '[[model]]\nid = "{}"\nname = "x"\nfamily = "qwen"\nsources = ["background"]\nchecked = "2026"\n'


def overlay(paths: Paths, text: str, name: str = "own.toml") -> Path:
    folder = paths.config / "catalogue"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_what_is_shipped_refers_to_nothing_that_is_not_there() -> None:
    loaded = [each for file, origin in catalogue_sources(None) for each in read_file(file, origin)]
    known = Known.of(loaded)
    assert [text for each in loaded for text in dangling(each, known)] == []


def test_good_overlay_has_no_problems(paths: Paths) -> None:
    assert check_catalogue(paths).count == 0
    overlay(
        paths, HEAD.format("own-1") + 'base = "qwen3-0.6b"\nlicence = "mit OR gemma"\ntags = ["CODING", "2026_MED"]\n'
    )
    found = check_catalogue(paths)
    assert (found.count, found.problems) == (1, ())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('licence = "mitt"', "field 'licence': the catalogue has no licence 'mitt'. Did you mean 'mit'?"),
        ('licence = "mit OR apache-2"', "the catalogue has no licence 'apache-2'"),
        ('licence = "mit AND"', "field 'licence': The licence expression 'mit AND' does not parse"),
        ('base = "qwen3-0.6"', "field 'base': there is no model 'qwen3-0.6'. Did you mean 'qwen3-0.6b'?"),
        ('base = "own-1"', "field 'base': the bases run in a circle: own-1 -> own-1"),
        ('data = ["the-pil"]', "field 'data': there is no dataset 'the-pil'"),
        ('tags = ["CODNG"]', "field 'tags': there is no tag 'CODNG'. Did you mean 'CODING'?"),
        ('context = "long"', "field 'context'"),
        (
            'fact_sources = { context = ["bok"] }',
            "field 'fact_sources': there is no source 'bok'. Did you mean 'book'?",
        ),
    ],
)
def test_every_mistake_is_told_with_file_line_and_field(paths: Paths, line: str, message: str) -> None:
    file = overlay(paths, HEAD.format("own-1") + line + "\n")
    (problem,) = check_catalogue(paths).problems
    assert problem.startswith(f"{file}:7: model 'own-1', ")
    assert message in problem


def test_all_mistakes_are_told_at_once(paths: Paths) -> None:
    text = HEAD.format("a").replace("background", "nowhere").replace('"qwen"', '"qwn"')
    overlay(paths, text + text + HEAD.format("b") + 'base = "a"\ncontext = -1\n')
    overlay(paths, "[[modle]]\n", "torn.toml")
    problems = "\n".join(check_catalogue(paths).problems)
    for part in (
        "source 'nowhere'",
        "family 'qwn'",
        "two entries with this id",
        "field 'context'",
        "kind of entry 'modle'",
    ):
        assert part in problems


def test_files_can_be_checked_before_they_are_used(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text(HEAD.format("new") + 'base = "gone"\n')
    assert "there is no model 'gone'" in check_catalogue(paths, [tmp_path]).problems[0]
    assert check_catalogue(paths, [tmp_path / "new.toml"]).count == 1
    with pytest.raises(NotFoundError):
        check_catalogue(paths, [tmp_path / "none.toml"])
