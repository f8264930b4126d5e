"""What the policy judges: the facts of an installed model and of a catalogue entry."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pantry.catalogue.lookup import Catalogue, licences_of, unknown_licences
from pantry.catalogue.memory import download_size
from pantry.catalogue.rights import Answer, Circumstances
from pantry.catalogue.schema import ModelEntry, Use
from pantry.core.paths import Paths
from pantry.evaluation.scores import score_values
from pantry.formats.verdict import FormatVerdict
from pantry.policy.decision import SignatureState, Subject, decide
from pantry.policy.file import load_policy, policy_text
from pantry.policy.identity import ModelIdentity, chain_of_installed, families_of, identity_of
from pantry.policy.rules import Policy
from pantry.store.database import Database
from pantry.store.models import InstalledModel

log = logging.getLogger("pantry.policy")


def installed_subject(
    catalogue: Catalogue,
    model: InstalledModel,
    found: ModelIdentity,
    policy: Policy,
    evidence: Mapping[str, float] | None = None,
) -> Subject:
    """The facts of an installed model without a look into its file: by what it is, not by what it is called."""
    chain = chain_of_installed(catalogue, model, found)
    signed: SignatureState = "good" if model.facts.get("signed_by") else "missing"
    return Subject(
        name=str(model.name),
        known_as=found.words,
        families=families_of(catalogue, model.facts.get("family"), found.entries),
        licences=licences_of(chain, catalogue.licence_names),
        unknown_licences=unknown_licences(chain, catalogue.licence_names),
        answers=installed_answers(catalogue, model, found, policy.required_use, policy.circumstances),
        alignment=found.alignment,
        remote=model.remote,
        installed=True,
        signature="unknown" if model.remote else signed,
        evidence=evidence or {},
        size=model.size,
    )


def installed_answers(
    catalogue: Catalogue, model: InstalledModel, found: ModelIdentity, uses: Iterable[Use], circumstances: Circumstances
) -> dict[Use, Answer]:
    """May an installed model be used so? By its file, its manifest, and the entries of what it is."""
    chain = chain_of_installed(catalogue, model, found)
    return {use: catalogue.judge_links(chain, use, circumstances) for use in uses}


def judge_load(paths: Paths, model: InstalledModel, verdict: FormatVerdict) -> None:
    """Let a model be loaded, whose digest was checked and in whose file `verdict` was found, or not.

    Without a policy file nothing but a danger in the file stops it. Warnings go to the log. Raises PolicyRefusedError
    with the reasons, UsageError or StorageError when the policy cannot be read.
    """
    if not policy_text(paths):
        subject = Subject(str(model.name), installed=True, digest_matches=True, format=verdict)
        decide(Policy.model_validate({"mode": "off"}), subject, "load").require()
        return
    catalogue = Catalogue.open(paths)
    try:
        policy = load_policy(paths, catalogue)
        scores: Mapping[str, float] = {}
        if policy.minimum_evidence:
            with Database(paths.database) as database:
                scores = score_values(database, model.digest)
        known = installed_subject(catalogue, model, identity_of(catalogue, model), policy, scores)
        decision = decide(policy, replace(known, digest_matches=True, format=verdict), "load").require()
    finally:
        catalogue.close()
    for warning in decision.warnings:
        log.warning("%s: %s", model.name, warning)


def subject_of(
    catalogue: Catalogue,
    model: ModelEntry,
    policy: Policy,
) -> Subject:
    """The facts the policy needs of a catalogue model that is not here; its size may be an estimate."""
    circumstances, chain = policy.circumstances, catalogue.chain(model)
    return Subject(
        name=model.id,
        families=frozenset({model.family}),
        licences=licences_of(chain, catalogue.licence_names),
        unknown_licences=unknown_licences(chain, catalogue.licence_names),
        answers={use: catalogue.judge(model, use, circumstances) for use in policy.required_use},
        alignment=model.alignment,
        remote=model.remote,
        size=download_size(model),
    )
