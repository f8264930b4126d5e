"""The dataset card DATASET.md: one Markdown form that people read and programs check.

The sections are those of the flatpack.ai template of 2023. What stands in [brackets] is still to be filled in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pantry.core.errors import BadFileError
from pantry.flatpack.cards.card_text import Section, bracketed, split_sections

CARD_LIMIT = 1 << 20
"""Largest card read, in bytes."""


@dataclass(frozen=True)
class CardField:
    """A field of the records, or the target variable."""

    name: str
    type: str
    description: str


@dataclass(frozen=True)
class Card:
    """What a dataset card says; empty where it says nothing."""

    name: str = ""
    version: str = ""
    description: str = ""
    source: str = ""
    contributors: str = ""
    licence: str = ""
    collected: str = ""
    data_type: str = ""
    format: str = ""
    fields: tuple[CardField, ...] = ()
    target: CardField | None = None
    preprocessing: tuple[str, ...] = ()
    sample: tuple[Any, ...] = ()
    usage: tuple[str, ...] = ()
    acknowledgements: str = ""
    contact_name: str = ""
    contact_email: str = ""
    contact_affiliation: str = ""


@dataclass(frozen=True, order=True)
class Fault:
    """Something missing or unfilled: the line (from 1) and what to do there."""

    line: int
    message: str


_LABELS: dict[str, dict[str, tuple[str, ...]]] = {
    "Dataset Summary": {"name": ("Name",), "version": ("Version",), "description": ("Description",)},
    "Metadata": {
        "source": ("Source",),
        "contributors": ("Contributors",),
        "licence": ("Licence", "License"),
        "collected": ("Date of Collection",),
    },
    "General Overview": {"data_type": ("Data Type",), "format": ("Format",)},
    "Contact Information": {
        "contact_name": ("Name",),
        "contact_email": ("Email",),
        "contact_affiliation": ("Affiliation",),
    },
}
"""Section, then attribute of `Card`, then the labels it may have; the first is the one written."""

_HINTS = {
    "name": "dataset name",
    "version": "version number",
    "description": "what the dataset holds, in a sentence or two",
    "source": "where the data come from: address or citation",
    "contributors": "people or organisations",
    "licence": "SPDX identifier, like CC-BY-4.0",
    "collected": "date or period, like 2026-01",
    "data_type": "text, images, time series or another",
    "format": "file format: plain text, JSONL, CSV, Parquet",
    "contact_name": "who answers questions",
    "contact_email": "address for questions",
    "contact_affiliation": "institution, or none",
}

_EXAMPLE = """ like [{"text": "Once upon a time there was a fox."}] between ```json and ```"""


def check_card(content: bytes) -> list[Fault]:
    """Everything missing or still in brackets, by line; an empty list means the card is complete."""
    return parse_card(content)[1]


def load_card(content: bytes) -> Card:
    """The card in `content`. Raises BadFileError that lists every fault with its line."""
    card, faults = parse_card(content)
    if faults:
        raise BadFileError("\n".join(f"DATASET.md, line {fault.line}: {fault.message}" for fault in faults))
    return card


def parse_card(content: bytes) -> tuple[Card, list[Fault]]:
    """The card as far as it can be read, and its faults in order of line. Raises BadFileError if it is not text."""
    if len(content) > CARD_LIMIT:
        raise BadFileError(f"The dataset card has {len(content)} bytes; at most {CARD_LIMIT} are read.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFileError(f"The dataset card is not UTF-8 at byte {error.start}.") from None
    reader = _CardReader(split_sections(text))
    card = reader.card()
    return card, sorted(set(reader.faults))


@dataclass
class _CardReader:
    """Reads section by section and notes faults on the way."""

    sections: dict[str, Section]
    faults: list[Fault] = field(default_factory=list)

    def card(self) -> Card:
        self._section("Data Specifics")
        values: dict[str, str] = {}
        for title, labels in _LABELS.items():
            if section := self._section(title):
                values |= {name: self._labelled(section, names) for name, names in labels.items()}
        return Card(
            **values,
            fields=self._fields(),
            target=self._target(),
            preprocessing=self._steps("Preprocessing Steps"),
            sample=self._sample(),
            usage=self._steps("Recommended Usage"),
            acknowledgements=self._text("Acknowledgments", "Acknowledgements"),
        )

    def _section(self, *titles: str) -> Section | None:
        for title in titles:
            if section := self.sections.get(title.lower()):
                return section
        last = max((section.end for section in self.sections.values()), default=1)
        self.faults.append(Fault(last, f"the section {titles[0]!r} is missing."))
        return None

    def _labelled(self, section: Section, labels: tuple[str, ...]) -> str:
        for label in labels:
            if found := section.labelled(label):
                line, value = found
                if not value:
                    self.faults.append(Fault(line, f"{label!r} of {section.title!r} is empty."))
                return self._filled(value, line, f"{label!r} of {section.title!r}")
        self.faults.append(Fault(section.line, f"{labels[0]!r} is missing in {section.title!r}."))
        return ""

    def _filled(self, value: str, line: int, what: str) -> str:
        """`value`, or nothing (and a fault) while it has something in brackets."""
        if unfilled := bracketed(value):
            self.faults.append(Fault(line, f"{what} is still {unfilled}."))
            return ""
        return value

    def _fields(self) -> tuple[CardField, ...]:
        section = self._section("Data Fields Description")
        if section is None:
            return ()
        items = section.labels
        if not items:
            self.faults.append(Fault(section.line, "no field is described in 'Data Fields Description'."))
        found = []
        for line, name, value in items:
            if unfilled := bracketed(name) or bracketed(value):
                self.faults.append(Fault(line, f"a field is still {unfilled}."))
            elif not value:
                self.faults.append(Fault(line, f"the field {name!r} has no type and description."))
            else:
                kind, _, description = value.partition(",")
                found.append(CardField(name, kind.strip(), description.strip()))
        return tuple(found)

    def _target(self) -> CardField | None:
        section = self.sections.get("target variable (if any)") or self.sections.get("target variable")
        if section is None or not section.labels:
            return None
        values = {name: self._labelled(section, (name,)) for name in ("Name", "Type", "Description")}
        none = values["Name"].strip().lower() in ("", "none", "-", "n/a")
        return None if none else CardField(values["Name"], values["Type"], values["Description"])

    def _steps(self, title: str) -> tuple[str, ...]:
        section = self._section(title)
        if section is None:
            return ()
        steps = section.items()
        if not steps:
            self.faults.append(Fault(section.line, f"{title!r} has no step; write '1. None.' if there is none."))
        return tuple(step for line, text in steps if (step := self._filled(text, line, f"a step of {title!r}")))

    def _text(self, *titles: str) -> str:
        section = self._section(*titles)
        if section is None:
            return ""
        text = section.text()
        if not text:
            self.faults.append(Fault(section.line, f"{section.title!r} is empty; write 'None.' if there is nothing."))
        for line, part in section.numbered():
            self._filled(part, line, repr(section.title))
        return text

    def _sample(self) -> tuple[Any, ...]:
        section = self._section("Sample Records")
        if section is None:
            return ()
        line, code = section.code()
        if not code.strip():
            self.faults.append(
                Fault(section.line, f"'Sample Records' has no block of JSON records; write them{_EXAMPLE}.")
            )
            return ()
        for number, part in enumerate(code.splitlines(), line):
            if found := re.search(r'"(\[[^"\[\]]+\])"', part):
                self.faults.append(
                    Fault(number, f"a sample record is still {found[1]}; put a record of the data there{_EXAMPLE}.")
                )
                return ()
        try:
            records = json.loads(code)
        except json.JSONDecodeError as error:
            self.faults.append(
                Fault(line + error.lineno - 1, f"the sample records are not JSON: {error.msg}; write them{_EXAMPLE}.")
            )
            return ()
        except (ValueError, RecursionError) as error:
            self.faults.append(Fault(line, f"the sample records are not JSON: {error}; write them{_EXAMPLE}."))
            return ()
        return tuple(records) if isinstance(records, list) else (records,)


def render_card(card: Card | None = None) -> str:
    """The card as Markdown; what is empty becomes a field in brackets to fill in."""
    card = card or Card()
    parts = ["# DATASET.md\n"]
    parts += [f"## {title}\n\n{_labels(card, title)}\n" for title in ("Dataset Summary", "Metadata")]
    parts.append(f"## Data Specifics\n\n### General Overview\n\n{_labels(card, 'General Overview')}\n")
    parts += [write(card) for write in _WRITERS.values()]
    parts.append(f"## Contact Information\n\n{_labels(card, 'Contact Information')}\n")
    return "\n".join(parts)


def _labels(card: Card, title: str) -> str:
    return "\n".join(
        f"- **{names[0]}:** {_one_line(getattr(card, name)) or f'[{_HINTS[name]}]'}"
        for name, names in _LABELS[title].items()
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _write_fields(card: Card) -> str:
    known = card.fields or (CardField("[field]", "[type]", "[what it holds]"),)
    lines = "\n".join(f"- **{item.name}:** {item.type}, {item.description or '[what it holds]'}" for item in known)
    return f"### Data Fields Description\n\n{lines}\n"


def _write_target(card: Card) -> str:
    target = card.target or CardField("None", "None", "None")
    return (
        "### Target Variable (If Any)\n\n"
        f"- **Name:** {target.name}\n- **Type:** {target.type}\n- **Description:** {target.description}\n"
    )


def _numbered(steps: tuple[str, ...], blank: str) -> str:
    return "\n".join(f"{number}. {_one_line(step)}" for number, step in enumerate(steps or (blank,), 1))


def _write_sample(card: Card) -> str:
    records = list(card.sample) or [{"[field]": "[example value]"}]
    return f"## Sample Records\n\n```json\n{json.dumps(records, indent=2, ensure_ascii=False)}\n```\n"


_WRITERS: dict[str, Callable[[Card], str]] = {
    "fields": _write_fields,
    "target": _write_target,
    "preprocessing": lambda card: (
        f"## Preprocessing Steps\n\n{_numbered(card.preprocessing, '[what was done to the data, step by step]')}\n"
    ),
    "sample": _write_sample,
    "usage": lambda card: f"## Recommended Usage\n\n{_numbered(card.usage, '[how to train or evaluate with it]')}\n",
    "acknowledgements": lambda card: (
        f"## Acknowledgments\n\n{card.acknowledgements or '[data providers, funding, or None.]'}\n"
    ),
}
