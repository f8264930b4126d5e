"""Which hosts are this machine alone."""

import pytest

from pantry.core.hosts import is_loopback


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("lab.example", False),
    ],
)
def test_loopback_addresses(host: str, private: bool) -> None:
    assert is_loopback(host) is private
