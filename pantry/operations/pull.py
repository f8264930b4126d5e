"""Pulling: from what the user names to something installed, each step said aloud; and mending what was damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pantry.core.errors import (
    BadFileError,
    NotFoundError,
    PantryError,
    PolicyRefusedError,
    UsageError,
    VerificationError,
)
from pantry.core.locks import locked
from pantry.core.paths import Paths
from pantry.core.progress import Progress
from pantry.core.refs import Digest, ModelName
from pantry.core.settings import Settings, load_settings
from pantry.core.units import format_bytes
from pantry.engines.choose import why_no_engine
from pantry.flatpack.archive.archive import Reader
from pantry.formats.model_files import model_in
from pantry.install.catalogue_source import place_in_catalogue
from pantry.install.flatpack import InstallSource, OnStep, arrived, take_in
from pantry.install.resolve import fetcher_of, opened, resolve
from pantry.policy.admission import Candidate, admit
from pantry.repository.configured import Repositories
from pantry.repository.entry import Entry
from pantry.repository.fetch import DownloadTarget
from pantry.repository.refs import FileRef, HubRef, NamedRef, UrlRef, local_name, parse_ref
from pantry.store.models import InstalledModel, Store
from pantry.store.packages import Package, Packages

MAX_DELTAS = 16
"""Deltas that may stand on each other in one pull."""


@dataclass(frozen=True)
class Options:
    """What the user may add. `repository` restricts where to look; `pickle` lets pickled weights in this once.

    For a delta, `base` names its base, and `accept` is asked whether the terms of a base to be fetched are accepted.
    """

    name: ModelName | None = None
    repository: str | None = None
    pickle: bool = False
    base: str | None = None
    accept: Callable[[str], bool] = lambda terms: False


@dataclass(frozen=True)
class Pulled:
    """The outcome. `model` is its name here; None for what is not a model. `no_engine`: why none here runs it."""

    package: Package
    model: ModelName | None
    up_to_date: bool = False
    no_engine: str | None = None


@dataclass(frozen=True)
class Job:
    """One pull under way: where, how, and whom to tell."""

    paths: Paths
    settings: Settings
    options: Options
    say: OnStep
    progress: Progress | None
    under_way: tuple[frozenset[Digest], ...] = ()
    """The deltas for which this is pulled, each on the one after it, by the digests they are locked by."""


def pull(
    paths: Paths,
    text: str,
    options: Options | None = None,
    say: OnStep | None = None,
    progress: Progress | None = None,
) -> Pulled:
    """Fetch, verify and install what `text` names; what is here and whole already is left as it is.

    Two pulls of one thing at once are one download. Raises UsageError (not a reference, or offline), NotFoundError,
    VerificationError, PolicyRefusedError, DownloadError, ConflictError, StorageError.
    """
    job = Job(paths, load_settings(paths), options or Options(), say or (lambda step, words: None), progress)
    return _pull(job, text)


def _pull(job: Job, text: str) -> Pulled:
    ref = parse_ref(text)
    if isinstance(ref, NamedRef):
        return _pull_named(job, ref)
    if isinstance(ref, FileRef):
        return _pull_file(job, ref)
    if isinstance(ref, UrlRef):
        return _pull_url(job, ref)
    return _pull_hub(job, ref)


def _pull_named(job: Job, ref: NamedRef) -> Pulled:
    entry = resolve(job.paths, job.settings, ref, job.options.repository, job.say)
    if entry is None:
        place = place_in_catalogue(job.paths, ref)
        job.say("resolving", f"no repository offers {ref}; the catalogue's {place.entry} is at {place.ref}")
        name = job.options.name or local_name(ref.name, (ref.version or "latest").lower())
        return _pull_hub(replace(job, options=replace(job.options, name=name)), place.ref, place.digest)
    job.say("resolving", f"{ref} is {entry.name} {entry.version} of {entry.repository}, {format_bytes(entry.length)}")
    if entry.facts.yanked is not None:
        job.say("resolving", f"this version was taken back by its publisher: {entry.facts.yanked or 'no reason given'}")
    name = job.options.name or local_name(entry.name, (ref.version or "latest").lower())
    return _once(job, entry.digest, lambda: _installed(job, entry, name), lambda: _fetch(job, entry, name))


def _once(job: Job, digest: Digest, here: Callable[[], Pulled | None], bring: Callable[[], Pulled]) -> Pulled:
    """What is here already, or what is brought: by one process at a time, the others then find it here."""
    if any(digest in digests for digests in job.under_way):
        raise BadFileError("The base of this delta is the delta itself.", hint="Its publisher named a wrong base.")
    if (found := here()) is not None:
        return found
    job.paths.partial.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(job.paths.partial / f"pull-{digest.hex}.lock", lambda: job.say("waiting", "another pull of it runs")):
        return here() or bring()


def _installed(job: Job, entry: Entry, name: ModelName) -> Pulled | None:
    """What is installed, if it is this very file and whole."""
    with Store.open(job.paths) as store:
        package = Packages(store).find(entry.name, entry.version)
        if package is None or package.archive != entry.digest:
            return None
        return _as_found(store, package, package.contents, name)


def _is_whole(store: Store, package: Package) -> bool:
    try:
        for file in Packages(store).files(package):
            store.blobs.verified_path(file.digest)
    except PantryError:
        return False
    return True


def _has_models(store: Store, package: Package) -> bool:
    """Whether there is a model in its files; they are whole."""
    if package.kind != "model":
        return False
    try:
        return (
            model_in({file.path: store.blobs.path(file.digest) for file in Packages(store).files(package)}) is not None
        )
    except BadFileError:  # more than one: its manifest says which
        return True


def _model_of(store: Store, package: Package, name: ModelName) -> ModelName | None:
    """`name`, if it is a model of that package."""
    try:
        model = store.get(name)
    except NotFoundError:
        return None
    digests = {file.digest for file in Packages(store).files(package)}
    return name if digests.issuperset(part.digest for part in model.parts) else None


def _fetch(job: Job, entry: Entry, name: ModelName) -> Pulled:
    if job.settings.offline:
        raise UsageError(
            f"{entry.name} {entry.version} is not here, and Pantry is set to work offline.",
            hint="Unset PANTRY_OFFLINE, or offline in config.toml.",
        )
    licence = entry.facts.licence
    admit(
        job.paths,
        Candidate(entry.name, licence.weights or licence.data or licence.code, entry.facts.family, size=entry.length),
    )
    job.say("downloading", f"{format_bytes(entry.length)} from {entry.repository}")
    repository = opened(job.paths, entry.repository)
    with repository.fetched(entry, fetcher_of(job.paths, job.settings), job.progress) as file:
        job.say("digest verified", str(entry.digest))
        arrival = InstallSource(
            f"{entry.repository}: {entry.name} {entry.version}", entry.digest, name, (entry.name, entry.version)
        )
        with Store.open(job.paths) as store:
            return _done(job, store, _install(job, store, file, arrival), name)


def _pull_file(job: Job, ref: FileRef) -> Pulled:
    with Reader(ref.path) as reader:
        contents, manifest = reader.statement.contents, reader.manifest
    name = job.options.name or local_name(manifest.name)

    def here() -> Pulled | None:
        with Store.open(job.paths) as store:
            return _as_found(store, Packages(store).find(manifest.name, manifest.version), contents, name)

    def bring() -> Pulled:
        job.say("resolving", f"{ref} is {manifest.name} {manifest.version}")
        with Store.open(job.paths) as store:
            arrival = InstallSource(str(ref.path.absolute()), None, name)
            return _done(job, store, _install(job, store, ref.path, arrival), name)

    return _once(job, contents, here, bring)


def _pull_url(job: Job, ref: UrlRef) -> Pulled:
    if not job.settings.url_downloads:
        raise PolicyRefusedError(
            "Downloads from a URL are off.",
            hint="Allow them with url_downloads = true in config.toml, or PANTRY_URL_DOWNLOADS=1.",
        )
    if job.settings.offline:
        raise UsageError("Pantry is set to work offline.", hint="Unset PANTRY_OFFLINE, or offline in config.toml.")
    fetcher = fetcher_of(job.paths, job.settings)
    wanted = fetcher.learn_length(DownloadTarget(ref.url))
    admit(job.paths, Candidate(ref.url.shown, None, size=wanted.length))
    job.say("downloading", f"{format_bytes(wanted.length or 0)} from {ref.url.netloc}")
    waiting: Callable[[], None] = lambda: job.say("waiting", "another pull of it runs")  # noqa: E731
    with fetcher.fetched(wanted, job.progress, waiting) as file, Store.open(job.paths) as store:
        with Reader(file) as reader:
            name = job.options.name or local_name(reader.manifest.name)
        arrival = InstallSource(ref.url.shown, None, name, signed=True)
        return _done(job, store, _install(job, store, file, arrival), name)


def _pull_hub(job: Job, ref: HubRef, digest: Digest | None = None) -> Pulled:
    from pantry.install import huggingface as hub
    from pantry.repository.huggingface import look

    if job.settings.offline:
        raise UsageError("Pantry is set to work offline.", hint="Unset PANTRY_OFFLINE, or offline in config.toml.")
    model = look(ref, pickle=job.options.pickle)
    if digest is not None and model.files[0].sha256 != digest:
        raise VerificationError(
            f"{ref} at the hub is another file than the catalogue knows (expected was sha256:{digest.short}…).",
            hint=f"It was changed since. As it is now: pantry pull {ref}",
        )
    job.say("resolving", f"{ref} is {', '.join(file.path for file in model.files[:3])} at commit {model.commit[:12]}")
    name = job.options.name or hub.model_name(model, ref)
    contents = hub.contents_of(model)

    def here() -> Pulled | None:
        with Store.open(job.paths) as store:
            package = Packages(store).find(hub.package_name(model), hub.package_version(model))
            return _as_found(store, package, contents, name)

    def bring() -> Pulled:
        fetcher = fetcher_of(job.paths, job.settings)
        with Store.open(job.paths) as store:
            package = hub.install_hub_model(job.paths, store, model, name, fetcher, job.say, job.progress)
            return _done(job, store, package, name)

    return _once(job, contents, here, bring)


def _install(job: Job, store: Store, file: Path, arrival: InstallSource) -> Package:
    """Take a flatpack in; a delta becomes what it builds."""
    with arrived(job.paths, file, arrival, job.say) as new:
        if new.manifest.kind != "delta":
            return take_in(store, new)
        from pantry.install.delta import Rebuilder

        options = job.options
        rebuilder = Rebuilder(
            job.paths,
            job.say,
            job.progress,
            options.base,
            options.accept,
            partial(_bring, job, frozenset(filter(None, (arrival.digest, new.contents)))),
            lambda: {each.name: each.url for each in Repositories(job.paths).list()},
        )
        return rebuilder.install(store, new)


def _bring(job: Job, delta: frozenset[Digest], text: str, repository: str | None) -> Package:
    """Pull the base of a delta. Raises BadFileError for deltas that stand on each other in a circle or too high."""
    under_way = (*job.under_way, delta)
    if len(under_way) > MAX_DELTAS:
        raise BadFileError(f"{text} is the base of more than {MAX_DELTAS} deltas on each other.")
    options = Options(repository=repository, pickle=job.options.pickle, accept=job.options.accept)
    return _pull(replace(job, options=options, under_way=under_way), text).package


def _as_found(store: Store, package: Package | None, contents: Digest, name: ModelName) -> Pulled | None:
    """The package, if it has these contents, is whole, and its model goes by that name."""
    if package is None or package.contents != contents or not _is_whole(store, package):
        return None
    model = _model_of(store, package, name)
    if model is None and _has_models(store, package):
        return None
    return Pulled(package, model, up_to_date=True, no_engine=_no_engine(store, model))


def _done(job: Job, store: Store, package: Package, name: ModelName) -> Pulled:
    model = _model_of(store, package, name)
    job.say("installed", f"{package.name} {package.version}, {format_bytes(package.size)}")
    return Pulled(package, model, no_engine=_no_engine(store, model))


def _no_engine(store: Store, model: ModelName | None) -> str | None:
    return why_no_engine(store.get(model)) if model is not None else None


def download_model(
    paths: Paths, name: str, url: str | None, progress: Progress, say: OnStep | None = None
) -> InstalledModel:
    """Fetch, verify and install a model by its name in the repositories or the catalogue, or from an address.

    It is installed under `name`. Callers are strangers: a path of this machine is not a model. Blocking. Raises
    UsageError, NotFoundError, and all that a pull raises.
    """
    wanted = ModelName.parse(name)
    pulled = _by_name(paths, wanted, progress, say) if url is None else _from_address(paths, wanted, url, progress, say)
    if pulled.model is None:
        raise UsageError(f"{pulled.package.name} is installed, but it is not a model that can run.")
    if pulled.no_engine:
        raise UsageError(f"{pulled.package.name} is installed, but it cannot run. {pulled.no_engine}")
    with Store.open(paths) as store:
        return store.get(pulled.model)


def _from_address(paths: Paths, name: ModelName, url: str, progress: Progress, say: OnStep | None) -> Pulled:
    if isinstance(parse_ref(url), FileRef | NamedRef):
        raise UsageError(f"{url[:120]!r} is not an address.", hint="It begins with https:// or hf://.")
    return pull(paths, url, Options(name=name), say, progress)


def _by_name(paths: Paths, name: ModelName, progress: Progress, say: OnStep | None) -> Pulled:
    """From the configured repositories, else from where the catalogue says that the model's files are."""
    if not isinstance(parse_ref(str(name)), NamedRef):
        raise UsageError(f"{str(name)!r} is not the name of a model in a repository.")
    return pull(paths, str(name), Options(name=name), say, progress)
