"""What a pull as a job says of itself: its title, and the command by which a person takes it up again."""

from __future__ import annotations

import pytest

from pantry.operations.jobs.kinds.pull import again, title


@pytest.mark.parametrize(
    ("ref", "shown"),
    [
        ("ada/fox:1.0", "ada/fox:1.0"),
        ("hf://ada/fox@main:q8_0", "hf://ada/fox@main:q8_0"),
        ("https://lab.example/x.fpk?token=word", "https://lab.example/x.fpk"),
        ("https://ada:word@lab.example/x.fpk?token=word", "https://lab.example/x.fpk"),
        ("https://ada:word@lab example/x?token=word", "https://lab example/x"),
        ("ftp://ada:word@lab.example:port/x#word", "ftp://lab.example:port/x"),
    ],
)
def test_a_title_holds_no_secret_of_an_address_even_of_one_that_is_wrong(ref: str, shown: str) -> None:
    assert title({"ref": ref}) == shown


def test_the_command_that_takes_a_pull_up_again_has_its_options_and_bears_spaces() -> None:
    assert again({"model": "fox"}) == "pantry pull fox"
    given = {"model": "fox", "url": "https://lab.example/x.fpk?token=word"}
    assert again(given) == "pantry pull https://lab.example/x.fpk --name fox"
    assert again({"ref": "./my fox.fpk"}) == "pantry pull 'my fox.fpk'"
    given = {"ref": "fox", "name": "owl:1", "repository": "lab", "base": "a b", "pickle": True}
    assert again(given) == "pantry pull fox --name owl:1 --from lab --base 'a b' --pickle"
