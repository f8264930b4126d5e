"""Pulling a delta: its base is found or pulled, the result rebuilt, checked, and installed in the delta's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pantry.core.errors import (
    DownloadError,
    NotFoundError,
    PantryError,
    PolicyRefusedError,
    TermsError,
    UsageError,
    VerificationError,
)
from pantry.core.paths import Paths
from pantry.core.progress import Progress
from pantry.core.units import format_bytes, printable
from pantry.flatpack.manifest import DeltaBase, Manifest, licence_of
from pantry.install.bases import FoundBase, base_here, known_licence
from pantry.install.delta_files import open_model
from pantry.install.flatpack import IncomingFile, OnStep, VerifiedFlatpack, install_files
from pantry.install.format_check import check_format
from pantry.install.split_files import joined
from pantry.policy.admission import Candidate, admit
from pantry.policy.joint_licence import stricter_licence
from pantry.repository.fetch import Fetcher
from pantry.repository.refs import SUFFIX, HubRef, NamedRef, UrlRef, parse_ref
from pantry.store.models import Store
from pantry.store.packages import Package
from pantry.workshop.delta.apply import rebuilt, require_space
from pantry.workshop.delta.folder import DeltaFolder
from pantry.workshop.delta.match import match_base
from pantry.workshop.delta.payload import PAYLOAD_NAME, BaseTerms

_HUB = "https://huggingface.co/"
MAX_PLACES = 8
"""Places a base is looked for in; a stranger wrote the list."""


@dataclass(frozen=True)
class Rebuilder:
    """How a pull rebuilds. `base` is the one the user named; `accept` says whether the user accepts such terms.

    `bring` pulls what a reference means, from a repository where one is named, and says what it installed.
    """

    paths: Paths
    say: OnStep
    progress: Progress | None
    base: str | None
    accept: Callable[[str], bool]
    bring: Callable[[str, str | None], Package]
    repositories: Callable[[], dict[str, str]]
    """The configured repositories: addresses by name."""

    def install(self, store: Store, new: VerifiedFlatpack) -> Package:
        """Rebuild what the delta `new` builds, and install that.

        Raises NotFoundError when the base is nowhere, TermsError when it may be fetched only by who accepts its terms,
        VerificationError for a wrong base (before any work) or result, and all that a pull of the base raises.
        """
        with DeltaFolder(new.folder) as delta, ExitStack() as held:
            require_space(self.paths.partial, delta.payload.index.size)
            base = held.enter_context(self._base(store, delta))
            licence = stricter_licence(known_licence(base.licence), licence_of(delta.manifest))
            results = tuple(fact.digest for fact in delta.table.results)
            family = delta.manifest.model.family if delta.manifest.model else None
            candidate = Candidate(
                delta.manifest.name, licence, family, signature=new.verdict.state, files=results, arrived=True
            )
            admit(self.paths, candidate)
            self.say("rebuilding", f"{format_bytes(delta.payload.index.size)} on {base.called}")
            folder = held.enter_context(Fetcher(self.paths.partial).kept_folder(new.contents))
            stage = held.enter_context(rebuilt(base.matched, delta, folder, self.progress))
            self.say("digest verified", f"{_count(len(delta.table.results))}, bit for bit as published")
            return install_files(store, new, _files(stage, new, delta), "model", _facts(delta, base, licence))

    @contextmanager
    def _base(self, store: Store, delta: DeltaFolder) -> Iterator[FoundBase]:
        if self.base is not None:
            with open_model(self.paths, self.base) as source:
                matched = match_base(source, delta.table, delta.payload.index, self.progress)
                self.say("base found", f"{self.base}, as named")
                yield FoundBase(matched, self.base, None)
            return
        with base_here(store, delta, self.progress) as found:
            if found is not None:
                self._say_found(found)
                yield found
                return
        brought = self._bring(delta)
        with base_here(store, delta, self.progress) as found:
            if found is None:
                accepted = delta.table.bases[0]
                raise VerificationError(
                    f"{brought.name} {brought.version} is not the base that {delta.manifest.name} was made for: "
                    f"none of its files has the digest of {_first_file(accepted)}.",
                    hint="It was installed all the same. Get the right one and name it with --base.",
                )
            self._say_found(found)
            yield found

    def _say_found(self, found: FoundBase) -> None:
        how = "the same weights in other files" if found.matched.by_contents else "every digest is right"
        self.say("base found", f"{found.called}: {how}")

    def _bring(self, delta: DeltaFolder) -> Package:
        """Pull the base from where the manifest says it is. Its terms come first."""
        accepted, terms = delta.table.bases[0], delta.payload.index.base
        self._show_terms(delta.manifest, accepted, terms)
        failures: list[PantryError] = []
        for reference, repository in islice(self._places(delta.table.bases), MAX_PLACES):
            try:
                return self.bring(reference, repository)
            except TermsError:
                raise
            except (NotFoundError, UsageError, DownloadError, PolicyRefusedError) as error:
                failures.append(error)
                self.say("resolving", f"no base from {printable(reference)}: {printable(error.message)}")
        for failure in failures:  # it may be there after all: that says more than that others do not have it
            if isinstance(failure, DownloadError | PolicyRefusedError):
                raise failure
        raise _no_base(delta.manifest, accepted, failures[-1] if failures else None)

    def _show_terms(self, manifest: Manifest, accepted: DeltaBase, terms: BaseTerms) -> None:
        where = f", from {printable(accepted.repository)}" if accepted.repository else ""
        licence = f", licence {printable(terms.licence)}" if terms.licence else ""
        told = printable(terms.terms) if terms.terms else ""
        self.say("base terms", f"{printable(accepted.name)}{where}{licence}{': ' if told else ''}{told}")
        if told and not self.accept(told):
            raise TermsError(
                f"{manifest.name} needs {printable(accepted.name)}, which is for those who accept its terms: {told}",
                hint="Accept them with --accept-terms, or name a copy you have with --base.",
                terms=told,
            )

    def _places(self, bases: tuple[DeltaBase, ...]) -> Iterator[tuple[str, str | None]]:
        """References to try, each with the repository it is looked for in. Never a path of this machine."""
        configured = self.repositories()
        for accepted in bases:
            told = accepted.repository or ""
            reference = f"hf://{told.removeprefix(_HUB)}" if told.startswith(_HUB) else told
            found = _parsed(reference)
            if isinstance(found, HubRef) or (isinstance(found, UrlRef) and reference.endswith(SUFFIX)):
                yield reference, None
            if isinstance(_parsed(accepted.name), NamedRef):
                within = [name for name, url in configured.items() if told.rstrip("/") in (name, url.rstrip("/"))]
                yield accepted.name, within[0] if within else None
            elif isinstance(found, NamedRef) and reference not in configured:
                yield reference, None


def _parsed(text: str) -> object:
    try:
        return parse_ref(text)
    except UsageError:
        return None


def _no_base(manifest: Manifest, accepted: DeltaBase, cause: PantryError | None) -> NotFoundError:
    where = f" It can be had from {printable(accepted.repository)}." if accepted.repository else ""
    because = f" ({cause.message.rstrip('.')})" if cause else ""
    hint = f"With the base at hand, name it: pantry pull {manifest.name} --base FILE, FOLDER or MODEL"
    if cause and "--base" in (cause.hint or ""):  # the base is a delta too, and its base is what is missing
        hint = str(cause.hint)
    return NotFoundError(
        f"{manifest.name} is a difference from {printable(accepted.name)}, which is not on this machine "
        f"and could not be pulled{because}.{where}",
        hint=hint,
    )


def _first_file(accepted: DeltaBase) -> str:
    return f"{accepted.files[0].path!r} ({accepted.files[0].digest.short}…)" if accepted.files else "the base"


def _files(stage: Path, new: VerifiedFlatpack, delta: DeltaFolder) -> list[IncomingFile]:
    """What was rebuilt, parts of a model as one, and what came beside the payload; the former takes precedence."""
    built = [(fact.path, stage / fact.path, fact.digest) for fact in delta.table.results]
    for path, place, _ in built:
        check_format(place, path)
    files = [IncomingFile(*each) for each in joined(built, new.folder)]
    taken = {file.path.casefold() for file in files}
    beside = [entry for entry in new.entries if entry.path != PAYLOAD_NAME and entry.path.casefold() not in taken]
    return files + [IncomingFile(e.path, new.folder / e.path, e.digest, e.executable) for e in beside]


def _facts(delta: DeltaFolder, base: FoundBase, licence: str | None) -> dict[str, object]:
    """What is told of the result. `base` stands there only while no licence covers it: its rights are open then."""
    accepted = base.matched.accepted
    covered = known_licence(base.licence) or delta.payload.index.base.licence
    return {
        "licence": licence,
        "base": [] if covered else [printable(accepted.name)],
        "built_from": f"{printable(accepted.name)} ({', '.join(f.digest.short for f in accepted.files[:3])})",
    }


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"
