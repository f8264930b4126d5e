"""The Hugging Face hub as a source: which files of a model to take, at which commit, under which licence.

huggingface_hub knows the hub: its address (`HF_ENDPOINT`), token, cache and answers. The bytes come by our own
downloader, checked against the digests the hub states: SHA-256 for large files, git's SHA-1 for small ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pantry.core.errors import (
    BadFileError,
    DownloadError,
    NotFoundError,
    PolicyRefusedError,
    UnauthorisedError,
    UsageError,
    VerificationError,
    did_you_mean,
)
from pantry.core.refs import Digest
from pantry.flatpack.names import check_path
from pantry.formats.kinds import format_of, is_whole_model
from pantry.formats.parts import goes_along, is_pickle, role_of
from pantry.formats.split import part_name
from pantry.repository.address import Address
from pantry.repository.fetch import DownloadTarget
from pantry.repository.refs import HubRef

T = TypeVar("T")
PREFERRED = ("q4_k_m", "q4_k_s", "q5_k_m", "q4_0", "q8_0", "f16", "bf16", "f32")
"""Quantisations in the order they are taken when none is asked for: small with little loss first."""
_QUANTISATION = re.compile(
    r"(?:^|[-._/])((?:iq|tq|q)\d(?:_[a-z0-9]+)*|bf16|f16|fp16|f32|mxfp4(?:_moe)?)(?=[-._/]|$)", re.IGNORECASE
)
MAX_FILES = 10_000
_TRIES = 3


@dataclass(frozen=True)
class HubFile:
    """One file at the hub. `sha256` is known of large files, `sha1` (git's, over a header and the bytes) of others."""

    path: str
    size: int
    sha256: Digest | None
    sha1: str | None

    @property
    def quantisation(self) -> str | None:
        """The quantisation in its name, lower case."""
        found = _QUANTISATION.findall(self.path)
        return found[-1].lower() if found else None


@dataclass(frozen=True)
class HubModel:
    """What to take of a model. `commit` pins it; `licence` and `bases` are what its card says."""

    repo: str
    commit: str
    files: tuple[HubFile, ...]
    licence: str | None
    bases: tuple[str, ...]
    tags: tuple[str, ...]


def look(ref: HubRef, *, pickle: bool = False) -> HubModel:
    """Ask the hub about a model and choose the files to take.

    Raises NotFoundError (no such model, revision, file or quantisation), UnauthorisedError (a token is needed),
    PolicyRefusedError (nothing but pickled weights), DownloadError (the hub is not reached).
    """
    info = _asked(lambda: _api().model_info(ref.repo, revision=ref.revision, files_metadata=True, timeout=30.0), ref)
    if not info.sha or not re.fullmatch(r"[0-9a-f]{40}", info.sha):
        raise DownloadError(f"The hub does not say at which commit {ref.repo} is.")
    card = info.card_data or {}
    bases = card.get("base_model") or ()
    return HubModel(
        ref.repo,
        info.sha,
        tuple(choose(_files(info.siblings or ()), ref, pickle=pickle)),
        _text(card.get("license_name") if card.get("license") == "other" else card.get("license")),
        (bases,) if isinstance(bases, str) else tuple(str(base) for base in bases),
        tuple(str(tag) for tag in (info.tags or ())[:50]),
    )


def choose(files: Sequence[HubFile], ref: HubRef, *, pickle: bool = False) -> list[HubFile]:
    """The files to take: the one named, the GGUF of the quantisation asked for (or preferred), else safetensors."""
    if ref.file is not None:
        return _named(files, ref.file, pickle)
    whole = [file for file in files if is_whole_model(file.path) and role_of(file.path) == "weights"]
    if whole:
        return _quantised(whole, ref)
    if ref.quantisation:
        raise NotFoundError(f"{ref.repo} has no GGUF files, so no {ref.quantisation}.")
    beside = [file for file in files if goes_along(file.path)]
    tensors = [file for file in files if (kind := format_of(file.path)) is not None and kind.folder]
    if tensors:
        return beside + tensors
    pickled = [file for file in files if is_pickle(file.path)]
    if pickled and not pickle:
        raise PolicyRefusedError(
            f"{ref.repo} has its weights only as pickles ({pickled[0].path}), which can run code when they are opened.",
            hint="Look for a GGUF or safetensors version. --pickle lets them in this once; they are scanned, not run.",
        )
    if not pickled:
        raise NotFoundError(f"{ref.repo} has no weights that Pantry knows.")
    return beside + pickled


def wanted(model: HubModel, file: HubFile) -> DownloadTarget:
    """Where to fetch a file: at the commit, with the token if there is one."""
    from huggingface_hub import get_token, hf_hub_url

    url = hf_hub_url(model.repo, file.path, revision=model.commit, endpoint=endpoint())
    token = get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return DownloadTarget(Address.parse(url), file.size, file.sha256, headers)


def cached(model: HubModel, file: HubFile) -> Path | None:
    """The file in the hub's own cache on this machine, if it is there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.repo, file.path, revision=model.commit)
    return Path(found).resolve() if isinstance(found, str) and Path(found).is_file() else None


def check_small(file: HubFile, path: Path) -> Digest:
    """The SHA-256 of a small file whose git SHA-1 is right. Raises VerificationError when it is not."""
    content = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if file.sha1 is not None and git != file.sha1:
        raise VerificationError(f"{file.path} is not what the hub says: git object {git[:12]}…, not {file.sha1[:12]}….")
    return Digest(hashlib.sha256(content).hexdigest())


def endpoint() -> str:
    """The address of the hub, as `HF_ENDPOINT` says now."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint(), library_name="pantry")


def _asked(question: Callable[[], T], ref: HubRef) -> T:
    """The hub's answer, its errors turned into ours."""
    import httpx
    from huggingface_hub import errors

    try:
        for _ in range(_TRIES - 1):
            with contextlib.suppress(httpx.TransportError):
                return question()
        return question()
    except errors.GatedRepoError:
        raise UnauthorisedError(
            f"{ref.repo} is open only to those who accepted its terms.",
            hint=f"Accept them at {endpoint()}/{ref.repo}, and set HF_TOKEN or run: hf auth login",
        ) from None
    except errors.RevisionNotFoundError:
        raise NotFoundError(f"{ref.repo} has no revision {ref.revision!r}.") from None
    except errors.RepositoryNotFoundError:
        hint = "Check the name. A private model needs a token: set HF_TOKEN."
        raise NotFoundError(f"The hub has no model {ref.repo!r}.", hint=hint) from None
    except errors.HFValidationError as error:
        raise UsageError(f"{ref.repo!r} is not the name of a model: {error}") from None
    except (errors.HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        raise DownloadError(f"The hub {endpoint()} gave no proper answer: {error}.", hint="Try again later.") from None


def _files(siblings: Sequence[Any]) -> list[HubFile]:
    if len(siblings) > MAX_FILES:
        raise DownloadError(f"The model lists {len(siblings)} files; at most {MAX_FILES} are looked at.")
    found = []
    for each in siblings:
        try:
            check_path(each.rfilename)
            digest = Digest.parse(f"sha256:{each.lfs.sha256}") if each.lfs else None
        except (BadFileError, UsageError):
            continue
        if each.size is not None:
            found.append(HubFile(each.rfilename, each.size, digest, None if digest else each.blob_id))
    return found


def _named(files: Sequence[HubFile], path: str, pickle: bool) -> list[HubFile]:
    found = next((file for file in files if file.path == path), None)
    if found is None:
        raise NotFoundError(f"There is no file {path!r}.", hint=did_you_mean(path, [file.path for file in files]))
    if is_pickle(path) and not pickle:
        raise PolicyRefusedError(
            f"{path} is a pickle, which can run code when it is opened.",
            hint="Take a GGUF or safetensors file. --pickle lets it in this once; it is scanned, not run.",
        )
    return _all_parts(found, files)


def _quantised(files: Sequence[HubFile], ref: HubRef) -> list[HubFile]:
    named = {file.quantisation: file for file in reversed(files) if file.quantisation}
    if ref.quantisation is None:
        preferred = next((named[name] for name in PREFERRED if name in named), None)
        return _all_parts(preferred or min(files, key=lambda file: file.path), files)
    found = named.get(ref.quantisation.lower())
    if found is None:
        listed = f"There are: {', '.join(sorted(name for name in named if name))}."
        raise NotFoundError(
            f"{ref.repo} has no {ref.quantisation}.",
            hint=did_you_mean(ref.quantisation.lower(), filter(None, named), listed),
        )
    return _all_parts(found, files)


def _all_parts(file: HubFile, files: Sequence[HubFile]) -> list[HubFile]:
    """The file, or all the parts of the model that it is one of, in order."""
    part = part_name(file.path)
    if part is None:
        return [file]
    known = {each.path: each for each in files}
    missing = [name for name in part.all if name not in known]
    if missing:
        raise NotFoundError(f"{missing[0]} is missing at the hub: the model is in {part.count} files.")
    return [known[name] for name in part.all]


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None
