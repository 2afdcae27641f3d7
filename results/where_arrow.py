"""Conditions of `results.where` as expressions of pyarrow's, which meet the same rows of a table in one go."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from results.exporting.parquet_table import arrow
from results.where import Column, Comparison, Constant, Not, Several, Tree
from workloads.case import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["expression"]

_JOIN = "\x1f"
"""Between the words of a list, to look for one of them in it."""


def expression(tree: Tree, schema: pa.Schema) -> Any:
    """A condition as an expression of pyarrow's that is never null."""
    pc = arrow("pyarrow.compute")
    if isinstance(tree, Several):
        found = pc.scalar(tree.every)
        for part in tree.parts:
            found = found & expression(part, schema) if tree.every else found | expression(part, schema)
        return found
    if isinstance(tree, Not):
        return ~expression(tree.part, schema)
    if isinstance(tree, Column):
        return _known(_truth(tree, schema))
    return _known(_comparison(tree, schema))


def _known(expression: Any) -> Any:
    pc = arrow("pyarrow.compute")
    return pc.coalesce(expression, pc.scalar(False))


def _truth(column: Column, schema: pa.Schema) -> Any:
    pa, pc = arrow("pyarrow"), arrow("pyarrow.compute")
    kind, field = schema.field(column.name).type, pc.field(column.name)
    if pa.types.is_boolean(kind):
        return field
    if pa.types.is_list(kind):
        return pc.list_value_length(field) > 0
    return field != ("" if pa.types.is_string(kind) else 0)


def _comparison(tree: Comparison, schema: pa.Schema) -> Any:
    pc = arrow("pyarrow.compute")
    if isinstance(tree.left, Constant) and isinstance(tree.right, Constant):
        return pc.scalar(tree.of({}))
    if tree.sign in ("==", "in"):
        return _equal(tree) if tree.sign == "==" else _within(tree, schema)
    if tree.sign == "!=":
        return ~_known(_equal(tree))
    if tree.sign == "not in":
        return ~_known(_within(tree, schema))
    left, right = (_operand(side) for side in (tree.left, tree.right))
    if left is None or right is None:
        return pc.scalar(False)
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[tree.sign]


def _operand(side: Column | Constant) -> Any:
    pc = arrow("pyarrow.compute")
    if isinstance(side, Column):
        return pc.field(side.name)
    return None if side.value is None else pc.scalar(side.value)


def _equal(tree: Comparison) -> Any:
    pc = arrow("pyarrow.compute")
    sides = (tree.left, tree.right) if isinstance(tree.left, Column) else (tree.right, tree.left)
    column, other = sides
    assert isinstance(column, Column), "two constants were compared before"
    field = pc.field(column.name)
    if isinstance(other, Column):
        return field == pc.field(other.name)
    if other.value is None:
        return field.is_null()
    if isinstance(other.value, str) and "*" in other.value:
        return pc.match_substring_regex(field, f"(?s)^{_pattern(other.value, '.')}$")
    return field == pc.scalar(other.value)


def _pattern(text: str, sign: str) -> str:
    """A text as a regular expression, in which a `*` stands for any number of such signs."""
    return f"{sign}*".join(map(re.escape, text.split("*")))


def _within(tree: Comparison, schema: pa.Schema) -> Any:
    """A column's value in a list, or a text in a column of texts or of lists."""
    pa, pc = arrow("pyarrow"), arrow("pyarrow.compute")
    if isinstance(tree.left, Column) and isinstance(tree.right, Constant):
        items = tree.right.value
        if not isinstance(items, tuple):
            raise UserError(f"--where: {items!r} is no list: write (1, 16)")
        one_of = Several(False, tuple(Comparison("==", tree.left, Constant(item)) for item in items))
        return expression(one_of, schema)
    if isinstance(tree.right, Column) and isinstance(tree.left, Constant) and isinstance(tree.left.value, str):
        kind, field = schema.field(tree.right.name).type, pc.field(tree.right.name)
        if pa.types.is_list(kind):
            word = _pattern(tree.left.value, f"[^{_JOIN}]")
            found = pc.match_substring_regex(pc.binary_join(field, _JOIN), f"(^|{_JOIN}){word}({_JOIN}|$)")
            return found & (pc.list_value_length(field) > 0)  # joined, no word and one empty word are the same
        if pa.types.is_string(kind):
            return pc.match_substring(field, tree.left.value)
    raise UserError("--where: `in` asks a table for one value of a column, or for a text in a column of texts")
