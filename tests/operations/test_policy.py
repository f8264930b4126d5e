import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pantry.core.errors import NotFoundError, PantryError, PolicyRefusedError, StorageError, UsageError
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.install.installed import add_model
from pantry.operations.catalogue import rights_of
from pantry.operations.policy import explain
from pantry.policy.file import load_policy, set_rules
from pantry.policy.load_check import admit_load
from pantry.policy.rules import Policy
from pantry.store.models import Store
from tests.catalogue.shipped import BOOK
from tests.gguf_files import GGUFBuilder, value


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


def test_remarks_and_order_of_the_user_stay(paths: Paths) -> None:
    text = """\
# Agreed with legal, 2026-03.
required_use = ["commercial"]   # not redistribution

mode = 'warn'  # enforce from May on

# From our own runs.
[minimum_evidence]
coding = 2  # out of 5
"""
    paths.config.mkdir(parents=True)
    (paths.config / "policy.toml").write_text(text)
    set_rules(paths, BOOK, {"mode": "enforce", "minimum_evidence.coding": "3", "users": "500"})
    assert (paths.config / "policy.toml").read_text() == (
        text.replace("'warn'", '"enforce"')
        .replace("coding = 2", "coding = 3.0")
        .replace("May on\n", "May on\nusers = 500\n")
    )


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


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        ("users", "1.9", "users is a whole number, got '1.9'"),
        ("users", "nan", "users is a number, got 'nan'"),
        ("revenue", "inf", "revenue is a number, got 'inf'"),
        ("users", "-1", "users"),
        ("minimum_evidence.coding", "nan", "is a number, got 'nan'"),
        ("minimum_evidence.coding", "1e400", "is a number"),
        ("minimum_evidence.my coding", "2", "unknown capability 'my coding'"),
        ("minimum_evidence.", "2", "needs the capability"),
        ("minimum_evidence", "2", "needs the capability"),
        ("max download", "2GB", "no rule 'max download'. Did you mean 'max_download'"),
        ("region", "EL", "Did you mean 'GR'"),
        ("max_download", "nanGB", "max_download"),
    ],
)
def test_value_of_a_wrong_type_is_refused_by_name(paths: Paths, rule: str, value: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        set_rules(paths, BOOK, {rule: value})
    assert message in str(caught.value)
    assert not (paths.config / "policy.toml").exists()


def _dangling(file: Path) -> None:
    file.symlink_to(file.parent / "nowhere")


def _folder(file: Path) -> None:
    file.mkdir()


def _socket(file: Path) -> None:
    os.mkfifo(file)


def _huge(file: Path) -> None:
    file.write_bytes(b"#" * 1_000_001)


def _circular(file: Path) -> None:
    file.symlink_to(file)


@pytest.mark.parametrize("put", [_dangling, _folder, _socket, _huge, _circular])
def test_policy_that_cannot_be_read_is_an_error_and_not_the_default(
    paths: Paths, tmp_path: Path, put: Callable[[Path], None]
) -> None:
    paths.config.mkdir(parents=True)
    put(paths.config / "policy.toml")
    add(paths, tmp_path, "own")
    with Store.open(paths) as store:
        model = store.list()[0]
        parts = store.verified_parts(model)
    for ask in (
        lambda: load_policy(paths, BOOK),
        lambda: explain(paths, BOOK, "own"),
        lambda: admit_load(paths, model, parts),
    ):
        with pytest.raises(PantryError, match=r"policy\.toml"):
            ask()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_policy_without_the_right_to_read_it_is_an_error(paths: Paths) -> None:
    paths.config.mkdir(parents=True)
    (paths.config / "policy.toml").write_text("")
    (paths.config / "policy.toml").chmod(0)
    with pytest.raises(StorageError, match=r"policy\.toml"):
        load_policy(paths, BOOK)


def test_home_whose_settings_are_a_link_to_nothing_is_an_error(paths: Paths) -> None:
    paths.config.parent.mkdir(parents=True, exist_ok=True)
    paths.config.symlink_to(paths.config.parent / "nowhere")
    with pytest.raises(UsageError, match="a link to nothing"):
        load_policy(paths, BOOK)


@pytest.mark.parametrize("content", [b"mode = ", b"\xff", b"users = " + b"9" * 10_000, b"a = " + b"[" * 50_000])
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


def add(paths: Paths, tmp_path: Path, name: str, **facts: bytes) -> None:
    builder = GGUFBuilder()
    builder.metadata |= {key.replace("__", "."): fact for key, fact in facts.items()}
    (tmp_path / f"{name}.gguf").write_bytes(builder.build())
    with Store.open(paths) as store:
        add_model(store, tmp_path / f"{name}.gguf", ModelName.parse(name))


def test_installed_model_is_explained_by_its_own_file(paths: Paths, tmp_path: Path) -> None:
    add(paths, tmp_path, "own", general__license=value(8, "apache-2.0"))
    set_rules(paths, BOOK, {"mode": "enforce", "required_use": "commercial"})
    decision = explain(paths, BOOK, "own")
    assert decision.action == "load"
    assert decision.verdict == "allowed"
    assert "its digest is right" in decision.paragraph().lower()


def test_installed_model_with_a_hostile_template_is_refused_even_when_the_policy_is_off(
    paths: Paths, tmp_path: Path
) -> None:
    builder = GGUFBuilder()
    builder.metadata["tokenizer.chat_template"] = value(8, "{{ ''.__class__ }}")
    (tmp_path / "bad.gguf").write_bytes(builder.build())
    with Store.open(paths) as store:
        store.add(ModelName.parse("bad"), tmp_path / "bad.gguf", format="gguf", source="test", facts={})
    set_rules(paths, BOOK, {"mode": "off"})
    assert explain(paths, BOOK, "bad").verdict == "refused"


def test_installed_model_whose_file_was_changed_is_refused(paths: Paths, tmp_path: Path) -> None:
    add(paths, tmp_path, "own")
    with Store.open(paths) as store:
        file = store.verified_file(store.list()[0])
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert "digest" in explain(paths, BOOK, "own").paragraph()
    assert explain(paths, BOOK, "own").verdict == "refused"


def test_licence_of_an_installed_model_is_read_from_its_header(paths: Paths, tmp_path: Path) -> None:
    add(paths, tmp_path, "own", general__license=value(8, "cc-by-nc-4.0"))
    add(paths, tmp_path, "silent")
    assert rights_of(paths, BOOK, "own", ["commercial"])[0].verdict == "refused"
    with pytest.raises(NotFoundError, match="says under which licence"):
        rights_of(paths, BOOK, "silent", ["commercial"])
    assert rights_of(paths, BOOK, "phi-4", ["commercial"])[0].verdict == "allowed"


def load(paths: Paths, name: str) -> None:
    with Store.open(paths) as store:
        model = store.get(ModelName.parse(name))
        admit_load(paths, model, store.verified_parts(model))


def test_load_obeys_the_policy(paths: Paths, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(paths, tmp_path, "own", general__license=value(8, "cc-by-nc-4.0"))
    load(paths, "own")
    set_rules(paths, BOOK, {"required_use": "commercial"})
    with caplog.at_level("WARNING"):
        load(paths, "own")
    assert "commercial use is not allowed" in caplog.text
    set_rules(paths, BOOK, {"mode": "enforce"})
    with pytest.raises(PolicyRefusedError, match="commercial use is not allowed"):
        load(paths, "own")


@pytest.mark.parametrize("rules", [{}, {"mode": "off"}, {"mode": "warn"}])
def test_load_of_a_dangerous_file_is_refused_in_every_mode(paths: Paths, tmp_path: Path, rules: dict[str, str]) -> None:
    builder = GGUFBuilder()
    builder.metadata["tokenizer.chat_template"] = value(8, "{{ ''.__class__ }}")
    (tmp_path / "bad.gguf").write_bytes(builder.build())
    with Store.open(paths) as store:
        store.add(ModelName.parse("bad"), tmp_path / "bad.gguf", format="gguf", source="test", facts={})
    if rules:
        set_rules(paths, BOOK, rules)
    with pytest.raises(PolicyRefusedError):
        load(paths, "bad")


def test_file_under_the_name_of_another_model_has_only_its_own_rights(paths: Paths, tmp_path: Path) -> None:
    add(paths, tmp_path, "qwen3-0.6b", general__license=value(8, "cc-by-nc-4.0"))
    set_rules(paths, BOOK, {"mode": "enforce", "required_use": "commercial"})
    decision = explain(paths, BOOK, "qwen3-0.6b")
    assert decision.verdict == "refused"
    assert "Qwen" not in decision.paragraph()
    assert rights_of(paths, BOOK, "qwen3-0.6b", ["commercial"])[0].verdict == "refused"


def test_signature_of_an_installed_model_is_told(paths: Paths, tmp_path: Path) -> None:
    add(paths, tmp_path, "own")
    set_rules(paths, BOOK, {"mode": "enforce", "signature": "require"})
    decision = explain(paths, BOOK, "own")
    assert decision.verdict == "refused"
    assert "it carries no signature" in decision.paragraph().lower()


def test_starter_is_explained_on_a_fresh_home(paths: Paths) -> None:
    assert explain(paths, BOOK, "starter").paragraph().startswith("Loading starter is allowed")
