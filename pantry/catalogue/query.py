"""What to look for among the models of the catalogue, and the same thing as conditions of SQL, one per requirement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pantry.catalogue.tags import YearTag

UNKNOWN_LARGE = 2**62
"""Stands for an unknown size when the largest size is limited: unknown does not fit."""


@dataclass(frozen=True)
class Query:
    """Limits on catalogue models; None and empty mean no limit. Sizes in bytes, counts of weights and tokens."""

    tags: tuple[str, ...] = ()
    capabilities: tuple[tuple[str, float], ...] = ()
    min_context: int | None = None
    max_memory: int | None = None
    max_download: int | None = None
    min_parameters: int | None = None
    max_parameters: int | None = None
    max_active: int | None = None
    families: tuple[str, ...] = ()
    chains: frozenset[int] | None = None
    only_families: frozenset[str] | None = None
    without_families: frozenset[str] = frozenset()
    without_tags: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    alignments: frozenset[str] | None = None
    local: bool = False
    remote: bool = False
    obtainable: bool = False
    modalities: tuple[str, ...] = ()
    years: tuple[YearTag, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        parsed = [YearTag.parse(tag) for tag in self.tags]
        object.__setattr__(self, "years", tuple(year for year in parsed if year is not None))


@dataclass(frozen=True)
class Clause:
    """One requirement in SQL over the table `model`; `label` says which."""

    label: str
    sql: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True)
class Order:
    """One sorting key; the cheapest or best comes first."""

    key: str
    """`speed`, `small`, `newest`, `context`, `quality`, `active`, or the name of a capability."""
    limit: int | None = None
    """For `active`: models with at most so many weights at work come first; those of unknown size as well."""


_ORDERS = {
    "speed": "COALESCE(active, parameters, 4611686018427387904)",
    "small": "COALESCE(memory, 4611686018427387904)",
    "newest": "released DESC",
    "context": "COALESCE(context, 0) DESC",
    "quality": "level DESC, year DESC, COALESCE(parameters, 0) DESC",
    "local": "remote",
}
_LAST = "shortlist DESC, general DESC, released DESC, COALESCE(memory, 4611686018427387904), id"


def clauses(query: Query, tag_bits: dict[str, int]) -> list[Clause]:
    """One clause per requirement of `query`, in the order in which people read them."""
    found: list[Clause] = []
    for tag in query.tags:
        year = YearTag.parse(tag)
        if year is not None:
            found.append(Clause(f"tag:{tag}", "(year >= ? AND level >= ?)", (year.year, year.level)))
        else:
            bit = tag_bits.get(tag)
            sql = f"(tags & {1 << bit}) != 0" if bit is not None else "0"
            found.append(Clause(f"tag:{tag}", sql))
    found += [
        Clause(f"not tag:{tag}", f"(tags & {1 << tag_bits[tag]}) = 0") for tag in query.without_tags if tag in tag_bits
    ]
    for name, score in query.capabilities:
        sql = "n IN (SELECT model FROM capability WHERE name = ? AND score >= ?)"
        found.append(Clause(f"{name}>={score:g}", sql, (name, score)))
    found += _numbers(query)
    if query.families:
        found.append(Clause(f"family:{'|'.join(query.families)}", _among("family", query.families), query.families))
    if query.chains is not None:
        found.append(Clause("licence", _among("chain", sorted(query.chains)), tuple(sorted(query.chains))))
    for modality in query.modalities:
        found.append(Clause(f"reads:{modality}", "instr(inputs, ?) > 0", (modality,)))
    if query.ids:
        found.append(Clause("name", _among("id", query.ids), query.ids))
    if query.local:
        found.append(Clause("local", "remote = 0"))
    if query.remote:
        found.append(Clause("remote", "remote = 1"))
    if query.obtainable:
        found.append(Clause("obtainable", "obtainable = 1"))
    if query.alignments is not None:
        names = tuple(sorted(query.alignments))
        found.append(Clause("alignment", _among("alignment", names), names))
    if query.only_families is not None:
        names = tuple(sorted(query.only_families))
        found.append(Clause("family accepted by the policy", _among("family", names), names))
    if query.without_families:
        names = tuple(sorted(query.without_families))
        found.append(Clause("family refused by the policy", f"NOT {_among('family', names)}", names))
    return found


def order_by(orders: Sequence[Order]) -> tuple[str, tuple[object, ...]]:
    """The ORDER BY list for `orders`, ending in a stable tie break, and its values."""
    parts: list[str] = []
    values: list[object] = []
    for order in orders:
        if order.limit is not None:
            parts.append("(remote = 0 AND COALESCE(active, parameters, 0) > ?)")
            values.append(order.limit)
        elif order.key in _ORDERS:
            parts.append(_ORDERS[order.key])
        else:
            parts.append("COALESCE((SELECT score FROM capability WHERE model = n AND name = ?), -2) DESC")
            values.append(order.key)
    return ", ".join([*parts, _LAST]), tuple(values)


def _numbers(query: Query) -> list[Clause]:
    limits: list[tuple[int | None, str, str]] = [
        (query.min_context, "context", "COALESCE(context, 0) >= ?"),
        (query.min_parameters, "params", "COALESCE(parameters, 0) >= ?"),
        (query.max_parameters, "params", f"COALESCE(parameters, {UNKNOWN_LARGE}) <= ?"),
        (query.max_active, "speed", f"(remote = 1 OR COALESCE(active, parameters, {UNKNOWN_LARGE}) <= ?)"),
        (query.max_memory, "ram", f"(remote = 1 OR COALESCE(memory, {UNKNOWN_LARGE}) <= ?)"),
        (query.max_download, "download", f"(remote = 1 OR COALESCE(download, {UNKNOWN_LARGE}) <= ?)"),
    ]
    found = []
    for value, name, sql in limits:
        if value is not None:
            sign = ">=" if ">=" in sql else "<="
            found.append(Clause(f"{name}{sign}", sql, (value,)))
    return found


def _among(column: str, values: Sequence[object]) -> str:
    return f"{column} IN ({', '.join('?' * len(values))})" if values else "0"
