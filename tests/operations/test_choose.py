import json
from pathlib import Path
from typing import Any

import pytest

from pantry.catalogue.lookup import Catalogue
from pantry.core.errors import ModelNotFoundError, UsageError
from pantry.core.paths import Paths
from pantry.core.refs import Digest, ModelName
from pantry.operations.choose import Evidence, Selector, choose, loaded_names
from pantry.operations.models import add_model
from pantry.operations.policy import set_rules
from pantry.policy import Policy
from pantry.selection import Measurement, Request, parse_needs
from pantry.store.models import InstalledModel, Store

BOOK = Catalogue.open()
GB = 10**9


def installed(name: str, size: int = GB, number: int = 1, **facts: Any) -> InstalledModel:
    return InstalledModel(ModelName.parse(name), Digest(f"{number:064x}"), size, "gguf", "test", "2026-11-21", facts)


def selector(**rules: Any) -> Selector:
    return Selector(BOOK, Policy(**rules), bandwidth=1e10)


def ask(
    chooser: Selector,
    needs: str = "",
    models: tuple[InstalledModel, ...] = (),
    mode: Any = "requirements_load",
    **more: Any,
) -> Any:
    prefer = more.pop("prefer", ())
    return chooser.choose(Request(parse_needs(needs, chooser.vocabulary), prefer, mode), models, **more)


def test_catalogue_answers_when_nothing_is_installed(paths: Paths) -> None:
    choice = choose("CONVERSATIONAL,context>=8192,licence:commercial,ram<=2GB", prefer="small", paths=paths)
    assert (choice.state, choice.action) == ("available", "download")
    model = BOOK.model(choice.model)
    assert model.context is not None
    assert model.context >= 8192


def test_installed_model_is_known_by_its_entry_in_the_catalogue() -> None:
    chosen = ask(selector(), "MULTILINGUAL,licence:commercial", (installed("qwen3-0.6b"), installed("phi-4")))
    assert chosen.model == "qwen3-0.6b"


def test_installed_model_without_entry_is_judged_by_its_own_header() -> None:
    own = installed("our-own", chat=True, context=4096, licence="Apache-2.0", parameters=10**8)
    assert ask(selector(), "CONVERSATIONAL,context>=4096,licence:commercial", (own,)).model == "our-own"
    with pytest.raises(ModelNotFoundError, match="commercial use is unknown"):
        ask(selector(), "licence:commercial", (installed("other", licence="my own licence"),))


def test_loaded_model_comes_first() -> None:
    models = (installed("a", number=1), installed("b", number=2))
    assert ask(selector(), models=models, loaded={"b"}).model == "b"
    with pytest.raises(ModelNotFoundError, match="No model is loaded"):
        ask(selector(), models=models, mode="requirements")


def test_evidence_of_this_machine_decides() -> None:
    models = (installed("a", number=1), installed("b", number=2))
    evidence = {models[1].digest: Evidence({"coding": Measurement(4.5, "2026-11-20")}, speed=33.0)}
    choice = ask(selector(), "coding>=3,speed>=30", models, evidence=evidence)
    assert choice.model == "b"
    assert "coding 4.5 (measured 2026-11-20)" in choice.reason
    assert "33 tokens/s (measured)" in choice.reason


def test_minimum_evidence_of_the_policy_uses_what_was_measured() -> None:
    chooser = selector(mode="enforce", minimum_evidence={"coding": 3})
    models = (installed("a", number=1),)
    with pytest.raises(ModelNotFoundError, match="coding was not measured here"):
        ask(chooser, models=models)
    assert (
        ask(chooser, models=models, evidence={models[0].digest: Evidence({"coding": Measurement(3, "2026")})}).model
        == "a"
    )


@pytest.mark.parametrize(
    ("rules", "test"),
    [
        (
            {"required_use": ("commercial",)},
            lambda m: BOOK.judge(m, "commercial", Policy().circumstances).verdict != "refused",
        ),
        ({"refused_licences": ("apache-2.0",)}, lambda m: m.licence != "apache-2.0"),
        ({"accepted_licences": ("mit",)}, lambda m: m.licence == "mit"),
        ({"refused_families": ("qwen", "smollm")}, lambda m: m.family not in ("qwen", "smollm")),
        ({"accepted_families": ("olmo",)}, lambda m: m.family == "olmo"),
        ({"remote": False}, lambda m: not m.remote),
    ],
)
def test_policy_narrows_the_catalogue(rules: Any, test: Any) -> None:
    choice = ask(selector(mode="enforce", **rules), mode="requirements_download")
    for name in (choice.model, *(each.name for each in choice.runners_up)):
        assert test(BOOK.model(name)), name


@pytest.mark.parametrize(
    "need",
    [
        *("CODING", "context>=100000000", "ram<=1kB", "download<=1kB", "params<=1", "speed>=100000"),
        *("family:midjourney", "reads:video,reads:audio", "coding>=9", "2030_ADV"),
    ],
)
def test_failure_names_the_requirement_its_count_and_the_nearest(need: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        ask(selector(), need, mode="requirements_download")
    message = str(caught.value)
    labels = [each.label for each in parse_needs(need, selector().vocabulary)]
    assert any(f"{label} excluded" in message for label in labels), message
    assert "Nearest: " in message


def test_counts_of_a_failure_add_up_over_catalogue_and_machine() -> None:
    chooser = selector()
    total, _ = BOOK.exclusions(chooser._wanted.query(Request(), obey_policy=False))
    with pytest.raises(ModelNotFoundError) as caught:
        ask(chooser, "coding>=9", (installed("mine"),), mode="requirements_download")
    assert f"Of {total + 1} models, coding>=9 excluded {total + 1}." in str(caught.value)


@pytest.mark.parametrize("prefer", ["speed", "small", "newest", "context", "quality", "coding", "family:olmo"])
def test_every_preference_works_against_the_catalogue(prefer: str) -> None:
    choice = ask(selector(), "CONVERSATIONAL", mode="requirements_download", prefer=(prefer,))
    assert BOOK.model(choice.model)


def test_speed_requirement_agrees_between_catalogue_and_rules() -> None:
    choice = ask(selector(), "speed>=20", mode="requirements_download", prefer=("quality",))
    active = BOOK.model(choice.model).active_parameters or BOOK.model(choice.model).parameters
    assert active is not None
    assert 0.6 * 1e10 / (active * 4.85 / 8) >= 20


def test_words_of_the_overlay_may_be_asked_for(paths: Paths) -> None:
    folder = paths.config / "catalogue"
    folder.mkdir(parents=True)
    facts = {"sources": ["background"], "checked": "2026"}
    rule = {"id": "legal", "name": "LEGAL", "rule": "reads contracts", "capability": "law"} | facts
    own = {
        "id": "judge-7b",
        "name": "Judge",
        "family": "own",
        "tags": ["LEGAL"],
        "gguf_repos": ["x/y"],
        "weights": "open",
    } | facts
    (folder / "own.json").write_text(json.dumps({"tag": [rule], "model": [own | {"capabilities": {"law": 8}}]}))
    assert choose("LEGAL,law>=5", paths=paths).model == "judge-7b"
    with pytest.raises(UsageError, match="Did you mean 'LEGAL'"):
        choose("LEGALL", paths=paths)


def test_installed_model_is_not_offered_for_download_again() -> None:
    choice = ask(selector(), "family:olmo", (installed("olmo-3-7b-instruct"),), mode="requirements_download")
    names = [choice.model, *(each.name for each in choice.runners_up)]
    assert names.count("olmo-3-7b-instruct") == 1
    assert choice.action == "load"


def test_whole_way_over_a_real_store_and_policy(paths: Paths, tiny_gguf: Path) -> None:
    with Store.open(paths) as store:
        add_model(store, tiny_gguf, ModelName.parse("tiny"))
    assert choose("context>=512", mode="requirements_load", paths=paths).model == "tiny"
    set_rules(paths, BOOK, {"mode": "enforce", "required_use": "commercial"})
    with pytest.raises(ModelNotFoundError, match="the policy excluded 1"):
        choose(mode="requirements_load", paths=paths)


def test_nothing_is_loaded_where_no_service_runs(paths: Paths) -> None:
    assert loaded_names(paths) == frozenset()


def test_remote_model_needs_no_memory_and_obeys_the_switch() -> None:
    far = InstalledModel(ModelName.parse("far"), Digest("0" * 64), 0, "remote", "test", "2026-11-21", {"chat": True})
    assert ask(selector(), "ram<=1kB", (far,)).action == "use"
    with pytest.raises(ModelNotFoundError, match="runs at a provider"):
        ask(selector(), "local", (far,))
    with pytest.raises(ModelNotFoundError, match="remote models are off"):
        ask(selector(remote=False), models=(far,))
