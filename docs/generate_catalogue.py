"""Fills the tables in docs/catalogue.md and docs/licences.md: `python -m docs.generate_catalogue [--check]`.

A table stands between `<!-- table: name -->` and `<!-- end -->`; the text around it is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.memory import memory_size
from pantry.catalogue.rights import USES, Circumstances
from pantry.catalogue.schema import KINDS, Entry, Family, ModelEntry
from pantry.core.units import format_bytes
from pantry.policy.rules import Policy

FOLDER = Path(__file__).parent
PAGES = ("catalogue.md", "licences.md")
_MARKED = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SHORT = {"allowed": "yes", "conditional": "if", "refused": "no", "unknown": "?"}


def table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def kinds(book: Catalogue) -> str:
    rows = [
        [f"`{kind}`", " ".join((shape.__doc__ or "").split()), str(book.count(kind))]
        for kind, shape in sorted(KINDS.items())
    ]
    return table(["kind", "what it is", "entries"], rows)


def tags(book: Catalogue) -> str:
    rows = []
    for name, rule in sorted(book.tag_rules.items()):
        evidence = f"measured `{rule.capability}` of {rule.floor:g}" if rule.capability else ""
        rows.append([f"`{name}`", rule.rule, evidence])
    return table(["tag", "a model gets it when it is", "evidence that decides instead"], rows)


def models(book: Catalogue) -> str:
    names = {family.id: family.name for _, family in book.entries("family") if isinstance(family, Family)}
    rows = []
    for _, model in book.entries("model"):
        if not isinstance(model, ModelEntry):
            continue
        memory = None if model.remote else memory_size(model)
        rows.append(
            [
                f"`{model.id}`",
                names.get(model.family, model.family),
                model.released or "",
                f"{model.parameters / 1e9:.3g} B" if model.parameters else "",
                f"{model.context:,}" if model.context else "",
                format_bytes(memory) if memory else "",
                model.licence or "unknown",
                " ".join(model.tags),
            ]
        )
    columns = ["model", "family", "released", "weights", "context", "memory, 4 bits", "licence", "tags"]
    return table(columns, sorted(rows, key=lambda row: (row[1].lower(), row[0])))


def corrections(book: Catalogue) -> str:
    rows = [
        [entry.name, str(getattr(entry, "holds", ""))]
        for _, entry in book.entries("correction")
        if isinstance(entry, Entry)
    ]
    return table(["subject", "what holds"], rows)


def licences(book: Catalogue) -> str:
    rows = []
    for licence in sorted(book.licences.values(), key=lambda each: (each.kind, each.id)):
        words = [_SHORT[licence.grants.of(use)] for use in USES]
        rows.append([f"`{licence.id}`", licence.kind, *words, licence.basis, licence.checked])
    return table(["licence", "kind", *USES, "rests on", "checked"], rows)


def rights(book: Catalogue) -> str:
    rows = []
    for _, model in book.entries("model"):
        if not isinstance(model, ModelEntry) or model.published_rights is None:
            continue
        row = model.published_rights
        answers = [book.judge(model, use, Circumstances()).words for use in ("commercial", "sell-outputs")]
        ours = f"weights {model.weights}, {model.licence or 'no licence known'}; data {model.data_openness}"
        rows.append((row.rank, [model.name, row.weights, row.data, row.output, ours, *answers]))
    columns = [
        "model",
        "weights (2023)",
        "data (2023)",
        "outputs (2023)",
        "catalogue",
        "commercial use",
        "selling outputs",
    ]
    return table(columns, [row for _, row in sorted(rows)])


def policy(_: Catalogue) -> str:
    rows = []
    for name, field in Policy.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default in (None, (), {}) else str(default).lower()
        rows.append([f"`{name}`", f"`{shown}`" if shown else "", field.description or ""])
    return table(["rule", "default", "meaning"], rows)


TABLES: dict[str, Callable[[Catalogue], str]] = {
    "kinds": kinds,
    "tags": tags,
    "models": models,
    "corrections": corrections,
    "licences": licences,
    "rights": rights,
    "policy": policy,
}


def fill(text: str, book: Catalogue) -> str:
    """The page with every marked table made anew."""
    return _MARKED.sub(lambda match: f"{match[1]}{TABLES[match[2]](book)}{match[3]}", text)


def main() -> None:
    """Write the pages; with --check only compare, and exit 1 when one is stale."""
    book = Catalogue.open()
    stale = []
    for name in PAGES:
        file = FOLDER / name
        old = file.read_text()
        new = fill(old, book)
        if old != new:
            stale.append(name)
            if "--check" not in sys.argv:
                file.write_text(new)
    if stale and "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(stale)}. Run: python -m docs.generate_catalogue")


if __name__ == "__main__":
    main()
