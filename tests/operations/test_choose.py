import json
from pathlib import Path
from typing import Any

import pytest

from pantry.catalogue.index import is_obtainable
from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.memory import download_size, memory_size
from pantry.catalogue.query import Query
from pantry.catalogue.schema import ModelEntry
from pantry.core.errors import ModelNotFoundError, UsageError
from pantry.core.paths import Paths
from pantry.core.refs import Digest, ModelName
from pantry.evaluation.capabilities import Measurement
from pantry.evaluation.evidence import Evidence, evidence_of
from pantry.evaluation.speeds import Speed, Speeds
from pantry.install.installed import add_model
from pantry.operations.choose import choose, loaded_names
from pantry.policy.decision import decide
from pantry.policy.file import set_rules
from pantry.policy.rules import Policy
from pantry.policy.subjects import subject_of
from pantry.selection import Request, parse_needs
from pantry.selection.catalogue_query import CatalogueQueryBuilder
from pantry.selection.selector import Selector
from pantry.store.models import InstalledModel, Store
from tests.catalogue.shipped import BOOK

GB = 10**9


QWEN = {"architecture": "qwen3", "parameters": 600_000_000}


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
    chosen = ask(
        selector(),
        "MULTILINGUAL,licence:commercial",
        (installed("qwen3-0.6b", **QWEN), installed("phi-4", number=2, architecture="phi3", parameters=14 * 10**9)),
    )
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
    evidence = {
        models[1].digest: Evidence(
            {"coding": Measurement(4.5, "2026-11-20")}, speed=Speed(33.0, 0.2, "2026-11-20", "llama_cpp")
        )
    }
    choice = ask(selector(), "coding>=3,speed>=30", models, evidence=evidence)
    assert choice.model == "b"
    assert "coding 4.5 (measured 2026-11-20)" in choice.reason
    assert "33 tokens/s (measured 2026-11-20 with llama_cpp)" in choice.reason


def test_measured_speed_decides_over_the_estimate_and_says_when_and_with_what() -> None:
    small, large = installed("small", GB // 10, 1), installed("large", 2 * GB, 2)
    assert ask(selector(), models=(small, large), prefer=("speed",)).model == "small"
    evidence = {small.digest: Evidence(speed=Speed(2.0, 0.1, "2026-11-20", "llama_server"))}
    choice = ask(selector(), models=(small, large), prefer=("speed",), evidence=evidence)
    assert choice.model == "large"
    assert "2 against 3 tokens/s (estimated)" in choice.runners_up[0].lacked[0]
    alone = ask(selector(), models=(small,), prefer=("speed",), evidence=evidence)
    assert "It writes 2 tokens/s (measured 2026-11-20 with llama_server)." in alone.reason


def test_speed_of_answers_is_kept_by_model_and_read_by_the_choice(paths: Paths, tiny_gguf: Path) -> None:
    with Store.open(paths) as store:
        model = add_model(store, tiny_gguf, ModelName.parse("tiny"))
        speeds = Speeds(store.database)
        timings = {"predicted_n": 40, "predicted_ms": 2000.0, "prompt_ms": 150.0}
        speeds.add(model.digest, "llama_cpp", timings)
        speeds.add(model.digest, "llama_cpp", {"predicted_n": 3, "predicted_ms": 1.0, "prompt_ms": 1.0})
        speeds.add(model.digest, "llama_cpp", None)
        for wrong in (10**400, float("inf"), float("nan"), "many", None):
            speeds.add(model.digest, "llama_cpp", timings | {"predicted_n": wrong})
            speeds.add(model.digest, "llama_cpp", timings | {"prompt_ms": wrong})
        speeds.flush()
        kept = evidence_of(store.database)[model.digest].speed
        assert kept is not None
        assert (kept.rate, kept.first_token, kept.engine) == (20.0, 0.15, "llama_cpp")
        speeds.add(model.digest, "llama_cpp", timings | {"predicted_ms": 1000.0})
        speeds.flush()
        assert evidence_of(store.database)[model.digest].speed.rate == pytest.approx(26.0)  # type: ignore[union-attr]
        speeds.add(model.digest, "llama_server", timings)
        speeds.flush()
        assert evidence_of(store.database)[model.digest].speed.rate == 20.0  # type: ignore[union-attr]
    reason = choose("speed>=15", mode="requirements_load", paths=paths).reason
    assert "20 tokens/s (measured 20" in reason
    assert "with llama_server" in reason


@pytest.mark.parametrize("state", ["installed", "available"])
def test_model_that_this_machine_cannot_hold_is_left_out_with_the_reason(state: str) -> None:
    chooser = Selector(BOOK, Policy(), bandwidth=1e10, room=2 * GB)
    models = (installed("big", 5 * GB, 1),) if state == "installed" else ()
    mode = "requirements_load" if models else "requirements_download"
    if models:
        with pytest.raises(ModelNotFoundError, match="the memory of this machine excluded 1") as caught:
            ask(chooser, models=models, mode=mode)
        assert "models may take 2.0 GB here" in str(caught.value)
        assert ask(chooser, models=models, mode=mode, loaded={"big"}).model == "big"
    else:
        choice = ask(chooser, mode=mode, prefer=("quality",))
        for name in (choice.model, *(each.name for each in choice.runners_up)):
            assert (memory_size(BOOK.model(name)) or 0) <= 2 * GB


def test_model_too_slow_for_anyone_comes_last() -> None:
    models = (installed("slow", 20 * GB, 1, context=10**6), installed("quick", GB, 2, context=100))
    choice = ask(selector(), models=models, prefer=("context",))
    assert choice.model == "quick"
    assert choice.runners_up[0].lacked == ("slower than 1 tokens/s: 0.3 (estimated)",)
    first = ask(selector(), mode="requirements_download")
    assert (BOOK.model(first.model).active_parameters or BOOK.model(first.model).parameters or 0) < 2 * GB


def test_models_that_write_no_text_are_chosen_only_when_asked_for() -> None:
    choice = ask(selector(), "params<=1B", mode="requirements_download")
    names = [choice.model, *(each.name for each in choice.runners_up)]
    assert all("EMBEDDING" not in BOOK.model(name).tags for name in names)
    assert "EMBEDDING" in BOOK.model(ask(selector(), "EMBEDDING", mode="requirements_download").model).tags
    with pytest.raises(ModelNotFoundError, match="makes embeddings, no text"):
        ask(selector(), models=(installed("qwen3-embedding-0.6b", **QWEN),))


def test_example_of_the_handbook_tells_the_next_step_on_a_fresh_home(paths: Paths) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        choose(
            "tag:CONVERSATIONAL,coding>=3,context>=8192,licence:commercial",
            prefer="speed", mode="requirements_load", paths=paths,
        )  # fmt: skip
    message = str(caught.value)
    assert message.startswith("No model is installed.")
    assert "coding>=3 excluded" in message
    assert "Nearest: " in message
    name = message.rpartition("pantry pull ")[2].split()[0]
    assert "With tag:CODING in place of coding>=3, " in message
    assert choose("CODING,CONVERSATIONAL,context>=8192,licence:commercial", prefer="speed", paths=paths).model == name


def test_failure_names_a_model_to_pull_or_to_load_when_a_wider_mode_would_do() -> None:
    with pytest.raises(ModelNotFoundError, match=r"would do: pantry pull \S+ \("):
        ask(selector(), "CONVERSATIONAL,context>=8192", (installed("a"),))
    with pytest.raises(ModelNotFoundError, match="requirements_load, or: pantry load a"):
        ask(selector(), models=(installed("a"),), mode="requirements")


@pytest.mark.parametrize("mode", ["none", "load", "requirements_load", "requirements_download"])
def test_unknown_model_is_named_with_the_nearest(paths: Paths, tiny_gguf: Path, mode: Any) -> None:
    with Store.open(paths) as store:
        add_model(store, tiny_gguf, ModelName.parse("our-own"))
    for name, near in (("qwen3-0.6", "qwen3-0.6b"), ("our-onw", "our-own")):
        with pytest.raises(ModelNotFoundError) as caught:
            choose(model=name, mode=mode, paths=paths)
        assert f"There is no model {name!r}." in str(caught.value)
        assert f"Did you mean {near!r}" in str(caught.value)


def test_starter_that_is_not_installed_yet_is_no_unknown_model(paths: Paths) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        choose(model="starter", mode="load", paths=paths)
    assert "pantry run starter" in str(caught.value.hint)


def test_named_model_of_the_catalogue_is_chosen_when_it_may_be_downloaded() -> None:
    request = Request((), (), "requirements_download", "Qwen3-8B")
    choice = selector().choose(request, ())
    assert (choice.model, choice.action) == ("qwen3-8b", "download")


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
    "rules",
    [
        {"unaligned": "refuse"},
        {"unaligned": "warn"},
        {"unaligned": "allow"},
        {"refused_licences": ("mit",)},
        {"accepted_licences": ("apache-2.0", "mit")},
        {"required_use": ("commercial", "train-on-outputs"), "region": "EU", "users": 10**9},
        {"refused_families": ("qwen",), "accepted_families": ("olmo", "smollm")},
        {"downloads": "refuse"},
        {"downloads": "ask", "unaligned": "allow"},
        {"max_download": "2GB"},
        {"remote": False, "max_download": "1kB"},
    ],
)
def test_catalogue_lets_through_exactly_what_the_policy_does(paths: Paths, rules: Any) -> None:
    """The query and the decision are two writings of one policy."""
    lines = [
        f'[[model]]\nid = "made-{n}"\nname = "Made {n}"\nweights = "open"\ngguf_repos = ["a/b"]\nalignment = "{kind}"\n'
        f'sources = ["background"]\nchecked = "2026-11-21"\n{licence}'
        for n, (kind, licence) in enumerate(
            (kind, licence)
            for kind in ("aligned", "unaligned", "uncensored", "maligned", "unknown")
            for licence in ("", 'licence = "mit"', 'licence = "nobody-knows-1.0"', 'licence = "mit"\nbase = "gpt-2"')
        )
    ]
    file = paths.config / "catalogue" / "made.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[family]\nid = "made"\nname = "Made"\n' + "\n".join(lines))
    book, policy = Catalogue.open(paths), Policy(mode="enforce", **rules)
    found = {
        model.id
        for model in book.shortlist(CatalogueQueryBuilder(book, policy, 0.0).allowed(Query(obtainable=True)), [], 10**4)
    }
    models = [entry for _, entry in book.entries("model") if isinstance(entry, ModelEntry) and is_obtainable(entry)]
    assert len(models) > 60
    assert found == {each.id for each in models if decide(policy, subject_of(book, each, policy), "select").allowed}


def test_model_that_may_not_be_downloaded_is_not_chosen() -> None:
    with pytest.raises(ModelNotFoundError, match="downloads are off"):
        ask(selector(downloads="refuse"), mode="requirements_download")
    choice = ask(selector(max_download="200MB"), mode="requirements_download")
    assert (download_size(BOOK.model(choice.model)) or 0) <= 200_000_000


def test_aligned_models_can_be_demanded_and_what_nobody_knows_is_not_among_them() -> None:
    chooser = selector(mode="enforce", unaligned="refuse")
    choice = ask(chooser, "CODING,licence:commercial", mode="requirements_download")
    for name in (choice.model, *(each.name for each in choice.runners_up)):
        assert BOOK.model(name).alignment == "aligned"


def test_failure_counts_what_the_policy_keeps_out_of_the_catalogue() -> None:
    chooser = selector(mode="enforce", accepted_families=("midjourney",))
    total, _ = BOOK.exclusions(chooser._wanted.query(Request(), obey_policy=False))
    with pytest.raises(ModelNotFoundError, match=f"Of {total} models, the policy excluded {total}"):
        ask(chooser, mode="requirements_download")


@pytest.mark.parametrize(
    "need",
    [
        *("TOOLS", "context>=100000000", "ram<=1kB", "download<=1kB", "params<=1", "speed>=100000"),
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
    choice = ask(
        selector(),
        "family:olmo",
        (installed("olmo-3-7b-instruct", architecture="olmo2", parameters=7 * 10**9),),
        mode="requirements_download",
    )
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
