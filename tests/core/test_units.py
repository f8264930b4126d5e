import pytest

from pantry.core.errors import UsageError
from pantry.core.units import format_count, format_rate, parse_bytes, without_secrets


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (512, "512"), (8192, "8192"), (32768, "33k"), (131072, "131k"), (270_000_000, "270M"), (999_900_000, "1B"),
        (8_200_000_000, "8.2B"), (70_000_000_000, "70B"), (1_000_000_000_000, "1T"),
    ],
)  # fmt: skip
def test_counts_are_written_for_people(count: float, shown: str) -> None:
    assert format_count(count) == shown


@pytest.mark.parametrize(
    ("rate", "shown"), [(2063.4, "2063"), (123.4, "123"), (17.32, "17.3"), (0.4812, "0.481"), (20, "20")]
)
def test_rates_are_written_for_people(rate: float, shown: str) -> None:
    assert format_rate(rate) == shown


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "GB", "99999999TB"])
def test_size_beyond_any_machine_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="larger than any size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ada:word@lab.example:8/x@y.fpk?token=word#word", "https://lab.example:8/x@y.fpk"),
        ("https://a@b:word@lab.example", "https://lab.example"),
        ("https://lab.example?a\nb", "https://lab.example"),
        ("hf://ada/fox@main:q8_0", "hf://ada/fox@main:q8_0"),
        ("ada/fox:1.0", "ada/fox:1.0"),
        ("./what?.fpk", "./what?.fpk"),
    ],
)
def test_addresses_are_shown_without_what_may_be_secret(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
