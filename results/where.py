"""Conditions on rows, as `--where` takes them: `tokens<=16 and target=="ort:cpu"`. Parsed, never evaluated.

    condition = condition and condition | condition or condition | not condition | (condition) | comparison | column
    comparison = value (== | != | < | <= | > | >=) value, chained like 1 < tokens <= 16 | value in list | value not in list
    value = column | "text" | number | True | False | None;  list = (value, ...) | column that holds a list or a text

A `*` in a text that is compared by == or != stands for any text, as in a pattern. What is absent (None) meets no comparison but
!= and == None. The grammar is Python's, of whose tree only these nodes are taken.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, Literal

from results.kinds import kind_of, specimen
from workloads.case import UserError

__all__ = ["Column", "Comparison", "Condition", "Constant", "Not", "Several", "condition_of"]

LONGEST = 1000
"""Characters of a condition: nobody types more, and a deep tree takes a deep stack."""
Sign = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]
ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SIGNS: dict[type[ast.cmpop], Sign] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}
Row = Mapping[str, Any]
_WORDS = {str: "texts", int: "numbers", float: "numbers", bool: "True or False", list[str]: "lists of texts"}
_WORDS |= {list[int]: "lists of numbers", list[float]: "lists of numbers"}


@dataclass(frozen=True)
class Column:
    """What stands in a column; as a condition, whether that is true."""

    name: str

    def of(self, row: Row) -> Any:
        """The value in a row."""
        return row[self.name]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Constant:
    """A text, a number, True, False, None, or a list of them."""

    value: Any

    def of(self, row: Row) -> Any:
        """The value, in any row."""
        return self.value

    def __str__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True)
class Comparison:
    """Two values and what is asked of them."""

    sign: Sign
    left: Column | Constant
    right: Column | Constant

    def of(self, row: Row) -> bool:
        """Whether it holds in a row. Raises UserError where a text is compared with a number."""
        left, right = self.left.of(row), self.right.of(row)
        if self.sign in ("==", "!="):
            return _equal(left, right) is (self.sign == "==")
        if self.sign in ("in", "not in"):
            return _within(left, right) is (self.sign == "in")
        return _in_order(self.sign, left, right)

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"


@dataclass(frozen=True)
class Several:
    """All of some conditions, or any of them."""

    every: bool
    parts: tuple[Tree, ...]

    def of(self, row: Row) -> bool:
        """Whether it holds in a row."""
        return (all if self.every else any)(part.of(row) for part in self.parts)


@dataclass(frozen=True)
class Not:
    """The opposite of a condition."""

    part: Tree

    def of(self, row: Row) -> bool:
        """Whether it holds in a row."""
        return not self.part.of(row)


Tree = Column | Comparison | Several | Not


@dataclass(frozen=True)
class Condition:
    """A condition with the columns that it looks at."""

    columns: frozenset[str]
    tree: Several

    def holds(self, row: Row) -> bool:
        """Whether a row meets it. Raises UserError where a text is compared with a number."""
        return bool(self.tree.of(row))

    def refuse_nonsense(self) -> None:
        """Raises UserError where a part asks of a column what no value of its kind could answer.

        Rows tell only of parts that are looked at: of `tokens<=16 and estimate_ns<"x"` the second is not without 16 tokens.
        """
        for one in _comparisons(self.tree):
            columns = [side.name for side in (one.left, one.right) if isinstance(side, Column)]
            try:
                one.of({name: specimen(name) for name in columns})
            except UserError:
                held = " and ".join(f"{name} holds {_WORDS[kind_of(name)]}" for name in columns)
                raise UserError(f"--where: {one} has no meaning: {held or 'both are constants'}") from None

    def staged(self, cheap: Container[str]) -> list[Condition]:
        """What looks at cheap columns alone, and the rest, where there is such: a row meets the whole where it meets both."""
        stages: dict[bool, list[Tree]] = {True: [], False: []}
        for part in _all_of(self.tree):
            stages[all(name in cheap for name in _columns(part))].append(part)
        return [_together(parts) for parts in stages.values() if parts]


def _comparisons(tree: Tree) -> Iterator[Comparison]:
    match tree:
        case Comparison():
            yield tree
        case Several(_, parts):
            for part in parts:
                yield from _comparisons(part)
        case Not(part):
            yield from _comparisons(part)


def _together(parts: Iterable[Tree]) -> Condition:
    tree = Several(True, tuple(parts))
    return Condition(_columns(tree), tree)


def _all_of(tree: Tree) -> Iterator[Tree]:
    """The conditions that all must hold for this one to hold."""
    if isinstance(tree, Several) and tree.every:
        for part in tree.parts:
            yield from _all_of(part)
    else:
        yield tree


def _columns(tree: Tree | Constant) -> frozenset[str]:
    """The columns that a condition looks at."""
    match tree:
        case Column(name):
            return frozenset((name,))
        case Comparison(_, left, right):
            return _columns(left) | _columns(right)
        case Several(_, parts):
            return frozenset().union(*map(_columns, parts))
        case Not(part):
            return _columns(part)
    return frozenset()


def condition_of(texts: Iterable[str], columns: Sequence[str]) -> Condition:
    """All of these conditions together on rows with these columns; a point in a column's name is written as `_`.

    Raises UserError naming what is not understood, and the columns that there are.
    """
    reader = _Reader({name.replace(".", "_"): name for name in columns})
    return _together(map(reader.tree, texts))


class _Reader:
    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self._text = ""

    def tree(self, text: str) -> Tree:
        """One condition as a tree of ours."""
        self._text = text
        if len(text) > LONGEST:
            raise UserError(f"--where takes {LONGEST} characters, this has {len(text)}")
        try:
            return self._condition(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self._not_understood(_hint(text)) from None

    def _not_understood(self, why: str) -> UserError:
        return UserError(f"--where {self._text!r} is not understood: {why}")

    def _condition(self, node: ast.expr) -> Tree:
        if isinstance(node, ast.BoolOp):
            return Several(isinstance(node.op, ast.And), tuple(map(self._condition, node.values)))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Not(self._condition(node.operand))
        if isinstance(node, ast.Compare):
            pairs = pairwise([node.left, *node.comparators])
            return Several(True, tuple(map(self._comparison, node.ops, pairs)))
        if isinstance(node, ast.Name):
            return self._column(node.id)
        raise self._not_understood(f"{_source(node)!r} is neither a comparison nor a column")

    def _comparison(self, how: ast.cmpop, pair: tuple[ast.expr, ast.expr]) -> Comparison:
        if type(how) not in _SIGNS:
            raise self._not_understood(f"there are {', '.join(_SIGNS.values())}")
        return Comparison(_SIGNS[type(how)], *map(self._value, pair))

    def _value(self, node: ast.expr) -> Column | Constant:
        return self._column(node.id) if isinstance(node, ast.Name) else Constant(self._constant(node))

    def _constant(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool | None):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            number = node.operand.value
            if isinstance(number, int | float):
                return -number
        if isinstance(node, ast.Tuple | ast.List):
            return tuple(map(self._constant, node.elts))
        raise self._not_understood(f'{_source(node)!r} is no value: write a column, a number or a "text"')

    def _column(self, word: str) -> Column:
        name = self._columns.get(word)
        if name is None:
            near = get_close_matches(word, self._columns, n=3)
            text = "" if near else f' (a text is written "{word}")'
            raise UserError(f"--where: there is no {word!r}{text}: there are {', '.join(near or self._columns)}")
        return Column(name)


def _source(node: ast.expr) -> str:
    return ast.unparse(node)[:40]


def _equal(left: Any, right: Any) -> bool:
    """Equality; in a text a `*` stands for any text. Raises UserError for a list and a text: it would never hold."""
    if {type(left), type(right)} == {list, str}:
        many, text = (left, right) if isinstance(left, list) else (right, left)
        raise UserError(f'--where: {many!r} is a list: write "{text}" in COLUMN')
    if isinstance(left, str) and isinstance(right, str):
        pattern, text = (right, left) if "*" in right else (left, right)
        return left == right or ("*" in pattern and fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]")))
    return bool(left == right)


def _in_order(sign: str, left: Any, right: Any) -> bool:
    if left is None or right is None:
        return False
    if (
        isinstance(left, str) is not isinstance(right, str)
        or isinstance(left, list | tuple)
        or isinstance(right, list | tuple)
    ):
        raise UserError(f"--where: {left!r} {sign} {right!r} has no meaning: one is a text or a list, the other is not")
    return ORDER[sign](left, right)


def _within(item: Any, many: Any) -> bool:
    if many is None:
        return False
    if isinstance(many, str):
        if not isinstance(item, str):
            raise UserError(f"--where: {item!r} is no text that {many!r} could hold")
        return item in many
    if not isinstance(many, list | tuple):
        raise UserError(f"--where: {many!r} is no list and no text")
    return any(_equal(one, item) for one in many)


def _hint(text: str) -> str:
    if "=" in text and not any(sign in text for sign in ("==", "!=", "<=", ">=")):
        return 'equal is written ==, for instance dtype=="bf16"'
    return 'write for instance tokens<=16 and target=="ort:cpu"'
