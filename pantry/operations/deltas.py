"""Weight differences as use-cases: make, apply, flatten, inspect."""

from __future__ import annotations

import contextlib
import getpass
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from pantry.core.errors import (
    BadFileError,
    ConflictError,
    NotFoundError,
    PolicyRefusedError,
    UsageError,
    VerificationError,
)
from pantry.core.files import storage_errors, write_atomically
from pantry.core.paths import Paths
from pantry.core.refs import Digest, ModelName
from pantry.flatpack.archive import Reader, pack
from pantry.flatpack.dataset_card import load_card
from pantry.flatpack.licence import check_licence
from pantry.flatpack.manifest import CARD_NAME, FileFact, Licences, Manifest, Provenance, explain, write_manifest
from pantry.flatpack.signature import Verdict, judge, verify
from pantry.flatpack.trust import load_trust
from pantry.operations.bases import published_as
from pantry.workshop.delta.adapter import LoraAdapter
from pantry.workshop.delta.chain import apply_chain, in_order_of_use
from pantry.workshop.delta.folder import DeltaFolder, delta_table
from pantry.workshop.delta.inspect import DeltaReport, report_on
from pantry.workshop.delta.lowrank import find_factors
from pantry.workshop.delta.make import write_payload
from pantry.workshop.delta.payload import PAYLOAD_NAME, BaseTerms
from pantry.workshop.delta.plan import Planner
from pantry.workshop.delta.room import room_beside
from pantry.workshop.delta.sources import Progress, Source, part_of

_NO_CARD = f"Made by comparing weights that came without a {CARD_NAME}."


@dataclass(frozen=True)
class DeltaFacts:
    """What the manifest of a new delta says beside digests. Names default to those of the files.

    `card` is the DATASET.md of the change's data; that of the target's folder when left out.
    """

    name: str | None = None
    version: str = "1.0.0"
    summary: str | None = None
    authors: tuple[str, ...] = ()
    licence: str | None = None
    base_name: str | None = None
    base_repository: str | None = None
    base_licence: str | None = None
    base_terms: str | None = None
    card: Path | None = None


@dataclass(frozen=True)
class MadeDelta:
    """A delta that was made: where it is, its bytes, and the report on it."""

    path: Path
    size: int
    report: DeltaReport


@dataclass(frozen=True)
class AppliedDelta:
    """What applying deltas gave: the result, its licence, and one verdict per delta on its signature."""

    out: Path
    files: tuple[str, ...]
    licence: str | None
    verdicts: tuple[Verdict, ...] = field(default=())

    @property
    def warnings(self) -> list[str]:
        """What is not right about the signatures, one sentence each."""
        return [verdict.sentence for verdict in self.verdicts if verdict.state != "trusted"]


def make_delta(
    paths: Paths,
    base: str,
    target: str,
    out: Path,
    *,
    adapter: Path | None = None,
    renames: Mapping[str, str] | None = None,
    find_low_rank: bool = False,
    facts: DeltaFacts | None = None,
    progress: Progress | None = None,
) -> MadeDelta:
    """Write the difference of `target` from `base` (files, folders, or names of installed models) to `out`.

    `out` is a flatpack when it ends in `.fpk`, else a folder. `adapter` is the folder of a LoRA that was merged into
    the target; `renames` maps a target tensor's name to the base's; `find_low_rank` looks for such a LoRA in every
    matrix. Raises ConflictError when `out` exists, NotFoundError, BadFileError for damaged files, UsageError.
    """
    _check_free(out)
    facts = _with_base(paths, base, facts or DeltaFacts())
    card = _card(facts.card or Path(target) / CARD_NAME)
    with contextlib.ExitStack() as opened:
        base_source = opened.enter_context(open_model(paths, base))
        target_source = opened.enter_context(open_model(paths, target))
        lora = opened.enter_context(contextlib.closing(LoraAdapter(adapter))) if adapter else None
        single = base_source.is_file and target_source.is_file
        draft, terms = _draft(facts, base_source, target_source)
        planner = Planner(base_source, lora, renames or {}, single, find_factors if find_low_rank else None)
        with room_beside(out) as room:
            folder = room / "delta"
            folder.mkdir()
            coded = sum(file.layout.size for file in target_source.files)
            total = coded + sum(file.layout.size for file in base_source.files) + base_source.tensor_bytes
            index = write_payload(
                planner, target_source, folder / PAYLOAD_NAME, base=terms, progress=part_of(progress, 0, total)
            )
            table = delta_table(
                index,
                base_source,
                name=facts.base_name or base_source.title,
                repository=facts.base_repository,
                progress=part_of(progress, coded, total),
            )
            base_digests = tuple(fact.digest for fact in table.bases[0].files)
            provenance = Provenance(base=base_digests, data_unknown=None if card else _NO_CARD)
            manifest = draft.model_copy(update={"delta": table, "provenance": provenance})
            write_manifest(manifest, folder)
            if card:
                write_atomically(folder / CARD_NAME, card)
            return _finish(folder, out)


def _draft(facts: DeltaFacts, base: Source, target: Source) -> tuple[Manifest, BaseTerms]:
    """What is known before the work: the manifest and the base's terms. Raises UsageError for facts of a wrong form."""
    nothing = FileFact(path="none", digest=Digest("0" * 64), size=0)
    accepted = {"name": facts.base_name or base.title, "repository": facts.base_repository}
    try:
        terms = BaseTerms(licence=_licence(facts.base_licence), terms=facts.base_terms)
        manifest = Manifest.model_validate(
            {
                "kind": "delta",
                "name": facts.name or _plain_name(target.title),
                "version": facts.version,
                "summary": facts.summary or f"{target.title} as a difference from {base.title}",
                "authors": facts.authors or (getpass.getuser(),),
                "licence": Licences(weights=stricter_licence(facts.base_licence, facts.licence)),
                "delta": {"bases": [accepted], "results": [nothing]},
            }
        )
        return manifest, terms
    except ValidationError as error:
        raise UsageError(explain(error, "The delta", Manifest)) from None


def apply_deltas(
    paths: Paths,
    base: str,
    deltas: Sequence[Path],
    out: Path,
    *,
    require_signature: bool = False,
    progress: Progress | None = None,
) -> AppliedDelta:
    """Rebuild through one delta or a chain of them (in any order) to `out`, and report on the signatures.

    Raises VerificationError for a wrong base (before any work), a wrong result or a bad signature;
    PolicyRefusedError with `require_signature` when a delta is not signed by someone trusted here; BadFileError,
    ConflictError, StorageError.
    """
    with contextlib.ExitStack() as opened:
        source = opened.enter_context(open_model(paths, base))
        room = opened.enter_context(room_beside(out))
        found = [opened.enter_context(_opened_delta(paths, path, room / str(n))) for n, path in enumerate(deltas)]
        verdicts = tuple(verdict for _, verdict in found)
        if require_signature and (refused := [verdict for verdict in verdicts if verdict.state != "trusted"]):
            raise PolicyRefusedError(refused[0].sentence, hint="Trust its signer with: pantry key trust")
        folders = [delta for delta, _ in found]
        ordered = in_order_of_use(source, folders)
        apply_chain(source, ordered, out, progress)
        last = ordered[-1]
        files = tuple(fact.path for fact in last.table.results)
        return AppliedDelta(out, files, _licence_of_chain(ordered), verdicts)


def flatten_deltas(
    paths: Paths, base: str, deltas: Sequence[Path], out: Path, *, progress: Progress | None = None
) -> MadeDelta:
    """One delta from `base` to what the chain `deltas` builds, with the name and version of the chain's last.

    Raises as `apply_deltas` and `make_delta`.
    """
    _check_free(out)
    with contextlib.ExitStack() as opened:
        source = opened.enter_context(open_model(paths, base))
        room = opened.enter_context(room_beside(out))
        found = [opened.enter_context(_opened_delta(paths, path, room / str(n))) for n, path in enumerate(deltas)]
        ordered = in_order_of_use(source, [delta for delta, _ in found])
        built = room / "built"
        built.mkdir()
        apply_chain(source, ordered, built, progress)
        first, last = ordered[0], ordered[-1].manifest
        licence = _licence_of_chain(ordered)
        accepted, terms = first.table.bases[0], first.payload.index.base
        only = list(built.iterdir())
        facts = DeltaFacts(
            last.name, last.version, last.summary, last.authors, licence, accepted.name, accepted.repository,
            terms.licence, terms.terms, ordered[-1].folder / CARD_NAME,
        )  # fmt: skip
        target = only[0] if source.is_file and len(only) == 1 else built
        return make_delta(paths, base, str(target), out, facts=facts, progress=progress)


def _card(file: Path) -> bytes | None:
    """A filled-in dataset card, if the file is there. Raises BadFileError that names what is missing in it."""
    if not file.is_file():
        return None
    with storage_errors(f"Reading {file}"):
        content = file.read_bytes()
    load_card(content)
    return content


def inspect_delta(paths: Paths, delta: Path) -> tuple[DeltaReport, Verdict]:
    """What a delta holds, and the verdict on its signature. Raises BadFileError, NotFoundError, VerificationError."""
    with (
        tempfile.TemporaryDirectory(prefix="pantry-delta-") as room,
        _opened_delta(paths, delta, Path(room) / "delta") as (opened, verdict),
    ):
        return report_on(opened), verdict


def stricter_licence(base: str | None, own: str | None) -> str | None:
    """The licence under which both must be kept: SPDX `A AND B`, or the one that is known.

    Raises UsageError for a name that neither SPDX nor the catalogue knows.
    """
    known = [text for text in (_licence(base), _licence(own)) if text]
    if not known:
        return None
    terms = dict.fromkeys(term for text in known for term in _joined_terms(text))
    return check_licence(" AND ".join(terms))


def _with_base(paths: Paths, base: str, facts: DeltaFacts) -> DeltaFacts:
    """The facts, completed by what an installed base says of where it came from; what the caller says counts more."""
    known = published_as(paths, base) if not Path(base).exists() else None
    if known is None:
        return facts
    return replace(
        facts,
        base_name=facts.base_name or known.name,
        base_repository=facts.base_repository or known.place,
        base_licence=facts.base_licence or known.licence,
    )


def _joined_terms(licence: str) -> list[str]:
    """The terms of `A AND B`; anything with alternatives is one term."""
    return [f"({licence})"] if " OR " in licence else licence.split(" AND ")


def _licence_of_chain(ordered: Sequence[DeltaFolder]) -> str | None:
    licence: str | None = None
    for delta in ordered:
        licence = stricter_licence(licence, delta.manifest.licence.weights)
    return licence


def open_model(paths: Paths, reference: str) -> Source:
    """A file, a folder, or the file of an installed model. Raises NotFoundError, BadFileError, VerificationError."""
    path = Path(reference)
    if path.exists():
        return Source.open(path)
    try:
        name = ModelName.parse(reference)
    except UsageError:
        raise NotFoundError(f"There is no file or folder {reference}.") from None
    from pantry.store.models import Store

    if not paths.database.exists():
        raise NotFoundError(f"{reference!r} is no file or folder, and no model is installed.")
    with Store.open(paths) as store:
        model = store.get(name)
        called = f"{model.name.name}.{model.format}"
        return Source.gather(called, [(called, store.verified_file(model), model.digest)], is_file=True)


def _licence(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return check_licence(text)
    except ValueError as error:
        raise UsageError(f"{str(error).rstrip('?')}{'?' if str(error).endswith('?') else '.'}") from None


def _plain_name(title: str) -> str:
    """A manifest's name from a file name: lower case, odd characters as dashes."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in title.lower())
    return plain.strip("._-")[:128] or "delta"


def _check_free(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise ConflictError(f"{out} exists already.", hint="Give another name with -o, or remove it.")


def _finish(folder: Path, out: Path) -> MadeDelta:
    """Move the finished folder to `out`, or pack it there; deltas do not compress further, so they are only framed."""
    with DeltaFolder(folder) as delta:
        report = report_on(delta)
    if out.suffix == ".fpk":
        return MadeDelta(out, pack(folder, out, level=None).size, report)
    with storage_errors(f"Writing {out}"):
        size = sum(file.stat().st_size for file in folder.iterdir())
        folder.rename(out)
    return MadeDelta(out, size, report)


@contextlib.contextmanager
def _opened_delta(paths: Paths, path: Path, room: Path) -> Iterator[tuple[DeltaFolder, Verdict]]:
    """An open delta, its bytes checked against its statement, and the verdict. A bad signature is an error."""
    trust = load_trust(paths)
    if path.is_dir():
        verdict = verify(path, trust)
        folder = path
    else:
        if not path.is_file():
            raise NotFoundError(f"There is no delta {path}.")
        with Reader(path) as reader:
            verdict = judge(reader, trust)
            if verdict.state != "bad":
                _require_delta(reader.manifest)
                reader.unbox(room)
        folder = room
    if verdict.state == "bad":
        raise VerificationError(verdict.sentence, hint="Fetch the delta again.")
    with DeltaFolder(folder) as delta:
        yield delta, verdict


def _require_delta(manifest: Manifest) -> None:
    if manifest.kind != "delta":
        raise BadFileError(f"{manifest.name} is a {manifest.kind}, not a delta.")
