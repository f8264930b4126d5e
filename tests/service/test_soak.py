"""The soak of bench/soak.py, for five minutes or as many as SOAK_MINUTES says."""

import os

import pytest

from bench.soak import soak

MINUTES = float(os.environ.get("SOAK_MINUTES", "5"))


@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 60 + 120)
def test_mixed_load_grows_nothing_and_leaves_nothing() -> None:
    assert soak(MINUTES) == []
