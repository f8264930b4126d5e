import dataclasses
import math
import re
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.catalogue.rights import Answer
from pantry.core.errors import PolicyRefusedError, UsageError
from pantry.formats.verdict import FormatVerdict, SafetyFinding
from pantry.policy.decision import Action, Decision, SignatureState, Subject, decide, parse_action
from pantry.policy.rules import Known, Mode, Policy, parse_policy

LICENCES = {"mit": "mit", "apache-2.0": "apache-2.0", "gemma": "gemma-terms", "gemma-terms": "gemma-terms"}
KNOWN = Known(LICENCES, ["foxes", "bears"], ["coding"])
CLEAN = FormatVerdict("gguf")
CODE = FormatVerdict("pickle", (SafetyFinding("refused", "a pickle that would import os.system"),))
GOOD = Subject(
    "fox",
    families=frozenset({"foxes"}),
    licences=frozenset({"mit"}),
    installed=True,
    digest_matches=True,
    signature="good",
    format=CLEAN,
)


def subject(**changes: Any) -> Subject:
    return dataclasses.replace(GOOD, **changes)


def policy(**rules: Any) -> Policy:
    return parse_policy({"mode": "enforce"} | rules, "policy.toml", KNOWN)


def answer(verdict: Any, *conditions: str) -> Answer:
    return Answer("commercial", verdict, conditions, ())


def reasons(decision: Decision) -> str:
    return " ".join(finding.text for finding in decision.findings if finding.state == "refuse")


def test_good_model_is_allowed_in_enforce() -> None:
    assert decide(policy(), GOOD, "load").verdict == "allowed"


@pytest.mark.parametrize(
    ("rules", "changes", "reason"),
    [
        ({"refused_licences": ["MIT"]}, {}, "licence mit is refused"),
        ({"accepted_licences": ["apache-2.0"]}, {}, "mit is not among those accepted"),
        ({"accepted_licences": ["mit"]}, {"licences": frozenset()}, "licence is not known"),
        ({"accepted_licences": ["mit"]}, {"licences": frozenset({"mit", "gemma-terms"})}, "gemma-terms is not among"),
        ({"refused_families": ["foxes"]}, {}, "family foxes is refused"),
        ({"accepted_families": ["bears"]}, {}, "foxes is not among"),
        (
            {"accepted_families": ["bears"]},
            {"families": frozenset()},
            "family is not known, and only some are accepted",
        ),
        ({"refused_families": ["bears"]}, {"families": frozenset()}, "family is not known, and some are refused"),
        ({"refused_families": ["bears"]}, {"families": frozenset({"foxes", "bears"})}, "family bears is refused"),
        ({"refused_licences": ["gemma"]}, {"licences": frozenset()}, "its licence is not known, and some are refused"),
        ({"refused_licences": ["gemma"]}, {"unknown_licences": ("wolf",)}, "licence of wolf is not known, and some"),
        (
            {"accepted_licences": ["mit"]},
            {"unknown_licences": ("wolf",)},
            "licence of wolf is not known, and only some",
        ),
        ({"unaligned": "refuse"}, {}, "whether it is aligned is not known"),
        ({"minimum_evidence": {"coding": 2}}, {"evidence": {"coding": math.nan}}, "coding is not a number"),
        ({"minimum_evidence": {"coding": 2}}, {"evidence": {"coding": math.inf}}, "coding is not a number"),
        ({"signature": "require"}, {"signature": "missing"}, "carries no signature"),
        ({"signature": "require"}, {"signature": "untrusted"}, "no key that is trusted"),
        ({"signature": "require"}, {"signature": "unknown"}, "was not checked"),
        ({"required_use": ["commercial"]}, {}, "commercial use is allowed is not known"),
        ({"required_use": ["commercial"]}, {"answers": {"commercial": answer("unknown")}}, "is not known"),
        (
            {"required_use": ["commercial"]},
            {"answers": {"commercial": answer("refused")}},
            "commercial use is not allowed",
        ),
        ({"minimum_evidence": {"coding": 2}}, {}, "coding was not measured here, 2 is required"),
        ({"minimum_evidence": {"coding": 2}}, {"evidence": {"coding": 1.5}}, "measured at 1.5, 2 is required"),
        ({"unaligned": "refuse"}, {"alignment": "uncensored"}, "alignment was taken out"),
        ({}, {"alignment": "maligned"}, "made to do harm"),
    ],
)
def test_rule_refuses_in_enforce_and_only_warns_in_warn(rules: Any, changes: Any, reason: str) -> None:
    refused = decide(policy(**rules), subject(**changes), "load")
    assert refused.verdict == "refused"
    assert reason in reasons(refused)
    warned = decide(policy(**rules, mode="warn"), subject(**changes), "load")
    assert warned.verdict == "allowed with warnings"
    assert any(reason in text for text in warned.warnings)


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"digest_matches": False}, "digest"),
        ({"signature": "bad"}, "signature does not match"),
        ({"format": CODE}, "os.system"),
    ],
)
def test_danger_is_refused_in_every_mode(mode: Mode, changes: Any, reason: str) -> None:
    decision = decide(policy(mode=mode), subject(**changes), "load")
    assert decision.verdict == "refused"
    assert reason in reasons(decision)


@pytest.mark.parametrize("mode", get_args(Mode))
def test_switches_hold_in_every_mode(mode: Mode) -> None:
    assert decide(policy(mode=mode, remote=False), subject(remote=True), "select").verdict == "refused"
    assert decide(policy(mode=mode, downloads="refuse"), GOOD, "pull").verdict == "refused"
    assert decide(policy(mode=mode, downloads="ask"), GOOD, "pull").verdict == "needs approval"
    assert decide(policy(mode=mode, max_download="1GB"), subject(size=2 * 10**9), "pull").verdict == "refused"


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("rules", [{"downloads": "refuse"}, {"max_download": "1GB"}])
def test_switches_for_downloads_are_about_what_is_not_here(mode: Mode, rules: Any) -> None:
    big = subject(size=2 * 10**9)
    for action in ("select", "load"):
        assert decide(policy(mode=mode, **rules), big, action).allowed
    away = dataclasses.replace(big, installed=False)
    assert decide(policy(mode=mode, **rules), away, "select").verdict == "refused"


def test_a_download_as_large_as_the_limit_is_within() -> None:
    assert decide(policy(max_download="1GB"), subject(size=10**9), "pull").allowed
    assert decide(policy(max_download="1GB"), subject(size=10**9 + 1), "pull").verdict == "refused"


@pytest.mark.parametrize(
    ("rule", "verdicts"),
    [
        ("when-present", ["allowed", "allowed with warnings", "allowed"]),
        ("warn", ["allowed", "allowed with warnings", "allowed with warnings"]),
        ("require", ["allowed", "refused", "refused"]),
    ],
)
def test_signatures_are_weighed_as_the_rule_says(rule: str, verdicts: list[str]) -> None:
    states = ("good", "untrusted", "missing")
    assert [decide(policy(signature=rule), subject(signature=state), "load").verdict for state in states] == verdicts


def test_off_judges_neither_licence_nor_signature_nor_evidence() -> None:
    rules = {"mode": "off", "refused_licences": ["mit"], "signature": "require"}
    assert decide(policy(**rules), subject(signature="missing"), "load").verdict == "allowed"


def test_conditions_are_said_and_do_not_refuse() -> None:
    given_answer = {"commercial": answer("conditional", "show its name", "stay small")}
    decision = decide(policy(required_use=["commercial"]), subject(answers=given_answer), "load")
    assert decision.verdict == "allowed with warnings"
    assert "if you show its name; stay small" in decision.paragraph()


def test_model_that_is_not_here_yet_is_judged_by_what_can_be_known() -> None:
    rules = {"signature": "require", "minimum_evidence": {"coding": 2}}
    there = subject(installed=False, digest_matches=None, signature="unknown", format=None)
    assert decide(policy(**rules), there, "pull").verdict == "allowed"
    assert decide(policy(**rules), there, "select").verdict == "allowed"
    assert decide(policy(**rules), there, "load").verdict == "refused"


def test_format_nobody_looked_into_is_unknown_at_load() -> None:
    assert decide(policy(), subject(format=None), "load").verdict == "refused"
    assert decide(policy(mode="warn"), subject(format=None), "load").verdict == "allowed with warnings"


def test_remote_model_has_no_file_to_judge() -> None:
    remote = subject(remote=True, format=None, digest_matches=None, signature="unknown")
    assert decide(policy(signature="require"), remote, "load").verdict == "allowed"


_subjects = st.builds(
    Subject,
    name=st.just("m"),
    families=st.frozensets(st.sampled_from(["foxes", "bears"])),
    licences=st.frozensets(st.sampled_from(["mit", "gemma-terms"])),
    answers=st.sampled_from(["allowed", "conditional", "refused", "unknown"]).map(
        lambda verdict: {"commercial": answer(verdict)}
    ),
    alignment=st.sampled_from(["aligned", "unaligned", "uncensored", "maligned", "unknown"]),
    remote=st.booleans(),
    installed=st.booleans(),
    digest_matches=st.sampled_from([None, True, False]),
    signature=st.sampled_from(get_args(SignatureState)),
    format=st.sampled_from([None, CLEAN, CODE, FormatVerdict("x", (SafetyFinding("unknown", "?"),))]),
    evidence=st.dictionaries(st.just("coding"), st.floats(0, 10) | st.just(math.nan)),
    size=st.none() | st.integers(0, 10**12),
)
_rules = st.fixed_dictionaries(
    {},
    optional={
        "required_use": st.just(["commercial"]),
        "accepted_licences": st.just(["mit"]),
        "refused_licences": st.just(["gemma"]),
        "accepted_families": st.just(["foxes"]),
        "refused_families": st.just(["bears"]),
        "signature": st.sampled_from(["when-present", "warn", "require"]),
        "unaligned": st.sampled_from(["allow", "warn", "refuse"]),
        "remote": st.booleans(),
        "max_download": st.just("5GB"),
        "minimum_evidence": st.just({"coding": 3}),
    },
)


@given(_rules, _subjects, st.sampled_from(get_args(Action)))
def test_unknown_is_never_silently_allowed_and_enforce_is_never_milder(
    rules: Any, given_subject: Subject, action: Any
) -> None:
    strict = decide(policy(**rules), given_subject, action)
    mild = decide(policy(**rules, mode="warn"), given_subject, action)
    assert not any(finding.state == "unknown" for finding in (*strict.findings, *mild.findings))
    assert mild.allowed or not strict.allowed
    unknown = [
        rules.get("refused_licences") and not given_subject.licences,
        rules.get("refused_families") and not given_subject.families,
        rules.get("unaligned") == "refuse" and given_subject.alignment == "unknown",
        rules.get("minimum_evidence") and math.isnan(given_subject.evidence.get("coding", 0)),
    ]
    if any(unknown):
        assert strict.verdict == "refused"
        assert mild.verdict != "allowed"
    asked = rules.get("required_use") and given_subject.answers["commercial"].verdict in ("unknown", "refused")
    if asked:
        assert strict.verdict == "refused"
        assert mild.verdict != "allowed"


@given(_rules, _subjects, st.sampled_from(get_args(Action)), st.sampled_from(get_args(Mode)))
def test_every_decision_explains_itself(rules: Any, given_subject: Subject, action: Any, mode: Any) -> None:
    if mode == "off":
        rules.pop("minimum_evidence", None)
    decision = decide(policy(**rules, mode=mode), given_subject, action)
    text = decision.paragraph()
    assert "\n" not in text
    assert decision.verdict in text
    assert all(finding.text[1:].rstrip(".") in text for finding in decision.findings)
    assert decision.to_json()["verdict"] == decision.verdict


def test_require_raises_with_the_reasons_and_the_next_step() -> None:
    decision = decide(policy(refused_licences=["mit"]), GOOD, "load")
    with pytest.raises(PolicyRefusedError, match="licence mit is refused") as caught:
        decision.require()
    assert "pantry policy explain fox" in str(caught.value.hint)
    assert decide(policy(), GOOD, "load").require().allowed


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"accepted_licences": ["mit"], "refused_licences": ["MIT"]}, "both name 'mit'"),
        ({"accepted_families": ["foxes"], "refused_families": ["foxes"]}, "both name 'foxes'"),
        ({"downloads": "refuse", "max_download": "1GB"}, "remove one of them"),
        ({"mode": "off", "minimum_evidence": {"coding": 1}}, "nothing would check it"),
        ({"max_download": "large"}, "is not a size"),
        ({"mode": "strict"}, "policy.toml: mode: .* got 'strict'"),
        ({"users": -1}, "users"),
        ({"region": "Europe"}, "region"),
        ({"mod": "warn"}, "there is no rule 'mod'. Did you mean 'mode'"),
        ({"refused_licences": ["mitt"]}, "unknown licence 'mitt'. Did you mean 'mit'"),
        ({"refused_families": ["fox"]}, "unknown family 'fox'. Did you mean 'foxes'"),
        ({"required_use": ["comercial"]}, "required_use"),
        ({"users": 1.9}, "users: .* got '1.9'"),
        ({"users": 10**16}, "users"),
        ({"users": True}, "users"),
        ({"remote": "no"}, "remote"),
        ({"minimum_evidence": {"coding": math.nan}}, "minimum_evidence.coding: .* finite"),
        ({"minimum_evidence": {"coding": math.inf}}, "minimum_evidence.coding"),
        ({"minimum_evidence": {"coding": 11}}, "minimum_evidence.coding"),
        ({"minimum_evidence": {"coding": "2"}}, "minimum_evidence.coding"),
        ({"minimum_evidence": {"my coding": 2}}, "minimum_evidence names the unknown capability 'my coding'"),
        ({"minimum_evidence": {"codnig": 2}}, "Did you mean 'coding'"),
        ({"region": "ZZ"}, "region: 'ZZ' is not a region. Give EU, or a two-letter"),
        ({"region": "EL"}, r"Did you mean 'GR' \(Greece\)"),
        ({"region": "Germny"}, r"Did you mean 'DE' \(Germany\)"),
    ],
)
def test_contradictory_or_wrong_policy_is_refused(rules: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_policy(rules, "policy.toml", KNOWN)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_licences_are_known_by_any_of_their_names() -> None:
    assert policy(refused_licences=["Gemma"]).refused_licences == ("gemma-terms",)


def test_unknown_action_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="load"):
        parse_action("laod")


@pytest.mark.parametrize(
    ("rules", "end"),
    [
        ({"max_download": "5parsecs"}, "'5parsecs' is not a size."),
        ({"region": "XX"}, "like US."),
        ({"users": -1}, "got '-1'."),
    ],
)
def test_wrong_rule_is_told_once_and_in_a_sentence(rules: dict[str, object], end: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_policy(rules, "policy.toml", KNOWN)
    assert caught.value.message.endswith(end)
    assert ".." not in caught.value.message
