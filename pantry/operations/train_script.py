"""A recipe's own script: what would run and who signed it, and running it once the user has agreed."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from pantry.core.errors import ConflictError, UsageError, VerificationError
from pantry.core.files import write_atomically
from pantry.core.paths import Paths
from pantry.core.sandbox import Limits, require_sandbox, run_script
from pantry.flatpack.folder import digest_of
from pantry.flatpack.manifest import read_manifest
from pantry.flatpack.signature import verify
from pantry.flatpack.trust import load_trust

DEFAULT_MINUTES = 60.0
MEMORY_SHARE = 0.75
"""Part of the machine's memory that a script may use."""


@dataclass(frozen=True)
class Script:
    """What would run: the recipe's folder, the script in it, its digest, and who signed it, in a sentence."""

    folder: Path
    run: str
    digest: str
    signed: str
    out: Path


def examine_script(paths: Paths, folder: Path, out: Path | None = None) -> Script:
    """The script of a recipe whose every file is covered by a trusted signature, and whose sandbox can be made here.

    Trust is asked for whatever the trust mode. Raises UsageError (no recipe, no sandbox), VerificationError.
    """
    verdict = verify(folder, load_trust(paths))
    if verdict.state != "trusted":
        raise VerificationError(
            f"Its script does not run: {verdict.sentence}",
            hint="Unbox a signed flatpack, and trust its key with: pantry key trust KEY.pem",
        )
    manifest = read_manifest(folder)
    if manifest.recipe is None:
        raise UsageError(f"{folder} is a {manifest.kind}, not a recipe; it has no script.")
    require_sandbox()
    whole = folder.resolve()
    target = out or whole.parent / f"{whole.name}-output"
    return Script(whole, manifest.recipe.run, str(digest_of(whole, manifest.recipe.run)), verdict.sentence, target)


def limits_for(minutes: float | None, network: bool) -> Limits:
    """The bounds of a run: the minutes (else an hour), and three quarters of the machine's memory."""
    memory = int(psutil.virtual_memory().total * MEMORY_SHARE)
    return Limits(60 * (minutes or DEFAULT_MINUTES), memory, network)


def run_recipe_script(
    script: Script, limits: Limits, tell: Callable[[str], None], *, resume: bool = False
) -> list[str]:
    """Run it in the sandbox; the answer names what it left that is no file and was deleted. Writes `provenance.json`.

    With `resume` it may go on in its output folder; else that must be new or empty. Raises ConflictError, and as
    `pantry.core.sandbox.run_script`.
    """
    if script.out.exists() and not resume and any(script.out.iterdir()):
        raise ConflictError(
            f"{script.out} is not empty.", hint="Let the script go on there with --resume, or name another with -o."
        )
    began = datetime.datetime.now(datetime.UTC)
    removed = run_script(script.folder, script.run, script.out, limits, tell)
    facts = {
        "script": script.run,
        "digest": script.digest,
        "signed": script.signed,
        "network": limits.network,
        "began": began.isoformat(timespec="seconds"),
        "seconds": round((datetime.datetime.now(datetime.UTC) - began).total_seconds(), 1),
    }
    write_atomically(script.out / "provenance.json", (json.dumps(facts, indent=2) + "\n").encode())
    return removed
