"""Deltas against other tools: `python -m bench.delta PAIRS [--skip bsdiff4,...]` prints Markdown tables.

PAIRS is the folder that `python -m bench.delta_pairs TEXT PAIRS` makes. Everything but `.enc` runs on one core. Speeds
are MB of the full file per second of processor time, in all threads and programs, the best of three runs (one for the
slow tools): what other programs do meanwhile, and the disk, do not count. What comes back is compared with the target
every time. Tools that are not installed are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import math
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zstandard

from bench._report import machine, print_table, verdict
from pantry.formats.dtypes import ELEMENTS
from pantry.workshop.delta import xor_files as enc
from pantry.workshop.delta.adapter import LoraAdapter
from pantry.workshop.delta.apply import apply_delta
from pantry.workshop.delta.codec import BLOCK_BYTES, decode, encode
from pantry.workshop.delta.folder import DeltaFolder, delta_table
from pantry.workshop.delta.make import write_payload
from pantry.workshop.delta.payload import PAYLOAD_NAME, BaseTerms
from pantry.workshop.delta.plan import Planner
from pantry.workshop.delta.sources import Source

WEIGHTS = "model.safetensors"
TARGETS = {"very-small": 25.4, "small": 44.0, "large": 55.6, "frozen": 14.9, "lora": 5.5}
"""Percent of the full file in bf16, to reach or beat."""
LEAST_MAKE, LEAST_APPLY, LEAST_ENC = 250.0, 350.0, 20.0
"""MB/s, MB/s, and times the plain loop."""
ENC_ROUNDS = 4


@dataclass(frozen=True)
class Pair:
    """Two folders with one model file each."""

    dtype: str
    name: str
    base: Path
    target: Path
    adapter: Path | None = None

    @property
    def title(self) -> str:
        return f"{self.dtype} {self.name}"


@dataclass(frozen=True)
class Result:
    """Bytes stored, and seconds to make and to rebuild."""

    stored: int
    made: float
    rebuilt: float


def find_pairs(folder: Path) -> list[Pair]:
    pairs = []
    for dtype, names in (("bf16", TARGETS), ("fp16", ["small"]), ("fp32", ["small"])):
        for name in names:
            target = folder / f"{dtype}-{name}"
            adapter = folder / "adapter" if name == "lora" else None
            if target.is_dir():
                pairs.append(Pair(dtype, name, folder / f"{dtype}-base", target, adapter))
    return pairs


def used() -> float:
    """Processor seconds of this process and its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def best(work: Callable[[], object], times: int) -> float:
    """The fewest processor seconds."""
    found = []
    for _ in range(times):
        start = used()
        work()
        found.append(used() - start)
    return min(found)


def pantry_files(pair: Pair, room: Path) -> Result:
    """The whole way: read files, choose, code, hash, write, sync; then the same back."""
    target, delta, out = room / "target", room / "delta", room / "out"
    for path in (target, delta, out):
        shutil.rmtree(path, ignore_errors=True)
    target.mkdir()
    shutil.copy(pair.target / WEIGHTS, target)
    base, new = Source.open(pair.base), Source.open(target)
    lora = LoraAdapter(pair.adapter) if pair.adapter else None
    delta.mkdir()

    def make() -> None:
        (delta / PAYLOAD_NAME).unlink(missing_ok=True)
        write_payload(Planner(base, lora, {}, False), new, delta / PAYLOAD_NAME, base=BaseTerms())

    made = best(make, 3)
    index = write_payload(Planner(base, lora, {}, False), new, delta / PAYLOAD_NAME, base=BaseTerms())
    from pantry.flatpack.manifest import Manifest, write_manifest

    facts = {"kind": "delta", "name": "bench", "version": "1.0.0", "summary": "bench", "authors": ["bench"]}
    table = delta_table(index, base, name="base", repository=None)
    write_manifest(Manifest.model_validate({**facts, "delta": table}), delta)

    def apply() -> None:
        out.unlink(missing_ok=True)
        with DeltaFolder(delta) as opened, Source.open(pair.base) as again:
            apply_delta(again, opened, out)

    rebuilt = best(apply, 3)
    assert out.read_bytes() == (pair.target / WEIGHTS).read_bytes()
    return Result((delta / PAYLOAD_NAME).stat().st_size, made, rebuilt)


def pantry_codec(pair: Pair, _: Path) -> Result:
    """The codec alone, in memory, on all tensors end to end in blocks."""
    element = ELEMENTS[pair.dtype.replace("fp", "f")]
    old, new = (np.frombuffer(content, element.words) for content in tensor_bytes(pair))
    step = BLOCK_BYTES // element.width
    blocks = [(old[at : at + step], new[at : at + step]) for at in range(0, len(new), step)]
    coded: list[bytes] = []

    def make() -> None:
        coded[:] = [encode(target, base, element) for base, target in blocks]

    made = best(make, 3)
    rebuilt = best(lambda: [decode(c, b, element, len(b)) for c, (b, _) in zip(coded, blocks, strict=True)], 3)
    for code, (base, target) in zip(coded, blocks, strict=True):
        assert np.array_equal(decode(code, base, element, len(base)), target)
    return Result(sum(map(len, coded)), made, rebuilt)


def tensor_bytes(pair: Pair) -> tuple[bytes, bytes]:
    """All tensor bytes of base and target, in the target's order."""
    with Source.open(pair.base) as base, Source.open(pair.target) as target:
        names = [tensor.name for file in target.files for tensor in file.layout.tensors]
        return tuple(  # type: ignore[return-value]
            b"".join(source.tensors[name].read(0, source.tensors[name].tensor.length) for name in names)
            for source in (base, target)
        )


def xor_zstd(level: int) -> Callable[[Pair, Path], Result]:
    def run(pair: Pair, _: Path) -> Result:
        old, new = (np.frombuffer((f / WEIGHTS).read_bytes(), np.uint8) for f in (pair.base, pair.target))
        count = min(len(old), len(new))
        stored: list[bytes] = []

        def make() -> None:
            mixed = new.copy()
            mixed[:count] ^= old[:count]
            stored[:] = [zstandard.ZstdCompressor(level=level).compress(mixed.data)]

        def rebuild() -> bytes:
            mixed = np.frombuffer(zstandard.ZstdDecompressor().decompress(stored[0]), np.uint8).copy()
            mixed[:count] ^= old[:count]
            return mixed.tobytes()

        made, rebuilt = best(make, 1 if level > 9 else 3), best(rebuild, 3)
        assert rebuild() == new.tobytes()
        return Result(len(stored[0]), made, rebuilt)

    return run


def xor_zipnn(pair: Pair, _: Path) -> Result:
    from zipnn import ZipNN

    kind = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[pair.dtype]
    old, new = (np.frombuffer(content, np.uint8) for content in tensor_bytes(pair))
    coder = ZipNN(input_format="byte", bytearray_dtype=kind, threads=1)
    stored: list[bytes] = []

    def make() -> None:
        stored[:] = [coder.compress(bytearray((old ^ new).tobytes()))]

    def rebuild() -> bytes:
        return bytes((np.frombuffer(bytes(coder.decompress(stored[0])), np.uint8) ^ old).tobytes())

    made, rebuilt = best(make, 3), best(rebuild, 3)
    assert rebuild() == new.tobytes()
    return Result(len(stored[0]), made, rebuilt)


def bsdiff(pair: Pair, _: Path) -> Result:
    import bsdiff4

    old, new = ((folder / WEIGHTS).read_bytes() for folder in (pair.base, pair.target))
    stored: list[bytes] = []
    made = best(lambda: stored.append(bsdiff4.diff(old, new)), 1)
    rebuilt = best(lambda: bsdiff4.patch(old, stored[0]), 1)
    assert bsdiff4.patch(old, stored[0]) == new
    return Result(len(stored[0]), made, rebuilt)


def program(make: list[str], rebuild: list[str]) -> Callable[[Pair, Path], Result]:
    """A command-line tool; OLD, NEW, PATCH and OUT stand for files."""

    def run(pair: Pair, room: Path) -> Result:
        patch, out = room / "patch", room / "rebuilt"
        names = {
            "OLD": str(pair.base / WEIGHTS),
            "NEW": str(pair.target / WEIGHTS),
            "PATCH": str(patch),
            "OUT": str(out),
        }

        def call(command: list[str]) -> None:
            words = []
            for word in command:
                for name, path in names.items():
                    word = word.replace(name, path)
                words.append(word)
            subprocess.run(words, check=True, capture_output=True)

        times = 1 if "-19" in make or "xdelta3" in make else 3
        made = best(lambda: call(make), times)
        rebuilt = best(lambda: call(rebuild), 3)
        assert out.read_bytes() == (pair.target / WEIGHTS).read_bytes()
        return Result(patch.stat().st_size, made, rebuilt)

    return run


def methods() -> Iterator[tuple[str, Callable[[Pair, Path], Result]]]:
    yield "pantry, files", pantry_files
    yield "pantry, codec in memory", pantry_codec
    yield "XOR + zstd -3", xor_zstd(3)
    yield "XOR + zstd -19", xor_zstd(19)
    if importlib.util.find_spec("zipnn"):
        yield "XOR + zipnn", xor_zipnn
    if shutil.which("zstd"):
        undo = ["zstd", "-q", "-f", "-d", "--long=27", "--patch-from=OLD", "PATCH", "-o", "OUT"]
        for level in ("-3", "-19"):
            make = ["zstd", "-q", "-f", "--single-thread", level, "--long=27", "--patch-from=OLD", "NEW", "-o", "PATCH"]
            yield f"zstd --patch-from {level}", program(make, undo)
    if shutil.which("xdelta3"):
        base = ["xdelta3", "-f", "-B", "1073741824"]
        yield "xdelta3", program([*base, "-e", "-s", "OLD", "NEW", "PATCH"], [*base, "-d", "-s", "OLD", "PATCH", "OUT"])
    if importlib.util.find_spec("bsdiff4"):
        yield "bsdiff4", bsdiff


def measure(pairs: list[Pair], skip: set[str], room: Path) -> None:
    goals = []
    for pair in pairs:
        size = (pair.target / WEIGHTS).stat().st_size
        rows = []
        found: dict[str, Result] = {}
        for name, run in methods():
            if name in skip or (name == "pantry, codec in memory" and pair.adapter):
                continue
            result = found[name] = run(pair, room)
            speeds = [f"{size / seconds / 1e6:.0f}" for seconds in (result.made, result.rebuilt)]
            rows.append([name, f"{100 * result.stored / size:.2f}", *speeds])
        print_table(
            f"{pair.title}, {size / 1e6:.1f} MB", ["method", "% of the file", "make, MB/s", "rebuild, MB/s"], rows
        )
        goals += judge(pair, found, size)
    print_table("Goals", ["goal", "wanted", "found", ""], goals)


def judge(pair: Pair, found: dict[str, Result], size: int) -> Iterator[list[str]]:
    ours = found["pantry, files"]
    percent = 100 * ours.stored / size
    if pair.dtype == "bf16":
        wanted = TARGETS[pair.name]
        yield [f"{pair.title}: size", f"≤ {wanted} %", f"{percent:.2f} %", verdict(percent, wanted, at_most=True)]
    others = {
        name: result.stored
        for name, result in found.items()
        if not name.startswith("pantry") and size / result.rebuilt / 1e6 > 100
    }
    if others:
        name = min(others, key=lambda name: others[name])
        met = verdict(ours.stored, others[name], at_most=True)
        rival = f"{100 * others[name] / size:.2f} % ({name})"
        yield [f"{pair.title}: smallest of those above 100 MB/s", f"≤ {rival}", f"{percent:.2f} %", met]
    codec = found.get("pantry, codec in memory")
    if codec and pair.dtype == "bf16":
        for what, seconds, least in (("make", codec.made, LEAST_MAKE), ("apply", codec.rebuilt, LEAST_APPLY)):
            speed = size / seconds / 1e6
            met = verdict(speed, least, at_most=False)
            yield [f"{pair.title}: codec, {what}, one thread", f"≥ {least:.0f} MB/s", f"{speed:.0f} MB/s", met]


def plain_decrypt(coded: Path, key: Path, out: Path) -> None:
    """The .enc format one byte after the other, checked by reading the result again, as its first program did."""
    with coded.open("rb") as data, key.open("rb") as key_file, out.open("wb") as result:
        wanted = data.read(32)
        while chunk := data.read(enc.CHUNK):
            part = key_file.read(enc.CHUNK)
            if not part:
                key_file.seek(0)
                part = key_file.read(enc.CHUNK)
            repeated = (part * (len(chunk) // len(part) + 1))[: len(chunk)]
            result.write(bytes(a ^ b for a, b in zip(chunk, repeated, strict=True)))
    with out.open("rb") as result:
        assert hashlib.file_digest(result, "sha256").digest() == wanted


def measure_enc(room: Path) -> None:
    dice = np.random.default_rng(1)
    (room / "plain").write_bytes(dice.bytes(5 * enc.CHUNK))
    (room / "key").write_bytes(dice.bytes(enc.CHUNK + 12345))
    coded = enc.encrypt(room / "plain", room / "key", room / "enc").path

    def ours(md5: bool) -> None:
        shutil.rmtree(room / "back", ignore_errors=True)
        enc.decrypt(coded, room / "key", room / "back", md5=md5)

    size = 5 * enc.CHUNK / 1e6
    ways: dict[str, Callable[[], object]] = {
        "plain loop": lambda: plain_decrypt(coded, room / "key", room / "loop"),
        "pantry delta decrypt": lambda: ours(True),
        "pantry delta decrypt --no-md5": lambda: ours(False),
    }
    found = dict.fromkeys(ways, (math.inf, math.inf))
    for _ in range(ENC_ROUNDS):  # by turns: what other programs do meanwhile hits all of them
        for name, way in ways.items():
            start, clock = used(), time.perf_counter()
            way()
            spent = (time.perf_counter() - clock, used() - start)
            found[name] = (min(found[name][0], spent[0]), min(found[name][1], spent[1]))
    (clock, work), *_ = found.values()
    rows = [
        [name, *(f"{size / s:.0f}" for s in spent), f"{clock / spent[0]:.0f}", f"{work / spent[1]:.0f}"]
        for name, spent in found.items()
    ]
    met = verdict(clock / found["pantry delta decrypt"][0], LEAST_ENC, at_most=False)
    note = f"DownloadTarget by the clock, with both sums: ≥ {LEAST_ENC:.0f} times: {met}. The sums run beside the rest."
    heads = ["", "MB/s", "MB/s of processor time", "times", "times of processor time"]
    print_table(f".enc, {size:.0f} MB, SHA-256 checked, two cores", heads, rows, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--skip", default="", help="Methods to leave out, separated by commas.")
    options = parser.parse_args()
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    hashed = hashlib.sha256
    speed = 2e8 / best(lambda: hashed(bytes(200_000_000)).digest(), 3) / 1e6
    print(f"{machine()}; one core; SHA-256 {speed:.0f} MB/s")
    with tempfile.TemporaryDirectory() as room:
        measure(find_pairs(options.pairs), set(options.skip.split(",")), Path(room))
        os.sched_setaffinity(0, cores)
        measure_enc(Path(room))


if __name__ == "__main__":
    main()
