"""The policy of a home: read, change, and ask it about a model."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from pantry.catalogue.lookup import Catalogue, licences_of
from pantry.catalogue.schema import Family, ModelEntry
from pantry.core.errors import UsageError
from pantry.core.files import storage_errors, write_atomically
from pantry.core.paths import Paths
from pantry.formats.verdict import FormatVerdict
from pantry.policy import Action, Decision, Policy, SignatureState, Subject, decide, parse_policy

FILE = "policy.toml"


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


def explain(
    paths: Paths,
    catalogue: Catalogue,
    name: str,
    action: Action = "load",
    *,
    format: FormatVerdict | None = None,
    signature: SignatureState = "unknown",
) -> Decision:
    """What the policy says about a model of the catalogue. Raises NotFoundError for an unknown one."""
    model = catalogue.model(name)
    policy = load_policy(paths, catalogue)
    subject = subject_of(catalogue, model, policy, format=format, signature=signature)
    return decide(policy, subject, action)


def subject_of(
    catalogue: Catalogue,
    model: ModelEntry,
    policy: Policy,
    *,
    name: str | None = None,
    installed: bool = False,
    digest_matches: bool | None = None,
    format: FormatVerdict | None = None,
    signature: SignatureState = "unknown",
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
        digest_matches=digest_matches,
        signature=signature,
        format=format,
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
