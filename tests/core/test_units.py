import pytest

from pantry.core.units import format_count


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (512, "512"), (8192, "8192"), (32768, "33k"), (131072, "131k"), (270_000_000, "270M"), (999_900_000, "1B"),
        (8_200_000_000, "8.2B"), (70_000_000_000, "70B"), (1_000_000_000_000, "1T"),
    ],
)  # fmt: skip
def test_counts_are_written_for_people(count: float, shown: str) -> None:
    assert format_count(count) == shown
