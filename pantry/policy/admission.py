"""Whether something may come in, and under which licence: the one place where pulling asks the policy."""

from __future__ import annotations

from dataclasses import dataclass

from pantry.catalogue.lookup import Catalogue, licences_of, unknown_licences
from pantry.catalogue.merge import worst_alignment
from pantry.catalogue.rights import Answer, Circumstances, Link
from pantry.core.errors import PantryError
from pantry.core.paths import Paths
from pantry.core.refs import Digest
from pantry.flatpack.archive.verdict import State as SignatureOutcome
from pantry.policy.decision import Decision, SignatureState, Subject, decide
from pantry.policy.file import load_policy, policy_text
from pantry.policy.identity import families_of

_SIGNATURES: dict[SignatureOutcome, SignatureState] = {
    "trusted": "good",
    "untrusted": "untrusted",
    "unsigned": "missing",
    "bad": "bad",
}


_ARRIVED = {"downloads": "allow", "max_download": None}
"""Rules about downloads, which nothing that is on this machine already can break."""


@dataclass(frozen=True)
class Candidate:
    """What is known of the thing. `size` is the bytes to download; `licence` the expression for weights or data.

    `arrived`: its file is on this machine. `shipped`: it came with Pantry.
    """

    name: str
    licence: str | None
    family: str | None = None
    size: int | None = None
    signature: SignatureOutcome | None = None
    files: tuple[Digest, ...] = ()
    arrived: bool = False
    shipped: bool = False


@dataclass(frozen=True)
class Admission:
    """The policy's decision, and what the licence allows in a few words."""

    decision: Decision
    licence: str


def admit(paths: Paths, candidate: Candidate) -> Admission:
    """Judge it. Raises PolicyRefusedError with the reasons when it may not come in.

    Nothing is asked of what came with Pantry where no policy is set: a first use would wait for the catalogue, whose
    first opening takes longer than all else.
    """
    if candidate.shipped and not policy_text(paths):
        return Admission(Decision(candidate.name, "pull", "allowed", ()), f"{candidate.licence}: part of Pantry")
    catalogue = Catalogue.open(paths)
    try:
        policy = load_policy(paths, catalogue)
        if candidate.signature is None:
            policy = policy.model_copy(update=_unknown_yet(candidate))
        if candidate.arrived:
            policy = policy.model_copy(update=_ARRIVED)
        entries = [entry for digest in candidate.files for entry in catalogue.models_of_file(digest)]
        own = Link("weights", candidate.name, candidate.licence)
        chain = tuple(dict.fromkeys((own, *(link for entry in entries for link in catalogue.chain(entry)))))
        if entries and candidate.licence is None:
            chain = chain[1:]
        subject = Subject(
            name=candidate.name,
            families=families_of(catalogue, candidate.family, entries),
            licences=licences_of(chain, catalogue.licence_names),
            unknown_licences=unknown_licences(chain, catalogue.licence_names),
            answers={use: catalogue.judge_links(chain, use, policy.circumstances) for use in policy.required_use},
            alignment=worst_alignment(*(entry.alignment for entry in entries)) if entries else "unknown",
            signature=_SIGNATURES[candidate.signature] if candidate.signature else "unknown",
            size=candidate.size,
        )
        return Admission(decide(policy, subject, "pull").require(), licence_words(catalogue, candidate.licence))
    finally:
        catalogue.close()


def _unknown_yet(candidate: Candidate) -> dict[str, object]:
    """Rules that cannot be judged before the thing has come, as if they were not there."""
    left: dict[str, object] = {"unaligned": "warn"}
    if candidate.licence is None:
        left |= {"required_use": (), "accepted_licences": (), "refused_licences": ()}
    if candidate.family is None:
        left |= {"accepted_families": (), "refused_families": ()}
    return left


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
