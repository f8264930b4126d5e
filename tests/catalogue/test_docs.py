import re
import tomllib

import pytest

from docs.generate_catalogue import FOLDER, PAGES, TABLES, fill
from tests.catalogue.shipped import BOOK


@pytest.mark.parametrize("name", PAGES)
def test_tables_of_the_page_are_up_to_date(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert fill(text, BOOK) == text, "run: python -m docs.generate_catalogue"


def test_every_table_has_its_place() -> None:
    marked = [name for page in PAGES for name in re.findall(r"<!-- table: ([a-z-]+) -->", (FOLDER / page).read_text())]
    assert sorted(marked) == sorted(TABLES)


def test_example_of_an_overlay_in_the_page_is_a_valid_one() -> None:
    from pantry.catalogue.files import read_content

    example, scores = re.findall(r"```toml\n(.*?)```", (FOLDER / "catalogue.md").read_text(), re.DOTALL)
    kinds = [loaded.kind for loaded in read_content(example.encode(), "example.toml", "overlay")]
    assert kinds == ["family", "model"]
    assert [*tomllib.loads(scores)] == ["score"]
