"""Puts the commands together and turns every error into one message and one exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import sys
from pathlib import Path

import typer

from pantry.cli._overview import Listed, read_overview
from pantry.core.errors import INTERRUPTED_EXIT_CODE, PantryError, StorageError
from pantry.core.units import printable

HELP = """A local service for open language models: one place that answers every program that needs one.

Start with: pantry run starter "Tell me a story about a fox."
"""


def build_app() -> typer.Typer:
    """The whole command tree. Imports the thin command files, nothing behind them."""
    app = _root()
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not module.name.startswith("_"):
            _register(app, module.name)
    return app


def app_for(arguments: list[str]) -> typer.Typer:
    """The part of the command tree that answers this command line.

    Only the file of the command that is named is imported. Where none is, the overview is shown or a name is wrong,
    for which names and help texts are enough.
    """
    commands = read_overview()
    word = next((word for word in arguments if not word.startswith("-")), None)
    named = next((command for command in commands if command.name == word), None)
    app = _root()
    if named is not None:
        _register(app, named.module)
        return app
    for command in commands:
        _list(app, command)
    return app


def _root() -> typer.Typer:
    app = typer.Typer(
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        _version: bool = typer.Option(
            False, "--version", "-V", help="Print the version and exit.", is_eager=True, callback=_print_version
        ),
    ) -> None:
        """Takes what may stand before a command."""

    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from pantry import __version__

        typer.echo(f"pantry {__version__}")
        raise typer.Exit


def _register(app: typer.Typer, module: str) -> None:
    importlib.import_module(f"pantry.cli.{module}").register(app)


def _list(app: typer.Typer, command: Listed) -> None:
    @app.command(command.name, help=command.help, rich_help_panel=command.panel)
    def listed() -> None:
        """Never called: a command line that names it gets the command itself."""


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code. No traceback reaches the user, save with PANTRY_DEBUG set."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (it stays open as the stream)
    command = None
    try:
        command = typer.main.get_command(app_for(arguments))
        result = command.main(arguments, prog_name="pantry", standalone_mode=False)
        sys.stdout.flush()
    except PantryError as error:
        return _fail(error.message, error.hint, error.exit_code)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        if not error.format_message():  # no command was given, and the help was shown
            return 2
        return _fail(error.format_message(), f"See: {context.command_path} --help" if context else None, 2)
    except (KeyboardInterrupt, typer.Abort, EOFError):
        return INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"The output could not be written: {error.strerror or error}.", None, StorageError.exit_code)
    except Exception as error:
        if os.environ.get("PANTRY_DEBUG"):
            raise
        from pantry.cli._fault import report_fault

        told = report_fault(command, arguments, error)
        return _fail(told.message, told.hint, told.exit_code)
    return result if isinstance(result, int) else 0


def _fail(message: str, hint: str | None, code: int) -> int:
    """Print an error to standard error, the next step on a line of its own, and give back the exit code.

    A message may quote a stranger's text: control characters but line breaks are taken out.
    """
    message, hint = _safe(message), _safe(hint) if hint else None
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    label = "\033[31mError:\033[0m" if colour else "Error:"
    with contextlib.suppress(OSError, ValueError):  # closed or full: the error matters more
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        print(f"{label} {message}", file=sys.stderr)
        if hint:
            print(f"       {hint}", file=sys.stderr)
    return code


def _safe(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
