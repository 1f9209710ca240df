"""Shape expressions of kernel records: one text, evaluated in Python and translated to C++.

The language is Python's integer arithmetic (``+ - * // %``), comparisons, ``and or not`` and
``ceil_div(a, b)``. A name is a field (``stride_h``) or an operand's axis (``x.n``). ``//`` and
``%`` take non-negative operands.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import cache

# The C++ spelling and the Python function of each operator.
_BINARY: dict[type[ast.operator], tuple[str, Callable[[int, int], int]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.FloorDiv: ("/", operator.floordiv),
    ast.Mod: ("%", operator.mod),
}
_COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[int, int], bool]]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
}


class ExpressionError(ValueError):
    """An expression uses something outside the language."""


@cache
def _parse(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def names(text: str) -> set[str]:
    """The names an expression reads, operand axes as ``x.n``."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
            return
        if isinstance(node, ast.Call):
            for argument in node.args:
                walk(argument)
            return
        if isinstance(node, ast.Name):
            found.add(node.id)
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(_parse(text))
    return found


def evaluate(text: str, values: Mapping[str, int]) -> int:
    """The value of ``text``; comparisons give 0 or 1. Raises ExpressionError for unknown names."""

    def run(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int() as value):
                return value
            case ast.Name(id=name):
                key = name
            case ast.Attribute(value=ast.Name(id=operand), attr=axis):
                key = f"{operand}.{axis}"
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return _BINARY[type(op)][1](run(left), run(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand_):
                return -run(operand_)
            case ast.UnaryOp(op=ast.Not(), operand=operand_):
                return int(not run(operand_))
            case ast.Compare(left=left, ops=[op_], comparators=[right]) if type(op_) in _COMPARE:
                return int(_COMPARE[type(op_)][1](run(left), run(right)))
            case ast.BoolOp(op=ast.And(), values=parts):
                return int(all(run(p) for p in parts))
            case ast.BoolOp(op=ast.Or(), values=parts):
                return int(any(run(p) for p in parts))
            case ast.Call(func=ast.Name(id="ceil_div"), args=[a_, b_]):
                return -(-run(a_) // run(b_))
            case _:
                raise ExpressionError(f"not part of the language: {ast.dump(node)} in {text!r}")
        if key not in values:
            raise ExpressionError(f"unknown name {key!r} in {text!r}")
        return values[key]

    try:
        return run(_parse(text))
    except ZeroDivisionError:
        raise ExpressionError(f"division by zero in {text!r}") from None


def to_cpp(text: str) -> str:
    """C++ for ``text``: names become ``x_n``; integers are the saturating ``npu::SatInt``."""

    def emit(node: ast.expr) -> str:
        match node:
            case ast.Constant(value=int() as value):
                return f"SatInt({value})"
            case ast.Name(id=name):
                return name
            case ast.Attribute(value=ast.Name(id=operand), attr=axis):
                return f"{operand}_{axis}"
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return f"({emit(left)} {_BINARY[type(op)][0]} {emit(right)})"
            case ast.UnaryOp(op=ast.USub(), operand=operand_):
                return f"(SatInt(0) - {emit(operand_)})"
            case ast.UnaryOp(op=ast.Not(), operand=operand_):
                return f"(!{emit(operand_)})"
            case ast.Compare(left=left, ops=[op_], comparators=[right]) if type(op_) in _COMPARE:
                return f"({emit(left)} {_COMPARE[type(op_)][0]} {emit(right)})"
            case ast.BoolOp(op=op__, values=parts):
                return (
                    "("
                    + (" && " if isinstance(op__, ast.And) else " || ").join(map(emit, parts))
                    + ")"
                )
            case ast.Call(func=ast.Name(id="ceil_div"), args=[a_, b_]):
                return f"ceil_div({emit(a_)}, {emit(b_)})"
            case _:
                raise ExpressionError(f"not part of the language: {ast.dump(node)} in {text!r}")

    return emit(_parse(text))
