"""The user's own signing keys, as files under `keys/` of the config folder, and the rules of trust that go with them.

An identity is a name with one or two keys: `NAME.p256.pem` and `NAME.rsa4096.pem`, each with its `.pub.pem`. The
folder is open to its owner only (0700), private keys too (0600).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pantry.core.errors import ConflictError, NotFoundError, UnauthorisedError, UsageError, did_you_mean
from pantry.core.files import read_bounded, write_atomically
from pantry.core.paths import Paths
from pantry.flatpack.signing.keys import KeyType, PrivateKey, PublicKey, load_private_key, load_public_keys, new_key
from pantry.flatpack.signing.trust import Rule, locked_keys, read_trust_file, trusted_folder, write_trust_file

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
KEY_LIMIT = 1 << 20  # bytes of a file with a key
SHORTEST_ID = 6
"""Digits at the start of an id that name a key which is to be removed."""

Ask = Callable[[str], bytes | None]
"""Asks for the passphrase of the key it is told; None when there is nobody to ask."""


@dataclass(frozen=True)
class Identity:
    """A name with its public keys; the private ones are on this machine."""

    name: str
    keys: tuple[PublicKey, ...]


def keys_folder(paths: Paths) -> Path:
    """Where the user's keys are."""
    return paths.config / "keys"


def make_identity(paths: Paths, name: str, kinds: tuple[KeyType, ...], passphrase: bytes | None) -> Identity:
    """Make keys of these kinds under `name`, locked with the passphrase, and trust them for every flatpack.

    Raises UsageError for a bad name and ConflictError when the name has keys already.
    """
    if not _NAME.fullmatch(name) or name == "trusted":
        raise UsageError(f"{name[:80]!r} is not a name for a key.", hint="Use letters, digits, '-' and '_'.")
    _must_be_new(paths, name)
    made = [new_key(kind) for kind in kinds]
    folder = keys_folder(paths)
    with locked_keys(paths):
        _must_be_new(paths, name)
        for key in made:
            write_atomically(folder / f"{name}.{key.public.type}.pem", key.pem(passphrase), mode=0o600)
            write_atomically(folder / f"{name}.{key.public.type}.pub.pem", key.public.pem)
    identity = Identity(name, tuple(key.public for key in made))
    _add_rule(paths, identity.keys, Rule(name=name, keys=tuple(key.id for key in identity.keys)))
    return identity


def _must_be_new(paths: Paths, name: str) -> None:
    folder = keys_folder(paths)
    if list(folder.glob(f"{name}.*.pem")):
        raise ConflictError(f"There are keys of {name!r} already.", hint=f"They are in {folder}; move them or rename.")


def list_identities(paths: Paths) -> list[Identity]:
    """The user's identities, sorted by name."""
    found: dict[str, list[PublicKey]] = {}
    for file in sorted(keys_folder(paths).glob("*.*.pub.pem")):
        found.setdefault(file.name.partition(".")[0], []).append(_read_public(file))
    return [Identity(name, tuple(keys)) for name, keys in found.items()]


def signing_keys(paths: Paths, name_or_file: str, ask: Ask) -> list[PrivateKey]:
    """The private keys of an identity, or the one in a PEM file. `ask` is called at most once.

    Raises NotFoundError with the nearest name, UnauthorisedError for a missing or wrong passphrase.
    """
    file = Path(name_or_file)
    files = [file] if file.is_file() else _files_of(paths, name_or_file)
    passphrase: bytes | None = None
    keys = []
    for item in files:
        content = read_bounded(item, KEY_LIMIT)
        try:
            keys.append(load_private_key(content, passphrase, item.name))
        except UnauthorisedError:
            if passphrase is not None or (passphrase := ask(item.name)) is None:
                raise
            keys.append(load_private_key(content, passphrase, item.name))
    return keys


def _files_of(paths: Paths, name: str) -> list[Path]:
    folder = keys_folder(paths)
    files = [file for file in sorted(folder.glob("*.*.pem")) if not file.name.endswith(".pub.pem")]
    found = [file for file in files if file.name.partition(".")[0] == name]
    if not found:
        known = {file.name.partition(".")[0] for file in files}
        new = name if name.isidentifier() else "NAME"
        hint = did_you_mean(name, known, f"Make one with: pantry key new {new}")
        raise NotFoundError(f"There is no key {name!r}.", hint=hint)
    return found


def read_public_file(file: Path) -> list[PublicKey]:
    """The public keys in a PEM file. Raises NotFoundError or BadFileError."""
    if not file.is_file():
        raise NotFoundError(f"There is no file {file}.")
    return load_public_keys(read_bounded(file, KEY_LIMIT), file.name)


def _read_public(file: Path) -> PublicKey:
    return read_public_file(file)[0]


def trust_key(
    paths: Paths,
    keys: tuple[PublicKey, ...],
    pattern: str = "*",
    name: str | None = None,
    not_before: datetime.date | None = None,
    not_after: datetime.date | None = None,
    *,
    keep: bool = False,
) -> tuple[Rule, tuple[Rule, ...]]:
    """Let the keys sign flatpacks whose name matches the pattern, on these days, and no others unless `keep`.

    Returns the rule, and the ones it took the place of. Raises UsageError for days in the wrong order or an empty
    pattern.
    """
    ids = tuple(key.id for key in keys)
    if not pattern:
        raise UsageError("The pattern of names is empty.", hint="Write it like 'ada/*'; '*' is every name.")
    if not_before and not_after and not_after < not_before:
        raise UsageError(f"The last day, {not_after}, is before the first, {not_before}.")
    rule = Rule(name=name, pattern=pattern, keys=ids, not_before=not_before, not_after=not_after)
    return rule, _add_rule(paths, keys, rule, keep=keep)


def _add_rule(paths: Paths, keys: tuple[PublicKey, ...], rule: Rule, *, keep: bool = False) -> tuple[Rule, ...]:
    with locked_keys(paths):
        content = read_trust_file(paths)
        for key in keys:
            write_atomically(trusted_folder(paths) / f"{key.id}.pem", key.pem)
        gone = tuple(old for old in content.trust if old != rule and not keep and set(old.keys) & set(rule.keys))
        rules = content.trust if keep else _without(content.trust, rule.keys)
        if rule not in rules:
            write_trust_file(paths, content.model_copy(update={"trust": (*rules, rule)}))
    return gone


def _without(rules: tuple[Rule, ...], keys: Collection[str]) -> tuple[Rule, ...]:
    """The rules without these keys; a rule that names no other goes."""
    left = ((rule, tuple(key for key in rule.keys if key not in keys)) for rule in rules)
    return tuple(rule.model_copy(update={"keys": others}) for rule, others in left if others)


def untrust_key(paths: Paths, id_or_name: str) -> list[str]:
    """Take a key (the start of its id is enough), or the keys of a name, out of all rules; returns the ids.

    Raises NotFoundError, and UsageError when the start of an id fits several keys, is too short, or when several
    holders have that name.
    """
    with locked_keys(paths):
        content = read_trust_file(paths)
        gone = _matching(content.trust, id_or_name)
        write_trust_file(paths, content.model_copy(update={"trust": _without(content.trust, gone)}))
        for key in gone:
            (trusted_folder(paths) / f"{key}.pem").unlink(missing_ok=True)
    return gone


def _matching(rules: tuple[Rule, ...], id_or_name: str) -> list[str]:
    known = list(dict.fromkeys(key for rule in rules for key in rule.keys))
    if named := [rule for rule in rules if id_or_name and rule.name == id_or_name]:
        return _keys_of_one(named)
    found = [key for key in known if id_or_name and key.startswith(id_or_name.lower())]
    if not found:
        names = {rule.name for rule in rules if rule.name}
        raise NotFoundError(
            f"No trusted key is called {id_or_name!r}.",
            hint=did_you_mean(id_or_name, [*names, *known], "`pantry key list` shows them."),
        )
    if len(found) > 1:
        raise UsageError(f"{id_or_name!r} begins {len(found)} key ids.", hint="Give more of the id.")
    if len(id_or_name) < SHORTEST_ID:
        raise UsageError(
            f"{id_or_name!r} is too short for the id of a key.", hint=f"Give at least {SHORTEST_ID} digits of it."
        )
    return found


def _keys_of_one(rules: list[Rule]) -> list[str]:
    """The keys that these rules of one name are about, which were trusted together. Raises UsageError if they were not.

    An identity has several keys in one rule; two files that happened to be called alike are two holders.
    """
    largest = max((rule.keys for rule in rules), key=len)
    if any(not set(rule.keys) <= set(largest) for rule in rules):
        ids = ", ".join(dict.fromkeys(key[:12] for rule in rules for key in rule.keys))
        raise UsageError(f"Several keys are called {rules[0].name!r}.", hint=f"Give the id of the one you mean: {ids}.")
    return list(largest)


def find_public(paths: Paths, id_or_name: str) -> list[PublicKey]:
    """The public keys of a name, or the key whose id begins so: the user's own and the trusted ones."""
    own = [key for identity in list_identities(paths) for key in identity.keys if identity.name == id_or_name]
    if own:
        return own
    everyone = {key.id: key for identity in list_identities(paths) for key in identity.keys}
    for rule in read_trust_file(paths).trust:
        for key_id in rule.keys:
            if (file := trusted_folder(paths) / f"{key_id}.pem").is_file():
                everyone[key_id] = _read_public(file)
                if rule.name == id_or_name:
                    own.append(everyone[key_id])
    found = own or [key for key in everyone.values() if id_or_name and key.id.startswith(id_or_name.lower())]
    if not found:
        names = [identity.name for identity in list_identities(paths)]
        raise NotFoundError(
            f"There is no key {id_or_name!r}.", hint=did_you_mean(id_or_name, names, "See: pantry key list")
        )
    return found


KEY_TYPES: tuple[str, ...] = ("both", *get_args(KeyType))


def kinds_of(text: str) -> tuple[KeyType, ...]:
    """The kinds of key a type names: `both` is P-256 and RSA-4096. Raises UsageError."""
    kinds: dict[str, tuple[KeyType, ...]] = {
        "both": ("p256", "rsa4096"),
        "p256": ("p256",),
        "p384": ("p384",),
        "rsa4096": ("rsa4096",),
    }
    if text not in kinds:
        raise UsageError(
            f"There is no key type {text!r}.", hint=did_you_mean(text, kinds, f"Known: {', '.join(kinds)}")
        )
    return kinds[text]
