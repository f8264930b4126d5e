"""Who is logged in on the owner's page: one-time codes and browser logins, in memory only, so a restart ends them all.

A login is a cookie and a token. Cookies are sent to every port of a host, so another server on this machine may see
the cookie of a browser that visits it; the token is kept by the page's own origin, port included. Neither is enough
alone. Only digests are kept here.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

CODE_AGE = 120.0  # seconds in which a one-time code must be used
IDLE = 3600.0  # seconds after its last call that a login ends
LONGEST = 24 * 3600.0  # seconds after which a login ends in any case
MOST = 16  # codes, and logins, that exist at once; the oldest goes first


@dataclass
class _Login:
    token: bytes
    began: float
    used: float


class Logins:
    """Codes that the owner asked for and logins that came of them. `clock` gives seconds of a monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._codes: dict[bytes, float] = {}
        self._logins: dict[bytes, _Login] = {}

    def new_code(self) -> str:
        """A code that logs in one browser once, within CODE_AGE seconds."""
        code = secrets.token_urlsafe(32)
        self._codes[_digest(code)] = self._clock()
        _drop_oldest(self._codes)
        return code

    def redeem(self, code: str) -> tuple[str, str] | None:
        """Use up a code: the cookie and the token of a new login; None for an unknown, used or old code."""
        made = self._codes.pop(_digest(code), None)
        moment = self._clock()
        if made is None or moment - made > CODE_AGE:
            return None
        cookie, token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._logins[_digest(cookie)] = _Login(_digest(token), moment, moment)
        _drop_oldest(self._logins)
        return cookie, token

    def holds(self, cookie: str, token: str) -> bool:
        """Whether the two belong to a login that has not ended."""
        login, moment = self._logins.get(_digest(cookie)), self._clock()
        if login is None:
            return False
        if moment - login.used > IDLE or moment - login.began > LONGEST:
            self.end(cookie)
            return False
        if not hmac.compare_digest(login.token, _digest(token)):
            return False
        login.used = moment
        return True

    def end(self, cookie: str) -> None:
        """Log out."""
        self._logins.pop(_digest(cookie), None)


def _drop_oldest(kept: dict[bytes, float] | dict[bytes, _Login]) -> None:
    while len(kept) > MOST:
        del kept[next(iter(kept))]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()  # headers may hold any byte
