"""pantry package: what was pulled, with all its files, models or not."""

from __future__ import annotations

from pathlib import Path

import typer

PANEL = "Models"
_VERSION = typer.Option(None, "--version", help="Which version; the one installed last when left out.")


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Installed flatpacks and other packages, with all their files.", no_args_is_help=True)
    group.command("list")(list_packages)
    for command in (files, copy, rm):
        group.command()(command)
    app.add_typer(group, name="package", rich_help_panel=PANEL)


def list_packages(
    kind: str | None = typer.Option(None, help="model, recipe, delta, adapter or dataset."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List the installed packages."""
    from pantry.cli._output import print_json, print_table
    from pantry.core.paths import find_paths
    from pantry.core.units import format_bytes
    from pantry.operations.packages import installed_packages

    found = installed_packages(find_paths(), kind)
    if as_json:
        print_json([each.__dict__ for each in found])
        return
    rows = [
        [each.name, each.version, each.kind, format_bytes(each.size), each.signer or "-", each.source] for each in found
    ]
    print_table(["NAME", "VERSION", "KIND", "SIZE", "SIGNER", "FROM"], rows, "No package is installed.")


def files(name: str = typer.Argument(help="Name of the package."), version: str | None = _VERSION) -> None:
    """List the files of a package."""
    from pantry.cli._output import print_table
    from pantry.core.paths import find_paths
    from pantry.core.units import format_bytes
    from pantry.operations.packages import package_files

    _, found = package_files(find_paths(), name, version)
    rows = [[each.path, format_bytes(each.size), each.digest.short] for each in found]
    print_table(["FILE", "SIZE", "ID"], rows, "The package is empty.")


def copy(
    name: str = typer.Argument(help="Name of the package."),
    folder: Path = typer.Argument(help="Folder to make."),
    version: str | None = _VERSION,
) -> None:
    """Copy the files of a package into a new folder, after checking their digests."""
    from pantry.core.paths import find_paths
    from pantry.operations.packages import copy_package

    package = copy_package(find_paths(), name, folder, version)
    typer.echo(f"{package.name} {package.version} is in {folder}.")


def rm(name: str = typer.Argument(help="Name of the package."), version: str | None = _VERSION) -> None:
    """Remove a package, its models, and the files that nothing else uses."""
    from pantry.core.paths import find_paths
    from pantry.core.units import format_bytes
    from pantry.operations.packages import remove_package

    typer.echo(f"Removed {name}; {format_bytes(remove_package(find_paths(), name, version))} freed.")
