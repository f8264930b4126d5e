"""Looks into chat templates without rendering them: do they try to leave the sandbox or reach the network?

A chat template is a Jinja program that comes inside a model file. Engines render it in a sandbox; a template that
needs the sandbox is not one that Pantry runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pantry.formats.verdict import SafetyFinding

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

MAX_TEMPLATE = 256_000  # characters; the longest known template has about 30,000
MAX_NUMBER = 1_000_000
"""A number above this in a template has no business there but to use up time or memory."""

_INTERNAL = re.compile(r"__\w+__")
_ADDRESS = re.compile(r"\b(?:https?|ftp|wss?)://[^\s'\"<>]{3,}")
_FORBIDDEN_NAMES = frozenset(
    {
        *("open", "eval", "exec", "compile", "globals", "locals", "getattr", "setattr", "vars", "os", "sys"),
        *("subprocess", "socket", "requests", "urllib", "http", "importlib", "builtins"),
        *("self", "lipsum", "cycler", "joiner", "config"),
    }
)
_BY_NAME = frozenset({"attr", "map", "selectattr", "rejectattr", "groupby", "sort", "sum", "unique"})
"""Filters that fetch attributes whose names they are given."""


def check_template(source: str) -> tuple[SafetyFinding, ...]:
    """What is wrong with a chat template, worst things marked `refused`; empty when nothing is."""
    if len(source) > MAX_TEMPLATE:
        return (
            SafetyFinding("refused", f"a template of {len(source)} characters; at most {MAX_TEMPLATE} are allowed"),
        )
    from jinja2 import TemplateError

    try:
        tree = _environment().parse(source)
        found = [*_walk(tree), *_loops(tree, 1)]
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        return (SafetyFinding("refused", f"the template does not parse: {error}", f"line {line}" if line else None),)
    except (RecursionError, MemoryError, OverflowError, ValueError):
        return (SafetyFinding("refused", "the template is nested too deep to be checked"),)
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


def _walk(tree: nodes.Template) -> Iterator[SafetyFinding]:
    from jinja2 import nodes

    for node in tree.find_all(nodes.Node):
        where = f"line {node.lineno}"
        if isinstance(node, (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            yield SafetyFinding("refused", "reads another template", where)
        elif isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
            yield SafetyFinding("refused", f"reaches for the internal attribute {node.attr!r}", where)
        elif isinstance(node, nodes.Getattr) and node.attr in ("format", "format_map"):
            yield SafetyFinding("warning", f"formats text with {node.attr!r}, a known way around sandboxes", where)
        elif isinstance(node, nodes.Filter) and node.name == "attr":
            yield SafetyFinding("refused", "reaches for attributes by a computed name", where)
        elif isinstance(node, nodes.Getitem) and _is_computed(node.arg):
            yield SafetyFinding("refused", "reaches into a value by a name put together from parts", where)
        elif (
            isinstance(node, nodes.Filter) and node.name in _BY_NAME and any(_is_computed(arg) for arg in _given(node))
        ):
            yield SafetyFinding("refused", f"gives the filter {node.name!r} a name put together from parts", where)
        elif isinstance(node, nodes.Name) and node.ctx == "load" and node.name in _FORBIDDEN_NAMES:
            yield SafetyFinding("refused", f"uses {node.name!r}, which no chat template needs", where)
        elif isinstance(node, nodes.Pow):
            yield SafetyFinding("warning", "raises to a power, which can use up memory", where)
        elif isinstance(node, nodes.Const):
            yield from _constant(node.value, where)
        elif isinstance(node, nodes.TemplateData) and _ADDRESS.search(node.data):
            yield SafetyFinding("warning", f"writes the address {_address(node.data)} into every prompt", where)


def _is_computed(node: nodes.Node) -> bool:
    """Whether an expression joins, formats or filters texts: a way to hide a name from this check."""
    from jinja2 import nodes

    parts = [node, *node.find_all(nodes.Node)]
    texts = any(isinstance(part, nodes.Const) and isinstance(part.value, str) for part in parts)
    joins = any(isinstance(part, (nodes.Concat, nodes.Add, nodes.Mod, nodes.Filter, nodes.Call)) for part in parts)
    return (texts and joins) or any(isinstance(part, nodes.Concat) for part in parts)


def _given(node: nodes.Filter) -> list[nodes.Node]:
    return [*node.args, *(pair.value for pair in node.kwargs)]


def _loops(node: nodes.Node, rounds: int) -> Iterator[SafetyFinding]:
    """Loops over fixed ranges whose rounds, multiplied along the nesting, go too far."""
    from jinja2 import nodes

    for child in node.iter_child_nodes():
        inner = rounds
        if isinstance(child, nodes.For):
            inner *= max(_range_length(child.iter), 1)
            if inner > MAX_NUMBER:
                yield SafetyFinding("refused", f"loops {inner} times, which only uses up time", f"line {child.lineno}")
                continue
        yield from _loops(child, inner)


def _range_length(node: nodes.Node) -> int:
    """The largest number in `range(...)`, an upper bound of its rounds; 0 for anything else."""
    from jinja2 import nodes

    if not isinstance(node, nodes.Call) or not isinstance(node.node, nodes.Name) or node.node.name != "range":
        return 0
    numbers = [arg.value for arg in node.args if isinstance(arg, nodes.Const) and isinstance(arg.value, int)]
    return max((abs(number) for number in numbers), default=0)


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
