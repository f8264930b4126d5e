import pytest

from pantry.catalogue.regions import EU, EU_MEMBERS, countries, parse_region
from pantry.catalogue.rights import parse_circumstances
from pantry.core.errors import UsageError
from tests.catalogue.shipped import BOOK


def test_codes_are_those_of_iso_3166_and_the_union() -> None:
    assert len(countries()) == 249
    assert set(countries()) >= EU_MEMBERS
    assert len(EU_MEMBERS) == 27
    assert [parse_region(text) for text in ("eu", " de ", "US")] == ["EU", "DE", "US"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("EL", "Did you mean 'GR' (Greece)?"),
        ("UK", "Did you mean 'GB' (Britain (UK))?"),
        ("ZZ", "Give EU, or a two-letter country code"),
        ("Germany", "Did you mean 'DE' (Germany)?"),
        ("Grmany", "Did you mean 'DE' (Germany)?"),
        ("Europe", "Did you mean 'EU' (Europe)?"),
        ("", "Give EU"),
        ("xqzw", "Give EU"),
        ("D\x1b", "Give EU"),
    ],
)
def test_what_is_no_region_is_refused_with_the_nearest(text: str, hint: str) -> None:
    for parse in (parse_region, lambda text: parse_circumstances(None, None, text)):
        with pytest.raises(UsageError, match="is not a region") as caught:
            parse(text)
        assert hint in str(caught.value)
        assert "\x1b" not in str(caught.value)


def test_regions_of_licences_are_regions() -> None:
    named = {region for licence in BOOK.licences.values() for each in licence.conditions for region in each.regions}
    assert named == {EU}
