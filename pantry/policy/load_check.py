"""What is asked before every load. Light, since the first answer of a service waits for it."""

from __future__ import annotations

from collections.abc import Sequence

from pantry.core.paths import Paths
from pantry.formats.parts import PlacedPart
from pantry.formats.verdict import FormatVerdict
from pantry.policy.file import policy_text
from pantry.store.models import InstalledModel


def admit_load(paths: Paths, model: InstalledModel, parts: Sequence[PlacedPart]) -> None:
    """Let a model be loaded from its files, whose digests were checked, or not.

    The policy and the catalogue are opened only where there is a policy file or a danger in the files. Raises
    PolicyRefusedError with the reasons, UsageError or StorageError when the policy cannot be read.
    """
    verdict = model.kind.scan(parts) or FormatVerdict(model.format)
    if verdict.safe and not policy_text(paths):
        return
    from pantry.policy.subjects import judge_load

    judge_load(paths, model, verdict)
