"""The verdict on a file of 2023: whether a known key signed it, and whether that key may sign a file without a name."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import rsa

from pantry.flatpack.archive.verdict import Verdict
from pantry.flatpack.legacy.archive import LegacyFile, LegacyVerdict, verify_legacy
from pantry.flatpack.signing.keys import PublicKey
from pantry.flatpack.signing.trust import Trust


def judge_legacy(found: LegacyFile, trust: Trust, only: str | None = None) -> tuple[Verdict, LegacyVerdict | None]:
    """The verdict, and what was verified where a key that is known signed the file.

    `only` is the name of the key file when `trust` is in its keys alone: then nothing else than their signature does.
    Such a file tells no name that could be trusted, so that its key must be trusted for `*`.
    """
    name = found.path.name
    signed = verify_legacy(found, trust.keys.values())
    lenient = trust.mode != "enforce" and only is None
    if signed is None:
        if only is not None:
            return Verdict(False, "bad", f"{name} (legacy format) {_why_not(found, trust, only)}", name), None
        sentence = (
            f"{name} (legacy format) has no signature by a key that is known here: "
            "another key made it, or something was changed after signing."
        )
        return Verdict(lenient, "untrusted", sentence, name), None
    owner = trust.owner(signed.key.id) or signed.key.id
    sentence = f"{name} (legacy format) is signed by {owner} (RSA-PSS, SHA-{signed.bits})"
    if problem := _problem(signed.key, trust):
        return Verdict(lenient, "untrusted", f"{sentence}, but {problem}.", name), signed
    return Verdict(True, "trusted", f"{sentence}, trusted for '*'.", name, owner), signed


def _problem(key: PublicKey, trust: Trust) -> str | None:
    """Why the key may not sign such a file, or None."""
    rules = trust.rules_for(key.id)
    problems = [rule.problem(trust.today) for rule in rules if rule.pattern == "*"]
    if None in problems:
        return None
    if problems:
        return problems[0]
    patterns = ", ".join(repr(rule.pattern) for rule in rules)
    return f"that key is trusted for {patterns} only, and a file of this format tells no name"


def _why_not(found: LegacyFile, trust: Trust, file: str) -> str:
    """Why none of the given keys verifies the file, as far as that can be known."""
    sizes = {key.raw.key_size for key in trust.keys.values() if isinstance(key.raw, rsa.RSAPublicKey)}
    if not sizes:
        return f"is signed with an RSA key; {file} holds none."
    if 8 * len(found.signature) not in sizes:
        return f"is not signed by {file}: the signature has {8 * len(found.signature)} bits, the key {max(sizes)}."
    return f"is not what {file} signed: something was changed after signing, or another key made it."
