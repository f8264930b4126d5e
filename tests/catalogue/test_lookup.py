"""The index and the look-ups on it."""

import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.catalogue import index, lookup
from pantry.catalogue.files import Loaded
from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.memory import memory_size
from pantry.catalogue.query import Order, Query
from pantry.catalogue.rights import Circumstances
from pantry.catalogue.schema import ModelEntry, TagRule
from pantry.catalogue.tags import satisfied
from pantry.core.errors import NotFoundError, UsageError
from pantry.core.paths import Paths
from tests.catalogue.shipped import BOOK

FACTS = {"sources": ["background"], "checked": "2026-11-21"}


def model(id: str, **fields: object) -> ModelEntry:
    return ModelEntry.model_validate({"id": id, "name": id, "family": "x"} | FACTS | fields)


@pytest.fixture(autouse=True)
def _built_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about building the index; the others take a copy."""
    monkeypatch.setattr(lookup, "open_index", index.open_index)
    monkeypatch.setattr(lookup, "build_index", index.build_index)


def catalogue(*models: ModelEntry) -> Catalogue:
    rules = [
        TagRule.model_validate({"id": tag.lower(), "name": tag, "rule": "r"} | FACTS) for tag in ("CODING", "CHAT")
    ]
    return Catalogue.of(
        [*(Loaded("tag", rule, "builtin") for rule in rules), *(Loaded("model", m, "builtin") for m in models)]
    )


@pytest.mark.parametrize("name", ["qwen3-0.6b", "Qwen3 0.6B", "QWEN/QWEN3-0.6B", " qwen3-0.6b "])
def test_model_is_found_by_id_name_and_repository(name: str) -> None:
    assert BOOK.model(name).id == "qwen3-0.6b"


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(NotFoundError, match=r"qwen3-0\.6b"):
        BOOK.model("qwen3-06b")


def test_unknown_model_names_the_one_that_begins_so() -> None:
    with pytest.raises(NotFoundError, match="knows no model") as caught:
        BOOK.model("llama-3.3-70b")
    assert caught.value.hint == "Did you mean 'llama-3.3-70b-instruct'?"


def test_nearest_without_any_requirement_is_the_first_of_all() -> None:
    assert catalogue(model("a"), model("b")).nearest(Query(), [], 1)[0].id == "a"


def test_unknown_licence_names_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="apache-2"):
        BOOK.licence("apache-2.1")


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="licence"):
        list(BOOK.entries("licences"))


def test_index_is_kept_and_used_again(paths: Paths) -> None:
    Catalogue.open(paths).close()
    file = paths.data / "catalogue.index"
    before = file.stat().st_mtime_ns
    Catalogue.open(paths).close()
    assert file.stat().st_mtime_ns == before


def test_overlay_replaces_and_adds_and_takes_effect_at_once(paths: Paths) -> None:
    Catalogue.open(paths).close()
    folder = paths.config / "catalogue"
    folder.mkdir(parents=True)
    head = 'sources = ["background"]\nchecked = "2026-11-21"\nfamily = "own"\n'
    (folder / "own.toml").write_text(
        f'[[model]]\nid = "own-1"\nname = "Own"\n{head}\n[[model]]\nid = "gpt-2"\nname = "Our GPT-2"\n{head}'
    )
    book = Catalogue.open(paths)
    assert book.origin("model", "own-1") == "overlay"
    assert book.model("gpt-2").name == "Our GPT-2"
    assert book.origin("model", "mpt-7b") == "builtin"
    (folder / "own.toml").unlink()
    assert Catalogue.open(paths).find_model("own-1") is None


def test_wrong_entries_of_the_overlay_are_left_out_and_told_with_their_place(paths: Paths) -> None:
    folder = paths.config / "catalogue"
    folder.mkdir(parents=True)
    good = '[[model]]\nid = "own-2"\nname = "Own 2"\nfamily = "own"\nsources = ["background"]\nchecked = "2026"\n'
    (folder / "own.toml").write_text('[[model]]\nid = "Own One"\n\n' + good)
    (folder / "torn.toml").write_text("[[model")
    for _ in range(2):  # built, then read from the index
        book = Catalogue.open(paths)
        assert book.model("own-2").name == "Own 2"
        assert book.model("gpt-2").id == "gpt-2"
        one, other = book.problems
        assert f"{folder / 'own.toml'}:2: model 'Own One', field 'id'" in one
        assert f"{folder / 'torn.toml'} cannot be read" in other


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\x00" + b"\x00" * 200])
def test_damaged_index_is_built_again(paths: Paths, content: bytes) -> None:
    paths.data.mkdir(parents=True)
    (paths.data / "catalogue.index").write_bytes(content)
    assert Catalogue.open(paths).model("gpt-2").id == "gpt-2"
    assert sqlite3.connect(paths.data / "catalogue.index").execute("SELECT count(*) FROM model").fetchone()[0] > 100


def test_home_that_cannot_be_written_still_answers(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert Catalogue.open(Paths(tmp_path / "config", blocked / "data", tmp_path / "run")).model("gpt-2").id == "gpt-2"


def test_newest_entries_of_a_repository_count_even_beside_a_left_over(paths: Paths) -> None:
    folder = paths.data / "catalogue" / "club"
    folder.mkdir(parents=True)
    for version, name in ((9, "nine"), (10, "ten")):
        content = {"id": "m", "name": name, "family": "x"} | FACTS
        (folder / f"v{version}.json").write_text(json.dumps({"model": [content]}))
    book = Catalogue.open(paths)
    assert book.model("m").name == "ten"
    assert book.origin("model", "m") == "repository club v10"


def test_search_finds_beginnings_of_words() -> None:
    assert {each.id for each in BOOK.search(["olm"], Query(), [], 9)} >= {"olmo-3-7b-instruct", "olmo-3.1-32b-think"}


@pytest.mark.parametrize("word", ['"', "*", "a AND", "NEAR(", "name:x", "'; DROP TABLE model; --"])
def test_search_takes_any_characters_as_words(word: str) -> None:
    BOOK.search([word], Query(), [], 5)


def test_exclusions_count_each_requirement_on_its_own() -> None:
    book = catalogue(model("a", context=100, tags=["CODING"]), model("b", context=9000), model("c"))
    total, excluded = book.exclusions(Query(tags=("CODING",), min_context=8000))
    assert total == 3
    assert {each.label: each.count for each in excluded} == {"tag:CODING": 2, "context>=": 2}


def test_nearest_misses_the_fewest() -> None:
    book = catalogue(model("a", context=9000, tags=["CODING"]), model("b", context=100), model("c", tags=["CODING"]))
    assert book.nearest(Query(tags=("CODING", "CHAT"), min_context=8000), [], 1)[0].id == "a"


def test_tags_beyond_the_possible_are_left_out_and_told() -> None:
    book = catalogue(*(model(f"m{n}", tags=[f"T{n}"]) for n in range(70)))
    assert len(book.tag_bits) == 62
    assert "72 tags; only 62" in book.problems[0]


models = st.builds(
    lambda n, context, size, tags, year, score, alignment: {
        "id": f"m{n}",
        "context": context,
        "parameters": size,
        "tags": [*tags, *year],
        "capabilities": {"coding": score} if score is not None else {},
        "alignment": alignment,
        "licence": "mit" if n % 2 else None,
    },
    st.integers(0, 10**6),
    st.none() | st.sampled_from([512, 8192, 32768]),
    st.none() | st.integers(1, 10**11),
    st.lists(st.sampled_from(["CODING", "CHAT"]), unique=True),
    st.lists(st.sampled_from(["2023_MED", "2025_BASIC", "2024_ADV"]), max_size=1),
    st.none() | st.integers(0, 10),
    st.sampled_from(["unknown", "aligned", "uncensored"]),
)
queries = st.builds(
    Query,
    tags=st.lists(st.sampled_from(["CODING", "CHAT", "2023_MED", "2024_BASIC"]), unique=True, max_size=2).map(tuple),
    capabilities=st.none().map(lambda _: ()) | st.integers(0, 10).map(lambda n: (("coding", n),)),
    min_context=st.none() | st.sampled_from([512, 8192, 10**6]),
    max_memory=st.none() | st.integers(0, 10**11),
    max_parameters=st.none() | st.integers(0, 10**11),
    alignments=st.none() | st.just(frozenset({"aligned", "unknown"})),
)


def meets(entry: ModelEntry, query: Query) -> bool:
    """The same requirements in plain Python: what the SQL must agree with."""
    memory = memory_size(entry)
    return (
        all(satisfied(tag, entry.tags) for tag in query.tags)
        and all(entry.capabilities.get(name, -1) >= least for name, least in query.capabilities)
        and (query.min_context is None or (entry.context or 0) >= query.min_context)
        and (query.max_memory is None or (memory is not None and memory <= query.max_memory))
        and (
            query.max_parameters is None or (entry.parameters is not None and entry.parameters <= query.max_parameters)
        )
        and (query.alignments is None or entry.alignment in query.alignments)
    )


@settings(max_examples=60)
@given(st.lists(models, unique_by=lambda fields: fields["id"], max_size=8), queries)
def test_index_agrees_with_the_rules_in_plain_python(rows: list[dict[str, object]], query: Query) -> None:
    entries = [model(**row) for row in rows]
    book = catalogue(*entries)
    wanted = {entry.id for entry in entries if meets(entry, query)}
    assert {each.id for each in book.shortlist(query, [Order("speed")], 99)} == wanted
    total, excluded = book.exclusions(query)
    assert total == len(entries)
    assert all(0 <= each.count <= total for each in excluded)
    assert (len(wanted) == total) == (not any(each.count for each in excluded))


def test_order_is_stable_whatever_the_order_of_entries() -> None:
    entries = [model(f"m{n}", parameters=10**9) for n in range(20)]
    orders = [Order("small"), Order("coding"), Order("quality")]
    one = [each.id for each in catalogue(*entries).shortlist(Query(), orders, 20)]
    other = [each.id for each in catalogue(*reversed(entries)).shortlist(Query(), orders, 20)]
    assert one == other == sorted(one)


def test_chains_are_judged_once_for_all_models_that_share_them() -> None:
    allowed = BOOK.chains_allowing("commercial", Circumstances(), frozenset({"allowed"}))
    ids = {each.id for each in BOOK.shortlist(Query(chains=allowed), [], 999)}
    for each in BOOK.shortlist(Query(), [], 999):
        assert (each.id in ids) == (BOOK.judge(each, "commercial", Circumstances()).verdict == "allowed"), each.id


def test_disk_that_fills_while_building_leaves_no_half_index(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("pantry.catalogue.index.Path.replace", full)
        assert Catalogue.open(paths).model("gpt-2").id == "gpt-2"
    assert list(paths.data.iterdir()) == []
