"""Signing keys and trust: make, list, trust, untrust, export."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from pantry.core.paths import Paths
from pantry.flatpack.signing.keyring import (
    Identity,
    find_public,
    kinds_of,
    list_identities,
    make_identity,
    read_public_file,
    trust_key,
    untrust_key,
)
from pantry.flatpack.signing.trust import Rule, read_trust_file


@dataclass(frozen=True)
class KeyRow:
    """One key as the list shows it: whose it is, whether its private half is here, and the rules that name it."""

    id: str
    type: str
    name: str | None
    own: bool
    rules: tuple[Rule, ...]


def new_identity(paths: Paths, name: str, kind: str = "both", passphrase: bytes | None = None) -> Identity:
    """Make the keys of a new identity, locked with the passphrase, and trust them here for every name."""
    return make_identity(paths, name, kinds_of(kind), passphrase)


def key_rows(paths: Paths) -> list[KeyRow]:
    """The user's own keys and all trusted ones."""
    rules = read_trust_file(paths).trust
    own = {key.id: (identity.name, key.type) for identity in list_identities(paths) for key in identity.keys}
    others = {key: rule.name for rule in reversed(rules) for key in rule.keys if key not in own}
    rows = [
        KeyRow(key, kind, name, True, tuple(rule for rule in rules if key in rule.keys))
        for key, (name, kind) in own.items()
    ]
    for key, owner in others.items():
        (public,) = find_public(paths, key)
        rows.append(KeyRow(key, public.type, owner, False, tuple(rule for rule in rules if key in rule.keys)))
    return rows


def trust(
    paths: Paths,
    file: Path,
    pattern: str = "*",
    name: str | None = None,
    not_before: datetime.date | None = None,
    not_after: datetime.date | None = None,
    *,
    keep: bool = False,
) -> tuple[Rule, tuple[Rule, ...]]:
    """Trust the public keys in a PEM file for names that match the pattern, instead of what they were trusted for.

    With `keep` that holds as well. Returns the rule and those it replaced.
    """
    keys = tuple(read_public_file(file))
    return trust_key(paths, keys, pattern, name or file.stem, not_before, not_after, keep=keep)


def untrust(paths: Paths, id_or_name: str) -> list[str]:
    """Trust a key (the start of its id, or a name) no longer; returns the ids."""
    return untrust_key(paths, id_or_name)


def export(paths: Paths, id_or_name: str) -> str:
    """The public keys of a name or id as PEM text, to hand to others."""
    return "".join(key.pem.decode() for key in find_public(paths, id_or_name))
