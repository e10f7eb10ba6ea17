"""Disable each check in the source of a module by one change of its syntax tree.

A check is a `raise`, a `yield` of a message, a bare call of a function whose name begins like
that of a check, and each operand and each bound (`low <= x < high` has two) of a condition that
guards a `raise` or `yield`, is returned or assigned, or is a value in a dictionary whose keys
are messages.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from typing import NamedTuple

CALLS = re.compile(
    r"_?(check|require|refuse|try|sync|fsync|truncate|limit|setrlimit|sweep|send_error)"
)


class Mutant(NamedTuple):
    """A disabled check: the module, the node of its syntax tree, and the replacement."""

    module: ast.Module
    old: ast.expr | ast.stmt
    new: ast.expr | ast.stmt
    what: str

    @property
    def lines(self) -> range:
        """The range of line numbers that the check covers."""
        return range(self.old.lineno, (self.old.end_lineno or self.old.lineno) + 1)

    def tree(self) -> ast.Module:
        """Return the module without the check."""
        new = ast.fix_missing_locations(ast.copy_location(self.new, self.old))
        return copy.deepcopy(self.module, {id(self.old): new})


def mutants(source: str) -> Iterator[Mutant]:
    """Yield a mutant for every check of a module."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and _is_check(node):
            yield _mutant(tree, node, ast.Pass())
        for test, whole in _conditions(node):
            yield from _weakened(tree, test, whole)


def _is_check(node: ast.stmt) -> bool:
    if _refuses(node):
        return True
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return False
    called = node.value.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return CALLS.match(name) is not None


def _refuses(node: ast.stmt) -> bool:
    """Return whether the statement raises, or yields a message."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield):
        return isinstance(node.value.value, ast.JoinedStr)
    return isinstance(node, ast.Raise)


def _conditions(node: ast.AST) -> Iterator[tuple[ast.expr, bool]]:
    """Yield conditions of checks, and whether the whole condition is a check too."""
    if isinstance(node, ast.If) and any(map(_refuses, node.body)):
        yield node.test, False  # the whole condition is disabled with its `raise`
    elif isinstance(node, (ast.Return, ast.Assign)) and node.value is not None:
        # The result of `or` is a default, not a check.
        if not (isinstance(node.value, ast.BoolOp) and isinstance(node.value.op, ast.Or)):
            yield node.value, False
    elif isinstance(node, ast.Dict):
        yield from ((v, True) for v in node.values if isinstance(v, (ast.BoolOp, ast.Compare)))


def _weakened(tree: ast.Module, test: ast.expr, whole: bool) -> Iterator[Mutant]:
    """Yield mutants without the test, and without each operand and each bound in it."""
    if whole:
        yield _mutant(tree, test, ast.Constant(True))
    for part in _parts(test):
        if isinstance(part, ast.BoolOp):
            neutral = ast.Constant(isinstance(part.op, ast.And))
            yield from (_mutant(tree, value, neutral) for value in part.values)
        elif isinstance(part, ast.Compare) and len(part.ops) > 1:
            sides = [part.left, *part.comparators]
            for i, op in enumerate(part.ops):
                others = [j for j in range(len(part.ops)) if j != i]
                kept: list[ast.expr] = [
                    ast.Compare(sides[j], [part.ops[j]], [sides[j + 1]]) for j in others
                ]
                new = kept[0] if len(kept) == 1 else ast.BoolOp(ast.And(), kept)
                what = ast.unparse(ast.Compare(sides[i], [op], [sides[i + 1]]))
                yield _mutant(tree, part, new, what)


def _parts(test: ast.AST) -> Iterator[ast.AST]:
    """Yield a condition and its operands, but not the arguments of calls other than `all`."""
    yield test
    if not isinstance(test, ast.Call) or getattr(test.func, "id", "") in ("all", "any", "bool"):
        for part in ast.iter_child_nodes(test):
            yield from _parts(part)


def _mutant(
    tree: ast.Module, old: ast.expr | ast.stmt, new: ast.expr | ast.stmt, what: str = ""
) -> Mutant:
    return Mutant(tree, old, new, what or " ".join(ast.unparse(old).split()))
