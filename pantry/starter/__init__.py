"""The starter model as package data: a flatpack signed by `examples/starter`, its signer's public key, and its card."""

from __future__ import annotations

from pantry.core.refs import ModelName

FLATPACK = "starter.fpk"
SIGNER = "signer.pem"
CARD = "CARD.md"
NAME = "pantry/starter"
"""The name inside the flatpack, and the only one that the signer's key is trusted for."""
MODEL = "starter.gguf"
"""The file inside the flatpack that an engine loads."""


STARTER = ModelName("starter")
"""The model that travels inside the package."""
