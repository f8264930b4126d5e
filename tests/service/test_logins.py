"""Codes and logins of the owner's page."""

import re
from pathlib import Path

import pytest

from pantry.service import logins as logins_module
from pantry.service.logins import CODE_AGE, IDLE, LONGEST, MOST, Logins


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logins(clock: Clock) -> Logins:
    return Logins(clock)


def logged_in(logins: Logins) -> tuple[str, str]:
    made = logins.redeem(logins.new_code())
    assert made
    return made


def test_code_works_once(logins: Logins) -> None:
    code = logins.new_code()
    assert logins.redeem(code)
    assert logins.redeem(code) is None
    assert logins.redeem("") is None


def test_old_code_does_not_work(logins: Logins, clock: Clock) -> None:
    code = logins.new_code()
    clock.now += CODE_AGE + 1
    assert logins.redeem(code) is None


def test_cookie_and_token_belong_together(logins: Logins) -> None:
    (cookie, token), (other_cookie, other_token) = logged_in(logins), logged_in(logins)
    assert logins.holds(cookie, token)
    for pair in [(cookie, other_token), (other_cookie, token), (token, cookie), (cookie, ""), ("", token), ("", "")]:
        assert not logins.holds(*pair)


def test_bytes_that_are_no_text_hold_no_login(logins: Logins) -> None:
    made = logins.redeem(logins.new_code())
    assert made
    for odd in ("\udce9", f"{made[0]}\udce9"):  # as header bytes beyond UTF-8 arrive
        assert not logins.holds(odd, odd)
        assert not logins.holds(made[0], odd)


def test_login_ends_when_idle_at_its_age_and_by_hand(logins: Logins, clock: Clock) -> None:
    idle, old, ended = logged_in(logins), logged_in(logins), logged_in(logins)
    logins.end(ended[0])
    assert not logins.holds(*ended)
    for _ in range(int(LONGEST / (IDLE - 1)) + 1):
        clock.now += IDLE - 1
        held = logins.holds(*old)
    assert not held, "a login in use ends at its age"
    assert not logins.holds(*idle)


def test_login_in_use_goes_on(logins: Logins, clock: Clock) -> None:
    mine = logged_in(logins)
    for _ in range(5):
        clock.now += IDLE - 1
        assert logins.holds(*mine)


def test_oldest_goes_beyond_the_bound(logins: Logins) -> None:
    first_code = logins.new_code()
    for _ in range(MOST):
        logins.new_code()
    assert logins.redeem(first_code) is None
    first = logged_in(logins)
    for _ in range(MOST):
        last = logged_in(logins)
    assert not logins.holds(*first)
    assert logins.holds(*last)


def test_secrets_are_kept_as_digests_only(logins: Logins) -> None:
    code, (cookie, token) = logins.new_code(), logged_in(logins)
    kept = repr((logins._codes, logins._logins))
    assert not [secret for secret in (code, cookie, token) if secret in kept or secret.encode().hex() in kept]


def test_page_files_hold_no_foreign_address_and_set_no_html() -> None:
    for file in (Path(logins_module.__file__).parent / "web" / "static").rglob("*.*"):
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(
            r"https?://|innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b| style=| on\w+=\"", text
        ), file
