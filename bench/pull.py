"""Pulling against curl, and the store's lists: `python -m bench.pull [--gb 1]` prints Markdown tables.

The server is nginx on loopback, started here with a configuration of its own. A download is complete when its digest
is known to be right: for curl, `sha256sum` comes after it. Every step runs in a process of its own and is repeated;
the fastest counts. `pantry pull` also verifies the signature, unboxes the flatpack and installs it. Times of lists
are of the database calls alone, in a process that has them open.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.flatpack import measure

NGINX = """
{user} daemon off; pid {work}/nginx.pid; error_log {work}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;
  fastcgi_temp_path {work}/fastcgi; uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }} }}
"""
LIST = """SELECT models.*, path, role, model_parts.digest, size
    FROM models JOIN model_parts USING (name, tag) JOIN blobs ON blobs.digest = model_parts.digest ORDER BY name, tag"""
FETCH = """
from pantry.core.refs import Digest
from pantry.repository.address import Address
from pantry.repository.fetch import Fetcher, DownloadTarget
from pantry.repository.limits import Limits
wanted = DownloadTarget(Address.parse("{url}"), {size}, Digest("{digest}"))
with Fetcher(work / "partial", Limits(connections={connections})).fetched(wanted):
    pass
"""
PULL = """
import os, shutil
os.environ["PANTRY_HOME"] = str(work / "home")
from pantry.core.paths import find_paths
from pantry.operations.pull import pull
shutil.rmtree(work / "home" / "data", ignore_errors=True)
start, before = time.perf_counter(), sum(os.times()[:4])
assert not pull(find_paths(), "big").up_to_date
"""
AGAIN = PULL.replace('shutil.rmtree(work / "home" / "data", ignore_errors=True)\n', "").replace("assert not", "assert")


@contextlib.contextmanager
def nginx(root: Path, work: Path) -> Iterator[str]:
    """nginx serving `root`; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = work / "nginx.conf"
    config.write_text(NGINX.format(user="user root;" if os.getuid() == 0 else "", work=work, port=port, root=root))
    process = subprocess.Popen(["nginx", "-c", str(config), "-p", str(work)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def big_repository(folder: Path, work: Path, size: int) -> Path:
    """A repository in `folder` with one flatpack of `size` random bytes in a GGUF file; its `.fpk` there."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from pantry.core.paths import find_paths
    from pantry.flatpack.archive.archive import pack
    from pantry.flatpack.signing.signature import sign
    from tests.repository.flatpacks import SIGNER, Published, make_flatpack, trust_signer

    made = make_flatpack(work / "made", "big", key=None)
    source = work / "made" / "source-big-1.0.0"
    with (source / "model.gguf").open("ab") as file:
        for left in range(size, 0, -(1 << 24)):
            file.write(os.urandom(min(left, 1 << 24)))
    pack(source, made)
    sign(made, [SIGNER])
    lab = Published(folder).create()
    lab.publish(made)
    shutil.rmtree(work / "made")
    paths = find_paths({"PANTRY_HOME": str(work / "home")})
    trust_signer(paths)
    (work / "root.json").write_bytes(lab.root)
    return next((folder / "targets").rglob("*.fpk"))


def downloads(base: Path, size: int, repeats: int) -> None:
    """Print the table of downloads."""
    root, work = base / "served", base / "work"
    root.mkdir()
    work.mkdir()
    file = big_repository(root, work, size)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    with nginx(root, work) as address:
        url = f"{address}/{file.relative_to(root)}"
        environment = {**os.environ, "PANTRY_HOME": str(work / "home")}
        add = [sys.executable, "-m", "pantry", "repo", "add", "lab", address, "--root", str(work / "root.json")]
        subprocess.run(add, env=environment, check=True, capture_output=True)
        fill = {"url": url, "size": file.stat().st_size, "digest": digest}
        curl = f"curl -sS -o {work}/curl.out {url}"
        shell = "import subprocess; subprocess.run({!r}, shell=True, check=True, stdout=subprocess.DEVNULL)"
        steps = {
            "curl, then sha256sum": shell.format(f"{curl} && sha256sum {work}/curl.out"),
            "curl alone, nothing verified": shell.format(curl),
            "the downloader, one connection": FETCH.format(connections=1, **fill),
            "the downloader": FETCH.format(connections=4, **fill),
            "pantry pull, to an installed model": PULL,
            "pantry pull again: up to date": AGAIN,
        }
        found = {name: measure(body, root, work, repeats) for name, body in steps.items()}
    base_seconds = found["curl, then sha256sum"][0]
    print(f"\n{size / 1e9:.2f} GB from nginx on loopback, {os.cpu_count()} cores\n")
    print(
        "| step | seconds | MB/s | times curl + sha256sum | CPU seconds | peak memory |\n|---|---:|---:|---:|---:|---:|"
    )
    for name, (seconds, cpu, peak) in found.items():
        memory = "" if name.startswith("curl") else f"{peak / 1e6:.0f} MB"
        rate, ratio = size / 1e6 / seconds, base_seconds / seconds
        print(f"| {name} | {seconds:.3f} | {rate:.0f} | {ratio:.2f} | {cpu:.2f} | {memory} |")


def lists(base: Path, installed: int, offered: int, repeats: int) -> None:
    """Print the table of lists: `installed` models in the store, `offered` entries in a repository's index."""
    from pantry.core.paths import find_paths
    from pantry.core.refs import Digest, ModelName
    from pantry.repository.entry import Custom, Entry, Snapshot
    from pantry.repository.index import Index, Query
    from pantry.store.models import Store

    paths = find_paths({"PANTRY_HOME": str(base / "lists")})
    words = ["fox", "owl", "story", "code", "chat", "small", "medical", "legal", "german", "vision"]
    with Store.open(paths) as store:
        with store.database.transaction():
            for n in range(installed):
                digest = str(Digest(f"{n:064x}"))
                store.database.execute("INSERT INTO blobs VALUES (?, 1, '', '')", (digest,))
                store.database.execute(
                    "INSERT INTO models VALUES (?, 'latest', ?, 'gguf', 's', '{\"context\": 4096}', '', NULL)",
                    (f"model-{n}", digest),
                )
                store.database.execute(
                    "INSERT INTO model_parts VALUES (?, 'latest', 'model.gguf', 'weights', ?)", (f"model-{n}", digest)
                )
        entries = []
        for n in range(offered):
            pick = [words[n % 10], words[n // 10 % 10], words[n // 100 % 10]]
            facts = Custom(
                kind="model", name=f"pub-{n % 500}/{pick[0]}-{n}", version="1.0.0", tags=(pick[1],),
                summary=f"A {pick[0]} model for {pick[1]} and {pick[2]}.", size=n * 1000,
            )  # fmt: skip
            entries.append(Entry("lab", f"{facts.name}/{n}.fpk", 1000, Digest(f"{n:064x}"), facts))
        index = Index(store.database)
        start = time.perf_counter()
        index.replace(Snapshot("lab", 1, 1, "2099-01-01T00:00:00Z", tuple(entries)))
        filled = time.perf_counter() - start
        calls = {
            f"list {installed:,} models": lambda: store.list(),
            f"list {installed:,} models: the database's part": lambda: store.database.rows(LIST),
            f"show one of {installed:,}": lambda: store.get(ModelName("model-77")),
            f"search {offered:,}: a common word": lambda: index.search(Query(("fox",)), 50),
            f"search {offered:,}: two words": lambda: index.search(Query(("med", "germ")), 50),
            f"search {offered:,}: a word, a tag, memory": lambda: index.search(
                Query(("owl",), tags=("code",), max_memory=30_000_000), 50
            ),
            f"search {offered:,}: no word, a tag": lambda: index.search(Query(tags=("legal",)), 50),
            f"search {offered:,}: nothing matches": lambda: index.search(Query(("zebra",)), 50),
            f"one name of {offered:,}": lambda: index.named("pub-7/german-7"),
        }
        print(f"\n| call | milliseconds |\n|---|---:|\n| index {offered:,} new entries | {filled * 1000:.0f} |")
        for name, call in calls.items():
            best = float("inf")
            for _ in range(repeats):
                start = time.perf_counter()
                call()
                best = min(best, time.perf_counter() - start)
            print(f"| {name} | {best * 1000:.1f} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1.0, help="size of the flatpack")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to put the files")
    parser.add_argument("--only", choices=["downloads", "lists"])
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="bench-pull-", dir=options.folder))
    try:
        if options.only != "lists":
            if shutil.which("nginx") is None:
                print("nginx is not installed: apt install nginx")
            else:
                downloads(base, int(options.gb * 1e9), options.repeats)
        if options.only != "downloads":
            lists(base, 10_000, 100_000, options.repeats)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
