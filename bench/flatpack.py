"""Flatpacks against plain hashing: `python -m bench.flatpack [--gb 1]` prints a Markdown table.

Every step runs in a process of its own, on files that were just read (a warm cache), and is repeated; the fastest
counts. Ratios are to one thread of SHA-256 over the same bytes. CPU seconds are of all threads; on a busy machine they
say more than the clock. Packing, signing and unboxing end with a sync, so they also measure the disk; `--folder` on a
memory file system leaves it out. Peak memory is the resident maximum of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

STEPS = {
    "sha256, one thread": """
import hashlib
for file in sorted(source.iterdir()):
    with file.open("rb", buffering=0) as f:
        hashlib.file_digest(f, "sha256")
""",
    "pack": "from pantry.flatpack.archive.archive import pack; pack(source, work / 'a.fpk')",
    "pack --store": "from pantry.flatpack.archive.archive import pack; pack(source, work / 's.fpk', level=None)",
    "sign": """
from pantry.flatpack.signing.signature import sign
from pantry.flatpack.signing.keys import load_private_key
sign(work / 'a.fpk', [load_private_key((work / 'key.pem').read_bytes(), None, 'key')], work / 'b.fpk')
""",
    "verify": """
from pantry.flatpack.signing.signature import verify
from pantry.flatpack.signing.keys import load_public_key
from pantry.flatpack.signing.trust import Trust
assert verify(work / 'b.fpk', Trust.only(load_public_key((work / 'pub.pem').read_bytes(), 'key'))).ok
""",
    "unbox": """
import shutil
from pantry.flatpack.archive.archive import Reader
shutil.rmtree(work / 'out', ignore_errors=True)
start, before = time.perf_counter(), sum(os.times()[:4])
with Reader(work / 'b.fpk') as reader:
    reader.unbox(work / 'out')
""",
    "inspect": """
from pantry.flatpack.archive.archive import Reader
start, before = time.perf_counter(), sum(os.times()[:4])
with Reader(work / 'b.fpk') as reader:
    reader.manifest, len(reader.entries)
""",
}
HARNESS = """
import re, os, sys, time
from pathlib import Path
source, work = Path(sys.argv[1]), Path(sys.argv[2])
{preamble}
start, before = time.perf_counter(), sum(os.times()[:4])
{body}
seconds = time.perf_counter() - start
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
print(seconds, sum(os.times()[:4]) - before, peak)
"""
PREAMBLE = """
import hashlib, shutil
import pantry.flatpack.archive.archive, pantry.flatpack.signing.keys
import pantry.flatpack.signing.signature, pantry.flatpack.signing.trust
"""
MANIFEST = """flatpack = 2
kind = "model"
name = "bench/weights"
version = "1.0.0"
summary = "Weights to measure with."
authors = ["bench"]
[model]
[provenance]
data_unknown = "The weights are noise."
"""


def make_weights(folder: Path, kind: str, size: int) -> None:
    """Fill `folder` with a manifest and one file of `size` bytes: bf16 normals, or blocks like Q4_0."""
    folder.mkdir()
    (folder / "flatpack.toml").write_text(MANIFEST)
    rng = np.random.default_rng(7)
    step = 9_000_000
    with (folder / "weights.bin").open("wb") as file:
        while file.tell() < size:
            if kind == "bf16":
                plain = rng.standard_normal(step // 2, dtype=np.float32) * np.float32(0.02)
                block = (plain.view(np.uint32) >> 16).astype(np.uint16).tobytes()
            else:
                parts = np.zeros((step // 18, 18), np.uint8)
                parts[:, :2] = rng.normal(0.01, 0.002, step // 18).astype(np.float16).view(np.uint8).reshape(-1, 2)
                parts[:, 2:] = rng.integers(0, 256, (step // 18, 16), dtype=np.uint8)
                block = parts.tobytes()
            file.write(block[: size - file.tell()])


def measure(body: str, source: Path, work: Path, repeats: int, preamble: str = "") -> tuple[float, float, float]:
    """`(seconds, CPU seconds, bytes of peak memory)`: the least times and the largest memory of the repeats."""
    runs = []
    for _ in range(repeats):
        command = [sys.executable, "-c", HARNESS.format(body=body, preamble=preamble), str(source), str(work)]
        runs.append([float(part) for part in subprocess.check_output(command, text=True).split()])
    return min(run[0] for run in runs), min(run[1] for run in runs), max(run[2] for run in runs)


def shell(command: str, repeats: int) -> tuple[float, float]:
    """`(seconds, CPU seconds)` of a shell command, the least of the repeats."""
    body = f"import subprocess; subprocess.run({json.dumps(command)}, shell=True, check=True, capture_output=True)"
    return measure(body, Path(), Path(), repeats)[:2]


def rows(kind: str, size: int, base: Path, repeats: int) -> list[tuple[str, float, float, float | None]]:
    """`(step, seconds, CPU seconds, peak bytes)` of every step over one kind of weights."""
    from pantry.flatpack.signing.keys import new_key

    source, work = base / kind, base / f"{kind}-work"
    work.mkdir()
    make_weights(source, kind, size)
    key = new_key("p256")
    (work / "key.pem").write_bytes(key.pem(None))
    (work / "pub.pem").write_bytes(key.public.pem)
    found: list[tuple[str, float, float, float | None]] = [
        (step, *measure(body, source, work, repeats, PREAMBLE)) for step, body in STEPS.items()
    ]
    tar = f"tar -C {source} -cf - . | zstd -1 -q -f -o {work}/plain.tar.zst"
    found.append(("tar \\| zstd -1", *shell(tar, repeats), None))
    for verb, option in (("sign", f"--private_key {work}/key.pem"), ("verify", f"--public_key {work}/pub.pem")):
        command = f"model_signing {verb} key {source} --signature {work}/model.sig {option}"
        found.append((f"model_signing {verb}", *shell(command, repeats), None))
    packed = (work / "b.fpk").stat().st_size
    print(f"\n{kind}: {size / 1e9:.2f} GB, packed to {packed / size:.1%}; tar | zstd -1 to", end=" ")
    print(f"{(work / 'plain.tar.zst').stat().st_size / size:.1%}; {os.cpu_count()} cores\n")
    return found


def main() -> None:
    """Measure both kinds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1.0, help="size of each kind of weights")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kind", choices=["bf16", "quantised"], action="append")
    parser.add_argument("--folder", type=Path, help="where to put the files, like /dev/shm")
    options = parser.parse_args()
    size = int(options.gb * 1e9)
    for kind in options.kind or ["bf16", "quantised"]:
        base = Path(tempfile.mkdtemp(prefix="bench-flatpack-", dir=options.folder))
        try:
            found = rows(kind, size, base, options.repeats)
        finally:
            shutil.rmtree(base)
        plain = found[0][1]
        print("| step | seconds | MB/s | times sha256 | CPU seconds | peak memory |\n|---|---:|---:|---:|---:|---:|")
        for step, seconds, cpu, peak in found:
            memory = f"{peak / 1e6:.0f} MB" if peak else ""
            rate, ratio = size / 1e6 / seconds, plain / seconds
            print(f"| {step} | {seconds:.3f} | {rate:.0f} | {ratio:.2f} | {cpu:.2f} | {memory} |")


if __name__ == "__main__":
    main()
