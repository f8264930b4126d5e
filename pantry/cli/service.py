"""pantry up, down, status, ps, load, unload, env."""

from __future__ import annotations

import typer

PANEL = "Service"


def register(app: typer.Typer) -> None:
    for command in (up, down, status, ps, load, unload):
        app.command(rich_help_panel=PANEL)(command)
    app.command("env", rich_help_panel=PANEL)(env)


def up(
    host: str | None = typer.Option(None, help="Address to listen on (setting host)."),
    port: int | None = typer.Option(None, help="First port to try (setting port)."),
    compat_2023: bool = typer.Option(False, "--compat-2023", help="Also answer Pantry's 2023 client library."),
    detach: bool = typer.Option(False, "--detach", "-d", help="Run in the background and return when it is ready."),
) -> None:
    """Start the service. It runs until Ctrl-C or `pantry down`."""
    from pantry.core.paths import find_paths
    from pantry.core.settings import load_settings

    paths = find_paths()
    settings = load_settings(paths, host=host, port=port, compat_2023=compat_2023 or None)
    if detach:
        from pantry.operations.service import ensure_service

        options = [word for name, value in (("--host", host), ("--port", port)) if value for word in (name, str(value))]
        options += ["--compat-2023"] if compat_2023 else []
        started = ensure_service(paths, options)
        how = "Pantry is ready" if started.new else "Pantry runs already"
        typer.echo(f"{how} at {started.info.url} (process {started.info.pid}).")
        return
    import logging

    from pantry.client.discovery import ServiceInfo
    from pantry.service.server import run_service

    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")

    def say_ready(info: ServiceInfo) -> None:
        typer.echo(f"Pantry is ready at {info.url} (process {info.pid}). Ctrl-C stops it.")

    run_service(settings, paths, say_ready)


def down() -> None:
    """Stop the service."""
    from pantry.core.paths import find_paths
    from pantry.operations.service import stop_service

    typer.echo("Pantry has stopped." if stop_service(find_paths()) else "Pantry was not running.")


def status(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Say whether the service runs and where. Exit code 14 when it does not."""
    import time

    from pantry.cli._output import print_facts, print_json
    from pantry.core.errors import ServiceUnavailableError
    from pantry.core.paths import find_paths
    from pantry.core.units import format_duration
    from pantry.operations.service import find_service

    paths = find_paths()
    info = find_service(paths)
    if info is None:
        if as_json:
            print_json({"running": False})
            raise typer.Exit(ServiceUnavailableError.exit_code)
        raise ServiceUnavailableError("Pantry is not running.", hint="Start it with: pantry up --detach")
    if as_json:
        print_json({"running": True, "url": info.url, **info.__dict__})
        return
    up_for = format_duration(time.time() - info.started_at)
    print_facts(
        {
            "address": info.url,
            "socket": info.socket,
            "call socket": paths.call_socket,
            "process": f"{info.pid}, up for {up_for}",
            "version": info.version,
        }
    )


def ps(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the loaded models."""
    from pantry.cli._output import print_json, print_table
    from pantry.client.connection import ServiceConnection
    from pantry.core.paths import find_paths
    from pantry.core.units import format_bytes, format_duration

    answer = ServiceConnection(find_paths()).get("/admin/loaded")
    if as_json:
        print_json(answer["loaded"])
        return
    rows = []
    for row in answer["loaded"]:
        left = "pinned" if row["pinned"] else "in use" if row["active"] else "when needed"
        if row["state"] == "loading":
            left = "is loading"
        if row["unloads_in"] is not None:
            left = format_duration(row["unloads_in"])
        rows.append(
            [
                row["name"],
                row["digest"].removeprefix("sha256:")[:12],
                format_bytes(row["memory"]),
                f"{row['engine']}, {row['threads']} threads",
                f"{row['context']} x {row['parallel']}",
                left,
            ]
        )
    print_table(["NAME", "ID", "MEMORY", "ENGINE", "CONTEXT", "UNTIL"], rows, "No model is loaded.")


def load(
    model: str = typer.Argument(help="Name of the model."),
    pin: bool = typer.Option(False, help="Keep it loaded until it is unloaded by hand."),
) -> None:
    """Load a model now, so that its first answer comes faster."""
    from pantry.client.connection import ServiceConnection
    from pantry.core.paths import find_paths
    from pantry.core.units import format_bytes
    from pantry.operations.service import ensure_service

    paths = find_paths()
    ensure_service(paths)
    row = ServiceConnection(paths).post("/admin/load", {"model": model, "pin": pin})
    typer.echo(f"{row['name']} is loaded ({format_bytes(row['memory'])}, {row['engine']}).")


def unload(model: str = typer.Argument(help="Name of the model.")) -> None:
    """Unload a model and free its memory."""
    from pantry.client.connection import ServiceConnection
    from pantry.core.paths import find_paths

    answer = ServiceConnection(find_paths()).post("/admin/unload", {"model": model})
    typer.echo(f"{answer['model']} {'is unloaded' if answer['unloaded'] else 'was not loaded'}.")


def env(
    shell: str | None = typer.Option(None, help="sh, fish or powershell; found from SHELL when left out."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print the variables that point OpenAI clients at Pantry: eval "$(pantry env)"."""
    from pantry.cli._output import print_json
    from pantry.core.paths import find_paths
    from pantry.operations.service import client_variables, shell_lines

    variables = client_variables(find_paths())
    if as_json:
        print_json(variables)
    else:
        typer.echo(shell_lines(variables, shell))
