"""Blanks out e-mail addresses, telephone numbers and secret keys. By pattern: it finds common forms, not all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from pantry.workshop.data.documents import Document, Turn

PATTERNS: dict[str, tuple[re.Pattern[str], str]] = {
    "keys": (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----"
            r"|\b(?:sk|pk|rk)[-_](?:[A-Za-z0-9]+[-_])*[A-Za-z0-9]{20,}\b"
            r"|\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_\w{40,}\b|\bhf_[A-Za-z0-9]{30,}\b"
            r"|\bA(?:KIA|SIA)[A-Z0-9]{16}\b|\bAIza[\w-]{35}\b|\bxox[abposr]-[\w-]{10,}"
            r"|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"
        ),
        "[key]",
    ),
    "emails": (
        re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b"),
        "[e-mail]",
    ),
    "phones": (
        re.compile(
            r"(?<![\w+.-])(?:\+\d{1,3}(?:[ ./-]?\(?\d{1,4}\)?){2,6}|\(\d{2,5}\)(?:[ ./-]?\d{2,5}){2,4}"
            r"|\d{3}[.-]\d{3}[.-]\d{4})(?![\w-])"
        ),
        "[phone]",
    ),
}
"""Kind to pattern and to what stands there afterwards; in the order in which they run. Key forms are those that the
issuers document (prefixes of GitHub, Hugging Face, AWS, Google, Slack, OpenAI, Stripe; JWT; PEM)."""


def scrub(document: Document, kinds: Sequence[str], counts: Counter[str]) -> Document:
    """The document with every found item replaced; `counts` gains the number of items by kind."""
    return tuple(Turn(turn.role, _scrub_text(turn.text, kinds, counts)) for turn in document)


def _scrub_text(text: str, kinds: Sequence[str], counts: Counter[str]) -> str:
    for kind, (pattern, blank) in PATTERNS.items():
        if kind in kinds:
            text, found = pattern.subn(blank, text)
            counts[kind] += found
    return text
