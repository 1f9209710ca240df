"""Random graphs: calls of operators from the records, over a growing pool of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch

from npu_compiler import get_supported_ops
from npu_compiler.ops import find_op
from npu_compiler.ops.record import OpRecord
from tests.fuzz import generators  # noqa: F401 (registers them)
from tests.fuzz.builder import Builder, Case, RejectedError, Value
from tests.fuzz.draw import Draw, RandomDraw
from tests.fuzz.registry import NoGeneratorError, draw_call
from tests.fuzz.sampler import Sampler, Shape
from tests.fuzz.traits import EXACT, JUMPS, UNINITIALISED, base_name

# Values beyond this are not worth comparing: float16 ends at 65504.
LARGEST = 2000.0
# Chances of the compute dtypes and of the ways to spend an operator.
COMPUTE = ("float32", "float32", "float32", "float16", "bfloat16")


class PoolSampler(Sampler):
    """Takes operands from the graph where some fit, else makes them."""

    def __init__(self, draw: Draw, builder: Builder, record: OpRecord, float_dtype: str) -> None:
        super().__init__(draw, builder, record, float_dtype)
        self.pool: list[Value] = []
        # Whether operands must be exact because the operator's result jumps.
        self.exact_only = base_name(record.op_type) in JUMPS
        self.used: list[Value] = []

    def _found(self, dtype: str, fits: Callable[[Shape], bool]) -> Value | None:
        found = [
            v
            for v in self.pool
            if v.dtype == dtype and (v.exact or not self.exact_only) and fits(v.shape)
        ]
        if not found or self.chance(12):
            return None
        # What nothing reads yet makes one graph of many.
        unread = [v for v in found if v.kind == "node" and v.meta.name not in self.builder.read]
        if unread and self.chance(75):
            found = unread
        # Late values make deep graphs.
        at = max(self.integer(0, len(found) - 1) for _ in range(3))
        return self._taken(found[at])

    def _dtype_at_hand(self) -> str:
        """A dtype that the operator takes, mostly one that late values have."""
        claimed = self.dtypes()
        late = [v.dtype for v in self.pool[-6:] if v.dtype in claimed]
        return str(self.pick(late)) if late and self.chance(70) else self.dtype()

    def _taken(self, value: Value) -> Value:
        self.used.append(value)
        return value

    def tensor(
        self,
        ranks: tuple[int, int] | int = (0, 4),
        dtype: str | Sequence[str] | None = None,
        *,
        matches: Callable[[Shape], bool] = lambda _: True,
        shape: Callable[[int], Shape] | None = None,
        kind: str = "normal",
    ) -> Value:
        low, high = (ranks, ranks) if isinstance(ranks, int) else ranks
        wanted = self._dtype_at_hand() if dtype is None else dtype
        if not isinstance(wanted, str):
            wanted = self.dtype(wanted)
        if kind in ("normal", "positive") and shape is None:
            found = self._found(
                wanted, lambda made: low <= len(made) <= high and matches(made) and 0 not in made
            )
            if found is not None:
                return found if kind == "normal" else self._positive(found)
        return super().tensor(ranks, wanted, matches=matches, shape=shape, kind=kind)

    def _positive(self, value: Value) -> Value:
        """``value`` away from zero, so that logarithms and quotients stay well conditioned."""
        if "float" not in value.dtype or float(value.tensor.float().min()) > 0.1:
            return value
        (made,) = self.builder.call("aten.abs.default", [value], {})
        (made,) = self.builder.call("aten.add.Tensor", [made, 0.5], {})
        made.exact = False
        if self.exact_only:
            raise RejectedError("exact operands are asked for")
        return made

    def fresh(self, shape: Shape, dtype: str | None = None, kind: str = "normal") -> Value:
        wanted = dtype or self.float_dtype
        if kind == "normal":
            found = self._found(wanted, lambda made: made == shape)
            if found is not None:
                return found
        value = super().fresh(shape, wanted, kind)
        self.pool.append(value)
        return self._taken(value)


@cache
def graph_ops() -> tuple[str, ...]:
    """Operators that graphs are made of: those with a record and a generator."""
    found = []
    for op_type in sorted(get_supported_ops()):
        record = find_op(op_type)
        if record is None or base_name(op_type) in UNINITIALISED:
            continue
        found.append(op_type)
        # Elementwise chains and views are what compilers get wrong together.
        if record.emit is not None or record.view is not None:
            found.append(op_type)
    return tuple(found)


def make_graph(seed: int, largest: int = 60) -> tuple[Case, str]:
    """The graph of a seed, with its compute dtype."""
    draw = RandomDraw(seed)
    compute_dtype = draw.pick(COMPUTE)
    # A float32 model computed in float16, or a model in its own dtype.
    float_dtype = "float32" if draw.chance(50) else compute_dtype
    builder = Builder()
    size = min(draw.integer(5, largest), draw.integer(5, largest))
    pool: list[Value] = []
    attempts = 0
    while sum(v.kind == "node" for v in pool) < size and attempts < 12 * size:
        attempts += 1
        _grow(draw, builder, pool, float_dtype)
    return builder.case(_outputs(draw, builder, pool)), compute_dtype


def _grow(draw: Draw, builder: Builder, pool: list[Value], float_dtype: str) -> None:
    """Add one call to the graph, or nothing where it is rejected."""
    record = find_op(draw.pick(graph_ops()))
    if record is None:
        return
    marks = len(builder.values), len(builder.nodes)
    sampler = PoolSampler(draw, builder, record, float_dtype)
    sampler.pool = list(pool)
    builder.undo = None
    try:
        results = draw_call(sampler, in_place=record.emit is not None and draw.chance(15))
        _settle(builder, record.op_type, results, marks[1])
    except (RejectedError, NoGeneratorError):
        if builder.undo is not None:
            builder.undo()
        del builder.values[marks[0] :], builder.nodes[marks[1] :]
        return
    new = [v for v in builder.values[marks[0] :] if v.tensor.numel()]
    pool.extend(new)


def _settle(builder: Builder, op_type: str, results: Sequence[Value], first: int) -> None:
    """Say which results are exact; RejectedError for values that are not worth going on with."""
    known = {v.meta.name: v for v in builder.values}
    operands = [known[m.name] for m in builder.nodes[-1].inputs if m.name in known]
    for node in builder.nodes[first:]:
        if node.op_type == op_type:
            operands = [known[m.name] for m in node.inputs]
    exact = all(v.exact for v in operands)
    for value in results:
        integers = "float" not in value.dtype
        if integers and not exact:
            raise RejectedError("rounding errors would become whole numbers")
        value.exact = integers or (exact and base_name(op_type) in EXACT)
        _check_values(value)


def _check_values(value: Value) -> None:
    if not value.tensor.is_floating_point() or not value.tensor.numel():
        return
    if not bool(torch.isfinite(value.tensor).all()) or float(value.tensor.abs().max()) > LARGEST:
        raise RejectedError("values grow without bound")


def _outputs(draw: Draw, builder: Builder, pool: list[Value]) -> list[Value]:
    """What nothing else reads, some values in the middle, inputs; one of them perhaps twice."""
    read = {m.name for node in builder.nodes for m in node.inputs}
    nodes = [v for v in builder.values if v.kind == "node"]
    found = [v for v in nodes if v.meta.name not in read]
    for _ in range(draw.integer(0, 2)):
        found.append(draw.pick(nodes or pool))
    if pool and draw.chance(10):
        found.append(draw.pick([v for v in pool if v.kind != "weight"] or found))
    if found and draw.chance(10):
        found.append(draw.pick(found))
    return found
