"""Where the values of a chat template come from: from the conversation, or put together by the template itself.

A name that the template puts together (`'__cla' ~ 'ss__'`, by way of `set`, loops, macros, namespaces, lists) can hide
from a look at the names; so such a text may never say which attribute, filter or format is meant. The flow is followed
without regard to order and scope, which can only find too much.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import IntEnum

from jinja2 import nodes

from pantry.formats.chat_template.scopes import plain, separate

ROUNDS = 60
"""Times that values are handed on along assignments; more means a chain that no template needs."""
_KEEPING_METHODS = frozenset(
    {"strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "lower", "upper", "items", "keys", "values", "copy"}
)
"""Methods whose result has only what their object had."""
_KEEPING_FILTERS = frozenset(
    {
        *("list", "items", "first", "last", "sort", "dictsort", "unique", "select", "reject", "selectattr", "max"),
        *("rejectattr", "reverse", "trim", "lower", "upper", "safe", "batch", "slice", "groupby", "min", "random"),
    }
)
_NUMBER_FILTERS = frozenset({"length", "count", "int", "float", "round", "abs", "wordcount"})


class Origin(IntEnum):
    """What an expression may be, worst last."""

    NUMBER = 0
    DATA = 1
    """From the conversation or the caller."""
    CONSTANT = 2
    """A text of the template, whole, as it stands there."""
    MADE = 3
    """A text that the template puts together, or one that the model's maker chooses elsewhere."""


class Flow:
    """The origins of all names in one template. Raises ValueError when assignments form chains without end."""

    def __init__(self, tree: nodes.Template) -> None:
        outer = separate(tree)
        every = list(tree.find_all(nodes.Node))
        self.every = every
        self.names: dict[str, Origin] = {}
        self.macros: dict[str, list[nodes.Macro]] = {}
        for node in every:
            if isinstance(node, nodes.Macro):
                self.macros.setdefault(node.name, []).append(node)
        self.assigned: dict[str, list[nodes.Node]] = {}
        for name, value in (pair for node in every for pair in self._assignments(node)):
            self.assigned.setdefault(name, []).append(value)
        for name, others in outer.items():
            self.assigned.setdefault(name, []).extend(others)
        self.namespaces: frozenset[str] = self._namespaces()
        self._settle()

    def _namespaces(self) -> frozenset[str]:
        """Names that may stand for a namespace."""
        found: set[str] = set()
        while True:
            more = {
                name for name, values in self.assigned.items()
                if name not in found and any(_is_namespace(value, found) for value in values)
            }  # fmt: skip
            if not more:
                return frozenset(found)
            found |= more

    def of(self, node: nodes.Node | None) -> Origin:
        """The origin of an expression."""
        match node:
            case nodes.Const(value=value):
                return self._of_constant(value)
            case nodes.Name(name=name):
                return max(self.names.get(name, Origin.NUMBER), _outer(name, name in self.assigned))
            case nodes.NSRef(attr=attr):
                return self.names.get(f".{attr}", Origin.DATA)
            case nodes.Getattr(node=base, attr=attr):
                member = self.names.get(f".{attr}", Origin.NUMBER) if self.is_member(base) else Origin.NUMBER
                return max(self.of(base), member, Origin.DATA)
            case nodes.Getitem(node=base, arg=arg):
                if isinstance(arg, nodes.Slice):
                    return Origin.MADE if self.of(base) >= Origin.CONSTANT else Origin.DATA
                return max(self.of(base), self._of_members(arg) if self.is_member(base) else Origin.DATA)
            case nodes.Filter():
                return self._of_filter(node)
            case nodes.Call():
                return self._of_call(node)
            case nodes.CondExpr(expr1=one, expr2=two):
                return max(self.of(one), self.of(two) if two else Origin.NUMBER)
            case nodes.And(left=one, right=two) | nodes.Or(left=one, right=two):
                return max(self.of(one), self.of(two))
            case nodes.Add(left=one, right=two) if isinstance(one, nodes.List) or isinstance(two, nodes.List):
                return max(self.of(one), self.of(two))
            case nodes.Add(left=one, right=two) | nodes.Mul(left=one, right=two) | nodes.Mod(left=one, right=two):
                return _joined(self.of(one), self.of(two))
            case nodes.List(items=items) | nodes.Tuple(items=items) | nodes.Dict(items=items):
                return self._most(items)
            case nodes.Pair(key=one, value=two):
                return max(self.of(one), self.of(two))
            case nodes.Keyword(value=value):
                return self.of(value)
            case nodes.Compare() | nodes.Test() | nodes.Not() | nodes.Neg() | nodes.Pos() | nodes.Sub():
                return Origin.NUMBER
            case nodes.Div() | nodes.FloorDiv():
                return Origin.NUMBER
            case None:
                return Origin.NUMBER
        return Origin.MADE  # Concat, macro bodies, and all that is not known

    def _of_constant(self, value: object) -> Origin:
        if not isinstance(value, str):
            return Origin.NUMBER
        return Origin.MADE if value.startswith("_") else Origin.CONSTANT

    def is_member(self, base: nodes.Node) -> bool:
        """Whether what is fetched from `base` may be a member of a namespace."""
        return _is_namespace(base, self.namespaces)

    def _of_members(self, key: nodes.Node) -> Origin:
        """What a subscript may fetch from a namespace."""
        if isinstance(key, nodes.Const):
            return self.names.get(f".{key.value}", Origin.DATA)
        return max((found for name, found in self.names.items() if name.startswith(".")), default=Origin.DATA)

    def _of_filter(self, node: nodes.Filter) -> Origin:
        base = self.of(node.node) if node.node is not None else Origin.MADE
        if node.name in _NUMBER_FILTERS:
            return Origin.NUMBER
        if node.name in ("default", "d"):
            return max(base, self._most(node.args))
        if node.name == "map":
            return Origin.DATA if base <= Origin.DATA and _is_attribute(node) else Origin.MADE
        if node.name in _KEEPING_FILTERS and (base <= Origin.DATA or node.name in ("list", "items", "first", "last")):
            return base
        return Origin.MADE

    def _of_call(self, node: nodes.Call) -> Origin:
        called = node.node
        given = self._most([*node.args, *node.kwargs])
        if isinstance(called, nodes.Name):
            if called.name == "range":
                return Origin.NUMBER
            if called.name == "namespace":  # its members are followed one by one
                return self._most(node.args)
            return given if called.name == "dict" else Origin.MADE
        if isinstance(called, nodes.Getattr):
            base = self.of(called.node)
            if called.attr in ("index", "find", "count", "startswith", "endswith"):
                return Origin.NUMBER
            if called.attr == "get":
                return max(base, self._most(node.args[1:]), Origin.DATA)
            if called.attr in ("cycle", "pop"):
                return max(base, given, Origin.DATA)
            if called.attr in _KEEPING_METHODS and base <= Origin.DATA:
                return Origin.DATA
        return Origin.MADE

    def _most(self, items: Iterable[nodes.Node]) -> Origin:
        return max((self.of(item) for item in items), default=Origin.NUMBER)

    def _settle(self) -> None:
        for _ in range(ROUNDS):
            changed = False
            for name, values in self.assigned.items():
                origin = max([self.names.get(name, Origin.NUMBER), *(self.of(value) for value in values)])
                if origin != self.names.get(name):
                    self.names[name] = origin
                    changed = True
            if not changed:
                return
        raise ValueError("assignments without end")

    def _assignments(self, node: nodes.Node) -> Iterator[tuple[str, nodes.Node]]:
        """Names that `node` gives a value, with the value; attributes of namespaces as `.name`."""
        match node:
            case nodes.Assign(target=target, node=value) | nodes.For(target=target, iter=value):
                yield from _targets(target, value)
            case nodes.AssignBlock(target=target):
                yield from _targets(target, node)
            case nodes.With(targets=targets, values=values):
                for target, value in zip(targets, values, strict=True):
                    yield from _targets(target, value)
            case nodes.CallBlock(args=args):
                yield from ((argument.name, node) for argument in args)
            case nodes.Macro(args=args, defaults=defaults):
                for argument, value in zip(args[len(args) - len(defaults) :], defaults, strict=True):
                    yield from _targets(argument, value)
            case nodes.Call(node=nodes.Name(name="namespace"), kwargs=pairs):
                for pair in pairs:
                    yield f".{pair.key}", pair.value
            case nodes.Call(node=nodes.Name(name=name)) if name in self.macros:
                for macro in self.macros[name]:
                    yield from _arguments(macro, node)


def _arguments(macro: nodes.Macro, call: nodes.Call) -> Iterator[tuple[str, nodes.Node]]:
    names = [argument.name for argument in macro.args]
    for place, value in enumerate(call.args):
        yield names[place] if place < len(names) else "varargs", value
    for pair in call.kwargs:
        yield pair.key if pair.key in names else "kwargs", pair.value
    for rest in (call.dyn_args, call.dyn_kwargs):
        if rest is not None:
            for name in (*names, "varargs", "kwargs"):
                yield name, rest


def _targets(target: nodes.Node, value: nodes.Node) -> Iterator[tuple[str, nodes.Node]]:
    if isinstance(target, nodes.Name):
        yield target.name, value
    elif isinstance(target, nodes.NSRef):
        yield f".{target.attr}", value
    elif isinstance(target, (nodes.Tuple, nodes.List)):
        for each in target.items:
            yield from _targets(each, value)


def _is_namespace(value: nodes.Node | None, known: Collection[str]) -> bool:
    """Whether a value may be a namespace of the template, or hold one."""
    match value:
        case nodes.Call(node=nodes.Name(name="namespace")):
            return True
        case nodes.Name(name=name):
            return name in known
        case nodes.CondExpr() | nodes.Or() | nodes.And() | nodes.List() | nodes.Tuple() | nodes.Dict() | nodes.Pair():
            return any(_is_namespace(part, known) for part in value.iter_child_nodes())
        case nodes.Getitem(node=inner) | nodes.Filter(node=inner):
            return _is_namespace(inner, known)
    return False


def _outer(name: str, assigned: bool) -> Origin:
    """A name from outside the template. Special tokens are texts that the model's maker chose."""
    if plain(name).endswith("_token"):
        return Origin.MADE
    return Origin.NUMBER if assigned or name == "loop" else Origin.DATA


def _joined(one: Origin, two: Origin) -> Origin:
    """What `+`, `*` and `%` give: with a number a number or a piece of data, of texts a new text."""
    if max(one, two) >= Origin.CONSTANT:
        return Origin.MADE
    return max(one, two) if min(one, two) == Origin.NUMBER else Origin.MADE


def _is_attribute(node: nodes.Filter) -> bool:
    return not node.args and any(pair.key == "attribute" for pair in node.kwargs)
