"""pantry init, pack, sign, verify, inspect, unbox."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pantry.core.units import printable

if TYPE_CHECKING:
    from pantry.flatpack.archive.verdict import Verdict
    from pantry.operations.flatpacks import Inspection

PANEL = "Flatpacks"


def register(app: typer.Typer) -> None:
    for command in (init, pack, sign, verify, inspect, unbox):
        app.command(rich_help_panel=PANEL)(command)


def init(
    folder: Path = typer.Argument(help="Folder to make."),
    template: str = typer.Option("model", help="model, recipe, adapter or dataset."),
) -> None:
    """Start a flatpack: its manifest, dataset card and README, ready to fill in."""
    from pantry.cli._output import note
    from pantry.operations.flatpacks import start_flatpack

    for file in start_flatpack(folder, template):
        typer.echo(file)
    written = shlex.quote(str(folder))
    if template == "recipe":
        note(f"Put your text into {folder / 'data'}, then: pantry train {written}")
        note(f"To share the recipe, fill in what stands in [brackets], then: pantry pack {written}")
    else:
        note(f"Fill in what stands in [brackets], then: pantry pack {written}")


def pack(
    folder: Path = typer.Argument(help="Folder with a flatpack.toml."),
    out: Path | None = typer.Option(None, "--output", "-o", help="The .fpk to write; FOLDER.fpk when left out."),
    store: bool = typer.Option(False, "--store", help="Do not compress."),
    level: int = typer.Option(1, help="zstd level, 1 (fast) to 22 (small)."),
) -> None:
    """Pack a folder into a flatpack. The same input gives the same bytes."""
    from pantry.cli._output import note
    from pantry.core.units import format_bytes
    from pantry.operations.flatpacks import pack_flatpack

    with _progress(f"Packing {folder.name}") as progress:
        packed = pack_flatpack(folder, out, level=None if store else level, progress=progress)
    sizes = f"{format_bytes(packed.content_size)} to {format_bytes(packed.size)}"
    typer.echo(f"Packed {packed.files} files, {sizes}: {packed.path}")
    if packed.left_out:
        note(f"Left out, since they are empty: {', '.join(f'{name}/' for name in packed.left_out)}")
    note(f"Sign it: pantry sign {packed.path} --key NAME")


def sign(
    file: Path = typer.Argument(help="The flatpack."),
    key: str = typer.Option(help="Name of your key, or a private key as PEM file."),
    hash_size: int = typer.Option(256, "--hash", help="Hash of RSA signatures: 256, 384 or 512."),
    passphrase_stdin: bool = typer.Option(False, "--passphrase-stdin", help="Read the passphrase from standard input."),
    out: Path | None = typer.Option(None, "--output", "-o", help="Write the signed flatpack here, not in its place."),
    form: str = typer.Option("2", "--format", help="2, or legacy for the format of 2023 (needs -o)."),
) -> None:
    """Sign a flatpack. Its files are checked first; earlier signatures are replaced."""
    from pantry.cli._passphrase import asker
    from pantry.core.paths import find_paths
    from pantry.operations.flatpacks import sign_flatpack

    ask = asker(passphrase_stdin)
    with _progress(f"Signing {file.name}") as progress:
        signed = sign_flatpack(find_paths(), file, key, ask, out=out, bits=hash_size, form=form, progress=progress)
    typer.echo(f"Signed: {signed}")


def verify(
    path: Path | None = typer.Argument(None, help="A flatpack, or an unboxed folder."),
    everything: bool = typer.Option(False, "--all", help="Verify every file of the store instead."),
    key: Path | None = typer.Option(None, help="Trust this public key (PEM) alone."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Verify signature, trust and every byte, and say so in one sentence. Exit code 9 when it may not be used."""
    from pantry.cli._output import print_json
    from pantry.core.errors import UsageError, VerificationError
    from pantry.core.paths import find_paths
    from pantry.operations.flatpacks import verify_flatpack

    if everything == (path is not None):
        raise UsageError("Name a flatpack to verify, or give --all for every file of the store.")
    if path is None:
        _verify_store(as_json)
        return
    with _progress(f"Verifying {path.name}") as progress:
        verdict = verify_flatpack(find_paths(), path, key, progress)
    if as_json:
        print_json(_verdict_object(verdict))
    elif verdict.ok:
        typer.echo(printable(verdict.sentence))
    else:
        raise VerificationError(verdict.sentence)
    if not verdict.ok:
        raise typer.Exit(VerificationError.exit_code)


def _verify_store(as_json: bool) -> None:
    from pantry.cli._output import print_json
    from pantry.core.errors import VerificationError
    from pantry.core.paths import find_paths
    from pantry.operations.packages import verify_everything

    with _progress("Verifying the store") as progress:
        damages = verify_everything(find_paths(), progress)
    if as_json:
        print_json([{"digest": str(each.digest), "reason": each.reason, "used_by": each.users} for each in damages])
        if damages:
            raise typer.Exit(VerificationError.exit_code)
        return
    if damages:
        lines = [
            f"{each.digest.short}, used by {', '.join(each.users) or 'nothing'}: {each.reason}" for each in damages
        ]
        raise VerificationError("\n".join(lines), hint="Pull these models again: `pantry pull NAME` mends them.")
    typer.echo("Every file of the store is whole.")


def inspect(
    file: Path = typer.Argument(help="The flatpack."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show manifest, files, digests and signers, from head and tail of the file. Nothing is unpacked or verified."""
    from pantry.cli._output import print_facts, print_json, print_table
    from pantry.core.units import format_bytes
    from pantry.operations.flatpacks import inspect_flatpack

    found = inspect_flatpack(file)
    if as_json:
        print_json(_inspection_object(found))
        return
    manifest = found.manifest
    licences = manifest.licence.model_dump(exclude_none=True)
    print_facts(
        {
            "name": manifest.name,
            "version": manifest.version,
            "kind": manifest.kind,
            "summary": manifest.summary,
            "authors": ", ".join(manifest.authors),
            "licences": ", ".join(f"{part} {name}" for part, name in licences.items()) or "not told",
            "data": found.data,
            "contents": found.contents,
            "size": f"{format_bytes(found.size)} in {found.frames} frames",
            "signed by": ", ".join(f"{kind} {key[:12]}" for kind, key in found.signers) or "nobody",
        }
    )
    typer.echo()
    rows = [[entry.path, format_bytes(entry.known_size), entry.digest.short] for entry in found.entries]
    print_table(["FILE", "SIZE", "SHA256"], rows, "No files.")


def unbox(
    file: Path = typer.Argument(help="The flatpack."),
    folder: Path | None = typer.Argument(None, help="Folder to make; named like the file when left out."),
    only: list[str] | None = typer.Option(None, help="Take only files that match the pattern. May be repeated."),
    allow_unsigned: bool = typer.Option(False, "--allow-unsigned", help="Accept no signature, or an unknown signer."),
    key: Path | None = typer.Option(None, help="Trust this public key (PEM) alone."),
    containerfile: bool = typer.Option(
        False, "--containerfile", help="Turn a flatpack.toml of 2023 into Containerfile and venv.sh."
    ),
) -> None:
    """Unpack a flatpack into a new folder, after checking its signature; every file is checked on the way."""
    from pantry.cli._output import note
    from pantry.core.paths import find_paths
    from pantry.operations.flatpacks import require_2023, unbox_flatpack, write_containerfile

    if containerfile:
        require_2023(file)
    with _progress(f"Unboxing {file.name}") as progress:
        done = unbox_flatpack(
            find_paths(), file, folder, only=only or (), allow_unsigned=allow_unsigned, key=key, progress=progress
        )
    note(done.verdict.sentence if done.verdict.state == "trusted" else f"Warning: {done.verdict.sentence}")
    typer.echo(f"Unboxed {len(done.files)} files: {done.folder}")
    if containerfile:
        for made in write_containerfile(done.folder):
            typer.echo(made)


def _verdict_object(verdict: Verdict) -> dict[str, Any]:
    return {
        "ok": verdict.ok,
        "state": verdict.state,
        "name": verdict.name,
        "signer": verdict.signer,
        "sentence": verdict.sentence,
    }


def _inspection_object(found: Inspection) -> dict[str, Any]:
    return {
        "manifest": found.manifest.model_dump(mode="json", exclude_none=True),
        "contents": found.contents,
        "size": found.size,
        "frames": found.frames,
        "signers": [{"type": kind, "key": key} for kind, key in found.signers],
        "files": [
            {"path": entry.path, "size": entry.size, "digest": str(entry.digest), "executable": entry.executable}
            for entry in found.entries
        ],
    }


def _progress(title: str) -> Any:
    """A progress bar on a terminal, nothing elsewhere: a context that gives the callback to report to."""
    import sys
    from contextlib import nullcontext

    if not sys.stderr.isatty():
        return nullcontext(None)
    from pantry.cli._progress import bar

    return bar(title)
