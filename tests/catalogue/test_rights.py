"""The licence rules, against a table of answers worked out by hand, each with the text it rests on."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.rights import (
    USES,
    Circumstances,
    Link,
    chain_of,
    judge_chain,
    parse_circumstances,
    parse_use,
    parse_uses,
)
from pantry.catalogue.schema import Dataset, ModelEntry
from pantry.core.errors import BadFileError, NotFoundError, UsageError
from pantry.operations.catalogue import check_rights
from tests.catalogue.shipped import BOOK

with (Path(__file__).parent / "licence_cases.csv").open(newline="") as _file:
    CASES = list(csv.DictReader(_file))
ORDER = {"allowed": 0, "conditional": 1, "unknown": 2, "refused": 3}


def number(text: str) -> int | None:
    return int(text) if text else None


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return BOOK


def model(id: str, **fields: object) -> ModelEntry:
    given = {"id": id, "name": id, "family": "x", "sources": ["background"], "checked": "2026-11-21"}
    return ModelEntry.model_validate(given | fields)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['ref']}-{case['use']}-{case['region']}{case['users']}")
def test_answer_agrees_with_the_hand_checked_table(catalogue: Catalogue, case: dict[str, str]) -> None:
    asked = Circumstances(number(case["users"]), number(case["revenue"]), case["region"] or None)
    answer = check_rights(catalogue, case["ref"], [parse_use(case["use"])], asked)[0]
    assert answer.words == case["answer"], answer.reason
    assert case["mentions"] in f"{answer.conditions} {answer.reason}".replace("\\'", "'")
    assert case["source"]


def test_the_table_has_at_least_120_cases_all_different() -> None:
    keys = {(case["ref"], case["use"], case["users"], case["revenue"], case["region"]) for case in CASES}
    assert len(keys) == len(CASES) >= 120


def test_every_answer_carries_reason_chain_and_note(catalogue: Catalogue) -> None:
    content = check_rights(catalogue, "mpt-7b-instruct", ["modify"])[0].to_json()
    assert [link["role"] for link in content["chain"]] == ["weights", "base", "data"]
    assert content["reason"]
    assert content["sources"]
    assert "not legal advice" in content["note"]


def test_data_without_licence_is_a_caution_and_unknown_when_strict(catalogue: Catalogue) -> None:
    mild, strict = (
        check_rights(catalogue, "gpt-j-6b", ["commercial"], Circumstances(strict_data=strict))[0]
        for strict in (False, True)
    )
    assert mild.verdict == "allowed"
    assert any("the-pile" in caution for caution in mild.cautions)
    assert strict.verdict == "unknown"


def test_terms_of_outputs_in_the_data_are_a_caution(catalogue: Catalogue) -> None:
    answer = check_rights(catalogue, "wizardlm-13b-v1.2", ["commercial"])[0]
    assert any("openai-terms" in caution for caution in answer.cautions)


def test_circle_of_bases_is_refused_with_its_path() -> None:
    models = {"a": model("a", base="b"), "b": model("b", base="c"), "c": model("c", base="a")}
    with pytest.raises(BadFileError, match="a -> b -> c -> a"):
        chain_of(models["a"], models.get, lambda _: None)


def test_base_that_is_not_in_the_catalogue_makes_the_answer_unknown(catalogue: Catalogue) -> None:
    chain = chain_of(model("a", base="lost", licence="mit"), {}.get, lambda _: None)
    answer = judge_chain(chain, "commercial", Circumstances(), catalogue.licences, catalogue.licence_names)
    assert answer.verdict == "unknown"
    assert "lost" in answer.reason


def test_base_deeper_than_any_real_chain_is_refused() -> None:
    models = {f"m{n}": model(f"m{n}", base=f"m{n + 1}") for n in range(40)}
    with pytest.raises(BadFileError, match="too deep"):
        chain_of(models["m0"], models.get, lambda _: None)


@given(st.lists(st.sampled_from(["mit", "cc-by-nc-4.0", "gemma", "no-licence", "llama-2-community", None]), min_size=1))
def test_a_longer_chain_is_never_milder(licences: list[str | None]) -> None:
    links = tuple(Link("weights", str(n), licence) for n, licence in enumerate(licences))
    for use in USES:
        whole = judge_chain(links, use, Circumstances(), BOOK.licences, BOOK.licence_names)
        part = judge_chain(links[:-1] or links, use, Circumstances(), BOOK.licences, BOOK.licence_names)
        assert ORDER[whole.verdict] >= ORDER[part.verdict]


@given(st.integers(0, 10**10), st.integers(0, 10**10))
def test_more_users_never_get_a_milder_answer(one: int, two: int) -> None:
    few, many = sorted((one, two))
    answers = [check_rights(BOOK, "llama-3.1", ["commercial"], Circumstances(users=n))[0] for n in (few, many)]
    assert ORDER[answers[0].verdict] <= ORDER[answers[1].verdict]


def test_unknown_use_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="commercial"):
        parse_use("comercial")


def test_uses_are_kept_in_order_and_once() -> None:
    assert parse_uses("redistribute, commercial,redistribute") == ("redistribute", "commercial")
    for text in ("", " , "):
        with pytest.raises(UsageError, match="names no use"):
            parse_uses(text)


def test_ref_that_is_neither_model_nor_licence_names_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(NotFoundError, match=r"qwen3-0\.6b"):
        check_rights(catalogue, "qwen3-0.66b", ["commercial"])


@pytest.mark.parametrize(
    ("users", "revenue", "region"),
    [(-1, None, None), (None, float("nan"), None), (1e300, None, None), (None, None, "Europe")],
)
def test_impossible_circumstances_are_refused(users: float | None, revenue: float | None, region: str | None) -> None:
    with pytest.raises(UsageError):
        parse_circumstances(users, revenue, region)


def test_data_of_the_base_counts_for_the_fine_tune() -> None:
    data = Dataset.model_validate(
        {"id": "d", "name": "d", "kind": "dataset", "task": "t", "modality": "text", "licence": "cc-by-nc-4.0"}
        | {"sources": ["background"], "checked": "2026"}
    )
    base = model("base", licence="mit", data=["d"])
    chain = chain_of(model("tune", licence="mit", base="base"), {"base": base}.get, {"d": data}.get)
    answer = judge_chain(chain, "commercial", Circumstances(), BOOK.licences, BOOK.licence_names)
    assert answer.verdict == "refused"
    assert answer.reason.startswith("Training data d")
