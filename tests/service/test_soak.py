"""The soak of bench/soak.py, for less than a minute."""

import pytest

from bench.soak import soak

pytestmark = pytest.mark.slow


def test_mixed_load_grows_nothing_and_leaves_nothing() -> None:
    assert soak(0.7) == []
