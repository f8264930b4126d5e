"""pantry repo: the repositories this machine uses, and those it runs for others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pantry.install.resolve import Looked
    from pantry.repository.root_change import RootState

PANEL = "Models"
_KEYS = typer.Option(None, "--key", help="Name of your key, or a key as PEM file. May be repeated.")
_STDIN = typer.Option(False, "--passphrase-stdin", help="Read the passphrase from standard input.")


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Repositories of flatpacks: those in use here, and your own.", no_args_is_help=True)
    group.command("list")(list_all)
    for command in (add, remove, refresh, init, publish, rotate, sign, yank):
        group.command()(command)
    app.add_typer(group, name="repo", rich_help_panel=PANEL)


def list_all(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the repositories in use, in the order they are asked."""
    from pantry.cli._output import print_json, print_table
    from pantry.core.paths import find_paths
    from pantry.operations.repositories import list_repositories

    listed = list_repositories(find_paths())
    if as_json:
        print_json([{**each.configured.model_dump(), **(each.state.__dict__ if each.state else {})} for each in listed])
        return
    rows = []
    for each in listed:
        state = each.state
        seen = [str(state.entries), state.refreshed_at[:16], state.expires[:10]] if state else ["-", "never", "-"]
        rows.append([each.configured.name, each.configured.kind, *seen, each.configured.url])
    empty = "No repository is in use. Add one: pantry repo add NAME URL --root ROOT.json"
    print_table(["NAME", "KIND", "ENTRIES", "REFRESHED", "EXPIRES", "URL"], rows, empty)


def add(
    name: str = typer.Argument(help="A name for it here."),
    url: str = typer.Argument(help="Its address, or a folder."),
    root: Path = typer.Option(help="Its root.json, got by a way you trust."),
) -> None:
    """Use a repository. Its metadata are verified from the root on."""
    from pantry.cli._output import note
    from pantry.core.paths import find_paths
    from pantry.operations.repositories import add_repository

    looked = add_repository(find_paths(), name, url, root)
    typer.echo(f"{name} offers {_offer(looked)} (root version {looked.snapshot.root_version}).")
    if looked.problem is not None:
        note(f"Its catalogue entries were left out: {looked.problem.message}")
    note("Flatpacks also need a signer you trust: pantry key trust KEY.pem --for 'NAME*'")


def remove(name: str = typer.Argument(help="Name of the repository.")) -> None:
    """Use a repository no more. What was pulled from it stays."""
    from pantry.core.paths import find_paths
    from pantry.operations.repositories import remove_repository

    remove_repository(find_paths(), name)
    typer.echo(f"{name} is removed.")


def refresh() -> None:
    """Look at all repositories again."""
    from pantry.cli._output import note
    from pantry.core.errors import PantryError
    from pantry.core.paths import find_paths
    from pantry.operations.repositories import refresh_repositories

    failed: PantryError | None = None
    for outcome in refresh_repositories(find_paths()):
        if (looked := outcome.looked) is not None:
            typer.echo(f"{outcome.name}: {_offer(looked)}, verified, until {looked.snapshot.expires[:10]}")
            if looked.problem is not None:
                note(f"Its catalogue entries were left out: {looked.problem.message}")
        else:
            typer.echo(f"{outcome.name}: failed")
            failed = outcome.error
    if failed is not None:
        raise failed


def _offer(looked: Looked) -> str:
    entries = f" and {looked.entries.count} catalogue entries" if looked.entries else ""
    return f"{len(looked.snapshot.entries)} flatpacks{entries}"


def init(
    folder: Path = typer.Argument(help="Folder that a web server will serve."),
    key: list[str] | None = typer.Option(
        None, "--keys", "--key", help="Root keys: names or PEM files, private or public. One is made without any."
    ),
    threshold: int = typer.Option(1, min=1, help="How many root keys must sign a change of keys."),
    days: int = typer.Option(365, min=1, help="Days until the root must be renewed."),
    passphrase_stdin: bool = _STDIN,
) -> None:
    """Make a repository of your own."""
    from pantry.cli._output import note
    from pantry.cli._passphrase import asker
    from pantry.core.paths import find_paths
    from pantry.operations.publish import init_repository

    ask = asker(passphrase_stdin)
    made = init_repository(find_paths(), folder, _names(key), ask, threshold=threshold, days=days)
    if made.root.missing:
        _tell_draft(made.root)
    else:
        typer.echo(f"The repository is in {folder}. Its users need {made.root.file}.")
    for file in made.root_keys:
        note(f"Root key: {file}. Move it to a safe place; only a change of keys needs it.")
    note(f"Online key: {made.online_key}. `pantry repo publish` signs with it.")
    if not made.root.missing:
        note(f"Next: pantry repo publish {folder} FILE.fpk, and serve the folder with any web server.")


def publish(
    folder: Path = typer.Argument(help="The repository."),
    files: list[Path] | None = typer.Argument(None, help="Signed flatpacks; none renews the signatures."),
    entries: list[Path] | None = typer.Option(
        None, help="Catalogue file (TOML) whose entries users get, in the place of those before. May be repeated."
    ),
    no_entries: bool = typer.Option(False, "--no-entries", help="Offer no catalogue entries any more."),
    capability: list[str] | None = typer.Option(None, help="A measured score like coding=3.5. May be repeated."),
    key: list[str] | None = _KEYS,
    passphrase_stdin: bool = _STDIN,
) -> None:
    """Check flatpacks and put them into a repository; without files, sign its metadata anew.

    Catalogue entries tell users of models: facts, licences, where to get them. Users receive them with the next look.
    """
    from pantry.cli._passphrase import asker
    from pantry.core.paths import find_paths
    from pantry.operations.publish import publish_files

    ask = asker(passphrase_stdin)
    chosen = [] if no_entries else entries or None
    made = publish_files(find_paths(), folder, files or [], key or [], ask, _scores(capability or []), chosen)
    for each in made:
        typer.echo(f"Published {each.name} {each.version}.")
    if chosen is not None:
        typer.echo("Published the catalogue entries." if chosen else "No catalogue entries are offered any more.")
    elif not made:
        typer.echo(f"The metadata in {folder} are signed anew.")


def rotate(
    folder: Path = typer.Argument(help="The repository."),
    add_root: list[str] | None = typer.Option(None, help="A root key more: a name or PEM file."),
    remove_root: list[str] | None = typer.Option(None, help="Start of the id of a root key that no longer counts."),
    threshold: int | None = typer.Option(None, min=1, help="How many root keys must sign from now on."),
    days: int = typer.Option(365, min=1, help="Days until the root must be renewed."),
    key: list[str] | None = _KEYS,
    passphrase_stdin: bool = _STDIN,
) -> None:
    """Replace the online key, and change root keys. Users follow by themselves."""
    from pantry.cli._output import note
    from pantry.cli._passphrase import asker
    from pantry.core.paths import find_paths
    from pantry.operations.publish import rotate_keys

    rotated = rotate_keys(
        find_paths(),
        folder,
        key or [],
        asker(passphrase_stdin),
        add_root=_names(add_root),
        remove_root=remove_root or [],
        threshold=threshold,
        days=days,
    )
    if rotated.root.missing:
        _tell_draft(rotated.root)
    else:
        typer.echo(f"The root is now version {rotated.root.version}.")
    for file in rotated.made:
        note(f"New online key: {file}.")


def sign(
    place: Path = typer.Argument(help="The repository, or a copy of its root.draft.json."),
    copies: list[Path] | None = typer.Argument(None, help="Copies of the draft that others signed."),
    key: list[str] | None = _KEYS,
    passphrase_stdin: bool = _STDIN,
) -> None:
    """Sign a new root whose keys are on several machines; it holds once enough have signed.

    `init` and `rotate` leave a draft, DIR/root.draft.json, where a threshold needs keys that are elsewhere. Send it to
    their holders, who sign it with `pantry repo sign root.draft.json --key NAME` and send it back; then
    `pantry repo sign DIR COPY...` takes their signatures over.
    """
    from pantry.cli._passphrase import asker
    from pantry.core.paths import find_paths
    from pantry.operations.publish import sign_root

    state = sign_root(find_paths(), place, _names(key), asker(passphrase_stdin), copies or [])
    if state.file.name == "root.json":
        typer.echo(f"The root is now version {state.version}. Users need {state.file}.")
    else:
        _tell_draft(state)


def _tell_draft(state: RootState) -> None:
    from pantry.cli._output import note

    typer.echo(
        f"The draft of root version {state.version} is {state.file}; {state.threshold} keys must sign a change, "
        f"until {state.expires}."
    )
    for keyid in state.signed:
        typer.echo(f"  {keyid[:12]}  has signed")
    for keyid in state.unsigned:
        typer.echo(f"  {keyid[:12]}  has not signed")
    if state.missing:
        note(f"{state.missing} more must sign: pantry repo sign {state.file.name} --key NAME")
    note("When enough have signed: pantry repo sign DIR COPY..., where the repository and its online key are.")


def _names(words: list[str] | None) -> list[str]:
    """Names of keys, several in one word with commas, unless that is a file."""
    return [name for word in words or [] for name in ([word] if Path(word).exists() else word.split(",")) if name]


def yank(
    folder: Path = typer.Argument(help="The repository."),
    name: str = typer.Argument(help="Name of the flatpack."),
    version: str = typer.Argument(help="The version to take back."),
    reason: str = typer.Option("no reason given", help="Why; users read it."),
    key: list[str] | None = _KEYS,
    passphrase_stdin: bool = _STDIN,
) -> None:
    """Take a version back: it is passed over unless someone names it exactly."""
    from pantry.cli._passphrase import asker
    from pantry.core.paths import find_paths
    from pantry.operations.publish import yank_version

    yank_version(find_paths(), folder, name, version, reason, key or [], asker(passphrase_stdin))
    typer.echo(f"{name} {version} is taken back.")


def _scores(words: list[str]) -> dict[str, float]:
    from pantry.core.errors import UsageError

    scores = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            scores[name.strip()] = float(value)
        except ValueError:
            raise UsageError(f"{word!r} is not a score.", hint="Write it like coding=3.5.") from None
    return scores
