import dataclasses
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.catalogue.rights import Answer
from pantry.core.errors import ModelNotFoundError, UsageError
from pantry.evaluation.capabilities import Measurement
from pantry.policy.decision import Decision, Finding
from pantry.selection import (
    MODES,
    Candidate,
    CatalogueCounts,
    Need,
    Request,
    Vocabulary,
    choose,
    lacks,
    parse_auto,
    parse_mode,
    parse_needs,
    parse_preferences,
)

WORDS = Vocabulary(frozenset({"CODING", "CONVERSATIONAL", "VISION"}), floors={"CODING": ("coding", 1.0)})
YES, NO = Answer("commercial", "allowed", (), ()), Answer("commercial", "refused", (), ())


def measured(**scores: float) -> dict[str, Measurement]:
    return {name: Measurement(score, "2026-11-20", "llama_cpp", "Q4_K_M") for name, score in scores.items()}


def candidate(name: str = "fox", state: Any = "installed", **facts: Any) -> Candidate:
    return Candidate(name, state, **facts)


def request(
    needs: str = "", mode: Any = "requirements_download", prefer: str = "", model: str | None = None
) -> Request:
    return Request(parse_needs(needs, WORDS), parse_preferences(prefer, WORDS), mode, model)


def pick(candidates: list[Candidate], *arguments: Any, **more: Any) -> str:
    return choose(request(*arguments, **more), candidates, WORDS).model


def failure(candidates: list[Candidate], *arguments: Any, **more: Any) -> str:
    with pytest.raises(ModelNotFoundError) as caught:
        choose(request(*arguments, **more), candidates, WORDS)
    return str(caught.value)


# what is asked for


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("tag:CODING", Need("tag", "CODING")),
        ("coding", Need("tag", "CODING")),
        ("writing", None),
        (" vision ", Need("tag", "VISION")),
        ("2023_MED", Need("tag", "2023_MED")),
        ("coding>=3", Need("capability", "coding", at_least=3)),
        ("coding = 3", Need("capability", "coding", at_least=3)),
        ("general:2.5", Need("capability", "general", at_least=2.5)),
        ("context>=8192", Need("context", at_least=8192)),
        ("context>=8k", Need("context", at_least=8000)),
        ("ram<=6GB", Need("ram", at_most=6e9)),
        ("ram=6GiB", Need("ram", at_most=6 * 2**30)),
        ("download<=500MB", Need("download", at_most=5e8)),
        ("params<=4B", Need("params", at_most=4e9)),
        ("params>=1b", Need("params", at_least=1e9)),
        ("speed>=20", Need("speed", at_least=20)),
        ("licence:commercial", Need("licence", "commercial")),
        ("license:train-on-outputs", Need("licence", "train-on-outputs")),
        ("family:qwen", Need("family", "qwen")),
        ("reads:image", Need("reads", "image")),
        ("local", Need("local")),
    ],
)
def test_requirement_is_read(text: str, need: Need | None) -> None:
    if need is None:
        with pytest.raises(UsageError, match="lacks its value"):
            parse_needs(text, WORDS)
    else:
        assert parse_needs(text, WORDS) == (need,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CODNG", "Did you mean 'CODING'"),
        ("tag:VISON", "Did you mean 'VISION'"),
        ("codng>=3", "Did you mean 'coding'"),
        ("contxt>=1", "Did you mean 'context'"),
        ("licence:comercial", "Did you mean 'commercial'"),
        ("reads:img", "Did you mean 'image'"),
        ("coding>=11", "from 0 to 10"),
        ("coding<=3", "write coding>=3"),
        ("ram>=6GB", "write ram<="),
        ("ram<=much", "is not a size"),
        ("context>=long", "is not a number"),
        ("context", "lacks its value"),
        ("context>=99999999999999999999999999", "too large"),
        ("params<=9999999999999t", "too large"),
        (f"speed>={'9' * 400}", "too large"),
        (f"ram<={'9' * 400}GB", "larger than any size"),
        ("download<=99999999999999999999", "larger than any size"),
        (",".join(f"context>={n}" for n in range(99)), "too many"),
    ],
)
def test_wrong_requirement_is_refused_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_needs(text, WORDS)
    assert message in str(caught.value)


def test_short_form_of_a_model_name() -> None:
    assert parse_auto("auto", WORDS) == ()
    assert parse_auto("auto:vision,coding>=3", WORDS) == (
        Need("tag", "VISION"),
        Need("capability", "coding", at_least=3),
    )
    assert parse_auto("autopilot-7b", WORDS) is None
    assert parse_auto("qwen3:q8_0", WORDS) is None


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_as_usage(text: str) -> None:
    try:
        parse_needs(text, WORDS)
        parse_auto(f"auto:{text}", WORDS)
    except UsageError:
        return


@given(
    st.lists(st.sampled_from(["CODING", "coding>=3", "context>=8192", "ram<=6GB", "speed>=20", "reads:image", "local"]))
)
def test_label_reads_back_as_the_same_requirement(parts: list[str]) -> None:
    needs = parse_needs(",".join(parts), WORDS)
    assert parse_needs(",".join(need.label for need in needs), WORDS) == needs


def test_unknown_preference_and_mode_name_the_nearest() -> None:
    with pytest.raises(UsageError, match="speed"):
        parse_preferences("sped", WORDS)
    with pytest.raises(UsageError, match="requirements_load"):
        parse_mode("requirement_load")
    assert parse_mode("requirements-load") == "requirements_load"


# what meets a requirement


@pytest.mark.parametrize(
    ("need", "facts", "meets"),
    [
        ("CODING", {"tags": frozenset({"CODING"})}, True),
        ("CODING", {}, False),
        (
            "CODING",
            {"tags": frozenset({"CODING"}), "measured": measured(coding=0.5)},
            False,
        ),  # evidence outranks the tag
        ("CODING", {"measured": measured(coding=4)}, True),
        ("2023_MED", {"tags": frozenset({"2025_ADV"})}, True),
        ("2023_MED", {"tags": frozenset({"2025_BASIC"})}, False),
        ("coding>=3", {"declared": {"coding": 5}}, True),
        ("coding>=3", {"declared": {"coding": 9}, "measured": measured(coding=1)}, False),
        ("coding>=3", {"declared": {"coding": -1}}, False),
        ("coding>=3", {}, False),
        ("coding>=3", {"measured": measured(coding=3)}, True),
        ("context>=8192", {"context": 8192}, True),
        ("context>=8192", {}, False),
        ("ram<=6GB", {"memory": 6 * 10**9}, True),
        ("ram<=6GB", {"memory": 6 * 10**9 + 1}, False),
        ("ram<=6GB", {}, False),
        ("ram<=6GB", {"remote": True}, True),
        ("download<=1GB", {"download": 10**12}, True),  # installed: nothing to download
        ("params<=4B", {"parameters": 4 * 10**9}, True),
        ("speed>=20", {"speed": 20.0}, True),
        ("speed>=20", {}, False),
        ("licence:commercial", {"answers": {"commercial": YES}}, True),
        ("licence:commercial", {"answers": {"commercial": NO}}, False),
        ("licence:commercial", {}, False),
        ("family:foxes", {"family": "foxes"}, True),
        ("family:foxes", {}, False),
        ("reads:image", {"reads": frozenset({"text", "image"})}, True),
        ("reads:image", {}, False),
        ("local", {"remote": True}, False),
        ("local", {}, True),
    ],
)
def test_requirement_is_met_or_said_to_lack(need: str, facts: dict[str, Any], meets: bool) -> None:
    (parsed,) = parse_needs(need, WORDS)
    assert (lacks(candidate(**facts), parsed, WORDS) is None) is meets


def test_lack_says_what_was_found_and_what_was_wanted() -> None:
    (need,) = parse_needs("coding>=3", WORDS)
    assert lacks(candidate(measured=measured(coding=2)), need, WORDS) == "coding 2 (measured), wanted 3"
    assert lacks(candidate(declared={"coding": 2}), need, WORDS) == "coding 2 (declared), wanted 3"


# who is chosen


def test_loaded_comes_before_installed_before_available_whatever_is_preferred() -> None:
    models = [
        candidate("a", "available", speed=99.0),
        candidate("b", "installed", speed=50.0),
        candidate("c", "loaded", speed=1.0),
    ]
    assert pick(models, prefer="speed") == "c"
    assert pick(models[:2], prefer="speed") == "b"
    assert pick(models[:1], prefer="speed") == "a"


@pytest.mark.parametrize(
    ("mode", "chosen"),
    [("requirements", "loaded"), ("requirements_load", "loaded"), ("requirements_download", "loaded")],
)
def test_mode_takes_the_running_model_when_there_is_one(mode: str, chosen: str) -> None:
    models = [candidate(state, state) for state in ("available", "installed", "loaded")]
    assert pick(models, mode=mode) == chosen


def test_mode_decides_which_states_may_be_used() -> None:
    installed, available = candidate("i", "installed"), candidate("a", "available")
    assert "No model is loaded" in failure([installed, available], mode="requirements")
    assert pick([installed, available], mode="requirements_load") == "i"
    assert "No model is installed" in failure([available], mode="requirements_load")
    assert pick([available], mode="requirements_download") == "a"


@pytest.mark.parametrize(("state", "action"), [("loaded", "use"), ("installed", "load"), ("available", "download")])
def test_choice_says_what_is_to_be_done(state: str, action: str) -> None:
    assert choose(request(), [candidate(state=state)], WORDS).action == action


@pytest.mark.parametrize("mode", ["none", "load"])
def test_named_model_is_used_or_it_is_an_error(mode: str) -> None:
    models = [candidate("a", "loaded"), candidate("b", "installed"), candidate("far", "available")]
    assert pick(models, mode=mode, model="b") == "b"
    assert "not installed. It can be downloaded: pantry pull far" in failure(models, mode=mode, model="far")
    assert "does not meet the requirements: context" in failure(models, "context>=9", mode, model="b")
    with pytest.raises(UsageError, match="needs the name"):
        choose(request(mode=mode), models, WORDS)


def test_named_model_comes_first_when_it_meets_everything() -> None:
    models = [candidate("a", "loaded"), candidate("b", "installed", context=9)]
    assert pick(models, mode="requirements_load", model="b") == "b"
    assert "asked for by name" in choose(request(mode="requirements_load", model="b"), models, WORDS).reason
    assert pick([models[0], candidate("c", "loaded", context=9)], "context>=9", "requirements", model="a") == "c"


@pytest.mark.parametrize(
    ("prefer", "chosen"),
    [
        ("speed", "fast"),
        ("small", "small"),
        ("context", "long"),
        ("newest", "new"),
        ("coding", "coder"),
        ("family:f", "kin"),
    ],
)
def test_preference_decides_among_those_that_meet_everything(prefer: str, chosen: str) -> None:
    models = [
        candidate("fast", speed=90.0, memory=9), candidate("small", memory=1),
        candidate("long", context=10**6, memory=9), candidate("new", released="2026-11", memory=9),
        candidate("coder", declared={"coding": 7}, memory=9),
        candidate("kin", family="f", memory=9),
    ]  # fmt: skip
    assert pick(models, prefer=prefer) == chosen


def test_first_preference_counts_before_the_second() -> None:
    models = [
        candidate("a", context=10, speed=1.0),
        candidate("b", context=10, speed=2.0),
        candidate("c", context=9, speed=9.0),
    ]
    assert pick(models, prefer="context,speed") == "b"
    assert pick(models, prefer="speed,context") == "c"


def test_measured_score_comes_before_any_declared_one() -> None:
    models = [candidate("claims", declared={"coding": 10}), candidate("proves", measured=measured(coding=2))]
    assert pick(models, prefer="coding") == "proves"


def test_general_score_decides_when_nothing_else_does() -> None:
    assert pick([candidate("a"), candidate("b", measured=measured(general=1))]) == "b"


def test_model_that_the_policy_refuses_is_out_and_the_reason_said() -> None:
    refusal = Decision("a", "select", "refused", (Finding("licence", "refuse", "the licence gemma is refused here"),))
    models = [candidate("a", "loaded", decision=refusal), candidate("b", "loaded")]
    choice = choose(request(), models, WORDS)
    assert choice.model == "b"
    assert "refused by the policy: the licence gemma is refused here" in choice.runners_up[0].lacked[0]
    assert "the policy excluded 1" in failure(models[:1])


def test_warnings_of_the_policy_travel_with_the_choice() -> None:
    warned = Decision(
        "a", "select", "allowed with warnings", (Finding("signature", "warn", "it carries no signature"),)
    )
    assert choose(request(), [candidate(decision=warned)], WORDS).warnings == ("it carries no signature",)


def test_reason_says_how_each_requirement_is_met() -> None:
    fox = candidate(
        context=9000, measured=measured(coding=4), declared={"writing": 3}, speed=12.0, answers={"commercial": YES}
    )
    reason = choose(request("coding>=3,writing>=2,context>=8192,speed>=5,licence:commercial"), [fox], WORDS).reason
    for part in ("coding 4 (measured 2026-11-20 with llama_cpp)", "writing 3 (declared, not measured)", "context 9000",
                 "12 tokens/s (estimated)", "commercial use allowed"):  # fmt: skip
        assert part in reason


def test_runners_up_say_what_they_lacked() -> None:
    models = [
        candidate("best", "loaded", speed=45.0, context=9000), candidate("slower", "loaded", speed=20.0, context=9000),
        candidate("idle", "installed", speed=99.0, context=9000), candidate("short", "loaded", context=100),
    ]  # fmt: skip
    choice = choose(request("context>=8192", prefer="speed"), models, WORDS)
    lacked = {each.name: each.lacked for each in choice.runners_up}
    assert lacked["slower"] == ("behind in speed: 20 against 45 tokens/s",)
    assert lacked["idle"] == ("only installed, not loaded",)
    assert lacked["short"] == ("context 100, wanted context>=8192",)
    assert choice.to_json()["runners_up"][0]["model"] == "slower"


def test_failure_says_what_excluded_how_many_and_who_came_nearest() -> None:
    models = [candidate("a", context=100), candidate("b", context=9000), candidate("c", tags=frozenset({"VISION"}))]
    message = failure(models, "context>=8192,VISION,coding>=3")
    assert "Of 3 models, coding>=3 excluded 3, context>=8192 excluded 2, tag:VISION excluded 2." in message
    assert "Nearest: b (installed): tag VISION; coding is not rated, wanted 3." in message


def test_failure_counts_the_models_elsewhere_too() -> None:
    around = CatalogueCounts(1000, {"context>=8192": 700})
    with pytest.raises(ModelNotFoundError, match="Of 1001 models, context>=8192 excluded 701"):
        choose(request("context>=8192"), [candidate(context=100)], WORDS, around)


def test_failure_suggests_a_wider_mode() -> None:
    assert "requirements_load" in failure([candidate("a", "loaded")], "context>=9", "requirements")
    assert "requirements_download" in failure([candidate("a", "installed")], "context>=9", "requirements_load")


candidates = st.builds(
    lambda name, state, speed, context, score, memory: candidate(
        f"m{name}",
        state,
        speed=speed,
        context=context,
        memory=memory,
        measured=measured(general=score) if score else {},
    ),
    st.integers(0, 30),
    st.sampled_from(["loaded", "installed", "available"]),
    st.none() | st.sampled_from([1.0, 2.0]),
    st.none() | st.sampled_from([512, 8192]),
    st.integers(0, 2),
    st.none() | st.sampled_from([1, 2]),
)


@given(
    st.lists(candidates, min_size=1, unique_by=lambda each: each.name),
    st.sampled_from(["", "speed", "small,context", "quality"]),
    st.randoms(),
)
def test_choice_does_not_depend_on_the_order_of_candidates(
    models: list[Candidate], prefer: str, order: random.Random
) -> None:
    wanted = request("context>=512", prefer=prefer)
    shuffled = models[:]
    order.shuffle(shuffled)
    assert outcome(wanted, models) == outcome(wanted, shuffled)


def outcome(wanted: Request, models: list[Candidate]) -> object:
    """The choice, or the words of the failure."""
    try:
        return choose(wanted, models, WORDS)
    except ModelNotFoundError as error:
        return str(error)


@given(
    st.lists(candidates, unique_by=lambda each: each.name),
    st.sampled_from(MODES),
    st.sampled_from(["", "context>=8192"]),
)
def test_choice_meets_every_requirement_and_its_mode(models: list[Candidate], mode: Any, needs: str) -> None:
    wanted = dataclasses.replace(request(needs), mode=mode, model="m1")
    try:
        choice = choose(wanted, models, WORDS)
    except ModelNotFoundError:
        return
    chosen = next(each for each in models if each.name == choice.model)
    assert all(lacks(chosen, need, WORDS) is None for need in wanted.needs)
    assert mode not in ("none", "load") or chosen.name == "m1"
    assert mode != "requirements" or chosen.state == "loaded"
    assert mode == "requirements_download" or chosen.state != "available"
