"""The policy of a home: read, change, and ask it about a model."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pantry.catalogue.lookup import Catalogue, licences_of, unknown_licences
from pantry.catalogue.memory import download_size
from pantry.catalogue.rights import Answer, Circumstances
from pantry.catalogue.schema import Family, ModelEntry, Use
from pantry.core.errors import UsageError, VerificationError
from pantry.core.files import storage_errors, write_atomically
from pantry.core.paths import Paths
from pantry.formats.safety import scan
from pantry.formats.verdict import FormatVerdict
from pantry.operations.identity import REMOTE, Identity, chain_of_installed, families_of, identity_of
from pantry.operations.models import STARTER, find_model
from pantry.operations.scores import scores_of
from pantry.policy import Action, Decision, Known, Policy, SignatureState, Subject, decide, parse_policy
from pantry.selection import KNOWN_CAPABILITIES
from pantry.store.database import Database
from pantry.store.models import InstalledModel, Store

FILE = "policy.toml"
log = logging.getLogger("pantry.policy")
MAX_POLICY = 1_000_000  # bytes


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


def admit_load(paths: Paths, model: InstalledModel, file: Path) -> None:
    """Let a model be loaded from `file`, whose digest was checked, or not: asked before every load.

    Without a policy file nothing but a danger in the file stops it, and the catalogue is not opened. Warnings go to the
    log. Raises PolicyRefusedError with the reasons, UsageError or StorageError when the policy cannot be read.
    """
    verdict = scan(file) if model.format == "gguf" else FormatVerdict(model.format)
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


def policy_state(paths: Paths) -> object:
    """Something that is equal as long as the policy file is the same one, unchanged; None while there is none."""
    try:
        found = (paths.config / FILE).stat()
    except OSError as error:
        return None if isinstance(error, FileNotFoundError) else error.errno
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def policy_text(paths: Paths) -> str:
    """The content of the policy file, empty when there is none.

    Only a file that is not there at all means no policy: one that cannot be read must not open what it would close.
    Raises UsageError or StorageError that says what is there instead.
    """
    file = paths.config / FILE
    with storage_errors(f"Reading the policy {file}"):
        for place in (paths.config, file):
            if not os.path.lexists(place) and _can_look(place):
                return ""
            if not place.exists():
                raise UsageError(
                    f"The policy {file} cannot be read: {place} is a link to nothing.",
                    hint="Correct the link, or remove it to be without a policy.",
                )
        if not file.is_file():
            raise UsageError(f"The policy {file} is no file.", hint="Move away what is there.")
        content = file.read_bytes() if file.stat().st_size <= MAX_POLICY else None
    if content is None:
        raise UsageError(f"The policy {file} is larger than {MAX_POLICY} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not valid TOML: {error}.") from None


def policy_mark(paths: Paths) -> tuple[int, ...]:
    """What changes whenever the policy file is written, replaced or removed; the file is not read."""
    file, mark = paths.config / FILE, []
    for look in (os.lstat, os.stat):  # of a link, and of what it leads to
        with contextlib.suppress(OSError):
            found = look(file)
            mark += [found.st_ino, found.st_size, found.st_mtime_ns]
    return tuple(mark)


def _can_look(place: Path) -> bool:
    """True; raises OSError when what is at `place` cannot be told."""
    try:
        place.lstat()
    except FileNotFoundError:
        return True
    return True


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
