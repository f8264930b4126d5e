"""The generated pages are those of this code, and every page that is linked exists."""

import re
from pathlib import Path

import pytest

from docs.generate import PAGES

ROOT = Path(__file__).parent.parent
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", PAGES)
def test_generated_page_is_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run: make docs"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def named_paths(page: Path) -> list[str]:
    """The files of the tree that a page names in code spans, rooms written without the package's name."""
    found = re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|js|txt|toml))`", page.read_text())
    return [name for name in found if "NAME" not in name]


@pytest.mark.parametrize(
    "page", [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "adr" / "0001-rooms.md"], ids=lambda p: p.name
)
def test_files_that_the_map_of_the_house_names_are_there(page: Path) -> None:
    names = named_paths(page)
    assert len(names) >= 10
    for name in names:
        assert (ROOT / name).exists() or (ROOT / "pantry" / name).exists(), f"{page.name} names {name}"
