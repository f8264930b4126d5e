"""What verifying a flatpack found: who signed it, and whether that key is trusted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from pantry.core.errors import VerificationError
from pantry.flatpack.archive.bundle import Bundle

State = Literal["trusted", "untrusted", "unsigned", "bad"]


@dataclass(frozen=True)
class Verdict:
    """The outcome, in one sentence. `ok`: may be used here. `statement` is the SHA-256 (hex) of what was judged."""

    ok: bool
    state: State
    sentence: str
    name: str
    signer: str | None = None
    statement: str = ""

    def require(self, bundle: Bundle) -> None:
        """Raises VerificationError unless this verdict is of that bundle and accepts it."""
        if self.statement != hashlib.sha256(bundle.payload).hexdigest():
            raise VerificationError("The verdict is of another flatpack.")
        if not self.ok:
            raise VerificationError(self.sentence)
