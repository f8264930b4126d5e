"""What `pantry pull` is given, parsed once: a name in the repositories, a model of a hub, an address, or a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pantry.core.errors import UsageError
from pantry.core.refs import ModelName
from pantry.repository.address import Address

_PART = r"[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?"
_NAME = re.compile(rf"((?:{_PART}/)?{_PART})(?::([A-Za-z0-9][A-Za-z0-9._+-]{{0,63}}))?")
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_QUANTISATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,15}")
SUFFIX = ".fpk"


@dataclass(frozen=True)
class NamedRef:
    """`name[:version]` in the configured repositories; the name may have a publisher before it."""

    name: str
    version: str | None

    def __str__(self) -> str:
        return f"{self.name}:{self.version}" if self.version else self.name


@dataclass(frozen=True)
class HubRef:
    """`hf://ORG/REPO[@REVISION][/FILE][:QUANTISATION]`."""

    repo: str
    revision: str | None = None
    file: str | None = None
    quantisation: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        file = f"/{self.file}" if self.file else ""
        return f"hf://{self.repo}{revision}{file}{f':{self.quantisation}' if self.quantisation else ''}"


@dataclass(frozen=True)
class UrlRef:
    """A flatpack at an address."""

    url: Address

    def __str__(self) -> str:
        return self.url.shown


@dataclass(frozen=True)
class FileRef:
    """A flatpack on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


PullRef = NamedRef | HubRef | UrlRef | FileRef


def parse_ref(text: str) -> PullRef:
    """Parse what was asked for. Raises UsageError that shows the forms."""
    text = text.strip()
    if text.startswith(("hf://", "hf.co/")):
        return _parse_hub(text.removeprefix("hf://").removeprefix("hf.co/"), text)
    if "://" in text:
        return UrlRef(Address.parse(text))
    if text.endswith(SUFFIX) or text.startswith(("./", "../", "/", "~")):
        return _parse_file(text)
    found = _NAME.fullmatch(text) or _NAME.fullmatch(text.lower())
    if not found or ".." in text:
        raise UsageError(
            f"{text[:80]!r} is nothing that can be pulled.",
            hint="Write NAME, NAME:VERSION, hf://ORG/REPO:QUANTISATION, https://…/x.fpk or ./x.fpk.",
        )
    return NamedRef(found[1], found[2])


def _parse_file(text: str) -> FileRef:
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"{text[:80]!r}: there is no such user on this machine.") from None
    if "\0" in text:
        raise UsageError(f"{text[:80]!r} is not a path.")
    return FileRef(path)


def _parse_hub(rest: str, text: str) -> HubRef:
    parts = rest.split("/", 2)
    if len(parts) < 2:
        raise UsageError(f"{text[:80]!r} names no model of the hub.", hint="Write hf://ORG/REPO[@REVISION][/FILE].")
    org, repo, file = parts[0], parts[1], parts[2] if len(parts) > 2 else None
    quantisation = None
    if file is None and ":" in repo:
        repo, _, quantisation = repo.partition(":")
    repo, at, revision = repo.partition("@")
    revision = unquote(revision)
    if (
        not _HUB_NAME.fullmatch(org)
        or not _HUB_NAME.fullmatch(repo)
        or (at and (not _REVISION.fullmatch(revision) or ".." in revision))
        or (quantisation is not None and not _QUANTISATION.fullmatch(quantisation))
        or (file is not None and (not file or any(part in ("", ".", "..") for part in file.split("/"))))
    ):
        raise UsageError(f"{text[:80]!r} names no model of the hub.", hint="Write hf://ORG/REPO[@REVISION][/FILE].")
    return HubRef(f"{org}/{repo}", revision or None, file, quantisation)


def local_name(package: str, tag: str = "latest") -> ModelName:
    """The name of a package's model on this machine: `ada/fox` becomes `ada-fox`."""
    return ModelName.parse(f"{package.replace('/', '-')}:{tag}")
