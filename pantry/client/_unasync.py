"""Makes the synchronous client from the asynchronous one: `python -m pantry.client._unasync [--check]`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCE, RESULT = FOLDER / "_client_async.py", FOLDER / "_client_sync.py"
_RULES = (
    (r"AsyncGenerator\[(.+), None\]", r"Generator[\1, None, None]"),
    (r"\bAsyncGenerator\b", "Generator"),
    (r"\bAsync(Client|Session|Transport)\b", r"\1"),
    (r"\b_transport_async\b", "_transport_sync"),
    (r"\baclosing\b", "closing"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"for text in pieces:\n\s+yield text", "yield from pieces"),
)
_NOTE = '''"""The client: finds the service, registers as an app where asked to, waits for the user's approval.

Made from `_client_async.py` by `python -m pantry.client._unasync`; edit that file.
"""
'''


def synchronous(text: str) -> str:
    """The synchronous form of an asynchronous source."""
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    text = re.sub(r"(?<![\w\]])\((self\._\w+\([^()]*(?:\([^()]*\)[^()]*)*\))\)", r"\1", text)
    imports = re.search(r"from collections\.abc import (.+)", text)
    if imports:
        names = ", ".join(sorted(imports[1].split(", ")))
        text = text.replace(imports[0], f"from collections.abc import {names}")
    return _NOTE + text.split('"""\n', 1)[1]


def main() -> None:
    """Write the file; with --check only compare, and exit 1 when it is stale."""
    made = synchronous(SOURCE.read_text())
    if "--check" not in sys.argv:
        RESULT.write_text(made)
    elif RESULT.read_text() != made:
        sys.exit(f"{RESULT.name} is stale. Run: python -m pantry.client._unasync")


if __name__ == "__main__":
    main()
