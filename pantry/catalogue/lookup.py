"""The catalogue, opened: entries by name, searches, and answers about rights."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

from pantry.catalogue.expressions import Expression, Term, parse_expression
from pantry.catalogue.files import BUILTIN, Loaded, catalogue_files, examine_files
from pantry.catalogue.index import build_index, fingerprint, links_of, open_index, problems_of
from pantry.catalogue.query import Clause, Order, Query, clauses, order_by
from pantry.catalogue.rights import Answer, Chain, Circumstances, Link, chain_of, judge_chain
from pantry.catalogue.schema import KINDS, Dataset, Entry, Family, Licence, ModelEntry, Source, TagRule, Use
from pantry.core.errors import NotFoundError, UsageError, did_you_mean
from pantry.core.paths import Paths
from pantry.core.refs import Digest

T = TypeVar("T", bound=Entry | Source | Family)


@dataclass(frozen=True)
class Exclusion:
    """How many models one requirement excluded."""

    label: str
    count: int


class Catalogue:
    """All entries: those shipped, those of repositories, those of the user's overlay; the later ones win."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._judged: dict[tuple[Use, Circumstances], dict[int, str]] = {}
        self._bases: dict[str, ModelEntry | None] = {}
        self._data: dict[str, Dataset | None] = {}

    @classmethod
    def open(cls, paths: Paths | None = None) -> Catalogue:
        """The catalogue of a home, or only what is shipped when `paths` is None.

        Entries of repositories and of the overlay that are wrong are left out; `problems` tells which and why.
        """
        files = catalogue_sources(paths)
        mark = fingerprint(file for file, _ in files)
        where = paths.data / "catalogue.index" if paths else None
        found = open_index(where, mark) if where else None
        return cls(found or build_index(where, mark, *examine_files(files)))

    @classmethod
    def of(cls, loaded: Sequence[Loaded]) -> Catalogue:
        """A catalogue of exactly these entries, in memory."""
        return cls(build_index(None, "", loaded))

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """The entries that were left out, one sentence each, with file, line and field."""
        return problems_of(self._db)

    def close(self) -> None:
        """Close the index; done by itself when the catalogue is no longer used."""
        self._db.close()

    def __del__(self) -> None:
        self._db.close()

    def _content(self, kind: str, id: str, shape: type[T]) -> T | None:
        row = self._db.execute("SELECT content FROM entry WHERE kind = ? AND id = ?", (kind, id)).fetchone()
        return cast(T, shape.model_validate_json(row[0])) if row else None

    def find(self, kind: str, name: str, shape: type[T]) -> T | None:
        """The entry of that kind called `name` (id, name, hub repository or alias, in any case), or None."""
        wanted = (name.strip().lower(), kind)
        row = self._db.execute("SELECT id FROM alias WHERE name = ? AND kind = ?", wanted).fetchone()
        return self._content(kind, row[0], shape) if row else None

    def find_model(self, name: str) -> ModelEntry | None:
        return self.find("model", name, ModelEntry)

    def models_of_file(self, digest: Digest) -> list[ModelEntry]:
        """The models that this file is, by its digest; more than one when entries disagree."""
        rows = self._db.execute("SELECT model FROM file WHERE sha256 = ? ORDER BY model", (digest.hex,)).fetchall()
        found = (self._content("model", row[0], ModelEntry) for row in rows)
        return [entry for entry in found if entry is not None]

    def find_dataset(self, name: str) -> Dataset | None:
        return self.find("dataset", name, Dataset)

    @property
    def model_names(self) -> list[str]:
        """Every name by which a model can be asked for, lower case."""
        return [row[0] for row in self._db.execute("SELECT name FROM alias WHERE kind = 'model'")]

    def model_ids_like(self, text: str, limit: int = 500) -> tuple[str, ...]:
        """Ids of models one of whose names has `text` in it, whatever stands between its letters and digits."""
        wanted = "".join(char for char in text.lower() if char.isalnum())
        bare = "name"
        for sign in "-._ /:":
            bare = f"replace({bare}, '{sign}', '')"
        sql = f"SELECT DISTINCT id FROM alias WHERE kind = 'model' AND instr({bare}, ?) > 0 LIMIT ?"  # noqa: S608
        return tuple(row[0] for row in self._db.execute(sql, (wanted, limit))) if wanted else ()

    def model(self, name: str) -> ModelEntry:
        """The model called `name`. Raises NotFoundError with the nearest name."""
        found = self.find_model(name)
        if found is None:
            raise NotFoundError(
                f"The catalogue knows no model {name.strip()[:80]!r}.",
                hint=self.model_hint(name, "See what there is with: pantry search"),
            )
        return found

    def model_hint(self, name: str, otherwise: str, others: Iterable[str] = ()) -> str | None:
        """The model that was likely meant by an unknown name: one whose name begins with it, else the nearest."""
        wanted = name.strip().lower()
        for id in self.model_ids_like(wanted, 50) if len(wanted) >= 4 else ():
            if id.startswith(wanted):
                return f"Did you mean {id!r}?"
        return did_you_mean(wanted, [*others, *self.model_names], otherwise)

    def licence(self, name: str) -> Licence:
        """The licence called `name`. Raises NotFoundError with the nearest name."""
        found = self.licences.get(self.licence_names.get(name.strip().lower(), ""))
        if found is None:
            hint = did_you_mean(name.strip().lower(), self.licence_names, "List them with: pantry licence list")
            raise NotFoundError(f"The catalogue knows no licence {name.strip()[:80]!r}.", hint=hint)
        return found

    def shown_licence(self, text: str) -> str:
        """A licence as people write it: its SPDX id where it has one, else `text` as it is."""
        found = self.licences.get(self.licence_names.get(text.strip().lower(), ""))
        return (found.spdx if found else None) or text

    @cached_property
    def licences(self) -> dict[str, Licence]:
        """All licences by id."""
        rows = self._db.execute("SELECT content FROM entry WHERE kind = 'licence'")
        return {licence.id: licence for licence in (Licence.model_validate_json(row[0]) for row in rows)}

    @cached_property
    def licence_names(self) -> dict[str, str]:
        """Ids, SPDX ids and aliases in lower case, each with our id."""
        return dict(self._db.execute("SELECT name, id FROM alias WHERE kind = 'licence'").fetchall())

    def knows_licence(self, text: str) -> bool:
        """Whether the catalogue has facts on every licence of the expression `text`."""
        return not unknown_licences((Link("weights", text, text),), self.licence_names)

    @cached_property
    def tag_bits(self) -> dict[str, int]:
        """Known tags (without year tags) and their bits in the index."""
        return dict(self._db.execute("SELECT name, bit FROM tag").fetchall())

    @cached_property
    def tag_rules(self) -> dict[str, TagRule]:
        """The rule of each tag that has one."""
        return {rule.name: rule for _, rule in self.entries("tag") if isinstance(rule, TagRule)}

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """Names of capabilities that an entry declares or a tag refers to, beside those everyone knows."""
        declared = {row[0] for row in self._db.execute("SELECT DISTINCT name FROM capability")}
        return frozenset(declared | {rule.capability for rule in self.tag_rules.values() if rule.capability})

    def entries(self, kind: str) -> Iterator[tuple[str, Entry | Source | Family]]:
        """Every entry of a kind with its origin, by id. Raises UsageError for an unknown kind."""
        shape: type[Entry | Source | Family] | None = Family if kind == "family" else KINDS.get(kind)
        if shape is None:
            raise UsageError(f"There is no kind of entry {kind!r}.", hint=did_you_mean(kind, [*KINDS, "family"]))
        rows = self._db.execute("SELECT origin, content FROM entry WHERE kind = ? ORDER BY id", (kind,))
        for origin, content in rows:
            yield origin, shape.model_validate_json(content)

    def origin(self, kind: str, id: str) -> str | None:
        """Where the entry comes from: `builtin`, `overlay`, or a repository with its version."""
        row = self._db.execute("SELECT origin FROM entry WHERE kind = ? AND id = ?", (kind, id)).fetchone()
        return str(row[0]) if row else None

    def count(self, kind: str) -> int:
        return int(self._db.execute("SELECT count(*) FROM entry WHERE kind = ?", (kind,)).fetchone()[0])

    def chain(self, model: ModelEntry) -> Chain:
        """The licences that bind `model`: weights, bases, data."""
        return chain_of(model, self._base, self._dataset)

    def _base(self, id: str) -> ModelEntry | None:
        if id not in self._bases:
            self._bases[id] = self._content("model", id, ModelEntry)
        return self._bases[id]

    def _dataset(self, id: str) -> Dataset | None:
        if id not in self._data:
            self._data[id] = self._content("dataset", id, Dataset)
        return self._data[id]

    def judge(self, model: ModelEntry, use: Use, circumstances: Circumstances) -> Answer:
        """Whether `model` may be used so."""
        multimodal = set(model.inputs) - {"text"} != set()
        return judge_chain(
            self.chain(model), use, circumstances, self.licences, self.licence_names, multimodal=multimodal
        )

    def judge_links(self, chain: Chain, use: Use, circumstances: Circumstances) -> Answer:
        """Whether a work under a chain of licences may be used so; a licence that does not parse is an unknown one."""
        return judge_chain(chain, use, circumstances, self.licences, self.licence_names, multimodal=True)

    def judge_text(self, licence: str, use: Use, circumstances: Circumstances) -> Answer:
        """Whether a work under this licence expression may be used so. Raises UsageError if it does not parse."""
        parse_expression(licence, self.licence_names)
        link = Link("weights", licence.strip(), licence)
        return judge_chain((link,), use, circumstances, self.licences, self.licence_names, multimodal=True)

    def chains_allowing(self, use: Use, circumstances: Circumstances, verdicts: frozenset[str]) -> frozenset[int]:
        """The numbers of the chains whose answer to `use` is one of `verdicts`."""
        key = (use, circumstances)
        if key not in self._judged:
            rows = self._db.execute("SELECT n, links, multimodal FROM chain").fetchall()
            self._judged[key] = {n: self._verdict(links, use, circumstances, bool(multi)) for n, links, multi in rows}
        return frozenset(n for n, verdict in self._judged[key].items() if verdict in verdicts)

    def _verdict(self, links: str, use: Use, circumstances: Circumstances, multimodal: bool) -> str:
        chain = links_of(links)
        return judge_chain(chain, use, circumstances, self.licences, self.licence_names, multimodal=multimodal).verdict

    @cached_property
    def chain_licences(self) -> dict[int, frozenset[str]]:
        """The ids of the licences of weights and bases in each chain, by its number; empty when none is known."""
        rows = self._db.execute("SELECT n, links FROM chain").fetchall()
        return {n: licences_of(links_of(links), self.licence_names) for n, links in rows}

    @cached_property
    def chains_with_unknown(self) -> frozenset[int]:
        """The chains in which the licence of the weights or of a base is not known."""
        rows = self._db.execute("SELECT n, links FROM chain").fetchall()
        return frozenset(n for n, links in rows if unknown_licences(links_of(links), self.licence_names))

    def count_of(self, query: Query) -> int:
        """How many models meet `query`."""
        parts = clauses(query, self.tag_bits)
        where = " AND ".join(part.sql for part in parts) or "1"
        return int(self._db.execute(f"SELECT count(*) FROM model WHERE {where}", _values(parts)).fetchone()[0])  # noqa: S608

    def shortlist(self, query: Query, orders: Sequence[Order], limit: int) -> list[ModelEntry]:
        """The best models that meet `query`, best first."""
        parts = clauses(query, self.tag_bits)
        where = " AND ".join(part.sql for part in parts) or "1"
        return self._models("", where, orders, _values(parts), limit)

    def nearest(self, query: Query, orders: Sequence[Order], limit: int) -> list[ModelEntry]:
        """The models that miss the fewest requirements, best first; only obtainable ones if `query` asks for them."""
        parts = clauses(replace(query, obtainable=False), self.tag_bits)
        missing = " + ".join(f"(NOT {part.sql})" for part in parts)
        first = f"{missing}, " if parts else ""
        return self._models("", _base(query), orders, _values(parts), limit, first=first)

    def search(self, words: Sequence[str], query: Query, orders: Sequence[Order], limit: int) -> list[ModelEntry]:
        """Models whose text has all of `words` (as beginnings of words) and that meet `query`, best first."""
        if not words:
            return self.shortlist(query, orders, limit)
        parts = clauses(query, self.tag_bits)
        where = " AND ".join(part.sql for part in parts) or "1"
        text = " ".join('"' + word.replace('"', "") + '"*' for word in words)
        join = "JOIN (SELECT rowid AS hit, rank AS hit_rank FROM words WHERE words MATCH ?) ON hit = n"
        return self._models(join, where, orders, (text, *_values(parts)), limit, first="" if orders else "hit_rank, ")

    def exclusions(self, query: Query) -> tuple[int, list[Exclusion]]:
        """How many models there are, and how many of them each requirement of `query` excludes on its own.

        Only obtainable models count if `query` asks for them.
        """
        parts = clauses(replace(query, obtainable=False), self.tag_bits)
        sums = "".join(f", COALESCE(sum(NOT {part.sql}), 0)" for part in parts)
        row = self._db.execute(f"SELECT count(*){sums} FROM model WHERE {_base(query)}", _values(parts)).fetchone()  # noqa: S608
        return row[0], [Exclusion(part.label, count) for part, count in zip(parts, row[1:], strict=True)]

    def _models(
        self, join: str, where: str, orders: Sequence[Order], values: tuple[object, ...], limit: int, first: str = ""
    ) -> list[ModelEntry]:
        """Run one query over the models. The SQL comes from this room alone; what users give is in `values`."""
        order, order_values = order_by(orders)
        sql = f"SELECT id FROM model {join} WHERE {where} ORDER BY {first}{order} LIMIT ?"  # noqa: S608
        rows = self._db.execute(sql, (*values, *order_values, limit)).fetchall()
        found = (self._content("model", row[0], ModelEntry) for row in rows)
        return [entry for entry in found if entry is not None]


def catalogue_sources(paths: Paths | None) -> list[tuple[Path, str]]:
    """Every catalogue file with its origin, in the order in which later ones win."""
    found = [(file, "builtin") for file in catalogue_files(BUILTIN)]
    if paths is not None:
        found += [(file, f"repository {file.parent.name} {file.stem}") for file in _received(paths)]
        found += [(file, "overlay") for file in catalogue_files(paths.config / "catalogue")]
    return found


def repository_versions(folder: Path) -> dict[int, Path]:
    """The versions of one repository's entries that are here: number to file."""
    named = {file.stem.removeprefix("v"): file for file in folder.glob("v*.json")}
    return {int(version): file for version, file in named.items() if version.isdigit()}


def _received(paths: Paths) -> list[Path]:
    """The newest entries of every repository; older files may be left over from a crash."""
    folders = sorted((paths.data / "catalogue").glob("*/"))
    versions = [repository_versions(folder) for folder in folders]
    return [each[max(each)] for each in versions if each]


def licences_of(chain: Chain, names: Mapping[str, str]) -> frozenset[str]:
    """The ids of all licences along a chain of weights and bases; unknown names stay as they are."""
    found: set[str] = set()
    for link in chain:
        if link.licence and link.role in ("weights", "base"):
            try:
                found |= _ids(parse_expression(link.licence, names))
            except UsageError:
                found.add(link.licence)
    return frozenset(found)


def unknown_licences(chain: Chain, names: Mapping[str, str]) -> tuple[str, ...]:
    """What along a chain of weights and bases has no licence, or one that the catalogue has no facts on."""
    found = []
    for link in chain:
        if link.role in ("weights", "base"):
            ids = licences_of((link,), names)
            if not ids or any(names.get(id) != id for id in ids):
                found.append(link.name)
    return tuple(dict.fromkeys(found))


def _ids(node: Expression) -> set[str]:
    return {node.id} if isinstance(node, Term) else {id for part in node.parts for id in _ids(part)}


def _values(parts: Sequence[Clause]) -> tuple[object, ...]:
    return tuple(value for part in parts for value in part.values)


def _base(query: Query) -> str:
    return "obtainable = 1" if query.obtainable else "1"
