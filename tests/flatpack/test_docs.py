"""The Python example in docs/flatpack.md does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pantry.core.paths import Paths
from pantry.flatpack.signing.keyring import make_identity, signing_keys
from pantry.flatpack.signing.signature import sign

PAGE = Path(__file__).parent.parent.parent / "docs" / "flatpack.md"


def test_the_example_runs(source: Path, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source.rename(tmp_path / "my-pack")
    make_identity(paths, "me", ("p256",), None)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    before, after = code.split("with Reader")
    names: dict[str, object] = {}
    exec(before, names)
    sign(tmp_path / "my-pack.fpk", signing_keys(paths, "me", lambda key: None))
    exec("with Reader" + after, names)
    assert (tmp_path / "out" / "model.sig").is_file()
