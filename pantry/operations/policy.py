"""The policy of a home: read, change, and ask it about a model."""

from __future__ import annotations

import logging
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pantry.catalogue.lookup import Catalogue, licences_of, unknown_licences
from pantry.catalogue.memory import download_size
from pantry.catalogue.rights import Answer, Circumstances
from pantry.catalogue.schema import Family, ModelEntry, Use
from pantry.core.errors import UsageError, VerificationError
from pantry.core.files import write_atomically
from pantry.core.paths import Paths
from pantry.evaluation.scores import scores_of
from pantry.formats.safety import scan
from pantry.formats.verdict import FormatVerdict
from pantry.operations.models import STARTER, find_model
from pantry.policy.decision import Action, Decision, Known, Policy, SignatureState, Subject, decide, parse_policy
from pantry.policy.file import FILE, policy_text
from pantry.policy.identity import REMOTE, Identity, chain_of_installed, families_of, identity_of
from pantry.selection import KNOWN_CAPABILITIES
from pantry.store.database import Database
from pantry.store.models import InstalledModel, Store

log = logging.getLogger("pantry.policy.decision")


def load_policy(paths: Paths, catalogue: Catalogue) -> Policy:
    """The policy of this home, or the default one when there is no file. Raises UsageError for a wrong file."""
    return _checked(_read(paths), paths, catalogue)


def set_rules(paths: Paths, catalogue: Catalogue, changes: Mapping[str, str]) -> Policy:
    """Change rules and write the file; an empty value takes a rule back to its default.

    Lists are written with commas, evidence like `minimum_evidence.coding` = `2`. Raises UsageError when a rule does
    not exist or the result contradicts itself; the file then stays as it was.
    """
    document = _read(paths)
    for name, value in changes.items():
        _change(document, name.strip().replace("-", "_"), value.strip())
    policy = _checked(document, paths, catalogue)
    write_atomically(paths.config / FILE, _toml(document).encode())
    return policy


def explain(paths: Paths, catalogue: Catalogue, name: str, action: Action | None = None) -> Decision:
    """What the policy says about an installed model (by default: loading it) or one of the catalogue (pulling it).

    For an installed model its digest is checked and its file looked into. Raises NotFoundError for an unknown name.
    """
    policy = load_policy(paths, catalogue)
    with Store.open(paths) as store:
        if name.strip().lower() == str(STARTER):
            find_model(paths, store, STARTER)  # it comes with Pantry
        installed = next((model for model in store.list() if str(model.name) == name.strip().lower()), None)
        if installed is not None:
            scores = _scores(store.database, installed)
            subject = installed_subject(catalogue, installed, identity_of(catalogue, installed), policy, scores)
            matches, verdict = _file_facts(store, installed)
            return decide(policy, replace(subject, digest_matches=matches, format=verdict), action or "load")
    return decide(policy, subject_of(catalogue, catalogue.model(name), policy), action or "pull")


def installed_subject(
    catalogue: Catalogue,
    model: InstalledModel,
    found: Identity,
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
        remote=model.format == REMOTE,
        installed=True,
        signature="unknown" if model.format == REMOTE else signed,
        evidence=evidence or {},
        size=model.size,
    )


def installed_answers(
    catalogue: Catalogue, model: InstalledModel, found: Identity, uses: Iterable[Use], circumstances: Circumstances
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
                scores = _scores(database, model)
        known = installed_subject(catalogue, model, identity_of(catalogue, model), policy, scores)
        decision = decide(policy, replace(known, digest_matches=True, format=verdict), "load").require()
    finally:
        catalogue.close()
    for warning in decision.warnings:
        log.warning("%s: %s", model.name, warning)


def _scores(database: Database, model: InstalledModel) -> dict[str, float]:
    """The capability scores measured here of a model."""
    return {name: each.score for name, each in scores_of(database).get(model.digest, {}).items()}


def _file_facts(store: Store, model: InstalledModel) -> tuple[bool | None, FormatVerdict | None]:
    """Whether the model's file has its digest, and what a scan of it found; None where there is no file to look at."""
    if model.format == REMOTE:
        return None, None
    try:
        file = store.verified_file(model)
    except VerificationError:
        return False, None
    return True, scan(file) if model.format == "gguf" else None


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


def _read(paths: Paths) -> dict[str, Any]:
    try:
        return tomllib.loads(policy_text(paths))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{paths.config / FILE} is not valid TOML: {error}.") from None


def _checked(document: dict[str, Any], paths: Paths, catalogue: Catalogue) -> Policy:
    known = Known(
        licences=catalogue.licence_names,
        families=[entry.id for _, entry in catalogue.entries("family") if isinstance(entry, Family)],
        capabilities=catalogue.capabilities | KNOWN_CAPABILITIES,
    )
    return parse_policy(document, str(paths.config / FILE), known)


def _change(document: dict[str, Any], name: str, value: str) -> None:
    """Put one rule into the document in the type its field has; what is no rule is found when the whole is checked."""
    head, dot, capability = name.partition(".")
    if head == "minimum_evidence":
        if not dot or not capability.strip():
            raise UsageError(
                "minimum_evidence needs the capability it is about.", hint="Write minimum_evidence.coding=2."
            )
        scores = dict(document.get(head, {}))
        scores.pop(capability, None)
        if value:
            scores[capability] = _number(name, value)
        document[head] = scores
        if not scores:
            del document[head]
        return
    if not value:
        document.pop(name, None)
        return
    default = Policy.model_fields[name].default if name in Policy.model_fields else ""
    if name in ("users", "revenue"):
        document[name] = _whole(name, value)
    elif isinstance(default, tuple):
        document[name] = [part.strip() for part in value.split(",") if part.strip()]
    elif isinstance(default, bool):
        if value.lower() not in ("true", "false", "yes", "no"):
            raise UsageError(f"{name} is true or false, got {value!r}.")
        document[name] = value.lower() in ("true", "yes")
    else:
        document[name] = value


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{name} is a number, got {value[:40]!r}.")
    return number


def _whole(name: str, value: str) -> int:
    number = _number(name, value)
    if not number.is_integer():
        raise UsageError(f"{name} is a whole number, got {value[:40]!r}.")
    return int(number)


def _toml(document: Mapping[str, Any]) -> str:
    """The document as TOML: plain values first, then the table of scores."""
    lines = ["# The rules of this machine for models. See docs/licences.md.", ""]
    lines += [f"{name} = {_value(value)}" for name, value in document.items() if not isinstance(value, dict)]
    for name, value in document.items():
        if isinstance(value, dict):
            lines += ["", f"[{name}]", *(f"{_value(key)} = {_value(each)}" for key, each in value.items())]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return repr(value)
