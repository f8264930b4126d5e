"""What is asked before every load. Light, since the first answer of a service waits for it."""

from __future__ import annotations

from pathlib import Path

from pantry.core.paths import Paths
from pantry.formats.safety import scan
from pantry.formats.verdict import FormatVerdict
from pantry.policy.file import policy_text
from pantry.store.models import InstalledModel


def admit_load(paths: Paths, model: InstalledModel, file: Path) -> None:
    """Let a model be loaded from `file`, whose digest was checked, or not.

    The policy and the catalogue are opened only where there is a policy file or a danger in the model's. Raises
    PolicyRefusedError with the reasons, UsageError or StorageError when the policy cannot be read.
    """
    verdict = scan(file) if model.format == "gguf" else FormatVerdict(model.format)
    if verdict.safe and not policy_text(paths):
        return
    from pantry.policy.subjects import judge_load

    judge_load(paths, model, verdict)
