"""The licence of what was rebuilt: both of base and change."""

from __future__ import annotations

import pytest

from pantry.core.errors import UsageError
from pantry.policy.joint_licence import stricter_licence


@pytest.mark.parametrize(
    ("base", "own", "both"),
    [
        (None, None, None),
        ("mit", None, "MIT"),
        (None, "Apache-2.0", "Apache-2.0"),
        ("MIT", "MIT", "MIT"),
        ("MIT", "Apache-2.0", "MIT AND Apache-2.0"),
        ("MIT", "MIT AND Apache-2.0", "MIT AND Apache-2.0"),
        ("MIT OR BSD-3-Clause", "Apache-2.0", "(MIT OR BSD-3-Clause) AND Apache-2.0"),
    ],
)
def test_the_result_is_under_both_licences(base: str | None, own: str | None, both: str | None) -> None:
    assert stricter_licence(base, own) == both


def test_an_unknown_licence_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Apache-2"):
        stricter_licence("Apache-2", None)
