"""Names and digests, parsed once at the edge. Nothing below the edge takes a bare string for either."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pantry.core.errors import UsageError

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?")
_TAG = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, order=True)
class ModelName:
    """The name of a model on this machine: `name` or `name:tag`, lower case."""

    name: str
    tag: str = "latest"

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Parse `name[:tag]`; upper case is folded. Raises UsageError for anything else."""
        name, colon, tag = text.strip().lower().partition(":")
        if not _NAME.fullmatch(name) or ".." in name or (colon and not _TAG.fullmatch(tag)):
            hint = "Names look like 'qwen3-0.6b' or 'qwen3-0.6b:q8_0': letters, digits, '.', '_' and '-'."
            if "/" in name and _NAME.fullmatch(name.replace("/", "-", 1)):
                hint = f"What was pulled as {name!r} is called {name.replace('/', '-', 1)!r} here."
            raise UsageError(f"{text[:80]!r} is not a model name.", hint=hint)
        return cls(name, tag or "latest")

    def __str__(self) -> str:
        return self.name if self.tag == "latest" else f"{self.name}:{self.tag}"


@dataclass(frozen=True, order=True)
class Digest:
    """A SHA-256 digest, written `sha256:<64 hex digits>`."""

    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse `sha256:<hex>`. Raises UsageError for anything else."""
        if not _DIGEST.fullmatch(text):
            raise UsageError(f"{text[:100]!r} is not a digest.", hint="Expected sha256: and 64 hex digits.")
        return cls(text.removeprefix("sha256:"))

    @property
    def short(self) -> str:
        """The first 12 hex digits, for tables."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"sha256:{self.hex}"
