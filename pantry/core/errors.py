"""The one error tree.

Every error a user can meet is a `PantryError`. Each class fixes a machine-readable `code`, the HTTP status and the
process exit code, so that the command line and every API surface render it in one place. The message says what was
expected and what came; the hint says the next step.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from itertools import islice
from typing import Any, ClassVar


class PantryError(Exception):
    """Base of all errors shown to users. Raised itself only for faults inside Pantry."""

    code = "internal_error"
    status = 500
    exit_code = 1
    fields: ClassVar[dict[str, str]] = {}
    """What an error of this class says besides message and hint: the attribute, and its name in a reply."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class UsageError(PantryError):
    """The caller's words or values are off: a bad option, a body that does not parse, a value out of range."""

    code = "invalid_request"
    status = 400
    exit_code = 2


class PromptTooLongError(UsageError):
    """The prompt does not fit the model's context. Nothing is cut silently."""

    code = "context_length_exceeded"


class SlowClientError(UsageError):
    """The client took too long to send its request."""

    code = "request_timeout"
    status = 408


class NotFoundError(PantryError):
    """A model, file, key or other named thing does not exist."""

    code = "not_found"
    status = 404
    exit_code = 3


class ModelNotFoundError(NotFoundError):
    """No model of that name."""

    code = "model_not_found"


class UnauthorisedError(PantryError):
    """No key, or a wrong or revoked one."""

    code = "unauthorised"
    status = 401
    exit_code = 4


class ForbiddenError(PantryError):
    """The caller is known but may not do this, or comes from a wrong Host or Origin."""

    code = "forbidden"
    status = 403
    exit_code = 4


class PolicyRefusedError(ForbiddenError):
    """The policy (licence, signature, format, evidence) refuses this."""

    code = "policy_refused"
    exit_code = 5


class TermsError(PolicyRefusedError):
    """Something may be fetched only by who accepts its `terms`, and nobody did."""

    code = "terms_not_accepted"
    fields: ClassVar[dict[str, str]] = {"terms": "terms"}
    terms: str = ""

    def __init__(self, message: str, *, hint: str | None = None, terms: str = "") -> None:
        super().__init__(message, hint=hint)
        self.terms = terms


class ApprovalNeededError(ForbiddenError):
    """An app may not do this by itself; the user was asked, in the request `request_id`."""

    code = "approval_needed"
    exit_code = 17
    fields: ClassVar[dict[str, str]] = {"request_id": "request"}
    request_id: str = ""

    def __init__(self, message: str, *, hint: str | None = None, request_id: str = "") -> None:
        super().__init__(message, hint=hint)
        self.request_id = request_id


class ConflictError(PantryError):
    """The thing exists already, or its state does not allow this now."""

    code = "conflict"
    status = 409
    exit_code = 6


class TooLargeError(PantryError):
    """A body, line or file is over its limit."""

    code = "too_large"
    status = 413
    exit_code = 7


class BadFileError(PantryError):
    """A file is not what its name or caller says: cut short, damaged, or of another format."""

    code = "bad_file"
    status = 422
    exit_code = 8


class VerificationError(BadFileError):
    """A digest or signature does not match. The file is not used."""

    code = "verification_failed"
    exit_code = 9


class BusyError(PantryError):
    """The queue is full or a resource is taken for now; `retry_after` is in seconds."""

    code = "busy"
    status = 503
    exit_code = 10
    fields: ClassVar[dict[str, str]] = {"retry_after": "retry_after"}
    retry_after: int = 1

    def __init__(self, message: str, *, hint: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class RateLimitError(BusyError):
    """Too many calls of one kind, or too many open at once; the same call may work later."""

    code = "rate_limited"
    status = 429


class MemoryBudgetError(PantryError):
    """The model with this context needs more memory than the budget or the machine has."""

    code = "not_enough_memory"
    status = 507
    exit_code = 11


class StorageError(PantryError):
    """The disk is full, read-only or unreadable."""

    code = "storage_error"
    status = 507
    exit_code = 12


class EngineError(PantryError):
    """The engine could not load the model, died, or gave an answer that breaks its contract."""

    code = "engine_failed"
    status = 502
    exit_code = 13


class ServiceUnavailableError(PantryError):
    """The service does not run, or does not answer."""

    code = "service_unavailable"
    status = 503
    exit_code = 14


class DownloadError(PantryError):
    """A file could not be fetched: network, server or protocol failure."""

    code = "download_failed"
    status = 502
    exit_code = 15


class MissingExtraError(PantryError):
    """An optional part is not installed; the hint is the command that installs it."""

    code = "missing_extra"
    status = 501
    exit_code = 16

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional part that is not installed.",
            hint=f"Install it with: pip install 'pantry-llm[{extra}]'",
        )


class TrainingError(PantryError):
    """A training cannot go on: its numbers ran away. The last good checkpoint is kept."""

    code = "training_failed"
    exit_code = 18


MAX_COMPARED = 1000
"""Names that are compared to find the nearest; more would take longer than the hint is worth."""
INTERRUPTED_EXIT_CODE = 130
"""Exit code after Ctrl-C, as shells report it (128 + SIGINT)."""


def nearest(wanted: str, known: Iterable[str]) -> str | None:
    """The known name most like `wanted`, or None when nothing is close."""
    found = difflib.get_close_matches(wanted[:200], list(islice(known, MAX_COMPARED)), n=1, cutoff=0.5)
    return found[0] if found else None


def did_you_mean(wanted: str, known: Iterable[str], otherwise: str | None = None) -> str | None:
    """A hint that names the nearest known name, or `otherwise` when nothing is close."""
    name = nearest(wanted, known)
    return f"Did you mean {name!r}?" if name else otherwise


def error_classes() -> list[type[PantryError]]:
    """Every class of the tree, base first, in order of definition: for the tables in the docs."""
    found: list[type[PantryError]] = [PantryError]
    for parent in found:
        found.extend(parent.__subclasses__())
    return found


def storage_error(doing: str, error: OSError) -> StorageError:
    """What the operating system refused during `doing` ("writing the model"), as an error with the next step."""
    in_the_way = ("a file is in the way", "Move it, or set PANTRY_HOME to another folder.")
    reasons = {
        errno.ENOSPC: ("the disk is full", "Free some space and try again; nothing was kept half-written."),
        errno.EDQUOT: ("the disk quota is used up", "Free some space and try again."),
        errno.EROFS: ("the file system is read-only", "Set PANTRY_HOME to a folder you can write."),
        errno.EACCES: ("access is denied", "Check the owner and mode of that path."),
        errno.EPERM: ("access is denied", "Check the owner and mode of that path."),
        errno.ENOENT: ("it does not exist", None),
        errno.ENOTDIR: in_the_way,
        errno.EEXIST: in_the_way,
        errno.EISDIR: ("it is a folder, not a file", None),
    }
    reason, hint = reasons.get(error.errno or 0, (error.strerror or str(error), None))
    where = f" ({error.filename})" if error.filename else ""
    return StorageError(f"{doing} failed: {reason}{where}.", hint=hint)


def reply_of_error(error: PantryError) -> dict[str, Any]:
    """An error as any surface may send it: its text with the hint, its code, and what else its class says."""
    said: dict[str, Any] = {"message": str(error), "code": error.code}
    if error.hint:
        said["hint"] = error.hint
    return said | {name: getattr(error, field) for field, name in error.fields.items()}


def error_from_reply(reply: Any, status: int | None = None) -> PantryError:
    """The error that a service sent, as the class of the tree it came from; `status` is that of HTTP, if there is one.

    `reply` is what `reply_of_error` made, alone or as the member "error", which is the form of OpenAI. A code that this
    version does not know keeps its name in an error of the base class. What is not such a reply gives a
    ServiceUnavailableError: whatever sent it is not a working service.
    """
    said = reply.get("error", reply) if isinstance(reply, dict) else None
    if not isinstance(said, dict) or not isinstance(said.get("message", ""), str):
        answer = f"with status {status}" if status else "with an error"
        return ServiceUnavailableError(f"The service answered {answer} and gave no reason.")
    code, hint = said.get("code"), said.get("hint")
    kind = next((each for each in error_classes() if each.code == code), PantryError)
    error = kind.__new__(kind)
    hint = hint if isinstance(hint, str) else None
    message = said.get("message") or "The service gave no reason."
    PantryError.__init__(error, message.removesuffix(f" {hint}") if hint else message, hint=hint)
    for field, name in kind.fields.items():
        if type(said.get(name)) is type(getattr(kind, field)):
            setattr(error, field, said[name])
    if status not in (None, kind.status):
        error.status = status
    if isinstance(code, str) and code != kind.code:
        error.code = code
    return error
