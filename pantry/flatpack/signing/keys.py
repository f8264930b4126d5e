"""Signing keys: PEM files, key identities, and the three algorithms flatpacks are signed with.

ECDSA on P-256 and P-384 (and P-521 for checking), as OpenSSF Model Signing has them, and RSA-PSS with a salt as long
as the hash (RFC 8017). Key files made by `openssl genpkey` and `openssl rsa` work as they are.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast, get_args

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from pantry.core.errors import BadFileError, UnauthorisedError, UsageError

KeyType = Literal["p256", "p384", "rsa4096"]
HashSize = Literal[256, 384, 512]

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16384
_HASHES: dict[int, type[hashes.HashAlgorithm]] = {256: hashes.SHA256, 384: hashes.SHA384, 512: hashes.SHA512}
_CURVES = {"secp256r1": ("p256", 256), "secp384r1": ("p384", 384), "secp521r1": ("p521", 512)}


def hash_size(bits: int) -> HashSize:
    """`bits` as one of the hashes there are. Raises UsageError for another size."""
    for known in get_args(HashSize):
        if bits == known:
            return cast("HashSize", known)
    raise UsageError(f"There is no hash of {bits} bits here; expected 256, 384 or 512.")


def hash_of(bits: int) -> hashes.HashAlgorithm:
    """The SHA-2 hash of that size. Raises UsageError for another size."""
    return _HASHES[hash_size(bits)]()


@dataclass(frozen=True)
class PublicKey:
    """A public key with the names it goes by."""

    raw: rsa.RSAPublicKey | ec.EllipticCurvePublicKey

    @cached_property
    def pem(self) -> bytes:
        """The key as PEM text, as openssl writes it."""
        return self.raw.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    @cached_property
    def id(self) -> str:
        """The key's identity: SHA-256 of its SubjectPublicKeyInfo (DER), in hex."""
        der = self.raw.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(der).hexdigest()

    @cached_property
    def hint(self) -> str:
        """What `model_signing` calls the key in a bundle: SHA-256 of the PEM text, in hex."""
        return hashlib.sha256(self.pem).hexdigest()

    @property
    def type(self) -> str:
        """`p256`, `p384`, `p521`, `rsa4096` or another RSA length."""
        if isinstance(self.raw, rsa.RSAPublicKey):
            return f"rsa{self.raw.key_size}"
        return _CURVES[self.raw.curve.name][0]

    @property
    def is_rsa(self) -> bool:
        """Whether it is an RSA key, which may sign with any of the hashes."""
        return isinstance(self.raw, rsa.RSAPublicKey)

    def keyid(self, bits: int = 256) -> str:
        """The `keyid` of its signatures: algorithm, hash and identity. For ECDSA the curve fixes the hash."""
        if isinstance(self.raw, rsa.RSAPublicKey):
            return f"rsa-pss-sha{bits}:{self.id}"
        curve, size = _CURVES[self.raw.curve.name]
        return f"ecdsa-{curve}-sha{size}:{self.id}"

    def verifies(self, signature: bytes, data: bytes, keyid: str = "") -> bool:
        """Whether `signature` over `data` is by this key; `keyid` tells the hash of RSA signatures."""
        try:
            if isinstance(self.raw, rsa.RSAPublicKey):
                algorithm = hash_of(_bits_in(keyid))
                scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
                self.raw.verify(signature, data, scheme, algorithm)
            else:
                self.raw.verify(signature, data, ec.ECDSA(hash_of(_CURVES[self.raw.curve.name][1])))
        except (InvalidSignature, UsageError, ValueError):
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """A private key, unlocked."""

    raw: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

    @cached_property
    def public(self) -> PublicKey:
        """The public half."""
        return PublicKey(self.raw.public_key())

    def sign(self, data: bytes, bits: int = 256) -> bytes:
        """A signature over `data`; `bits` chooses the hash of RSA keys."""
        if isinstance(self.raw, rsa.RSAPrivateKey):
            algorithm = hash_of(bits)
            scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
            return self.raw.sign(data, scheme, algorithm)
        return self.raw.sign(data, ec.ECDSA(hash_of(_CURVES[self.raw.curve.name][1])))

    def pem(self, passphrase: bytes | None) -> bytes:
        """The key as PKCS#8 PEM, encrypted where there is a passphrase (PBES2: scrypt or PBKDF2 with AES-256)."""
        lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase and len(passphrase) > MAX_PASSPHRASE:
            raise UsageError(f"The passphrase has {len(passphrase)} bytes; at most {MAX_PASSPHRASE} are possible.")
        if passphrase:
            lock = serialization.BestAvailableEncryption(passphrase)
        return self.raw.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


MAX_PASSPHRASE = 1023
"""Bytes; OpenSSL takes no more."""


def new_key(kind: KeyType) -> PrivateKey:
    """A fresh key."""
    if kind == "rsa4096":
        return PrivateKey(rsa.generate_private_key(public_exponent=65537, key_size=4096))
    return PrivateKey(ec.generate_private_key(ec.SECP256R1() if kind == "p256" else ec.SECP384R1()))


def load_private_key(content: bytes, passphrase: bytes | None, where: str) -> PrivateKey:
    """The private key in PEM `content`. Raises UnauthorisedError (passphrase missing or wrong) or BadFileError."""
    try:
        key = serialization.load_pem_private_key(content, passphrase or None)
    except TypeError as error:
        if passphrase:
            return load_private_key(content, None, where)
        raise UnauthorisedError(
            f"The key {where} is locked with a passphrase.", hint="Give it at the prompt or with --passphrase-stdin."
        ) from error
    except ValueError as error:
        if passphrase and b"ENCRYPTED" in content:
            raise UnauthorisedError(f"The passphrase does not open the key {where}.", hint="Try again.") from None
        raise BadFileError(f"{where} holds no private key that can be read: {error}.") from None
    except UnsupportedAlgorithm as error:
        raise BadFileError(f"The key {where} is of a kind that cannot be read: {error}.") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise BadFileError(f"The key {where} is {type(key).__name__}; expected RSA or ECDSA.")
    _check(key.public_key(), where)
    return PrivateKey(key)


def load_public_keys(content: bytes, where: str) -> list[PublicKey]:
    """Every public key of a PEM file; `pantry key export` puts two into one. Raises BadFileError as for one key."""
    blocks = re.findall(rb"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----\n?", content, re.DOTALL)
    return [load_public_key(block, where) for block in blocks or [content]]


def load_public_key(content: bytes, where: str) -> PublicKey:
    """The public key in PEM `content`. Raises BadFileError, with the way out where it holds a private key."""
    if b"PRIVATE KEY" in content:
        raise BadFileError(
            f"{where} holds a private key; a public key is needed here.",
            hint="Make one with: openssl pkey -in KEY.pem -pubout -out PUB.pem",
        )
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadFileError(f"{where} holds no public key that can be read: {error}.") from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise BadFileError(f"The key {where} is {type(key).__name__}; expected RSA or ECDSA.")
    _check(key, where)
    return PublicKey(key)


def _check(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, where: str) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise BadFileError(f"{where}: RSA with {key.key_size} bits; expected {MIN_RSA_BITS} to {MAX_RSA_BITS}.")
    elif key.curve.name not in _CURVES:
        raise BadFileError(f"{where}: the curve {key.curve.name} is not one of {', '.join(_CURVES)}.")


def _bits_in(keyid: str) -> int:
    """The hash an RSA keyid names; SHA-256 where it names none."""
    name = keyid.partition(":")[0]
    return int(name[-3:]) if name.startswith("rsa-pss-sha") and name[-3:].isdigit() else 256
