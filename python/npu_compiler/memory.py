"""Memory planning: offsets in the arena by liveness, in-place reuse, and the lower bound that a
plan is judged by.

A buffer lives from the first dispatch that touches it to the last. An output may take over the
memory of an input that dies in the same dispatch, where the kernel allows the two to be the very
same view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from npu_compiler.errors import CompilerError
from npu_compiler.lowering import Dispatch
from npu_compiler.view import Storage, View


@dataclass(slots=True)
class Lifetime:
    """First and last dispatch that touch a storage."""

    first: int
    last: int


@dataclass(eq=False, slots=True)
class _Block:
    """Storages that share memory one after the other, as the planner sees them."""

    size: int
    first: int
    last: int
    members: list[Storage]
    offset: int = 0


@dataclass(slots=True)
class MemoryPlan:
    """Arena offsets, lifetimes and in-place successions. ``lower_bound``: most bytes that are live
    at once.
    """

    offsets: dict[Storage, int] = field(default_factory=dict)
    lifetimes: dict[Storage, Lifetime] = field(default_factory=dict)
    alias_of: dict[Storage, Storage] = field(default_factory=dict)
    arena_size: int = 0
    lower_bound: int = 0


def plan_memory(dispatches: Sequence[Dispatch], alignment: int = 64) -> MemoryPlan:
    """Place every arena storage that the dispatches touch."""
    plan = MemoryPlan(lifetimes=_lifetimes(dispatches))
    plan.alias_of = _inplace(dispatches, plan.lifetimes)
    blocks = _blocks(plan, alignment)
    plan.lower_bound = _live_peak(blocks)
    plan.arena_size = _place(blocks, plan.lower_bound)
    for block in blocks:
        for storage in block.members:
            plan.offsets[storage] = block.offset
    return plan


def _lifetimes(dispatches: Sequence[Dispatch]) -> dict[Storage, Lifetime]:
    found: dict[Storage, Lifetime] = {}
    for index, dispatch in enumerate(dispatches):
        for view in dispatch.operands.values():
            if view is not None and view.storage.kind == "arena":
                found.setdefault(view.storage, Lifetime(index, index)).last = index
    return found


def _inplace(
    dispatches: Sequence[Dispatch], lifetimes: dict[Storage, Lifetime]
) -> dict[Storage, Storage]:
    """For outputs that take over an input's memory: that input's storage."""
    found: dict[Storage, Storage] = {}
    taken: set[Storage] = set()
    for index, dispatch in enumerate(dispatches):
        for input_name, output_name in dispatch.kernel.inplace:
            source, target = dispatch.operands[input_name], dispatch.operands[output_name]
            if source is None or target is None or target.storage in found:
                continue
            if source.storage in taken or not _same_place(source, target):
                continue
            dies = lifetimes.get(source.storage)
            born = lifetimes.get(target.storage)
            if dies is None or born is None or dies.last != index or born.first != index:
                continue
            if _only_as(input_name, output_name, dispatch):
                found[target.storage] = source.storage
                taken.add(source.storage)
    return found


def _same_place(source: View, target: View) -> bool:
    same_size = source.storage.size_bytes == target.storage.size_bytes
    return (
        same_size
        and source.dtype == target.dtype
        and source.shape == target.shape
        and source.strides == target.strides
        and source.offset == target.offset
    )


def _only_as(source: str, target: str, dispatch: Dispatch) -> bool:
    """Whether every operand that shows the source's storage is the same view and may be the
    target (a convolution reads its image around the pixel it writes: only its residual may).
    """
    view = dispatch.operands[source]
    return view is not None and all(
        (name, target) in dispatch.kernel.inplace
        and (v.shape, v.strides, v.offset) == (view.shape, view.strides, view.offset)
        for name, v in dispatch.operands.items()
        if v is not None and v.storage is view.storage
    )


def _blocks(plan: MemoryPlan, alignment: int) -> list[_Block]:
    blocks: dict[Storage, _Block] = {}
    ordered = sorted(plan.lifetimes.items(), key=lambda item: item[1].first)
    for storage, life in ordered:
        before = plan.alias_of.get(storage)
        if before is not None:
            block = blocks[before]
            block.members.append(storage)
            block.last = max(block.last, life.last)
            blocks[storage] = block
            continue
        size = -(-storage.size_bytes // alignment) * alignment
        blocks[storage] = _Block(size, life.first, life.last, [storage])
    return list({id(b): b for b in blocks.values()}.values())


def _live_peak(blocks: Sequence[_Block]) -> int:
    end = max((b.last for b in blocks), default=-1) + 2
    change = [0] * (end + 1)
    for block in blocks:
        change[block.first] += block.size
        change[block.last + 1] -= block.size
    peak = live = 0
    for delta in change:
        live += delta
        peak = max(peak, live)
    return peak


# Picks a start among the free gaps (start, end) for a size.
Fit = Callable[[list[tuple[int, int]], int], int]

# Orders in which greedy placement is tried; the best result wins.
_ORDERS: tuple[Callable[[_Block], tuple[int, ...]], ...] = (
    lambda b: (-b.size, b.first),
    lambda b: (-b.size * (b.last - b.first + 1), b.first),
    lambda b: (-(b.last - b.first), -b.size),
    lambda b: (b.first, -b.size),
    lambda b: (-b.last, -b.size),
)
_REFINEMENTS = 24
# Dispatches per bucket: a block is compared with those of the buckets that it lives in.
_BUCKET = 32
# Bounds the work for large models: pairs of blocks compared in all placements together. A plan this
# close to the lower bound ends the search sooner.
_BUDGET = 1_500_000
_CLOSE = 1.01


def _place(blocks: list[_Block], lower_bound: int) -> int:
    """Assign offsets; returns the arena's size. Each order is refined by placing first what ended
    up on top.
    """
    best_size: int | None = None
    best: list[int] = []
    left = _BUDGET
    for order, fit in _searches(blocks):
        size = _greedy(order, fit)
        if best_size is None or size < best_size:
            best_size, best = size, [b.offset for b in blocks]
        left -= 2 * _BUCKET * len(blocks)
        enough = _BUDGET * 7 // 8 if best_size <= lower_bound * _CLOSE else 0
        if best_size == lower_bound or left <= enough:
            break
    for block, offset in zip(blocks, best, strict=True):
        block.offset = offset
    return best_size or 0


def _searches(blocks: list[_Block]) -> Iterator[tuple[list[_Block], Fit]]:
    """Orders to try, and how gaps are picked; the blocks are placed between one and the next. Every
    start gets its first try before any is refined.
    """
    starts = [(sorted(blocks, key=k), fit) for k in _ORDERS for fit in (_lowest_gap, _tightest_gap)]
    for _ in range(_REFINEMENTS):
        for index, (order, fit) in enumerate(starts):
            yield order, fit
            starts[index] = (_top_first(order, max(b.offset + b.size for b in blocks)), fit)


def _top_first(order: Sequence[_Block], size: int) -> list[_Block]:
    """The same order, but what reaches up to ``size`` comes first."""
    top = [b for b in order if b.offset + b.size == size]
    return top + [b for b in order if b.offset + b.size != size]


def _lowest_gap(gaps: list[tuple[int, int]], size: int) -> int:
    return next(start for start, end in gaps if end - start >= size)


def _tightest_gap(gaps: list[tuple[int, int]], size: int) -> int:
    return min((end - start, start) for start, end in gaps if end - start >= size)[1]


def _greedy(order: Sequence[_Block], fit: Fit) -> int:
    """Place the blocks in this order, each in a gap that ``fit`` picks; returns the size."""
    buckets: list[list[_Block]] = [[] for _ in range(_steps(order) // _BUCKET + 1)]
    top = 0
    for block in order:
        first, last = block.first, block.last
        own = buckets[first // _BUCKET : last // _BUCKET + 1]
        near = own[0] if len(own) == 1 else dict.fromkeys(b for bucket in own for b in bucket)
        alive = [b for b in near if b.first <= last and first <= b.last]
        alive.sort(key=_offset)
        gaps: list[tuple[int, int]] = []
        at = 0
        for other in alive:
            if other.offset > at:
                gaps.append((at, other.offset))
            at = max(at, other.offset + other.size)
        gaps.append((at, 1 << 62))
        block.offset = fit(gaps, block.size)
        top = max(top, block.offset + block.size)
        for bucket in own:
            bucket.append(block)
    return top


def _steps(blocks: Sequence[_Block]) -> int:
    return max((b.last for b in blocks), default=0)


def _offset(block: _Block) -> int:
    return block.offset


def check_plan(plan: MemoryPlan) -> None:
    """Raise CompilerError if two storages that live at the same time overlap, in-place successions
    aside.
    """
    items = [(s, plan.lifetimes[s], plan.offsets[s]) for s in plan.lifetimes]
    for i, (a, life_a, at_a) in enumerate(items):
        for b, life_b, at_b in items[i + 1 :]:
            apart = at_a + a.size_bytes <= at_b or at_b + b.size_bytes <= at_a
            never_both = life_a.last < life_b.first or life_b.last < life_a.first
            follows = _succeeds(plan, a, b) or _succeeds(plan, b, a)
            if not (apart or never_both or follows):
                raise CompilerError(f"arena buffers {a.name!r} and {b.name!r} overlap")


def _succeeds(plan: MemoryPlan, later: Storage, earlier: Storage) -> bool:
    return (
        plan.alias_of.get(later) is earlier
        and plan.lifetimes[earlier].last == plan.lifetimes[later].first
    )
