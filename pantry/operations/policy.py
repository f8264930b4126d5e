"""The policy of a home: read, change, and ask it about a model."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pantry.catalogue.lookup import Catalogue, licences_of
from pantry.catalogue.rights import Answer, Circumstances
from pantry.catalogue.schema import Family, ModelEntry, Use
from pantry.core.errors import UsageError, VerificationError
from pantry.core.files import storage_errors, write_atomically
from pantry.core.paths import Paths
from pantry.formats.safety import scan
from pantry.formats.verdict import FormatVerdict
from pantry.policy import Action, Decision, Policy, Subject, decide, parse_policy
from pantry.store.models import InstalledModel, Store

FILE = "policy.toml"
REMOTE = "remote"
"""The format under which the store lists a model that runs at a provider."""


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
        installed = next((model for model in store.list() if str(model.name) == name.strip().lower()), None)
        if installed is not None:
            subject = installed_subject(catalogue, installed, catalogue.find_model(installed.name.name), policy)
            matches, verdict = _file_facts(store, installed)
            return decide(policy, replace(subject, digest_matches=matches, format=verdict), action or "load")
    return decide(policy, subject_of(catalogue, catalogue.model(name), policy), action or "pull")


def installed_subject(
    catalogue: Catalogue,
    model: InstalledModel,
    entry: ModelEntry | None,
    policy: Policy,
    evidence: Mapping[str, float] | None = None,
) -> Subject:
    """The facts of an installed model without its file. Its header fills in where it has no catalogue entry."""
    if entry is not None:
        found = subject_of(catalogue, entry, policy, name=str(model.name), installed=True, evidence=evidence)
        return replace(found, remote=found.remote or model.format == REMOTE)
    licence = catalogue.licence_names.get(str(model.facts.get("licence") or "").strip().lower())
    return Subject(
        name=str(model.name),
        licences=frozenset({licence}) if licence else frozenset(),
        answers=header_answers(catalogue, model, policy.required_use, policy.circumstances),
        remote=model.format == REMOTE,
        installed=True,
        evidence=evidence or {},
        size=model.size,
    )


def _file_facts(store: Store, model: InstalledModel) -> tuple[bool | None, FormatVerdict | None]:
    """Whether the model's file has its digest, and what a scan of it found; None where there is no file to look at."""
    if model.format == REMOTE:
        return None, None
    try:
        file = store.verified_file(model)
    except VerificationError:
        return False, None
    return True, scan(file) if model.format == "gguf" else None


def header_answers(
    catalogue: Catalogue, model: InstalledModel, uses: Iterable[Use], circumstances: Circumstances
) -> dict[Use, Answer]:
    """What the licence in a model's own header answers; nothing when it names none that the catalogue knows."""
    licence = model.facts.get("licence")
    if not isinstance(licence, str) or licence.strip().lower() not in catalogue.licence_names:
        return {}
    return {use: catalogue.judge_text(licence, use, circumstances) for use in uses}


def subject_of(
    catalogue: Catalogue,
    model: ModelEntry,
    policy: Policy,
    *,
    name: str | None = None,
    installed: bool = False,
    evidence: Mapping[str, float] | None = None,
) -> Subject:
    """The facts the policy needs of a catalogue model; what only the caller can know is handed in."""
    circumstances = policy.circumstances
    return Subject(
        name=name or model.id,
        family=model.family,
        licences=licences_of(catalogue.chain(model), catalogue.licence_names),
        answers={use: catalogue.judge(model, use, circumstances) for use in policy.required_use},
        alignment=model.alignment,
        remote=model.remote,
        installed=installed,
        evidence=evidence or {},
        size=model.download_bytes,
    )


def _read(paths: Paths) -> dict[str, Any]:
    file = paths.config / FILE
    if not file.is_file():
        return {}
    with storage_errors(f"Reading {file.name}"):
        content = file.read_bytes()
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not valid TOML: {error}.") from None


def _checked(document: dict[str, Any], paths: Paths, catalogue: Catalogue) -> Policy:
    families = [entry.id for _, entry in catalogue.entries("family") if isinstance(entry, Family)]
    return parse_policy(document, str(paths.config / FILE), catalogue.licence_names, families)


def _change(document: dict[str, Any], name: str, value: str) -> None:
    """Put one rule into the document in the type its field has."""
    head, dot, capability = name.partition(".")
    if head == "minimum_evidence" and dot:
        scores = dict(document.get("minimum_evidence", {}))
        scores.pop(capability, None)
        if value:
            scores[capability] = _number(name, value)
        document["minimum_evidence"] = scores
        if not scores:
            del document["minimum_evidence"]
        return
    if not value:
        document.pop(name, None)
        return
    default = Policy.model_fields[name].default if name in Policy.model_fields else ""
    if name in ("users", "revenue"):
        document[name] = int(_number(name, value))
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
        return float(value)
    except ValueError:
        raise UsageError(f"{name} is a number, got {value!r}.") from None


def _toml(document: Mapping[str, Any]) -> str:
    """The document as TOML: plain values first, then the table of scores."""
    lines = ["# The rules of this machine for models. See docs/licences.md.", ""]
    lines += [f"{name} = {_value(value)}" for name, value in document.items() if not isinstance(value, dict)]
    for name, value in document.items():
        if isinstance(value, dict):
            lines += ["", f"[{name}]", *(f"{key} = {_value(each)}" for key, each in value.items())]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return repr(value)
