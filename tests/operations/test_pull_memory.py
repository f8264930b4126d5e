"""How much memory a pull takes: what it needs to read and write in passing, however large the model is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pantry.core.paths import Paths
from pantry.operations.repositories import add_repository
from tests.repository.flatpacks import Published, gguf, make_flatpack, trust_signer

SIZE = 300_000_000
MOST = 150_000_000  # bytes

MEASURED = """
from pathlib import Path
from pantry.core.paths import find_paths
from pantry.operations.pull import pull
assert not pull(find_paths(), "big").up_to_date
(line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(int(line.split()[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_a_large_pull_takes_little_memory(paths: Paths, tmp_path: Path) -> None:
    """From the standard library's file server, which knows no ranges."""
    lab = Published(tmp_path / "lab").create()
    lab.publish(make_flatpack(tmp_path / "work", "big", content=gguf("big") + os.urandom(SIZE)))
    trust_signer(paths)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(lab.folder)]
    with subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port)
            add_repository(paths, "lab", f"http://127.0.0.1:{port}", lab.folder / "root.json")
            done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, timeout=120)
        finally:
            server.terminate()
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MOST


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError("the file server did not start")
