"""Passphrases from standard input or a prompt; never from an argument, which other users of the machine can see."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from pantry.core.errors import UsageError

Ask = Callable[[str], bytes | None]


def asker(from_stdin: bool) -> Ask:
    """A function that gives the passphrase of a key: the first line of standard input, or what is typed unseen."""

    def ask(key: str) -> bytes | None:
        if from_stdin:
            return read_line()
        if not sys.stdin.isatty():
            return None
        answer: str = typer.prompt(f"Passphrase of {key}", hide_input=True, err=True)
        return answer.encode()

    return ask


def read_line() -> bytes:
    """The first line of standard input, without its end."""
    return sys.stdin.buffer.readline(4096).rstrip(b"\r\n")


def new_passphrase(from_stdin: bool) -> bytes:
    """A passphrase for a new key, typed twice or read from standard input. Raises UsageError when there is none."""
    if from_stdin:
        passphrase = read_line()
    elif sys.stdin.isatty():
        passphrase = typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True).encode()
    else:
        raise UsageError(
            "A new key needs a passphrase.", hint="Pipe it in with --passphrase-stdin, or give --no-passphrase."
        )
    if not passphrase:
        raise UsageError("The passphrase is empty.", hint="--no-passphrase makes a key without a lock.")
    return passphrase
