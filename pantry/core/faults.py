"""A fault in Pantry itself: its traceback goes to the log of faults, and what the user is told names that file."""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
from pathlib import Path

from pantry import __version__
from pantry.core.errors import PantryError
from pantry.core.paths import make_private

MAX_LOG = 1_000_000
"""Bytes after which the log is kept beside the new one, once."""
MAX_ENTRY = 100_000
"""Bytes of one entry: an exception may quote the whole of what it stumbled on. Its beginning and end are kept."""
MAX_QUOTE = 2000
"""Characters of what an exception says that are told."""
DEBUG = "PANTRY_DEBUG"
"""The variable with which a command prints the traceback of a fault."""


def record_fault(log: Path, fault: BaseException, doing: str, *, quote: bool = False) -> PantryError:
    """Append the traceback of `fault` to `log`, and give back what to tell of it.

    `doing` says what was being done, without prompts and keys. What the exception itself says goes to the log; it is
    told as well with `quote`, which is for the owner alone. Raises nothing: where the log cannot be written, the error
    that is given back says so.
    """
    message = fault_message(fault, quote=quote)
    try:
        _append(log, _entry(fault, doing))
    except (OSError, PantryError) as error:
        reason = error.message if isinstance(error, PantryError) else error.strerror
        hint = f"Its traceback could not be written to {log} ({reason}). To see it, run pantry again with {DEBUG}=1."
        return PantryError(message, hint=hint)
    return PantryError(message, hint=f"Its traceback is in {log}.")


def fault_message(fault: BaseException, *, quote: bool) -> str:
    """The kind of the exception, and with `quote` what it says."""
    kind = type(fault).__name__
    return f"A fault in Pantry itself: {kind}: {_words(fault)}" if quote else f"A fault in Pantry itself: {kind}."


def _words(fault: BaseException) -> str:
    try:
        return str(fault)[:MAX_QUOTE]
    except Exception as error:
        return f"(what it says cannot be told: {type(error).__name__})"


def _entry(fault: BaseException, doing: str) -> bytes:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    system = f"pantry {__version__}, Python {platform.python_version()}, {sys.platform}, process {os.getpid()}"
    lines = [f"{moment} {system}\n", f"while: {doing}\n", *traceback.format_exception(fault), "\n"]
    entry = "".join(lines).encode("utf-8", "backslashreplace")
    if len(entry) <= MAX_ENTRY:
        return entry
    return entry[: MAX_ENTRY // 2] + b"\n[cut here]\n" + entry[-MAX_ENTRY // 2 :]


def _append(log: Path, entry: bytes) -> None:
    make_private(log.parent)
    if log.exists() and log.stat().st_size > MAX_LOG:
        log.replace(log.with_suffix(".log.old"))
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(entry)
