"""How far a chat template can blow up on its own: an upper bound of what its constants make, by reading alone.

Whatever comes from the conversation counts as one, so the bound says what the template adds to it: `'a' * 10**9`,
`range(1000) x range(1000) x range(1000)`, macros that call macros ten times each, a text that doubles itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import inf
from typing import Literal

from jinja2 import nodes

from pantry.formats.chat_template.flow import Flow, Origin

_Measure = Literal["length", "rounds", "number"]

MAX_NAMES = 1000
"""Names that a template may give values to; the longest known template has about 100."""
_COUNTS = frozenset({"length", "count", "wordcount"})
_NO_COPIES = _COUNTS | {"int", "float"}
_SAME_ITEMS = frozenset(
    {
        *("list", "items", "keys", "values", "copy", "dictsort", "sort", "reverse", "unique", "select", "reject"),
        *("selectattr", "rejectattr", "map", "groupby", "batch", "slice"),
    }
)


class Size:
    """Bounds for the expressions and bodies of one template."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._known: dict[tuple[str, str], float] = {}
        self._open: set[tuple[str, str]] = set()

    def length(self, node: nodes.Node | None) -> float:
        """The most characters that the text of a value may have; of lists those of all items."""
        match node:
            case nodes.Const(value=value):
                return max(len(str(value)), 1)
            case nodes.Concat(nodes=parts):
                return sum(self.length(part) for part in parts)
            case nodes.List(items=parts) | nodes.Tuple(items=parts) | nodes.Dict(items=parts):
                return sum(self.length(part) for part in parts)
            case nodes.Pair(key=one, value=two) | nodes.Add(left=one, right=two) | nodes.Mod(left=one, right=two):
                return self.length(one) + self.length(two)
            case nodes.Mul(left=one, right=two):
                return max(self.length(one) * self.number(two), self.number(one) * self.length(two), 1)
            case nodes.Filter() | nodes.Call():
                return self._length_of_call(node)
        return self._through(node, "length")

    def rounds(self, node: nodes.Node | None) -> float:
        """The most items that a loop over a value may find."""
        match node:
            case nodes.List(items=parts) | nodes.Tuple(items=parts) | nodes.Dict(items=parts):
                return len(parts)
            case nodes.Add(left=one, right=two):
                return self.rounds(one) + self.rounds(two)
            case nodes.Mul(left=one, right=two):
                return max(self.rounds(one) * self.number(two), self.number(one) * self.rounds(two), 1)
            case nodes.Filter(node=base, name=name) if name in _SAME_ITEMS:
                return self.rounds(base)
            case nodes.Call(node=nodes.Getattr(node=base, attr=attr)) if attr in _SAME_ITEMS:
                return self.rounds(base)
            case nodes.Call(node=nodes.Name(name="range"), args=args):
                return max((self.number(arg) for arg in args), default=1)
            case nodes.Const() | nodes.Concat() | nodes.Filter() | nodes.Call():
                return self.length(node)
        return self._through(node, "rounds")

    def number(self, node: nodes.Node | None) -> float:
        """The largest number that a value may be."""
        match node:
            case nodes.Const(value=int() | float() as value):
                return abs(value)
            case nodes.Const(value=str() as text):
                return abs(float(text)) if re.fullmatch(r"\s*[-+]?[\d.eE_]+\s*", text) else 1
            case nodes.Mul(left=one, right=two):
                return self.number(one) * self.number(two)
            case nodes.Add(left=one, right=two) | nodes.Sub(left=one, right=two):
                return self.number(one) + self.number(two)
            case nodes.Div(left=one) | nodes.FloorDiv(left=one):
                return self.number(one)
            case nodes.Filter(node=base, name=name) if name in _COUNTS:
                return max(self.length(base), self.rounds(base))
            case nodes.Filter(node=base, name=name) if name in ("int", "float"):
                return inf if self._flow.of(base) == Origin.MADE else self.number(base)
            case nodes.Filter(node=base) | nodes.Neg(node=base):
                return self.number(base)
        return self._through(node, "number")

    def work(self, body: Iterable[nodes.Node]) -> float:
        """What running statements writes and evaluates: loops over constants multiply what is inside them."""
        total = 0.0
        for node in body:
            match node:
                case nodes.TemplateData(data=text):
                    total += len(text)
                case nodes.Output(nodes=parts):
                    total += self.work(parts)
                case nodes.For(iter=values, body=inner, else_=other):
                    total += max(self.rounds(values), 1) * max(self.work(inner), 1) + self.work(other)
                case nodes.If(body=inner, elif_=more, else_=other):
                    total += self.work(inner) + self.work(more) + self.work(other)
                case nodes.Assign(node=value):
                    total += max(self.length(value), self.rounds(value))
                case nodes.Expr():
                    total += self.length(node)
                case nodes.CallBlock(call=call, body=inner):
                    total += self.length(call) * max(self.work(inner), 1)
                case nodes.AssignBlock(body=inner) | nodes.With(body=inner) | nodes.Scope(body=inner):
                    total += self.work(inner)
                case nodes.FilterBlock(body=inner, filter=applied):
                    total += self.work(inner) * self.length(applied)
        return total  # a macro counts where it is called

    def _through(self, node: nodes.Node | None, measure: _Measure) -> float:
        """Values that come from other places: names, members, parts, either of two."""
        of = {"length": self.length, "rounds": self.rounds, "number": self.number}[measure]
        match node:
            case nodes.Name(name=name):
                return self._of_name(name, measure)
            case nodes.Getattr(node=base, attr=attr) if self._flow.is_member(base):
                return max(of(base), self._of_name(f".{attr}", measure))
            case nodes.Getattr(node=base) | nodes.Getitem(node=base):
                return of(base) if isinstance(base, nodes.Name) and self._flow.of(base) < Origin.CONSTANT else max(
                    self.length(base), of(base)
                )  # fmt: skip
            case nodes.CondExpr(expr1=one, expr2=two) | nodes.And(left=one, right=two) | nodes.Or(left=one, right=two):
                return max(of(one), of(two))
            case nodes.Neg(node=inner) | nodes.Pos(node=inner) | nodes.Keyword(value=inner):
                return of(inner)
            case nodes.AssignBlock(body=body):
                return max(self.work(body), 1)
        return 1

    def _of_name(self, name: str, measure: _Measure) -> float:
        values, key = self._flow.assigned.get(name), (name, measure)
        if values is None or key in self._open:  # from outside, or the name itself: see `grows`
            return 1
        if key not in self._known:
            of = {"length": self.length, "rounds": self.rounds, "number": self.number}[measure]
            self._open.add(key)
            self._known[key] = max([1, *(of(value) for value in values)])
            self._open.discard(key)
        return self._known[key]

    def _length_of_call(self, node: nodes.Filter | nodes.Call) -> float:
        given = sum(self.length(each) for each in [*node.args, *node.kwargs])
        if isinstance(node, nodes.Filter):
            name, base = node.name, self.length(node.node) if node.node is not None else 1
        elif isinstance(node.node, nodes.Getattr):
            name, base = node.node.attr, self.length(node.node.node)
        elif isinstance(node.node, nodes.Name):
            return max(given + self._of_macro(node.node.name), self.rounds(node) if node.node.name == "range" else 1)
        else:
            return given
        if name in _COUNTS:
            return 1
        if name == "replace" and len(node.args) > 1:
            return base * max(self.length(node.args[1]) / self.length(node.args[0]), 1)
        if name in ("indent", "expandtabs", "center", "ljust", "rjust", "zfill", "wordwrap", "round"):
            width = max([1, *(self.number(each) for each in [*node.args, *node.kwargs])])
            return base * width if name in ("indent", "expandtabs") else base + width
        return base * max(given, 1) if name == "join" else base + given

    def _of_macro(self, name: str) -> float:
        key = (name, "macro")
        if name not in self._flow.macros or key in self._open:
            return 0
        if key not in self._known:
            self._open.add(key)
            self._known[key] = max(self.work(macro.body) for macro in self._flow.macros[name])
            self._open.discard(key)
        return self._known[key]


def grows(flow: Flow) -> bool:
    """Whether a value is made of more than one copy of itself, so that it doubles with every round or line."""
    numbers = {name: number for number, name in enumerate(flow.assigned)}
    if len(numbers) > MAX_NAMES:
        raise ValueError(f"{len(numbers)} names")
    reach = _reach(flow, numbers)
    for name, values in flow.assigned.items():
        circle = frozenset(
            other for other, number in numbers.items()
            if reach[numbers[name]] >> number & 1 and reach[number] >> numbers[name] & 1
        )  # fmt: skip
        if circle and any(_copies(value, circle, flow) > 1 for value in values):
            return True
    return False


def _reach(flow: Flow, numbers: dict[str, int]) -> list[int]:
    """For each name the names that its value is made of, by way of others too, as bits (Warshall's algorithm)."""
    reach = [
        sum(1 << numbers[used] for used in set().union(*(_names(value, flow) for value in values)) if used in numbers)
        for values in flow.assigned.values()
    ]
    for between in range(len(reach)):
        for number, row in enumerate(reach):
            if row >> between & 1:
                reach[number] = row | reach[between]
    return reach


def _names(node: nodes.Node, flow: Flow) -> set[str]:
    every = [node, *node.find_all((nodes.Name, nodes.Getattr))]
    plain = {each.name for each in every if isinstance(each, nodes.Name) and each.name not in flow.namespaces}
    return plain | {f".{each.attr}" for each in every if isinstance(each, nodes.Getattr) and flow.is_member(each.node)}


def _copies(node: nodes.Node | None, circle: frozenset[str], flow: Flow) -> int:
    """How many copies of the names in `circle` the value of an expression may hold."""
    match node:
        case None | nodes.Compare() | nodes.Test() | nodes.Not():
            return 0
        case nodes.Name(name=name):
            return int(name in circle and name not in flow.namespaces)
        case nodes.Getattr(node=base, attr=attr):
            return int(f".{attr}" in circle and flow.is_member(base)) or _copies(base, circle, flow)
        case nodes.Getitem(node=base):
            return _copies(base, circle, flow)
        case nodes.CondExpr(expr1=one, expr2=two):
            return max(_copies(one, circle, flow), _copies(two, circle, flow))
        case nodes.And(left=one, right=two) | nodes.Or(left=one, right=two):
            return max(_copies(one, circle, flow), _copies(two, circle, flow))
        case nodes.Mul(left=one, right=two):
            return 2 * (_copies(one, circle, flow) + _copies(two, circle, flow))
        case nodes.Filter(name=name) if name in _NO_COPIES:
            return 0
    return sum(_copies(child, circle, flow) for child in node.iter_child_nodes())
