"""The catalogue as an SQLite file, so that a hundred thousand entries open at once and answer in milliseconds.

The data files stay the truth: the index is rebuilt whenever one of them changes, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pantry.catalogue.files import Loaded
from pantry.catalogue.memory import download_size, memory_size
from pantry.catalogue.merge import Key, merge
from pantry.catalogue.names import every_name
from pantry.catalogue.rights import Link, chain_of
from pantry.catalogue.schema import Dataset, Family, ModelEntry, TagRule
from pantry.catalogue.tags import YearTag
from pantry.core.files import TEMPORARY_PREFIX

VERSION = 5
"""Raised whenever the tables below or the meaning of a column change."""
MAPPED = 2**30
"""Bytes of the index that may be mapped into memory: scans then copy nothing."""
MAX_TAGS = 62  # bits of one SQLite integer
MAX_PROBLEMS = 1000
"""Problems that are kept; a hostile catalogue could have as many as entries."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entry (kind TEXT, id TEXT, origin TEXT NOT NULL, content TEXT NOT NULL, PRIMARY KEY (kind, id));
CREATE TABLE alias (name TEXT, kind TEXT, id TEXT, PRIMARY KEY (name, kind)) WITHOUT ROWID;
CREATE TABLE chain (n INTEGER PRIMARY KEY, links TEXT NOT NULL, multimodal INTEGER NOT NULL);
CREATE TABLE tag (name TEXT PRIMARY KEY, bit INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE model (
    n INTEGER PRIMARY KEY, obtainable INTEGER NOT NULL, year INTEGER NOT NULL, level INTEGER NOT NULL,
    tags INTEGER NOT NULL, context INTEGER, memory INTEGER, chain INTEGER NOT NULL, parameters INTEGER, active INTEGER,
    download INTEGER, remote INTEGER NOT NULL, shortlist INTEGER NOT NULL, general REAL NOT NULL,
    released INTEGER NOT NULL, id TEXT NOT NULL, family TEXT NOT NULL, alignment TEXT NOT NULL, inputs TEXT NOT NULL
);
CREATE TABLE file (sha256 TEXT, model TEXT, PRIMARY KEY (sha256, model)) WITHOUT ROWID;
CREATE TABLE capability (name TEXT, score REAL, model INTEGER, PRIMARY KEY (name, model)) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(
    name, family, organisation, tags, notes, content='', tokenize="unicode61 tokenchars '._'"
);
"""

_INDEXES = """
CREATE INDEX obtainable ON model(level, year, tags, context, memory, chain) WHERE obtainable = 1;
CREATE INDEX licence_name ON alias(name, id) WHERE kind = 'licence';
"""
"""Made when the tables are full: choices look only among what can be had, and everything reads the licences."""

_INSERT_MODEL = "INSERT INTO model VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def fingerprint(files: Iterable[Path]) -> str:
    """Changes whenever a file is added, removed or written, or this program reads them in another way."""
    state = [str(VERSION)]
    for file in files:
        found = file.stat()
        state.append(f"{file}|{found.st_size}|{found.st_mtime_ns}")
    return hashlib.sha256("\n".join(state).encode()).hexdigest()


def open_index(file: Path, mark: str) -> sqlite3.Connection | None:
    """The index in `file` if it was built from files with the fingerprint `mark`, read only; else None."""
    if not file.is_file():
        return None
    try:
        connection = _read_only(file)
        row = connection.execute("SELECT value FROM meta WHERE key = 'fingerprint'").fetchone()
    except sqlite3.DatabaseError:
        return None
    if row is not None and row[0] == mark:
        return connection
    connection.close()
    return None


def _read_only(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    connection.execute(f"PRAGMA mmap_size = {MAPPED}")
    return connection


def build_index(
    file: Path | None, mark: str, loaded: Sequence[Loaded], problems: Sequence[str] = ()
) -> sqlite3.Connection:
    """Build the index of `loaded` entries in `file`, or in memory when `file` is None or cannot be written.

    Entries of several origins are merged (`pantry.catalogue.merge`). `problems` and what the merging left out can be
    read with `problems_of`.
    """
    merged = merge(loaded)
    told = [*problems, *merged.problems]
    if file is not None:
        with contextlib.suppress(OSError, sqlite3.OperationalError):
            _build_file(file, mark, merged.entries, told)
            return _read_only(file)
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    _fill(connection, mark, merged.entries, told)
    return connection


def problems_of(connection: sqlite3.Connection) -> tuple[str, ...]:
    """What was left out when the index was built, and why."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'problems'").fetchone()
    return tuple(json.loads(row[0]))


def _build_file(file: Path, mark: str, entries: Mapping[Key, Loaded], problems: Sequence[str]) -> None:
    """Build beside `file` and rename; what is half built is deleted."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        with contextlib.closing(sqlite3.connect(temporary)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            _fill(connection, mark, entries, problems)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _fill(connection: sqlite3.Connection, mark: str, entries: Mapping[Key, Loaded], problems: Sequence[str]) -> None:
    connection.executescript(_TABLES)
    connection.executemany(
        "INSERT INTO entry VALUES (?, ?, ?, ?)",
        (
            (each.kind, each.entry.id, each.origin, each.entry.model_dump_json(exclude_defaults=True, by_alias=True))
            for each in entries.values()
        ),
    )
    connection.executemany("INSERT OR IGNORE INTO alias VALUES (?, ?, ?)", every_name(entries.values()))
    told = [*problems, *_fill_models(connection, entries)]
    facts = (("fingerprint", mark), ("problems", json.dumps(told[:MAX_PROBLEMS])))
    connection.executemany("INSERT INTO meta VALUES (?, ?)", facts)
    connection.executescript(_INDEXES)
    connection.commit()


def _fill_models(connection: sqlite3.Connection, entries: Mapping[Key, Loaded]) -> list[str]:
    """Fill the tables of models; the problems met."""
    models = {each.entry.id: each.entry for each in entries.values() if isinstance(each.entry, ModelEntry)}
    data = {each.entry.id: each.entry for each in entries.values() if isinstance(each.entry, Dataset)}
    families = {each.entry.id: each.entry for each in entries.values() if isinstance(each.entry, Family)}
    bits, problems = _tag_bits(entries)
    connection.executemany("INSERT INTO tag VALUES (?, ?)", bits.items())
    chains: dict[tuple[str, bool], int] = {}
    rows, words, scores = [], [], []
    for n, model in enumerate(models.values(), start=1):
        links = chain_of(model, models.get, data.get)
        multimodal = set(model.inputs) - {"text"} != set()
        key = (json.dumps([(link.role, link.licence) for link in links]), multimodal)
        chain = chains.setdefault(key, len(chains) + 1)
        rows.append(_row(n, model, bits, chain))
        scores += [(name, score, n) for name, score in model.capabilities.items()]
        family = families.get(model.family)
        words.append(
            (
                n,
                f"{model.name} {model.id}",
                f"{model.family} {family.name if family else ''}",
                model.organisation,
                " ".join(model.tags) + " " + model.role,
                model.notes,
            )
        )
    connection.executemany(_INSERT_MODEL, rows)
    connection.executemany("INSERT INTO capability VALUES (?, ?, ?)", scores)
    files = ((file.sha256, model.id) for model in models.values() for file in model.files)
    connection.executemany("INSERT OR IGNORE INTO file VALUES (?, ?)", files)
    connection.executemany(
        "INSERT INTO words (rowid, name, family, organisation, tags, notes) VALUES (?, ?, ?, ?, ?, ?)", words
    )
    connection.executemany(
        "INSERT INTO chain VALUES (?, ?, ?)", ((n, links, multimodal) for (links, multimodal), n in chains.items())
    )
    return problems


def _tag_bits(entries: Mapping[Key, Loaded]) -> tuple[dict[str, int], list[str]]:
    """The tags and their bits, those with a rule first; and what to tell when there are too many."""
    names = dict.fromkeys(each.entry.name for each in entries.values() if isinstance(each.entry, TagRule))
    for each in entries.values():
        if isinstance(each.entry, ModelEntry):
            names |= dict.fromkeys(tag for tag in each.entry.tags if YearTag.parse(tag) is None)
    kept = list(names)[:MAX_TAGS]
    problems = []
    if len(names) > len(kept):
        left = ", ".join(list(names)[MAX_TAGS : MAX_TAGS + 5])
        problems.append(f"The catalogue has {len(names)} tags; only {MAX_TAGS} can be asked for. Left out: {left}.")
    return {name: bit for bit, name in enumerate(kept)}, problems


def _row(n: int, model: ModelEntry, bits: dict[str, int], chain: int) -> tuple[object, ...]:
    years = [year for tag in model.tags if (year := YearTag.parse(tag)) is not None]
    best = max(years, key=lambda year: (year.level, year.year), default=None)
    mask = sum(1 << bits[tag] for tag in set(model.tags) if tag in bits)
    return (
        n, is_obtainable(model), best.year if best else 0, best.level if best else -1, mask, model.context,
        memory_size(model), chain, model.parameters, model.active_parameters, download_size(model), model.remote,
        model.shortlist, model.capabilities.get("general", -1),
        int((model.released or "0").replace("-", "").ljust(8, "0")), model.id, model.family, model.alignment,
        " ".join(model.inputs),
    )  # fmt: skip


def is_obtainable(model: ModelEntry) -> bool:
    """Whether the catalogue says where to download a file that runs here."""
    return bool(model.files or model.gguf_repos) and model.weights in ("open", "gated")


def links_of(text: str) -> tuple[Link, ...]:
    """The chain stored in the table `chain`; names are not kept, for many models share one chain."""
    return tuple(Link(role, "", licence) for role, licence in json.loads(text))
