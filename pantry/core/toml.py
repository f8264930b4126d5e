"""Writes TOML: a table from nothing, or changes to a file that a person wrote, whose comments and order stay.

Reading is in the standard library. tomlkit is imported where it is used: it takes longer than most commands need.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, MutableMapping, MutableSequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Comment, Table, Whitespace


def dump_toml(table: Mapping[str, Any]) -> str:
    """The table as TOML text, the same bytes each time: plain values, arrays of tables, tables. None is left out."""
    import tomlkit

    return tomlkit.dumps(_plain(table)).strip("\n") + "\n"


def change_toml(text: str, table: Mapping[str, Any]) -> str:
    """The TOML `text`, changed where it must be to say what `table` says; None is left out.

    Comments, order, line ends and the way values are written stay. A comment above a removed line or table stays as
    well: what it is about cannot be told. `text` must be valid; a form that tomlkit cannot change is written anew,
    without comments.
    """
    from tomlkit.exceptions import TOMLKitError

    wanted = _plain(table)
    try:
        changed = _changed(text, wanted)
        if tomllib.loads(changed) != wanted:
            changed = dump_toml(wanted)
    except (TOMLKitError, LookupError, ValueError, RecursionError):  # the middle two also from inside tomlkit
        changed = dump_toml(wanted)
    of_windows = 0 < text.count("\n") == text.count("\r\n")
    return changed.replace("\r\n", "\n").replace("\n", "\r\n") if of_windows else changed


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """Lists for tuples, nothing for None, and plain values first: TOML counts what follows a table to it."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return _plain(value)
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    kept = {key: plain(value) for key, value in table.items() if value is not None}
    return dict(sorted(kept.items(), key=lambda item: _holds_tables(item[1])))


def _holds_tables(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))


def _changed(text: str, wanted: dict[str, Any]) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    values = {key: value for key, value in wanted.items() if key not in document and not _holds_tables(value)}
    if values and (head := _head(text)) and text.startswith(head):  # above what is said about the first table
        head += "" if head.endswith("\n") else "\n"
        document = tomlkit.parse(head + tomlkit.dumps(values) + text[len(head) :])
    _change_table(document, wanted, document)
    changed = document.as_string()
    return changed if changed == text else changed.rstrip("\n") + "\n"


def _head(text: str) -> str:
    """The text up to the last plain value before any table."""
    import tomlkit
    from tomlkit.items import AoT, Table

    document = tomlkit.parse(text)
    for key in [key for key, item in document.items() if isinstance(item, Table | AoT)]:
        document.remove(key)
    remarks = ""
    for key, item in reversed(document.body):
        if key is not None:
            break
        remarks = item.as_string() + remarks
    return document.as_string().removesuffix(remarks)


def _change_table(there: MutableMapping[str, Any], wanted: dict[str, Any], document: TOMLDocument) -> None:
    for key in [key for key in there if key not in wanted]:
        for remark in _remarks(there[key]):
            document.add(remark)
        del there[key]
    for key, value in wanted.items():
        old = there.get(key)
        if isinstance(value, dict) and isinstance(old, MutableMapping):
            _change_table(old, value, document)
        elif isinstance(value, list) and isinstance(old, MutableSequence) and _keeps_its_form(old, value):
            _change_list(old, value, document)
        elif key not in there or old != value:
            if _holds_tables(value):
                there.pop(key, None)  # a table does not go where a plain value stood: it would take in what follows
            there[key] = value


def _keeps_its_form(old: MutableSequence[Any], wanted: list[Any]) -> bool:
    """Whether a list can be changed item by item: there are some before and after, and `[[tables]]` stay tables."""
    from tomlkit.items import AoT

    return bool(old and wanted) and (not isinstance(old, AoT) or all(isinstance(item, dict) for item in wanted))


def _change_list(there: MutableSequence[Any], wanted: list[Any], document: TOMLDocument) -> None:
    from tomlkit.items import AoT

    steps = SequenceMatcher(None, [repr(_plain({"": item})) for item in there], [repr({"": item}) for item in wanted])
    for step, start, end, first, last in reversed(steps.get_opcodes()):
        if step == "equal":
            continue
        both = min(end - start, last - first)
        for number in range(both):
            old, new = there[start + number], wanted[first + number]
            if isinstance(old, MutableMapping) and isinstance(new, dict):
                _change_table(old, new, document)
            else:
                there[start + number] = new
        for number in reversed(range(start + both, end)):
            _keep_remarks(there, number, document)
            del there[number]
        for number, item in enumerate(wanted[first + both : last]):
            at = start + both + number
            there.insert(at, item)
            if at and isinstance(there, AoT):
                there[at].trivia.indent = "\n"


def _keep_remarks(tables: MutableSequence[Any], number: int, document: TOMLDocument) -> None:
    """Hand the remarks in a table that goes, mostly about the next one, to the table before it, or else to the next."""
    remarks = _remarks(tables[number])
    if remarks and not number and len(tables) > 1:
        tables[1] = _with_first(remarks, tables[1])
        return
    for remark in remarks:
        (tables[number - 1] if number else document).add(remark)


def _remarks(item: Any) -> list[Comment | Whitespace]:
    """The comments in a table, and the empty lines between them."""
    from tomlkit.items import AoT, Comment, Table, Whitespace

    if isinstance(item, AoT):
        return [remark for table in item.body for remark in _remarks(table)]
    body = item.value.body if isinstance(item, Table) else []
    return [each for _, each in body if isinstance(each, Comment | Whitespace)]


def _with_first(remarks: list[Comment | Whitespace], table: Table) -> Table:
    import tomlkit

    made = tomlkit.table()
    for remark in remarks:
        made.add(remark)
    for key, item in table.value.body:
        made.append(key, item)
    return made
