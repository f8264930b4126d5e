"""Apps: registering, recognising by key, granting and taking away."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from urllib.parse import urlsplit

from pantry.core.errors import ForbiddenError, RateLimitError, UnauthorisedError, UsageError
from pantry.core.paths import Paths
from pantry.core.permissions import OWNER, Action, Caller, Grant, Permission, Ruling, decide
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.store.apps import App, Apps
from pantry.store.database import Database
from pantry.store.keys import Keys

MAX_NAME = 80  # characters of an app's name
REGISTRATIONS = 20  # new apps in each minute, over all callers
MAX_UNAPPROVED = 200  # apps that were never granted anything
_DAY = 86_400.0
MAX_DAYS = 36_500  # that a permission can be given for; longer is for good


class Registrar:
    """Takes in new apps, inside a rate and a bound."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._recent: deque[float] = deque()

    def register(self, name: str) -> tuple[App, str]:
        """A new app without permissions, and its key, which is shown this once.

        Raises ForbiddenError when the user turned registering off, UsageError for a bad name, RateLimitError.
        """
        if not self._settings.register_apps:
            raise ForbiddenError("Programs may not register by themselves here.", hint="Add one with: pantry app add")
        clean = app_name(name)
        self._check_rate()
        return new_app(self._database, clean)

    def of_origin(self, origin: str, title: str) -> App:
        """The app of a web origin, added without permissions when it is new, under what fits of the page's title.

        Raises ForbiddenError and RateLimitError as `register` does.
        """
        known = Apps(self._database).of_origin(origin)
        if known is not None:
            return known
        if not self._settings.register_apps:
            raise ForbiddenError(f"Pages of {origin} are not known here.", hint="Add one with: pantry app add --origin")
        self._check_rate()
        shown = " ".join("".join(char if char.isprintable() else " " for char in title).split())
        return Apps(self._database).add((shown or origin)[:MAX_NAME].strip(), parse_origin(origin))

    def _check_rate(self) -> None:
        moment = time.monotonic()
        while self._recent and self._recent[0] < moment - 60:
            self._recent.popleft()
        if len(self._recent) >= REGISTRATIONS:
            raise RateLimitError(f"More than {REGISTRATIONS} apps registered within a minute.", retry_after=60)
        if Apps(self._database).count_without_grants() >= MAX_UNAPPROVED:
            raise RateLimitError(
                f"{MAX_UNAPPROVED} apps wait for a first permission already.",
                hint="Remove those that are not wanted: pantry app remove --unapproved",
                retry_after=3600,
            )
        self._recent.append(moment)


def new_app(database: Database, name: str, origin: str | None = None) -> tuple[App, str]:
    """Add an app and its key, both or neither."""
    with database.transaction():
        app = Apps(database).add(app_name(name), parse_origin(origin) if origin else None)
        _, text = Keys(database).create(app.name, app.id)
    return app, text


def caller_of_key(database: Database, key: str) -> Caller:
    """Who a key belongs to: the owner or an app. Raises UnauthorisedError for an unknown or revoked one."""
    found = Keys(database).find(key)
    if found is None:
        raise UnauthorisedError("This key is unknown or was revoked.", hint="See: pantry env")
    return OWNER if found.app is None else Apps(database).get(found.app).caller()


def ruling_on(
    database: Database, caller: Caller, action: Action, model: ModelName | None = None, uncounted: int = 0
) -> Ruling:
    """The permission rule applied to a caller now; `model` is None for something about no model.

    `uncounted` tokens were used and are not in the database yet.
    """
    used = uncounted
    if caller.app is not None and caller.tokens_per_day is not None:
        used += Apps(database).get(caller.app).used_today
    return decide(caller, action, model, now=time.time(), used_today=used)


def refusal(caller: Caller, ruling: Ruling) -> UnauthorisedError | ForbiddenError:
    """The error for an action that was not allowed."""
    if caller.kind == "nobody":
        return UnauthorisedError(ruling.reason, hint="Register with the function register_app, or see: pantry env")
    return ForbiddenError(ruling.reason, hint="An app asks for it with the function request_permissions.")


def app_name(text: str) -> str:
    """A name fit to be shown to the user: one line of printable characters. Raises UsageError."""
    name = " ".join(text.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError(f"{text[:80]!r} is not a name for an app.", hint=f"Use 1 to {MAX_NAME} printable characters.")
    return name


def parse_origin(text: str) -> str:
    """A web origin like `https://notes.example:8443`, in its one written form. Raises UsageError."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.username or not host.isascii():
        raise UsageError(f"{text[:120]!r} is not a web origin.", hint="It looks like https://notes.example.")
    shown = f"[{host}]" if ":" in host else host
    standard = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{shown}" if port in (None, standard) else f"{parts.scheme}://{shown}:{port}"


def list_apps(paths: Paths) -> list[App]:
    """All apps by name."""
    with Database(paths.database) as database:
        return Apps(database).list()


def show_app(paths: Paths, text: str) -> App:
    """The app with this id, start of an id, or name. Raises NotFoundError."""
    with Database(paths.database) as database:
        return Apps(database).find(text)


def add_app(
    paths: Paths, name: str, origin: str | None, permissions: Iterable[Permission], grant: Grant
) -> tuple[App, str]:
    """Add an app by hand, with permissions; the app and its key, which is shown this once."""
    with Database(paths.database) as database:
        app, key = new_app(database, name, origin)
        Apps(database).grant(app.id, permissions, grant)
        return Apps(database).get(app.id), key


def grant_to_app(paths: Paths, text: str, permissions: Iterable[Permission], grant: Grant) -> App:
    """Give an app permissions. Raises NotFoundError."""
    with Database(paths.database) as database:
        apps = Apps(database)
        app = apps.find(text)
        apps.grant(app.id, permissions, grant)
        return apps.get(app.id)


def withdraw_from_app(paths: Paths, text: str, permissions: Iterable[Permission]) -> App:
    """Take permissions away from an app. Raises NotFoundError."""
    with Database(paths.database) as database:
        apps = Apps(database)
        app = apps.find(text)
        apps.withdraw(app.id, permissions)
        return apps.get(app.id)


def limit_app(paths: Paths, text: str, tokens_per_day: int | None) -> App:
    """Limit how many tokens an app may use a day; None lifts the limit. Raises NotFoundError."""
    with Database(paths.database) as database:
        apps = Apps(database)
        app = apps.find(text)
        apps.limit_tokens(app.id, tokens_per_day)
        return apps.get(app.id)


def remove_app(paths: Paths, text: str) -> App:
    """Forget an app: its keys stop working at once, its sessions and requests are deleted. Raises NotFoundError."""
    with Database(paths.database) as database:
        apps = Apps(database)
        app = apps.find(text)
        apps.remove(app.id)
        return app


def remove_unapproved_apps(paths: Paths) -> int:
    """Forget every app that has no permission; how many there were."""
    with Database(paths.database) as database:
        apps = Apps(database)
        return sum(apps.remove(app.id) for app in apps.list() if not app.grants)


def new_key(paths: Paths, text: str) -> tuple[App, str]:
    """Revoke the keys of an app and make a new one. Raises NotFoundError."""
    with Database(paths.database) as database, database.transaction():
        app = Apps(database).find(text)
        Keys(database).revoke_of_app(app.id)
        return app, Keys(database).create(app.name, app.id)[1]


def expiry(days: float | None) -> float | None:
    """The moment, in seconds since 1970, that lies `days` ahead; None is for good. Raises UsageError."""
    if days is not None and not 0 < days <= MAX_DAYS:
        raise UsageError(
            f"{days:g} days is not a valid time from now.", hint=f"Give a number above 0, at most {MAX_DAYS}."
        )
    return None if days is None else time.time() + days * _DAY
