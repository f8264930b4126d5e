"""Markdown as far as cards need it: sections by heading, labelled items, numbered steps, a block of code."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

_HEADING = re.compile(r"#{1,6}\s+(.*)")
_LABEL = re.compile(r"\s*[-*+]\s+\*\*(?P<label>.+?):?\*\*:?\s*(?P<value>.*)")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+(?P<text>.*)")
_BRACKETED = re.compile(r"\[(?![ xX]\]|\^|\d+\])[^\[\]\n]+\](?![(\[:])")


@dataclass
class Section:
    """One heading with the lines below it, up to the next heading. Lines count from 1."""

    title: str
    line: int
    lines: list[str] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The number of its last line."""
        return self.line + len(self.lines)

    def numbered(self) -> list[tuple[int, str]]:
        """Its lines with their numbers."""
        return list(enumerate(self.lines, self.line + 1))

    @cached_property
    def labels(self) -> list[tuple[int, str, str]]:
        """Items like `- **Label:** value`: line, label, value with the lines that continue it."""
        found: list[tuple[int, str, list[str]]] = []
        for number, text in self.numbered():
            if match := _LABEL.fullmatch(text):
                found.append((number, match["label"].strip().rstrip(":"), [match["value"].strip()]))
            elif found and text.strip() and text[:1].isspace() and not _ITEM.fullmatch(text):
                found[-1][2].append(text.strip())
        return [(line, label, " ".join(parts).strip()) for line, label, parts in found]

    def labelled(self, label: str) -> tuple[int, str] | None:
        """The line and value of the item with that label, upper and lower case alike."""
        for line, name, value in self.labels:
            if name.lower() == label.lower():
                return line, value
        return None

    def items(self) -> list[tuple[int, str]]:
        """The items of its lists, with their lines."""
        return [
            (number, match["text"].strip())
            for number, text in self.numbered()
            if (match := _ITEM.fullmatch(text)) and match["text"].strip()
        ]

    def text(self) -> str:
        """All of it as one text."""
        return "\n".join(self.lines).strip()

    def code(self) -> tuple[int, str]:
        """The first fenced block of code: the number of its first line, and its text."""
        inside: list[str] = []
        start = 0
        for number, text in self.numbered():
            if text.strip().lstrip("\\").startswith("```"):
                if start:
                    return start, "\n".join(inside)
                start = number + 1
            elif start:
                inside.append(text)
        return start or self.line, "\n".join(inside)


def split_sections(text: str) -> dict[str, Section]:
    """The sections by heading in lower case; of two with one title the first counts. Code blocks hold no headings."""
    found: dict[str, Section] = {}
    current = Section("", 0)
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip().lstrip("\\").startswith("```"):
            fenced = not fenced
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading:
            current = Section(heading[1].strip().rstrip("#").rstrip(), number)
            found.setdefault(current.title.lower(), current)
        else:
            current.lines.append(line)
    return found


def bracketed(text: str) -> str | None:
    """The first thing in brackets that waits to be filled in; links, footnotes and check boxes do not count."""
    found = _BRACKETED.search(text)
    return found[0] if found else None
