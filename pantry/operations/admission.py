"""Whether something may come in, and under which licence: the one place where pulling asks the policy."""

from __future__ import annotations

from dataclasses import dataclass

from pantry.catalogue.lookup import Catalogue, licences_of
from pantry.catalogue.rights import Answer, Circumstances, Link
from pantry.core.errors import PantryError
from pantry.core.paths import Paths
from pantry.flatpack.signature import State as SignatureOutcome
from pantry.operations.policy import load_policy
from pantry.policy import Decision, SignatureState, Subject, decide

_SIGNATURES: dict[SignatureOutcome, SignatureState] = {
    "trusted": "good",
    "untrusted": "untrusted",
    "unsigned": "missing",
    "bad": "bad",
}


_ARRIVED = {"downloads": "allow", "max_download": None}
"""Rules about downloads, which nothing that is on this machine already can break."""
_LATER = {"required_use": (), "accepted_licences": (), "accepted_families": ()}
"""Rules that cannot be judged before a file whose licence nobody told has come; they are judged then."""


@dataclass(frozen=True)
class Candidate:
    """What is known of the thing. `size` is the bytes to download; `licence` the expression for weights or data.

    `arrived`: its file is on this machine.
    """

    name: str
    licence: str | None
    family: str | None = None
    size: int | None = None
    signature: SignatureOutcome | None = None
    arrived: bool = False


@dataclass(frozen=True)
class Admission:
    """The policy's decision, and what the licence allows in a few words."""

    decision: Decision
    licence: str


def admit(paths: Paths, candidate: Candidate) -> Admission:
    """Judge it. Raises PolicyRefusedError with the reasons when it may not come in."""
    catalogue = Catalogue.open(paths)
    try:
        policy = load_policy(paths, catalogue)
        if candidate.licence is None and candidate.signature is None:
            policy = policy.model_copy(update=_LATER)
        if candidate.arrived:
            policy = policy.model_copy(update=_ARRIVED)
        chain = (Link("weights", candidate.licence, candidate.licence),) if candidate.licence else ()
        subject = Subject(
            name=candidate.name,
            family=candidate.family,
            licences=licences_of(chain, catalogue.licence_names) if chain else frozenset(),
            answers={
                use: catalogue.judge_text(candidate.licence, use, policy.circumstances) for use in policy.required_use
            }
            if candidate.licence
            else {},
            signature=_SIGNATURES[candidate.signature] if candidate.signature else "unknown",
            size=candidate.size,
        )
        return Admission(decide(policy, subject, "pull").require(), licence_words(catalogue, candidate.licence))
    finally:
        catalogue.close()


def licence_words(catalogue: Catalogue, licence: str | None) -> str:
    """A licence and whether it allows commercial use, in one phrase."""
    if licence is None:
        return "none is stated; nobody may be sure of any use"
    try:
        answer: Answer = catalogue.judge_text(licence, "commercial", Circumstances())
    except PantryError:
        return f"{licence}: not in the catalogue; read it before you use the model"
    conditions = f" {'; '.join(answer.conditions)}" if answer.verdict == "conditional" else ""
    return f"{licence}: commercial use {answer.words}{conditions}"
