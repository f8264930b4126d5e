"""Looks into chat templates without rendering them: do they try to leave the sandbox, use up the machine, or reach the
network?

A chat template is a Jinja program that comes inside a model file. Engines render it in a sandbox; a template that
needs the sandbox is not one that Pantry runs. What is not known from chat templates is refused: statements, filters,
tests, functions, methods. docs/licences.md lists all that is looked for, and what is not.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pantry.formats.verdict import SafetyFinding

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

    from pantry.formats.chat_template.flow import Flow

MAX_TEMPLATE = 256_000  # characters; the longest known template has about 30,000
MAX_NUMBER = 1_000_000
"""A number above this in a template has no business there but to use up time or memory."""
MAX_WORK = 200_000_000
"""Characters and rounds of loops that a template may add on its own to a conversation, roughly counted; known ones stay
below 60 million."""
MAX_WIDTH = 1000  # characters to which a format may fill up

_INTERNAL = re.compile(r"__\w+__")
_ADDRESS = re.compile(r"\b(?:https?|ftp|wss?)://[^\s'\"<>]{3,}")
_PERCENT = re.compile(r"%(?:\(\w*\))?[-+ #0]*(\*|\d*)(?:\.(\*|\d*))?")
_STATEMENTS = frozenset(
    {
        *("Template", "Output", "TemplateData", "For", "If", "Macro", "CallBlock", "FilterBlock", "With", "Assign"),
        *("AssignBlock", "Scope", "Continue", "Break", "Const", "List", "Tuple", "Dict", "Pair", "Keyword", "Name"),
        *("NSRef", "Getattr", "Getitem", "Slice", "Filter", "Test", "Call", "Compare", "Operand", "And", "Or", "Not"),
        *("Neg", "Pos", "Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Concat", "CondExpr"),
    }
)
_FILTERS = frozenset(
    {
        *("abs", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "e", "escape", "first", "float"),
        *("format", "from_json", "fromjson", "groupby", "indent", "int", "items", "join", "last", "length", "list"),
        *("lower", "map", "max", "min", "pprint", "random", "reject", "rejectattr", "replace", "reverse", "round"),
        *("safe", "select", "selectattr", "slice", "sort", "split", "string", "striptags", "strip", "sum", "title"),
        *("tojson", "trim", "truncate", "unique", "upper", "urlencode", "wordcount", "wordwrap"),
    }
)
_FUNCTIONS = frozenset({"range", "namespace", "dict", "raise_exception", "strftime_now", "caller"})
_METHODS = frozenset(
    {
        *("strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "partition", "rpartition", "startswith"),
        *("endswith", "removeprefix", "removesuffix", "replace", "lower", "upper", "title", "capitalize", "swapcase"),
        *("casefold", "find", "rfind", "index", "rindex", "count", "join", "center", "ljust", "rjust", "zfill"),
        *("expandtabs", "isalpha", "isalnum", "isdigit", "isdecimal", "isnumeric", "isspace", "isupper", "islower"),
        *("istitle", "isidentifier", "isascii", "get", "items", "keys", "values", "copy", "append", "insert", "pop"),
        *("update", "setdefault", "remove", "reverse", "sort", "cycle", "changed", "strftime"),
    }
)
_OUTSIDE = frozenset(
    {
        *("open", "eval", "exec", "compile", "globals", "locals", "getattr", "setattr", "vars", "os", "sys"),
        *("subprocess", "socket", "requests", "urllib", "http", "importlib", "builtins", "config"),
    }
)
_JINJA_OBJECTS = frozenset({"self", "lipsum", "cycler", "joiner"})
_FRAMES = frozenset(
    {
        *("mro", "im_class", "im_func", "im_self", "gi_frame", "gi_code", "gi_yieldfrom", "cr_frame", "cr_code"),
        *("ag_code", "ag_frame", "tb_frame", "tb_next", "f_globals", "f_locals", "f_builtins", "f_back"),
        "func_globals",
    }
)
"""Attributes without underscores that lead into Python (jinja2.sandbox names them too)."""
_BY_NAME = frozenset({"map", "selectattr", "rejectattr", "groupby", "sort", "sum", "unique", "min", "max"})
"""Filters that fetch attributes whose names they are given."""
_BY_TEST = frozenset({"map", "select", "reject"})
"""Filters whose first argument names a filter or test; for selectattr and rejectattr it is the second."""


def check_template(source: str) -> tuple[SafetyFinding, ...]:
    """What is wrong with a chat template, worst things marked `refused`; empty when nothing is."""
    if len(source) > MAX_TEMPLATE:
        return (
            SafetyFinding("refused", f"a template of {len(source)} characters; at most {MAX_TEMPLATE} are allowed"),
        )
    from jinja2 import TemplateError

    from pantry.formats.chat_template.flow import Flow

    try:
        tree = _environment().parse(source)
        flow = Flow(tree)
        found = [finding for node in flow.every for finding in _judge(node, flow)]
        found += _effort(tree, flow)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        return (SafetyFinding("refused", f"the template does not parse: {error}", f"line {line}" if line else None),)
    except (RecursionError, MemoryError, OverflowError, ValueError):
        return (SafetyFinding("refused", "the template is too tangled to be checked"),)
    return tuple(dict.fromkeys(found))


def _environment() -> Environment:
    from jinja2 import Environment, nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class Generation(Extension):
        """`{% generation %}` marks what the model wrote; transformers defines it, and it only groups its content."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    return Environment(extensions=["jinja2.ext.loopcontrols", Generation])  # noqa: S701 - parsed, never rendered


def _judge(node: nodes.Node, flow: Flow) -> Iterator[SafetyFinding]:
    """What is wrong with one node of the tree, by what it is."""
    from jinja2 import nodes

    where = f"line {node.lineno}"
    if type(node).__name__ not in _STATEMENTS:
        words = {"Include": "reads another template", "Import": "reads another template", "Pow": "raises to a power"}
        words |= {"FromImport": "reads another template", "Extends": "reads another template"}
        kind = type(node).__name__
        yield SafetyFinding("refused", words.get(kind, f"uses {kind}, which no chat template needs"), where)
    elif isinstance(node, nodes.Getattr):
        if node.attr.startswith("_") or node.attr in _FRAMES:
            yield SafetyFinding("refused", f"reaches for the internal attribute {node.attr!r}", where)
    elif isinstance(node, nodes.Getitem):
        yield from (SafetyFinding("refused", words, where) for words in _subscript(node.arg, flow))
    elif isinstance(node, nodes.Filter):
        yield from (SafetyFinding("refused", words, where) for words in _filter(node, flow))
    elif isinstance(node, nodes.Test):
        if node.name not in _tests():
            yield SafetyFinding("refused", f"uses the test {node.name!r}, which chat templates do not have", where)
    elif isinstance(node, nodes.Call):
        yield from (SafetyFinding("refused", words, where) for words in _call(node, flow))
    elif isinstance(node, nodes.Mod):
        yield from (SafetyFinding("refused", words, where) for words in _percent(node.left, flow))
    elif isinstance(node, nodes.Name):
        own = node.name in flow.assigned or node.name in flow.macros
        if node.ctx == "load" and (node.name in _JINJA_OBJECTS or (node.name in _OUTSIDE and not own)):
            yield SafetyFinding("refused", f"uses {node.name!r}, which no chat template needs", where)
    elif isinstance(node, nodes.Const):
        yield from _constant(node.value, where)
    elif isinstance(node, nodes.TemplateData) and _ADDRESS.search(node.data):
        yield SafetyFinding("warning", f"writes the address {_address(node.data)} into every prompt", where)


def _subscript(key: nodes.Node, flow: Flow) -> Iterator[str]:
    """A subscript may be a number, a name as it stands, or one from the conversation; never one put together."""
    from jinja2 import nodes

    from pantry.formats.chat_template.flow import Origin

    if isinstance(key, nodes.Const) and isinstance(key.value, str):
        if key.value.startswith("_") or key.value in _FRAMES:
            yield f"reaches for the internal attribute {key.value[:40]!r}"
    elif not isinstance(key, nodes.Slice) and flow.of(key) == Origin.MADE:
        yield "reaches into a value by a name put together from parts"


def _filter(node: nodes.Filter, flow: Flow) -> Iterator[str]:
    if node.name == "attr":
        yield "reaches for attributes by a computed name"
        return
    if node.name not in _FILTERS:
        yield f"uses the filter {node.name!r}, which chat templates do not have"
    if node.name == "format":
        yield from _percent(node.node, flow)
    if node.name in _BY_NAME:
        yield from _attributes(node, flow)
    place = 0 if node.name in _BY_TEST else 1 if node.name in ("selectattr", "rejectattr") else None
    if place is not None and len(node.args) > place:
        yield from _filter_by_name(node, node.args[place])


def _attributes(node: nodes.Filter, flow: Flow) -> Iterator[str]:
    """Names of attributes given to a filter: texts as they stand, without internals in any of their parts."""
    from jinja2 import nodes

    from pantry.formats.chat_template.flow import Origin

    named = [] if node.name in _BY_TEST else node.args[:1] if node.name.endswith("attr") else node.args
    pairs = [pair.value for pair in node.kwargs if pair.key not in ("default", "start")]
    for value in [*named, *pairs, node.dyn_args, node.dyn_kwargs]:
        if isinstance(value, nodes.Const):
            parts = str(value.value).replace(",", ".").split(".")
            if any(part.strip().startswith("_") or part.strip() in _FRAMES for part in parts):
                yield f"gives the filter {node.name!r} the internal attribute {str(value.value)[:40]!r}"
        elif value is not None and flow.of(value) == Origin.MADE:
            yield f"gives the filter {node.name!r} a name put together from parts"


def _filter_by_name(node: nodes.Filter, given: nodes.Node) -> Iterator[str]:
    from jinja2 import nodes

    name = given.value if isinstance(given, nodes.Const) else None
    if name not in (_FILTERS if node.name == "map" else _tests()):
        shown = f"{name!r}" if isinstance(name, str) else "a computed name"
        yield f"has the filter {node.name!r} apply {shown}, which chat templates do not have"


def _call(node: nodes.Call, flow: Flow) -> Iterator[str]:
    """Calls of known functions, macros of the template itself, and known methods."""
    from jinja2 import nodes

    from pantry.formats.chat_template.scopes import plain

    called = node.node
    if isinstance(called, nodes.Name):
        is_macro = called.name in flow.macros and called.name not in flow.assigned
        if called.name in flow.assigned or not (is_macro or called.name in _FUNCTIONS):
            yield f"calls {plain(called.name)!r}, which is not a function of chat templates"
    elif not isinstance(called, nodes.Getattr):
        yield "calls a computed value"
    elif called.attr == "format":
        yield from _braces(called.node)
    elif called.attr not in _METHODS and not called.attr.startswith("_"):
        yield f"calls the method {called.attr!r}, which chat templates do not need"


def _braces(text: nodes.Node) -> Iterator[str]:
    """`'{}'.format(x)` may fill in values, not reach into them or fill up the memory."""
    from jinja2 import nodes

    if not isinstance(text, nodes.Const) or not isinstance(text.value, str):
        yield "formats by a text that is not written out"
        return
    for _, field, form, _ in string.Formatter().parse(text.value):
        if field and not field.isalnum():
            yield f"reaches into values while formatting: {field[:40]!r}"
        if form and ("{" in form or any(int(number) > MAX_WIDTH for number in re.findall(r"\d{1,10}", form))):
            yield f"formats to the width {form[:40]!r}, which only uses up memory"


def _percent(text: nodes.Node | None, flow: Flow) -> Iterator[str]:
    """`'%5d' % x` and `'%5d'|format(x)` may fill in values, not fill up the memory."""
    from jinja2 import nodes

    from pantry.formats.chat_template.flow import Origin

    if isinstance(text, nodes.Const) and isinstance(text.value, str):
        for match in _PERCENT.finditer(text.value):
            if any(part and (part == "*" or len(part) > 4 or int(part) > MAX_WIDTH) for part in match.groups()):
                yield f"formats to the width {match[0][:40]!r}, which only uses up memory"
    elif flow.of(text) >= Origin.CONSTANT:
        yield "formats by a text that is not written out"


def _tests() -> frozenset[str]:
    from jinja2.tests import TESTS

    return frozenset(TESTS)


def _effort(tree: nodes.Template, flow: Flow) -> Iterator[SafetyFinding]:
    """Whether the template alone, whatever the conversation is, uses up time or memory."""
    from pantry.formats.chat_template.size import Size, grows

    work = Size(flow).work(tree.body)
    if work > MAX_WORK:
        yield SafetyFinding("refused", f"makes {work:.3g} characters or rounds of its own, which only uses up time")
    if grows(flow):
        yield SafetyFinding("refused", "makes a value from several copies of itself, which only uses up memory")


def _constant(value: object, where: str) -> Iterator[SafetyFinding]:
    if isinstance(value, bool):
        return
    if isinstance(value, (int, float)) and abs(value) > MAX_NUMBER:
        yield SafetyFinding("refused", f"counts to {value:g}, which only uses up time or memory", where)
    if isinstance(value, str):
        if _INTERNAL.search(value):
            yield SafetyFinding("refused", f"names Python internals: {value[:40]!r}", where)
        if _ADDRESS.search(value):
            yield SafetyFinding("warning", f"writes the address {_address(value)} into prompts", where)


def _address(text: str) -> str:
    match = _ADDRESS.search(text)
    return match[0][:80] if match else ""
