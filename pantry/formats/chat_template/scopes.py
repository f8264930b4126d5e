"""Gives every name of a chat template that lives in a loop, macro or block a name of its own, as Jinja's scopes do.

`x` in the third such place becomes `x@3`. Order is not looked at: where a name may be read before its place gives it a
value, both are meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jinja2 import nodes

_PLACES = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.With)


def separate(tree: nodes.Template) -> dict[str, list[nodes.Node]]:
    """Rename in place; for each renamed name the outer names that it may stand for as well."""
    outer: dict[str, list[nodes.Node]] = {}
    _Scopes(outer).visit(tree, {})
    return outer


def plain(name: str) -> str:
    """The name as the template has it."""
    return name.partition("@")[0]


class _Scopes:
    def __init__(self, outer: dict[str, list[nodes.Node]]) -> None:
        self._outer = outer
        self._count = 0

    def visit(self, node: nodes.Node, names: dict[str, str]) -> None:
        """Rename what is below `node`, where `names` are in force."""
        if isinstance(node, nodes.Name):
            node.name = names.get(node.name, node.name)
            return
        if not isinstance(node, _PLACES):
            for child in node.iter_child_nodes():
                self.visit(child, names)
            return
        inside = self._entered(node, names)
        before = _evaluated_outside(node)
        for child in before:
            self.visit(child, names)
        for child in node.iter_child_nodes():
            if not any(child is each for each in before):
                self.visit(child, inside)

    def _entered(self, node: nodes.Node, names: dict[str, str]) -> dict[str, str]:
        self._count += 1
        inside = dict(names)
        given = set(_bound(node))
        for name in given | set(_set_in(node.body)):  # type: ignore[attr-defined]
            inside[name] = f"{name}@{self._count}"
            if name not in given:
                self._outer.setdefault(inside[name], []).append(nodes.Name(names.get(name, name), "load"))
        return inside


def _evaluated_outside(node: nodes.Node) -> list[nodes.Node]:
    match node:
        case nodes.For(iter=values):
            return [values]
        case nodes.CallBlock(call=call):
            return [call]
        case nodes.With(values=values) | nodes.Macro(defaults=values):
            return list(values)
    return []


def _bound(node: nodes.Node) -> Iterator[str]:
    """Names that the head of a place gives values to."""
    heads: list[nodes.Node] = []
    match node:
        case nodes.For(target=target):
            heads = [target]
        case nodes.Macro(args=args) | nodes.CallBlock(args=args):
            heads = list(args)
        case nodes.With(targets=targets):
            heads = list(targets)
    for head in heads:
        for name in [head, *head.find_all(nodes.Name)]:
            if isinstance(name, nodes.Name):
                yield name.name


def _set_in(body: Iterable[nodes.Node]) -> Iterator[str]:
    """Names that statements give values to, without those of inner places."""
    for node in body:
        if isinstance(node, (nodes.Assign, nodes.AssignBlock)):
            for name in [node.target, *node.target.find_all(nodes.Name)]:
                if isinstance(name, nodes.Name):
                    yield name.name
        elif not isinstance(node, _PLACES):
            yield from _set_in(node.iter_child_nodes())
