"""The signature bundle: a Sigstore bundle v0.3 around a DSSE envelope, as JSON.

Format: https://docs.sigstore.dev/about/bundle/ and https://github.com/secure-systems-lab/dsse (envelope and PAE).
The OpenSSF command `model_signing` reads the first signature, which must be of the key that the hint names.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from pantry.core.errors import BadFileError
from pantry.flatpack.statement import PAYLOAD_TYPE, read_json

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BUNDLE = 64 << 20
"""Largest bundle read, in bytes: about 300,000 files."""
MAX_SIGNATURES = 16


@dataclass(frozen=True)
class Signature:
    """One signature over the payload. `keyid` names key and algorithm; the standard's own signer leaves it empty."""

    value: bytes
    keyid: str = ""


@dataclass(frozen=True)
class Bundle:
    """A payload and its signatures; none while it is not signed. `hint` is the SHA-256 of the first key's PEM text."""

    payload: bytes
    signatures: tuple[Signature, ...] = ()
    hint: str = ""

    @property
    def signed_bytes(self) -> bytes:
        """What the signatures are over: the pre-authentication encoding of DSSE v1."""
        return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(self.payload), self.payload)


def dump_bundle(bundle: Bundle) -> bytes:
    """The bundle as JSON bytes."""
    table = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": bundle.hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(bundle.payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [
                {"sig": base64.b64encode(signature.value).decode(), "keyid": signature.keyid}
                for signature in bundle.signatures
            ],
        },
    }
    return json.dumps(table, separators=(",", ":")).encode()


def load_bundle(content: bytes) -> Bundle:
    """Parse a bundle of ours or of `model_signing`; checks no signature. Raises BadFileError."""
    table = read_json(content, "The signature bundle")
    try:
        if table["mediaType"] != MEDIA_TYPE:
            raise BadFileError(f"The bundle is of type {str(table['mediaType'])[:100]!r}; expected {MEDIA_TYPE!r}.")
        envelope = table["dsseEnvelope"]
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise BadFileError(f"The signed payload is of type {str(envelope['payloadType'])[:100]!r}.")
        signatures = envelope["signatures"]
        if not isinstance(signatures, list) or len(signatures) > MAX_SIGNATURES:
            raise BadFileError(f"The bundle has more than {MAX_SIGNATURES} signatures.")
        return Bundle(
            _base64(envelope["payload"]),
            tuple(Signature(_base64(item["sig"]), str(item.get("keyid") or "")[:200]) for item in signatures),
            str((table["verificationMaterial"].get("publicKey") or {}).get("hint") or "")[:200],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BadFileError(f"The signature bundle lacks or breaks a field: {error!r}.") from None


def _base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError("expected base64 text")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadFileError(f"The signature bundle holds bad base64: {error}.") from None
