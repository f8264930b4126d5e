from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.catalogue.files import Loaded, catalogue_files, read_file
from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.merge import merge
from pantry.catalogue.rights import MAX_CHAIN, USES, Circumstances
from pantry.catalogue.schema import KINDS
from pantry.core.paths import Paths

LICENCES = [
    each
    for file in catalogue_files(Path("pantry/catalogue/data/licences").absolute())
    for each in read_file(file, "builtin")
]
NOBODY = Circumstances()
STRICTNESS = {"allowed": 0, "conditional": 1, "unknown": 2, "refused": 3}


def entry(origin: str, of: str = "model", **fields: Any) -> Loaded:
    base = {"id": "m", "name": "M", "sources": ["background"], "checked": "2026-11-21"}
    if of == "model":
        base["family"] = "x"
    return Loaded(of, KINDS[of].model_validate(base | fields), origin, "own.toml")


def shipped(**fields: Any) -> Loaded:
    return entry("builtin", **fields)


def sent(**fields: Any) -> Loaded:
    return entry("repository club v1", **fields)


def own(**fields: Any) -> Loaded:
    return entry("overlay", **fields)


def verdict(*loaded: Loaded, use: Any = "commercial") -> str:
    book = Catalogue.of([*LICENCES, *loaded])
    return book.judge(book.model("m"), use, NOBODY).verdict


def test_repository_adds_facts_with_their_source_and_changes_none() -> None:
    here = shipped(context=2048, licence="mit")
    there = sent(context=9, parameters=7, name="Other", sources=["repo"])
    found = merge([here, there]).entries["model", "m"]
    assert (found.entry.context, found.entry.parameters, found.entry.name) == (2048, 7, "M")
    assert found.entry.source_of("parameters") == ("repo",)
    assert found.entry.source_of("context") == ("background",)
    assert found.origin == "builtin with repository club v1"


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ({"licence": "cc-by-nc-4.0"}, {"licence": "mit"}, "refused"),
        ({}, {"licence": "mit"}, "unknown"),
        ({"licence": "mit"}, {"licence": "cc-by-nc-4.0"}, "refused"),
        ({"licence": "mit", "data": ["d"]}, {"licence": "mit"}, "refused"),
        ({"licence": "mit"}, {"data": ["d"]}, "refused"),
        ({"licence": "mit"}, {"base": "nowhere"}, "unknown"),
        ({"licence": "mit", "base": "nowhere"}, {"base": None}, "unknown"),
    ],
)
def test_repository_tightens_rights_and_never_loosens_them(mine: Any, theirs: Any, expected: str) -> None:
    data = entry("builtin", "dataset", id="d", kind="dataset", task="t", modality="text", licence="cc-by-nc-4.0")
    assert verdict(data, shipped(**mine), sent(**theirs)) == expected


def test_overlay_of_the_user_may_loosen_and_takes_facts_away() -> None:
    assert verdict(shipped(licence="cc-by-nc-4.0"), own(licence="mit")) == "allowed"
    assert verdict(shipped(licence="cc-by-nc-4.0"), sent(licence="cc-by-nc-4.0"), own(licence="mit")) == "allowed"


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ("unknown", "aligned", "unknown"),
        ("uncensored", "aligned", "uncensored"),
        ("aligned", "maligned", "maligned"),
        ("unknown", "unaligned", "unaligned"),
        ("aligned", "unknown", "aligned"),
    ],
)
def test_repository_can_only_worsen_the_alignment(mine: str, theirs: str, expected: str) -> None:
    found = merge([shipped(alignment=mine), sent(alignment=theirs)]).entries["model", "m"]
    assert found.entry.alignment == expected


def test_repository_cannot_say_which_files_are_a_shipped_model() -> None:
    file = {"repo": "club/m", "file": "m.gguf", "sha256": "0" * 64, "source": "background"}
    found = merge([shipped(), sent(files=[file], hub_repo="club/m")]).entries["model", "m"]
    assert found.entry.files == ()
    assert found.entry.hub_repo is None


def test_repository_cannot_change_a_shipped_licence_or_the_rule_of_a_tag() -> None:
    strict = next(each.entry for each in LICENCES if each.entry.id == "cc-by-nc-4.0")
    loose = strict.model_copy(update={"grants": strict.grants.model_copy(update={"commercial": "allowed"})})
    assert verdict(shipped(licence="cc-by-nc-4.0"), Loaded("licence", loose, "repository club v1")) == "refused"
    rule = entry("builtin", "tag", id="coding", name="CODING", rule="writes code", capability="coding", floor=3)
    for id in ("coding", "other"):
        found = merge([rule, entry("repository club v1", "tag", id=id, name="CODING", rule="-", floor=0)])
        assert [each.entry.floor for (kind, _), each in found.entries.items() if kind == "tag"] == [3]


def test_repository_cannot_take_over_a_name_of_a_shipped_entry() -> None:
    here = shipped(hub_repo="lab/fox-1b", licence="cc-by-nc-4.0")
    found = merge([here, sent(id="fox-1b", licence="mit")])
    assert list(found.entries) == [("model", "m")]
    assert found.problems == ("own.toml: model 'fox-1b', field 'id': this is a name of the shipped entry 'm'.",)
    assert ("model", "fox-1b") in merge([here, own(id="fox-1b")]).entries


def test_two_repositories_are_both_believed_in_what_is_stricter() -> None:
    first = sent(licence="mit", context=1)
    second = entry("repository lab v1", licence="cc-by-nc-4.0", context=2)
    for pair in ([first, second], [second, first]):
        assert verdict(*pair) == "refused"
    assert merge([first, second]).entries["model", "m"].entry.context == 1


def test_circle_is_broken_where_it_was_closed_and_what_was_replaced_returns() -> None:
    found = merge([shipped(id="a", base="b"), shipped(id="b"), own(id="b", base="a"), own(id="c", base="a")])
    assert set(found.entries) == {("model", "a"), ("model", "b"), ("model", "c")}
    assert found.entries["model", "b"].origin == "builtin"
    (problem,) = found.problems
    assert problem.startswith("own.toml: model 'b', field 'base': the bases run in a circle: ")


def test_circle_through_what_a_repository_filled_in_is_broken() -> None:
    found = merge([shipped(id="a", base="b"), shipped(id="b"), sent(id="b", base="a", context=1)])
    assert found.entries["model", "b"].entry == shipped(id="b").entry
    assert len(found.problems) == 1


def test_endless_chain_is_cut_and_the_rest_stays() -> None:
    found = merge([own(id=f"m{n}", base=f"m{n + 1}") for n in range(200)])
    assert len(found.problems) == 200 // (MAX_CHAIN + 1)
    book = Catalogue.of(list(found.entries.values()))
    assert book.problems == ()


def test_licence_that_does_not_parse_leaves_its_entry_out() -> None:
    found = merge([shipped(licence="mit"), own(licence="mit AND AND")])
    assert found.entries["model", "m"].entry.licence == "mit"
    assert "own.toml: model 'm', field 'licence': The licence expression" in found.problems[0]


def test_place_of_a_problem_has_its_line(paths: Paths) -> None:
    folder = paths.config / "catalogue"
    folder.mkdir(parents=True)
    row = '[[model]]\nid = "{}"\nname = "x"\nfamily = "x"\nsources = ["background"]\nchecked = "2026"\nbase = "{}"\n\n'
    (folder / "own.toml").write_text(row.format("a", "b") + row.format("b", "a"))
    book = Catalogue.open(paths)
    assert book.problems[0].startswith(f"{folder / 'own.toml'}:15: model 'b', field 'base'")
    assert book.find_model("a") is not None


_facts = st.fixed_dictionaries(
    {},
    optional={
        "licence": st.sampled_from(["mit", "cc-by-nc-4.0", "gemma", "apache-2.0 OR gemma", "nobody-knows", "gpl-3.0"]),
        "base": st.sampled_from(["m", "a", "b", "lost"]),
        "data": st.lists(st.sampled_from(["d", "e"]), max_size=2),
        "alignment": st.sampled_from(["aligned", "unaligned", "maligned", "unknown"]),
    },
)


@given(
    st.lists(st.tuples(st.sampled_from(["m", "a", "b"]), _facts), max_size=3),
    st.lists(st.tuples(st.sampled_from(["m", "a", "b"]), _facts), max_size=4),
)
def test_no_repository_ever_loosens_the_rights_of_a_shipped_model(here: Any, there: Any) -> None:
    base = [shipped(id=id, **facts) for id, facts in dict(here).items() if facts.get("base") != id]
    if merge(base).problems or any(
        each.entry.base in {one.entry.id for one in base} for each in base if each.entry.base
    ):
        base = [each for each in base if each.entry.base in (None, "lost")]
    before = Catalogue.of([*LICENCES, *base])
    after = Catalogue.of([*LICENCES, *base, *(sent(id=id, **facts) for id, facts in dict(there).items())])
    for each in base:
        for use in USES:
            old = before.judge(before.model(each.entry.id), use, NOBODY)
            new = after.judge(after.model(each.entry.id), use, NOBODY)
            assert STRICTNESS[new.verdict] >= STRICTNESS[old.verdict], (each, old, new)
