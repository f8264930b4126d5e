"""May this model be fetched, chosen or loaded here? One function decides, and explains itself.

Pure rules over facts that others gathered. Some things are refused in every mode, because running them is dangerous:
a digest or signature that does not match, and a file that hides code. The rest follows `policy.toml`: in `enforce` a
broken rule refuses and what is not known counts as broken; in `warn` both are said and nothing is refused; in `off`
they are not looked at. `remote` and `downloads` are switches of their own and hold in every mode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pantry.catalogue.rights import Answer
from pantry.catalogue.schema import Use
from pantry.core.errors import PolicyRefusedError, UsageError, did_you_mean
from pantry.core.units import format_bytes
from pantry.formats.verdict import FormatVerdict
from pantry.policy.rules import Mode, Policy

Action = Literal["pull", "load", "select"]
ACTIONS: tuple[Action, ...] = get_args(Action)
State = Literal["ok", "note", "warn", "ask", "refuse", "unknown"]
SignatureState = Literal["good", "untrusted", "missing", "bad", "unknown"]
"""`untrusted`: valid, by a key nobody here trusts. `unknown`: not checked, or nothing is here to check yet."""


@dataclass(frozen=True)
class Subject:
    """What is known of the model to decide on. None and `unknown` say that nobody looked, or could."""

    name: str
    known_as: str | None = None
    """What it is taken for and why, where that is not plain."""
    families: frozenset[str] = frozenset()
    licences: frozenset[str] = frozenset()
    """Ids of all licences along the chain of weights and bases; empty when none is known."""
    unknown_licences: tuple[str, ...] = ()
    """The models along that chain whose licence is not known."""
    answers: Mapping[Use, Answer] = field(default_factory=dict)
    """The licence answers for at least the uses the policy requires."""
    alignment: str = "unknown"
    remote: bool = False
    installed: bool = False
    digest_matches: bool | None = None
    signature: SignatureState = "unknown"
    format: FormatVerdict | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)
    """Capability scores measured on this machine."""
    size: int | None = None


@dataclass(frozen=True)
class Finding:
    """One rule and what came of it."""

    rule: str
    state: State
    text: str


@dataclass(frozen=True)
class Decision:
    """The decision about one model and one action, with everything that was looked at."""

    name: str
    action: Action
    verdict: Literal["allowed", "allowed with warnings", "needs approval", "refused"]
    findings: tuple[Finding, ...]

    @property
    def allowed(self) -> bool:
        """Whether it may go on now, without anyone's approval."""
        return self.verdict in ("allowed", "allowed with warnings")

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(finding.text for finding in self.findings if finding.state in ("warn", "unknown"))

    def paragraph(self) -> str:
        """The decision in one paragraph: the verdict first, then what decided it, then the rest."""
        verb = {"pull": "Downloading", "load": "Loading", "select": "Choosing"}[self.action]
        weights: dict[State, int] = {"refuse": 0, "ask": 1, "unknown": 2, "warn": 3, "note": 4, "ok": 5}
        ordered = sorted(self.findings, key=lambda finding: weights[finding.state])
        reasons = " ".join(f"{finding.text[0].upper()}{finding.text[1:].rstrip('.')}." for finding in ordered)
        return f"{verb} {self.name} is {self.verdict}. {reasons}".strip()

    def to_json(self) -> dict[str, Any]:
        """The decision for programs."""
        return {
            "model": self.name,
            "action": self.action,
            "verdict": self.verdict,
            "findings": [{"rule": each.rule, "state": each.state, "text": each.text} for each in self.findings],
        }

    def require(self) -> Decision:
        """Itself when allowed. Raises PolicyRefusedError with the reasons otherwise."""
        if self.allowed:
            return self
        reasons = [each.text for each in self.findings if each.state in ("refuse", "ask")]
        raise PolicyRefusedError(
            f"The policy does not let {self.name} pass ({self.verdict}): {'; '.join(reasons)}.",
            hint=f"See all reasons with: pantry policy explain {self.name}",
        )


def parse_action(text: str) -> Action:
    """An action by its name. Raises UsageError with the nearest one."""
    for action in ACTIONS:
        if action == text.strip().lower():
            return action
    raise UsageError(
        f"There is no action {text[:40]!r}.", hint=did_you_mean(text, ACTIONS, f"Known: {', '.join(ACTIONS)}.")
    )


def decide(policy: Policy, subject: Subject, action: Action) -> Decision:
    """Decide on one model. Every rule leaves a finding, so that the explanation is complete."""
    named = [Finding("identity", "note", subject.known_as)] if subject.known_as else []
    always = [*named, *_integrity(subject, action), *_format(subject, action), *_switches(policy, subject, action)]
    ruled = [
        *_signature(policy, subject, action),
        *_licences(policy, subject),
        *_uses(policy, subject),
        *_families(policy, subject),
        *_alignment(policy, subject),
        *_evidence(policy, subject, action),
    ]
    if policy.mode == "off":
        ruled = [Finding("mode", "note", "the policy is off: licence, signature and evidence were not judged")]
    findings = [_weigh(finding, policy.mode, "always") for finding in always]
    findings += [_weigh(finding, policy.mode, "ruled") for finding in ruled]
    states = {finding.state for finding in findings}
    if "refuse" in states:
        return Decision(subject.name, action, "refused", tuple(findings))
    if "ask" in states:
        return Decision(subject.name, action, "needs approval", tuple(findings))
    warned = bool(states & {"warn", "unknown"})
    return Decision(subject.name, action, "allowed with warnings" if warned else "allowed", tuple(findings))


def _weigh(finding: Finding, mode: Mode, kind: Literal["always", "ruled"]) -> Finding:
    """Unknown refuses in enforce; broken rules only warn in warn, dangers never do."""
    if finding.state == "unknown":
        return Finding(finding.rule, "refuse" if mode == "enforce" else "warn", finding.text)
    if finding.state == "refuse" and kind == "ruled" and mode == "warn":
        return Finding(finding.rule, "warn", finding.text)
    return finding


def _integrity(subject: Subject, action: Action) -> list[Finding]:
    found = []
    if subject.digest_matches is False:
        found.append(Finding("digest", "refuse", "its content does not have the digest it should have"))
    elif subject.digest_matches:
        found.append(Finding("digest", "ok", "its digest is right"))
    elif action == "load" and not subject.remote:
        found.append(Finding("digest", "unknown", "its digest was not checked"))
    if subject.signature == "bad":
        found.append(Finding("signature", "refuse", "its signature does not match its content"))
    return found


def _signature(policy: Policy, subject: Subject, action: Action) -> list[Finding]:
    state = subject.signature
    if subject.remote or state == "bad":
        return []
    if state == "good":
        return [Finding("signature", "ok", "it is signed by a trusted key")]
    if state == "unknown" and (action != "load" or not subject.installed):
        return [Finding("signature", "note", "its signature is checked when it arrives")]
    words = {
        "untrusted": "it is signed, but by no key that is trusted here",
        "missing": "it carries no signature",
        "unknown": "its signature was not checked",
    }
    demanded: dict[str, State] = {"require": "refuse", "warn": "warn", "when-present": "note"}
    wanted: State = "unknown" if state == "unknown" and policy.signature == "require" else demanded[policy.signature]
    if state == "untrusted" and policy.signature == "when-present":
        wanted = "warn"
    return [Finding("signature", wanted, words[state])]


def _format(subject: Subject, action: Action) -> list[Finding]:
    if subject.remote:
        return []
    if subject.format is None:
        if action == "load":
            return [Finding("format", "unknown", "nobody looked into its files")]
        return [Finding("format", "note", "its files are looked into when they arrive")]
    level = subject.format.level
    states: dict[str, State] = {"note": "ok", "warning": "warn", "unknown": "unknown", "refused": "refuse"}
    texts = [str(each) for each in subject.format.findings if each.level == level and level != "note"]
    if not texts:
        return [Finding("format", states[level], "nothing harmful was found in its files")]
    return [Finding("format", states[level], f"in its files ({subject.format.format}): {'; '.join(texts[:3])}")]


def _switches(policy: Policy, subject: Subject, action: Action) -> list[Finding]:
    found = []
    if subject.remote:
        text = "it runs at a provider, and remote models are "
        found.append(
            Finding("remote", "ok" if policy.remote else "refuse", text + ("allowed" if policy.remote else "off"))
        )
    if not subject.remote and (action == "pull" or (action == "select" and not subject.installed)):
        found += _download(policy, subject, action)
    return found


def _download(policy: Policy, subject: Subject, action: Action) -> list[Finding]:
    """What is said of a download; choosing what would need one asks nobody yet."""
    states: dict[str, State] = {"allow": "ok", "ask": "ask" if action == "pull" else "note", "refuse": "refuse"}
    words = {"allow": "downloads are allowed", "ask": "downloads need approval", "refuse": "downloads are off"}
    found = [Finding("downloads", states[policy.downloads], words[policy.downloads])]
    limit = policy.download_limit
    if limit is not None and subject.size is None:
        found.append(Finding("downloads", "unknown", "its size is not known, and downloads have a limit"))
    elif limit is not None and subject.size is not None and subject.size > limit:
        sizes = f"{format_bytes(subject.size)}, and {format_bytes(limit)} is the limit"
        found.append(Finding("downloads", "refuse", f"it is a download of {sizes}"))
    return found


def _licences(policy: Policy, subject: Subject) -> list[Finding]:
    refused = sorted(subject.licences & set(policy.refused_licences))
    if refused:
        return [Finding("licence", "refuse", f"the licence {refused[0]} is refused here")]
    foreign = sorted(subject.licences - set(policy.accepted_licences)) if policy.accepted_licences else []
    if foreign:
        return [Finding("licence", "refuse", f"the licence {foreign[0]} is not among those accepted here")]
    lacking = subject.unknown_licences[0] if subject.unknown_licences else None
    if policy.accepted_licences or policy.refused_licences:
        if lacking is not None or not subject.licences:
            whose = f"the licence of {lacking}" if lacking not in (None, subject.name) else "its licence"
            what = "only some are accepted" if policy.accepted_licences else "some are refused"
            return [Finding("licence", "unknown", f"{whose} is not known, and {what} here")]
        return [Finding("licence", "ok", "its licences are accepted here")]
    named = ", ".join(sorted(subject.licences)) or "no licence that is known"
    return [Finding("licence", "note", f"it stands under {named}")]


def _uses(policy: Policy, subject: Subject) -> list[Finding]:
    found = []
    for use in policy.required_use:
        answer = subject.answers.get(use)
        if answer is None or answer.verdict == "unknown":
            why = f": {answer.reason.rstrip('.')}" if answer else ""
            found.append(Finding("use", "unknown", f"whether {use} use is allowed is not known{why}"))
        elif answer.verdict == "refused":
            found.append(Finding("use", "refuse", f"{use} use is not allowed: {answer.reason.rstrip('.')}"))
        elif answer.verdict == "conditional":
            found.append(Finding("use", "warn", f"{use} use is allowed if you {'; '.join(answer.conditions)}"))
        else:
            found.append(Finding("use", "ok", f"{use} use is allowed"))
    return found


def _families(policy: Policy, subject: Subject) -> list[Finding]:
    refused = sorted(subject.families & set(policy.refused_families))
    if refused:
        return [Finding("family", "refuse", f"the family {refused[0]} is refused here")]
    if not policy.accepted_families and not policy.refused_families:
        return []
    if not subject.families:
        what = "only some are accepted" if policy.accepted_families else "some are refused"
        return [Finding("family", "unknown", f"its family is not known, and {what} here")]
    foreign = sorted(subject.families - set(policy.accepted_families)) if policy.accepted_families else []
    if foreign:
        return [Finding("family", "refuse", f"the family {foreign[0]} is not among those accepted here")]
    return [Finding("family", "ok", f"the family {min(subject.families)} is accepted here")]


def _alignment(policy: Policy, subject: Subject) -> list[Finding]:
    if policy.unaligned == "allow" or subject.alignment == "aligned":
        return []
    if subject.alignment == "maligned":
        return [Finding("alignment", "refuse", "it was made to do harm")]
    words = {"unaligned": "it was never aligned", "uncensored": "its alignment was taken out"}
    if subject.alignment in words:
        return [Finding("alignment", policy.unaligned, words[subject.alignment])]
    state: State = "unknown" if policy.unaligned == "refuse" else "note"
    return [Finding("alignment", state, "whether it is aligned is not known")]


def _evidence(policy: Policy, subject: Subject, action: Action) -> list[Finding]:
    found = []
    for capability, wanted in sorted(policy.minimum_evidence.items()):
        measured = subject.evidence.get(capability)
        if measured is None and not subject.installed and action != "load":
            found.append(Finding("evidence", "note", f"{capability} can be measured once it is here"))
        elif measured is None:
            found.append(Finding("evidence", "unknown", f"{capability} was not measured here, {wanted:g} is required"))
        elif not math.isfinite(measured):
            found.append(Finding("evidence", "unknown", f"the measurement of {capability} is not a number"))
        elif measured < wanted:
            text = f"{capability} was measured at {measured:g}, {wanted:g} is required"
            found.append(Finding("evidence", "refuse", text))
        else:
            found.append(Finding("evidence", "ok", f"{capability} was measured at {measured:g}"))
    return found
