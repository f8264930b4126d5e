"""Writes the pages under docs/ that follow from the code: `python -m docs.generate [--check]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from aiohttp import web

from pantry.cli._app import build_app
from pantry.cli._overview import FILE as OVERVIEW
from pantry.cli._overview import Listed
from pantry.core.errors import INTERRUPTED_EXIT_CODE, error_classes
from pantry.core.settings import Settings
from pantry.service.app import main_surfaces

FOLDER = Path(__file__).parent
NOTE = "<!-- Made by `make docs`; change the code, not this page. -->\n\n"


def first_paragraph(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


def table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def settings_page() -> str:
    rows = [
        [f"`{name}`", f"`{'' if field.default is None else field.default!r}`", f"{field.description}"]
        for name, field in Settings.model_fields.items()
    ]
    return (
        f"# Settings\n\n{NOTE}"
        "Set them in `config.toml` in Pantry's configuration folder (`$PANTRY_HOME/config/config.toml` when the "
        "variable PANTRY_HOME is set), or as environment variables named `PANTRY_` and the setting in capitals. The "
        "variable wins over the file, an option of a command over both.\n\n"
        + table(["setting", "default", "what it does"], rows)
    )


def errors_page() -> str:
    rows = [
        [str(kind.exit_code), str(kind.status), f"`{kind.code}`", first_paragraph(kind.__doc__)]
        for kind in sorted(error_classes(), key=lambda kind: (kind.exit_code, kind.status))
    ]
    rows.append([str(INTERRUPTED_EXIT_CODE), "", "", "Ctrl-C, as shells count it."])
    return (
        f"# Errors and exit codes\n\n{NOTE}"
        "Commands end with 0 when all went well. Every error has an exit code, an HTTP status and a code in the "
        "`error` object of a response.\n\n" + table(["exit", "HTTP", "code", "meaning"], rows)
    )


def routes_page() -> str:
    routes = [route for surface in main_surfaces() for route in surface.routes if isinstance(route, web.RouteDef)]
    rows = [[route.method, f"`{route.path}`", first_paragraph(route.handler.__doc__)] for route in routes]
    return (
        f"# Routes\n\n{NOTE}"
        "Over TCP every route but `/healthz`, `/readyz`, the page under `/ui/` and two functions of `/call` "
        "(docs/apps.md) needs "
        "`Authorization: Bearer <key>`; `pantry env` prints "
        "the owner's key. Over the Unix socket the owner needs none.\n\n" + table(["method", "path", "answer"], rows)
    )


def argument_name(argument: Any) -> str:
    return str(argument.metavar or argument.name).upper()


def commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    """Every command below `command` with the words that call it."""
    for name, child in sorted(getattr(command, "commands", {}).items()):
        if getattr(child, "commands", None):
            yield from commands(child, f"{words} {name}")
        else:
            yield f"{words} {name}", child


def commands_page() -> str:
    parts = [f"# Commands\n\n{NOTE}"]
    for words, command in commands(typer.main.get_command(build_app()), "pantry"):
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
        names = [argument_name(a) if a.required else f"[{argument_name(a)}]" for a in arguments]
        usage = " ".join([words, *names])
        parts.append(f"## {words}\n\n```\n{usage}{' [OPTIONS]' if options else ''}\n```\n\n")
        parts.append(" ".join((command.help or "").split()) + "\n\n")
        rows = [[f"`{argument_name(a)}`", a.help or ""] for a in arguments]
        rows += [[", ".join(f"`{name}`" for name in [*o.opts, *o.secondary_opts]), o.help or ""] for o in options]
        if rows:
            parts.append(table(["argument or option", "meaning"], rows) + "\n")
    return "".join(parts).rstrip("\n") + "\n"


def overview() -> str:
    """What `pantry --help` lists (pantry/cli/commands.tsv)."""
    lines = []
    for name, command in typer.main.get_command(build_app()).commands.items():  # type: ignore[attr-defined]
        lines.append(Listed(name, module_of(command), command.rich_help_panel, first_paragraph(command.help)))
    return "".join("\t".join(line) + "\n" for line in lines)


def module_of(command: Any) -> str:
    """The file of pantry/cli that offers a command or group of commands."""
    while children := getattr(command, "commands", None):
        command = next(iter(children.values()))
    return str(command.callback.__module__).removeprefix("pantry.cli.")


PAGES = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "routes.md": routes_page,
    "commands.md": commands_page,
    str(OVERVIEW): overview,
}


def main() -> None:
    """Write the pages; with --check only compare, and exit 1 when one is stale."""
    stale = []
    for name, page in PAGES.items():
        file = FOLDER / name
        content = page()
        if not file.exists() or file.read_text() != content:
            stale.append(name)
            if "--check" not in sys.argv:
                file.write_text(content)
    if stale and "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(stale)}. Run: make docs")


if __name__ == "__main__":
    main()
