"""What a command says of a fault in Pantry itself."""

from __future__ import annotations

from typing import Any

from pantry.core.errors import PantryError
from pantry.core.faults import fault_message, record_fault
from pantry.core.paths import find_paths


def report_fault(tree: Any, arguments: list[str], fault: Exception) -> PantryError:
    """Record the fault of a command line in this home's log of faults; what to print of it.

    `tree` is typer's command tree, or None where making it is what failed.
    """
    try:
        log = find_paths().fault_log
    except PantryError as error:
        return PantryError(fault_message(fault, quote=True), hint=f"Its traceback could not be written: {error}")
    return record_fault(log, fault, without_values(tree, arguments), quote=True)


def without_values(tree: Any, arguments: list[str]) -> str:
    """The words of a command line that Pantry itself coined: commands and options, but no prompt, key or name."""
    command, words = tree, ["pantry"]
    for argument in arguments:
        if argument == "--":
            break
        option = argument.partition("=")[0]
        if (child := getattr(command, "commands", {}).get(argument)) is not None:
            command = child
            words.append(argument)
        elif any(
            option in (*parameter.opts, *parameter.secondary_opts) for parameter in getattr(command, "params", ())
        ):
            words.append(option)
    return " ".join(words)
