"""The data room stands alone: what tunes, quantises or evaluates needs neither the training nor torch for it."""

from __future__ import annotations

import subprocess
import sys

from tests.test_layers import PACKAGE, imports_of, module_names

ROOM = "pantry.workshop.data"

IMPORT_ALL = """
import sys
for name in ("torch", "datasets", "pyarrow", "py3langid"):
    sys.modules[name] = None
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
loaded = [n for n in sys.modules if n.startswith("pantry.workshop.") and not n.startswith("pantry.workshop.data")]
assert loaded == [], loaded
"""


def test_it_imports_neither_the_training_nor_the_recipe() -> None:
    for name, file in module_names(PACKAGE).items():
        if name.startswith(ROOM):
            other = {each for each in imports_of(file.read_text()) if each.startswith("pantry.workshop.")}
            assert all(each.startswith(ROOM) for each in other), f"{name} imports {other}"


def test_it_loads_without_torch_and_without_what_only_some_sources_need() -> None:
    names = [name for name in module_names(PACKAGE) if name.startswith(ROOM)]
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
