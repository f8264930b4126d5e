"""Weight differences as use-cases: make, apply, flatten, inspect."""

from __future__ import annotations

import contextlib
import getpass
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from pantry.core.errors import (
    ConflictError,
    NotFoundError,
    PolicyRefusedError,
    UsageError,
)
from pantry.core.files import storage_errors, write_atomically
from pantry.core.paths import Paths
from pantry.core.progress import Progress
from pantry.core.refs import Digest
from pantry.flatpack.archive.archive import pack
from pantry.flatpack.archive.verdict import Verdict
from pantry.flatpack.cards.dataset_card import load_card
from pantry.flatpack.manifest import CARD_NAME, FileFact, Licences, Manifest, Provenance, explain, write_manifest
from pantry.install.bases import published_as
from pantry.install.delta_files import open_model, opened_delta
from pantry.policy.joint_licence import licence_named, licence_of_chain, stricter_licence
from pantry.workshop.delta import xor_files as enc
from pantry.workshop.delta.adapter import LoraAdapter
from pantry.workshop.delta.chain import apply_chain, in_order_of_use
from pantry.workshop.delta.checksums import ChecksumList
from pantry.workshop.delta.folder import DeltaFolder, delta_table
from pantry.workshop.delta.inspect import DeltaReport, report_on
from pantry.workshop.delta.lowrank import find_factors
from pantry.workshop.delta.make import write_payload
from pantry.workshop.delta.payload import PAYLOAD_NAME, BaseTerms
from pantry.workshop.delta.plan import Planner
from pantry.workshop.delta.room import room_beside
from pantry.workshop.delta.sources import Source, part_of

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
        terms = BaseTerms(licence=licence_named(facts.base_licence), terms=facts.base_terms)
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
        found = [opened.enter_context(opened_delta(paths, path, room / str(n))) for n, path in enumerate(deltas)]
        verdicts = tuple(verdict for _, verdict in found)
        if require_signature:
            _require_trusted(verdicts)
        folders = [delta for delta, _ in found]
        ordered = in_order_of_use(source, folders)
        apply_chain(source, ordered, out, progress)
        last = ordered[-1]
        files = tuple(fact.path for fact in last.table.results)
        return AppliedDelta(out, files, licence_of_chain(delta.manifest for delta in ordered), verdicts)


def _require_trusted(verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        if verdict.state == "unsigned":
            hint = "Ask its publisher for one that is signed, or leave --require-signature out."
            raise PolicyRefusedError(verdict.sentence, hint=hint)
        if verdict.state != "trusted":
            raise PolicyRefusedError(verdict.sentence, hint="Trust its signer with: pantry key trust KEY.pem")


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
        found = [opened.enter_context(opened_delta(paths, path, room / str(n))) for n, path in enumerate(deltas)]
        ordered = in_order_of_use(source, [delta for delta, _ in found])
        built = room / "built"
        built.mkdir()
        apply_chain(source, ordered, built, progress)
        first, last = ordered[0], ordered[-1].manifest
        licence = licence_of_chain(delta.manifest for delta in ordered)
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
        opened_delta(paths, delta, Path(room) / "delta") as (opened, verdict),
    ):
        return report_on(opened), verdict


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


def encrypt_files(
    target: Path, key: Path, folder: Path, *, md5: bool = True, progress: Progress | None = None
) -> list[enc.Written]:
    """Write `.enc` files for `target`, a file or every file directly in a folder. Raises as `enc.encrypt`."""
    return [enc.encrypt(file, key, folder, md5=md5, progress=progress) for file in _files_in(target)]


def decrypt_files(
    encrypted: Sequence[Path],
    key: Path,
    folder: Path,
    *,
    checksums: Path | None = None,
    md5: bool = True,
    progress: Progress | None = None,
) -> list[enc.Written]:
    """Rebuild plain files from `.enc` files and folders of them; files already there and right are left.

    With `checksums`, a list of md5 or sha256 sums or addresses, listed files must all be there, and sums are checked
    before and after. Without `md5`, MD5 is left out where the list does not need it; it is the slowest part.
    Raises NotFoundError, BadFileError, VerificationError, ConflictError; the file at fault is not
    written, earlier ones stay.
    """
    files = [file for path in encrypted for file in _files_in(path, "*.enc")]
    wanted = ChecksumList.read(checksums) if checksums else ChecksumList()
    if missing := wanted.missing({file.name for file in files}):
        raise NotFoundError(f"Listed, but not there: {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}.")
    md5 = md5 or wanted.needs_md5
    written = []
    for file in files:
        if wanted.names.get(file.name):
            wanted.check(enc.checksums_of(file))
        name = enc.EncName.parse(file.name)
        result = enc.already_there(folder / name.plain, name.digest, md5=md5)
        result = result or enc.decrypt(file, key, folder, md5=md5, progress=progress)
        wanted.check(result)
        written.append(result)
    return written


def _files_in(path: Path, pattern: str = "*") -> list[Path]:
    """The file itself, or the plain files directly in a folder that match the pattern, sorted."""
    if path.is_dir():
        found = sorted(file for file in path.glob(pattern) if file.is_file() and not file.name.startswith("."))
        if not found:
            raise NotFoundError(f"The folder {path} holds no files like {pattern}.")
        return found
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}.")
    return [path]
