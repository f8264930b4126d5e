"""Pulling a model of the Hugging Face hub into the store."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pantry.core.paths import Paths
from pantry.core.progress import Progress
from pantry.core.refs import Digest, ModelName
from pantry.core.units import format_bytes
from pantry.formats.kinds import is_whole_model
from pantry.formats.model_files import model_in
from pantry.formats.parts import without_format
from pantry.formats.split import part_name
from pantry.install.flatpack import OnStep, staged
from pantry.install.format_check import check_format
from pantry.install.model_facts import merge_facts, name_from_file, name_from_text
from pantry.install.split_files import joined
from pantry.policy.admission import Candidate, admit
from pantry.repository.fetch import Fetcher
from pantry.repository.huggingface import HubFile, HubModel, cached, check_small, wanted
from pantry.repository.refs import HubRef
from pantry.store.models import Store
from pantry.store.packages import NewFile, NewModel, NewPackage, Package, Packages


def package_name(model: HubModel) -> str:
    """The name of the package that files of this model make up."""
    return f"hf.co/{model.repo}"


def package_version(model: HubModel) -> str:
    """The version of that package: the commit, and the file where it is only one."""
    first = model.files[0].path
    part = part_name(first)
    alone = f"/{part.whole if part else first}" if part or len(model.files) == 1 else ""
    return f"{model.commit[:12]}{alone}"


def model_name(model: HubModel, ref: HubRef) -> ModelName:
    """`org/Qwen3-0.6B-GGUF:q8_0` becomes `qwen3-0.6b:q8_0`; a file that is named gives its own name."""
    file = model.files[0]
    whole = is_whole_model(file.path)
    if ref.file is not None or (whole and file.quantisation is None):
        return name_from_file(Path(file.path))
    base = name_from_text(without_format(model.repo.partition("/")[2]))
    return ModelName(base.name, file.quantisation) if whole and file.quantisation else base


def contents_of(model: HubModel) -> Digest:
    """A digest over what the hub states of the files: the same for the same files."""
    lines = [f"{file.path} {file.sha256 or file.sha1} {file.size}" for file in model.files]
    return Digest(hashlib.sha256("\n".join([model.commit, *lines]).encode()).hexdigest())


def install_hub_model(
    paths: Paths,
    store: Store,
    model: HubModel,
    name: ModelName,
    fetcher: Fetcher,
    say: OnStep,
    progress: Progress | None,
) -> Package:
    """Fetch the files and take them into the store. Raises PolicyRefusedError, DownloadError, VerificationError."""
    total = sum(file.size for file in model.files)
    digests = tuple(file.sha256 for file in model.files if file.sha256 is not None)
    candidate = Candidate(model.repo, model.licence, size=total, signature="unsigned", files=digests)
    licence = admit(paths, candidate).licence
    say("licence", licence)
    say("downloading", f"{format_bytes(total)} in {len(model.files)} files, at commit {model.commit[:12]}")
    with contextlib.ExitStack() as held:
        files: list[tuple[str, Path, Digest]] = []
        for file in model.files:
            path = next((path for _, path, digest in files if digest == file.sha256), None)
            path = path or held.enter_context(_fetched(model, file, fetcher, progress, say))
            files.append((file.path, path, file.sha256 or check_small(file, path)))
        say("digest verified", f"{len(files)} files, as the hub states them")
        say("signature", "none: the hub's files are not signed; they are what the hub says they are")
        if part_name(model.files[0].path):
            say("joining", f"{len(files)} parts")
        whole = joined(files, held.enter_context(fetcher.folder_for(contents_of(model))).parent)
        for shown, path, _ in whole:
            check_format(path, shown, path=shown)
        return _take_in(store, model, name, whole)


@contextlib.contextmanager
def _fetched(
    model: HubModel, file: HubFile, fetcher: Fetcher, progress: Progress | None, say: OnStep
) -> Iterator[Path]:
    """The file, from the hub's cache on this machine where it is there and right, else by download."""
    waiting: Callable[[], None] = lambda: say("waiting", "another pull of it runs")  # noqa: E731
    here = cached(model, file) if file.sha256 else None
    if here is not None and file.sha256 is not None:
        with fetcher.copied(here, file.sha256, file.size, progress, waiting) as path:
            yield path
        return
    with fetcher.fetched(wanted(model, file), progress, waiting) as path:
        yield path


def _take_in(store: Store, model: HubModel, name: ModelName, files: Sequence[tuple[str, Path, Digest]]) -> Package:
    row, found = None, model_in({shown: path for shown, path, _ in files})
    if found is not None:
        told: dict[str, Any] = {"revision": model.commit, "package": package_name(model), "base": list(model.bases)}
        told["licence"] = model.licence
        parts = {each.path: each.role for each in found.parts}
        row = NewModel(name, parts, found.format.name, merge_facts(found.facts, told))
    facts = {"repo": model.repo, "commit": model.commit, "licence": model.licence, "base": model.bases}
    package = NewPackage(
        package_name(model),
        package_version(model),
        "model",
        f"{model.repo} of the Hugging Face hub",
        contents_of(model),
        f"hf://{model.repo}@{model.commit}",
        manifest=facts | {"tags": model.tags},
    )
    return Packages(store).install(package, [NewFile(p, staged(path, digest)) for p, path, digest in files], row)
