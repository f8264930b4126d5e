"""Repeated documents go, the rest stays; what is blanked out is counted."""

from __future__ import annotations

import random
import sys
from collections import Counter
from typing import Any

import pytest

from pantry.core.errors import BadFileError, MissingExtraError
from pantry.workshop.data.cleaning import Cleaned, NearDuplicates, clean
from pantry.workshop.data.documents import Turn
from pantry.workshop.data.languages import _identifier
from pantry.workshop.data.scrubbing import scrub
from pantry.workshop.data.settings import DataSettings

WORDS = [f"word{number}" for number in range(400)]


def text(seed: int, length: int = 200) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def kept(texts: list[str], **settings: Any) -> tuple[list[str], Cleaned]:
    found = Cleaned()
    documents = [(Turn("text", one),) for one in texts]
    return [document[0].text for document in clean(documents, DataSettings(**settings), found)], found


def test_exact_repeats_go_and_are_counted() -> None:
    left, found = kept(["a", "b", "a", "a"])
    assert left == ["a", "b"]
    assert found.sentences() == ["left out 2 documents: the same as an earlier one"]
    assert (found.documents, found.kept, found.characters, found.kept_characters) == (4, 2, 4, 2)
    assert kept(["a", "a"], deduplicate=False)[0] == ["a", "a"]


def test_near_repeats_go_and_others_stay() -> None:
    original = text(1)
    changed = original.replace(original.split()[100], "other", 1)
    assert kept([original, changed, text(2)], near_duplicates=True)[0] == [original, text(2)]


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_texts_with_little_in_common_both_stay(share: float) -> None:
    common = text(3, int(200 * share))
    near = NearDuplicates(0.8)
    assert not near.seen_before(common + text(4, 200))
    assert not near.seen_before(common + text(5, 200))


def test_lengths_out_of_bounds_go() -> None:
    left, found = kept(["a", "abc", "abcdef"], min_characters=2, max_characters=5)
    assert left == ["abc"]
    assert found.removed == {"shorter than 2 characters": 1, "longer than 5 characters": 1}


ENGLISH = "The fox went out on a chilly night and prayed for the moon to give him light."
GERMAN = "Der Mond ist aufgegangen, die goldnen Sternlein prangen am Himmel hell und klar."
ITALIAN = "Nel mezzo del cammin di nostra vita mi ritrovai per una selva oscura."


def test_other_languages_go_and_are_counted_each() -> None:
    pytest.importorskip("py3langid")
    texts = [ENGLISH, GERMAN, ITALIAN, "Ok", "日本語の文章です。とても短いです。"]
    left, found = kept(texts, languages=("en", "de"))
    assert left == [ENGLISH, GERMAN, "Ok"]
    assert found.sentences() == [
        "left out 1 document: in another language (it)",
        "left out 1 document: in another language (ja)",
    ]
    assert kept(texts)[0] == texts


def test_a_language_that_is_not_known_is_refused() -> None:
    pytest.importorskip("py3langid")
    with pytest.raises(BadFileError, match="'eng' is not a language") as caught:
        kept([ENGLISH], languages=("eng",))
    assert caught.value.hint


def test_without_the_part_that_tells_languages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    _identifier.cache_clear()
    with pytest.raises(MissingExtraError):
        kept([ENGLISH], languages=("en",))


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("emails", "Ask ada.l+x@mail.example.org, please.", "Ask [e-mail], please."),
        ("emails", "a @ b, @name and x@localhost stay", "a @ b, @name and x@localhost stay"),
        ("phones", "Call +39 02 1234 5678 or (030) 123-4567!", "Call [phone] or [phone]!"),
        ("phones", "In 1984, 3.14 and 2024-01-31 and 10.0.0.1 stay", "In 1984, 3.14 and 2024-01-31 and 10.0.0.1 stay"),
        ("keys", "export K=ghp_" + "a1B2" * 9 + ";", "export K=[key];"),
        ("keys", "AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("keys", "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "[key]"),
        ("keys", "a task-oriented sk-eleton stays", "a task-oriented sk-eleton stays"),
    ],
)  # fmt: skip
def test_scrubbing_blanks_out_its_kind_only(kind: str, before: str, after: str) -> None:
    counts: Counter[str] = Counter()
    assert scrub((Turn("user", before),), [kind], counts) == (Turn("user", after),)
    assert bool(counts[kind]) == (before != after)


def test_scrubbing_comes_before_comparing() -> None:
    left, found = kept(["Write a@b.org", "Write c@d.org"], scrub=("emails",))
    assert left == ["Write [e-mail]"]
    assert found.sentences() == ["left out 1 document: the same as an earlier one", "blanked out 2 emails"]
