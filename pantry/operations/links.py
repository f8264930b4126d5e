"""Deep links: `pantry://pull/NAME?repo=URL`, `pantry://load/NAME`, `pantry://run/NAME?prompt=TEXT`.

A link comes from a web page or a letter, so it only ever says what it would do; doing it needs the user's yes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pantry.core.errors import NotFoundError, UsageError, did_you_mean
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.repository.configured import Repositories

Action = Literal["pull", "load", "run"]
_TAKES: dict[Action, tuple[str, ...]] = {"pull": ("repo",), "load": (), "run": ("prompt",)}
LONGEST_LINK = 4000  # characters
LONGEST_PROMPT = 2000  # characters


@dataclass(frozen=True)
class Link:
    """What a link asks for."""

    action: Action
    model: ModelName
    repo: str | None = None
    prompt: str | None = None

    def describe(self) -> str:
        """What would happen, in words for the user."""
        where = f" from the repository {self.repo}" if self.repo else ""
        said = f" and ask it: {self.prompt}" if self.prompt else ""
        verbs = {"pull": "download, verify and install", "load": "load", "run": "load"}
        return f"{verbs[self.action]} the model {self.model}{where}{said}"


def parse_link(text: str) -> Link:
    """Parse a link. Raises UsageError for another scheme, action, parameter, or anything that does not fit."""
    if len(text) > LONGEST_LINK or not text.isprintable():
        raise UsageError("This link is too long or has characters that no link has.")
    try:
        parts = urlsplit(text.strip())
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise UsageError(f"{text[:120]!r} is not a link.") from None
    if parts.scheme != "pantry" or parts.fragment:
        raise UsageError(f"{text[:120]!r} is not a link of Pantry.", hint="It looks like pantry://pull/qwen3-0.6b.")
    action = next((each for each in _TAKES if each == parts.netloc), None)
    if action is None:
        hint = did_you_mean(parts.netloc, _TAKES, f"Known: {', '.join(_TAKES)}.")
        raise UsageError(f"A link cannot ask to {parts.netloc[:40]!r}.", hint=hint)
    parameters = dict(given)
    unknown = [name for name in parameters if name not in _TAKES[action]]
    if unknown or len(parameters) != len(given):
        takes = ", ".join(_TAKES[action]) or "none"
        raise UsageError(f"The parameters of this link do not fit: {action} takes {takes}, once.")
    prompt = parameters.get("prompt")
    if prompt is not None and (len(prompt) > LONGEST_PROMPT or not prompt.replace("\n", " ").isprintable()):
        raise UsageError(f"The prompt of this link is over {LONGEST_PROMPT} characters or not printable.")
    return Link(action, ModelName.parse(unquote(parts.path.strip("/"))), _repo(parameters.get("repo")), prompt)


def repository_of(paths: Paths, link: Link) -> str | None:
    """The configured name of the repository a link names; None when it names none.

    Raises NotFoundError for one that is not configured: a link never adds a root of trust.
    """
    if link.repo is None:
        return None
    for each in Repositories(paths).list():
        if each.url.rstrip("/") == link.repo.rstrip("/") or each.name == link.repo:
            return each.name
    raise NotFoundError(
        f"The repository {link.repo} is not one of yours.",
        hint=f"If you trust it: pantry repo add NAME {link.repo} --root FILE",
    )


def _repo(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    except ValueError:
        raise UsageError(f"{text[:120]!r} is no address of a repository.") from None
    if not parts.hostname or parts.username or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise UsageError(f"{text[:120]!r} is no address of a repository.", hint="It begins with https://.")
    return text
