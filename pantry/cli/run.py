"""pantry run: one prompt, one answer, as it is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Models")(run)


def run(
    model: str = typer.Argument(help="Name of the model; 'starter' is there from the start."),
    prompt: list[str] | None = typer.Argument(None, help="The prompt; read from standard input when left out."),
    max_tokens: int | None = typer.Option(None, min=1, help="Most tokens to write."),
    temperature: float | None = typer.Option(None, min=0, max=5, help="0 always takes the likeliest token."),
    seed: int | None = typer.Option(None, help="Same seed, same answer."),
    system: str | None = typer.Option(None, help="A system message before the prompt."),
    stop: list[str] | None = typer.Option(None, help="End the answer before this text. May be repeated."),
    json_schema: Path | None = typer.Option(None, help="A file with a JSON Schema that the answer must meet."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object with text and figures at the end."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Tell tokens and speed on standard error."),
) -> None:
    """Ask a model and print its answer as it is written. Starts the service if none runs; Ctrl-C stops the answer."""
    from contextlib import closing

    from pantry.cli._output import note, print_json, write_answer
    from pantry.client.connection import ServiceConnection
    from pantry.client.generate import Figures, Sampling, generate, holds_conversation
    from pantry.core.errors import EngineError
    from pantry.core.paths import find_paths
    from pantry.operations.service import ensure_service

    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": _prompt_text(prompt)})
    sampling = Sampling(max_tokens, temperature, seed, tuple(stop or ()), _read_schema(json_schema))
    paths = find_paths()
    started = ensure_service(paths)
    if started.new and sys.stderr.isatty():
        note(f"Started Pantry at {started.info.url}. `pantry down` stops it.\n")
    connection = ServiceConnection(paths)
    chat = holds_conversation(connection, model)
    figures, text = Figures(), []
    with closing(generate(connection, model, messages, sampling, figures, chat=chat)) as pieces:
        for piece in pieces:
            text.append(piece)
            if not as_json:
                write_answer(piece)
    if as_json:
        print_json({"model": model, "text": "".join(text), **_figures(figures)})
    elif not "".join(text).endswith("\n"):
        sys.stdout.write("\n")
    if verbose:
        note(
            f"{figures.prompt_tokens} tokens read, {figures.completion_tokens} written at "
            f"{figures.tokens_per_second:.0f} a second; first after {figures.first_token * 1000:.0f} ms; "
            f"ended by {figures.finish_reason}."
        )
    if sampling.schema is not None and figures.finish_reason == "length":
        raise EngineError("The answer was cut before it met the schema.", hint="Allow more with --max-tokens.")


def _prompt_text(words: list[str] | None) -> str:
    """The prompt from the arguments, or standard input; both together when both are given."""
    from pantry.core.errors import UsageError

    given = " ".join(words or [])
    try:
        piped = sys.stdin.read() if _input_comes(not given) else ""
        text = f"{given}\n\n{piped}" if given and piped.strip() else given or piped
        text.encode()
    except UnicodeError:
        raise UsageError("The prompt is not UTF-8 text.", hint="Check the file, or the locale of this shell.") from None
    if not text.strip():
        raise UsageError("There is no prompt.", hint='Write it after the model: pantry run starter "Hello"')
    return text


def _input_comes(needed: bool) -> bool:
    """Whether to read standard input: a pipe or a file always; what else is open (a daemon's socket) only if needed."""
    import os
    import stat

    if sys.stdin is None or sys.stdin.isatty():
        return False
    mode = os.fstat(sys.stdin.fileno()).st_mode
    return needed or stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _read_schema(file: Path | None) -> dict[str, Any] | None:
    import json

    from pantry.core.errors import UsageError
    from pantry.core.files import storage_errors

    if file is None:
        return None
    try:
        with storage_errors(f"Reading {file}"):
            text = file.read_text(encoding="utf-8")
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON: {error}.") from None
    if not isinstance(schema, dict):
        raise UsageError(f"{file} holds no JSON Schema: expected an object, got {type(schema).__name__}.")
    return schema


def _figures(figures: Any) -> dict[str, Any]:
    return {
        "finish_reason": figures.finish_reason,
        "prompt_tokens": figures.prompt_tokens,
        "completion_tokens": figures.completion_tokens,
        "first_token_seconds": round(figures.first_token, 4),
        "seconds": round(figures.seconds, 4),
        "tokens_per_second": round(figures.tokens_per_second, 1),
    }
