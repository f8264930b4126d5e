from typing import Any

import pytest

from pantry.catalogue.rights import Circumstances
from pantry.catalogue.schema import Use
from pantry.core.refs import Digest, ModelName
from pantry.policy.decision import decide
from pantry.policy.identity import identity_of
from pantry.policy.rules import Policy
from pantry.policy.subjects import installed_answers, installed_subject
from pantry.store.models import InstalledModel
from tests.catalogue.shipped import BOOK

QWEN = BOOK.model("qwen3-0.6b")
GEMMA = BOOK.model("gemma-3-1b-it")
LIKE_QWEN: dict[str, Any] = {"architecture": "qwen3", "parameters": 596_049_920}
LIKE_LLAMA: dict[str, Any] = {"architecture": "llama", "parameters": 6_738_415_616}


def installed(name: str, digest: str = "0" * 64, format: str = "gguf", **facts: Any) -> InstalledModel:
    return InstalledModel(ModelName.parse(name), Digest(digest), 400_000_000, format, "test", "2026-11-21", facts)


def verdict(model: InstalledModel, use: Use = "commercial") -> str:
    return installed_answers(BOOK, model, identity_of(BOOK, model), [use], Circumstances())[use].verdict


def enforced(model: InstalledModel, **rules: Any) -> str:
    policy = Policy.model_validate({"mode": "enforce"} | rules)
    subject = installed_subject(BOOK, model, identity_of(BOOK, model), policy)
    return decide(policy, subject, "select").verdict


def test_permissive_name_on_a_restrictive_header_gives_nothing() -> None:
    assert verdict(installed("qwen3-0.6b", **LIKE_QWEN, licence="cc-by-nc-4.0")) == "refused"
    assert verdict(installed("qwen3-0.6b", **LIKE_LLAMA, licence="cc-by-nc-4.0")) == "refused"


def test_restrictive_name_on_a_permissive_header_counts_where_it_agrees() -> None:
    assert BOOK.judge(BOOK.model("vicuna-7b"), "commercial", Circumstances()).verdict == "refused"
    assert verdict(installed("vicuna-7b", **LIKE_LLAMA, licence="apache-2.0")) == "refused"
    assert verdict(installed("vicuna-7b", **LIKE_QWEN, licence="apache-2.0")) == "allowed"


def test_name_alone_gives_no_rights_family_or_alignment() -> None:
    for facts in ({}, LIKE_LLAMA, {"architecture": "qwen3"}, LIKE_QWEN | {"parameters": 8 * 10**9}):
        model = installed("qwen3-0.6b", **facts)
        assert identity_of(BOOK, model).entry is None
        assert verdict(model) == "unknown"
        assert enforced(model, required_use=["commercial"]) == "refused"
        assert enforced(model, refused_licences=["gemma-terms"]) == "refused"
        assert enforced(model, refused_families=["gemma"]) == "refused"
        assert enforced(model, accepted_families=["qwen"]) == "refused"
        assert enforced(model, unaligned="refuse") == "refused"


def test_name_with_a_header_that_agrees_is_taken_for_the_entry_and_said_so() -> None:
    model = installed("qwen3-0.6b", **LIKE_QWEN)
    assert identity_of(BOOK, model).by == "header"
    assert verdict(model) == "allowed"
    assert enforced(model, required_use=["commercial"], accepted_families=["qwen"]) == "allowed"
    policy = Policy.model_validate({"mode": "enforce"})
    paragraph = decide(policy, installed_subject(BOOK, model, identity_of(BOOK, model), policy), "select").paragraph()
    assert "By its name, architecture and size it is qwen3-0.6b" in paragraph


def test_alignment_taken_out_is_not_hidden_by_the_name_of_the_original() -> None:
    assert QWEN.alignment == "aligned"
    renamed = installed("qwen3-0.6b", **LIKE_QWEN)
    assert identity_of(BOOK, renamed).alignment == "unknown"
    assert enforced(renamed, unaligned="refuse") == "refused"
    original = installed("any-name", QWEN.files[0].sha256, **LIKE_QWEN)
    assert identity_of(BOOK, original).alignment == "aligned"
    assert enforced(original, unaligned="refuse") == "allowed"


def test_digest_finds_the_entry_under_any_name() -> None:
    model = installed("my-own", GEMMA.files[0].sha256, licence="mit", architecture="gemma3")
    found = identity_of(BOOK, model)
    assert (found.entry, found.by) == (GEMMA, "digest")
    assert enforced(model, refused_families=["gemma"]) == "refused"
    assert enforced(model, refused_licences=["gemma-terms"]) == "refused"
    renamed = installed("qwen3-0.6b", GEMMA.files[0].sha256, **LIKE_QWEN)
    assert identity_of(BOOK, renamed).entry == GEMMA


@pytest.mark.parametrize(("stated", "expected"), [("other", "allowed"), ("", "allowed"), ("my own terms", "unknown")])
def test_stated_licence_that_nobody_knows_is_unknown_and_other_says_nothing(stated: str, expected: str) -> None:
    assert verdict(installed("qwen3-0.6b", **LIKE_QWEN, licence=stated)) == expected
    assert verdict(installed("nobody", **LIKE_QWEN, licence=stated)) == "unknown"
    assert verdict(installed("x", QWEN.files[0].sha256, licence=stated)) == "allowed"


def test_manifest_and_header_both_bind() -> None:
    assert verdict(installed("fox", licence="mit")) == "allowed"
    assert verdict(installed("fox", licence="mit", header_licence="cc-by-nc-4.0")) == "refused"
    assert verdict(installed("fox", licence="cc-by-nc-4.0", header_licence="mit")) == "refused"


@pytest.mark.parametrize(
    ("base", "expected"),
    [(["Qwen/Qwen3-0.6B"], "allowed"), (["vicuna-7b"], "refused"), (["nobody/knows"], "unknown"), ([], "allowed")],
)
def test_bases_bind(base: list[str], expected: str) -> None:
    assert verdict(installed("fox", licence="apache-2.0", base=base)) == expected


def test_remote_model_is_known_by_its_name_if_it_is_a_remote_one() -> None:
    assert identity_of(BOOK, installed("gpt-4", format="remote")).by == "provider"
    assert identity_of(BOOK, installed("qwen3-0.6b", format="remote")).entry is None


def test_family_of_a_manifest_is_known_by_any_of_its_names() -> None:
    assert enforced(installed("fox", family="Qwen"), refused_families=["qwen"]) == "refused"
    assert enforced(installed("fox", family="Foxes"), refused_families=["qwen"]) == "allowed"
