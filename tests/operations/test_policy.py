import tomllib

import pytest

from pantry.catalogue.lookup import Catalogue
from pantry.core.errors import NotFoundError, UsageError
from pantry.core.paths import Paths
from pantry.operations.policy import explain, load_policy, set_rules
from pantry.policy import Policy

BOOK = Catalogue.open()


def test_home_without_a_file_has_the_default_policy(paths: Paths) -> None:
    assert load_policy(paths, BOOK) == Policy()


def test_rules_are_written_and_read_back(paths: Paths) -> None:
    changes = {
        "mode": "enforce", "required-use": "commercial, redistribute", "users": "1e6", "strict_data": "yes",
        "refused_licences": "gemma,CC-BY-NC-4.0", "minimum_evidence.coding": "2", "max_download": "20GB",
    }  # fmt: skip
    set_rules(paths, BOOK, changes)
    policy = load_policy(paths, BOOK)
    assert policy.mode == "enforce"
    assert policy.required_use == ("commercial", "redistribute")
    assert policy.users == 10**6
    assert policy.strict_data
    assert policy.refused_licences == ("gemma-terms", "cc-by-nc-4.0")
    assert policy.minimum_evidence == {"coding": 2}
    assert policy.download_limit == 20 * 10**9


def test_empty_value_takes_a_rule_back(paths: Paths) -> None:
    set_rules(paths, BOOK, {"mode": "enforce", "minimum_evidence.coding": "2"})
    set_rules(paths, BOOK, {"mode": "", "minimum_evidence.coding": ""})
    assert load_policy(paths, BOOK) == Policy()


@pytest.mark.parametrize(
    "changes",
    [{"mode": "strict"}, {"colour": "red"}, {"users": "many"}, {"remote": "perhaps"}, {"minimum_evidence.coding": "x"},
     {"refused_licences": "mit"}, {"accepted_families": "nobody"}],
)  # fmt: skip
def test_wrong_or_contradictory_change_leaves_the_file_as_it_was(paths: Paths, changes: dict[str, str]) -> None:
    set_rules(paths, BOOK, {"accepted_licences": "mit", "mode": "enforce"})
    before = (paths.config / "policy.toml").read_bytes()
    with pytest.raises(UsageError):
        set_rules(paths, BOOK, changes)
    assert (paths.config / "policy.toml").read_bytes() == before


def test_texts_are_quoted(paths: Paths) -> None:
    with pytest.raises(UsageError, match="region"):
        set_rules(paths, BOOK, {"region": 'E"\n'})
    set_rules(paths, BOOK, {"region": "de"})
    assert tomllib.loads((paths.config / "policy.toml").read_text()) == {"region": "de"}


@pytest.mark.parametrize("content", [b"mode = ", b"\xff"])
def test_broken_file_is_refused_by_name(paths: Paths, content: bytes) -> None:
    paths.config.mkdir(parents=True)
    (paths.config / "policy.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"policy\.toml is not valid TOML"):
        load_policy(paths, BOOK)


def test_explanation_of_a_catalogue_model(paths: Paths) -> None:
    set_rules(paths, BOOK, {"mode": "enforce", "required_use": "commercial"})
    assert explain(paths, BOOK, "qwen3-0.6b", "pull").verdict == "allowed"
    refused = explain(paths, BOOK, "vicuna-13b", "pull")
    assert refused.verdict == "refused"
    assert "LLaMA research licence" in refused.paragraph()
    assert explain(paths, BOOK, "gpt4-x", "pull").verdict == "refused"  # no licence on record: unknown
    assert explain(paths, BOOK, "llama-3.2-1b-instruct", "pull").verdict == "allowed with warnings"
    with pytest.raises(NotFoundError):
        explain(paths, BOOK, "no-such-model", "pull")


def test_region_of_the_policy_reaches_the_licence_rules(paths: Paths) -> None:
    set_rules(paths, BOOK, {"mode": "enforce", "required_use": "personal", "region": "IT"})
    assert explain(paths, BOOK, "llama-4-scout", "pull").verdict == "refused"
    set_rules(paths, BOOK, {"region": "US"})
    assert explain(paths, BOOK, "llama-4-scout", "pull").allowed
