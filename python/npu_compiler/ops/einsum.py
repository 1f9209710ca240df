"""Sums of products over labelled axes: einsum and the products that are one.

Two tensors at a time become one matrix product: labels of both that stay are its batch, labels of
one that stay its rows or columns, all others are summed. Diagonals, transposes and broadcasts are
strides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Node, Value
from npu_compiler.kernels.reduce import REDUCE_OPS
from npu_compiler.ops.arguments import axis, integers, number, require, same_shape
from npu_compiler.ops.matmul import dispatch_gemm
from npu_compiler.ops.record import OpRecord
from npu_compiler.view import View, merge_axes

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

# A label per axis: letters of an equation, "0", "1", ... for the axes of its ellipsis.
Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """A sum of products: the axes' labels of each operand and of the result."""

    operands: tuple[Labels, ...]
    result: Labels


@dataclass(frozen=True, slots=True)
class _Term:
    """A tensor with labels that are all different."""

    view: View
    labels: Labels


def parse_equation(equation: str, ranks: Sequence[int]) -> Product:
    """The labels of an einsum equation for operands of the given ranks, by PyTorch's rules."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    require(
        len(terms) == len(ranks),
        f"equation {equation!r} has {len(terms)} operands, the node {len(ranks)}",
    )
    hidden = 0
    for term, rank in zip(terms, ranks, strict=True):
        if "..." in term:
            hidden = max(hidden, rank - len(term) + 3)

    def labels(term: str, rank: int | None) -> Labels:
        before, dots, after = term.partition("...")
        named = before + after
        require(
            all(c.isascii() and c.isalpha() for c in named),
            f"equation {equation!r}: {term!r} is no list of letters with at most one '...'",
        )
        count = hidden if rank is None else rank - len(named)
        require(
            count == 0 or (bool(dots) and count > 0),
            f"equation {equation!r}: {term!r} does not fit an operand of rank {rank}",
        )
        return (*before, *(str(hidden - count + i) for i in range(count)), *after)

    operands = tuple(labels(t, r) for t, r in zip(terms, ranks, strict=True))
    if arrow:
        result = labels(right, None) if "..." in right else tuple(right)
        require(
            len(set(result)) == len(result) and set(result) <= {c for o in operands for c in o},
            f"equation {equation!r}: the result's labels must be different ones of the operands",
        )
    else:
        every = [c for o in operands for c in o]
        dots = tuple(str(i) for i in range(hidden))
        result = (*dots, *sorted(c for c in set(every) if c.isalpha() and every.count(c) == 1))
    return Product(operands, result)


def product_sizes(product: Product, shapes: Sequence[Sequence[int]]) -> dict[str, int]:
    """The extent of every label; axes of extent 1 broadcast."""
    sizes: dict[str, int] = {}
    for labels, shape in zip(product.operands, shapes, strict=True):
        require(
            len(labels) == len(shape), f"{len(labels)} labels do not fit the shape {list(shape)}"
        )
        for label, size in zip(labels, shape, strict=True):
            known = sizes.get(label, 1)
            require(
                known == size or 1 in (known, size),
                f"axes {label!r} have {known} and {size} elements",
            )
            sizes[label] = size if known == 1 else known
    return sizes


def _term(view: View, labels: Labels, sizes: Mapping[str, int]) -> _Term:
    """The operand with repeated labels as diagonals and broadcast axes expanded."""
    strides: dict[str, int] = {}
    for label, size, stride in zip(labels, view.shape, view.strides, strict=True):
        strides[label] = strides.get(label, 0) + (stride if size == sizes[label] else 0)
    shape = tuple(sizes[label] for label in strides)
    return _Term(View(view.storage, shape, tuple(strides.values()), view.offset), tuple(strides))


def _arranged(term: _Term, groups: Sequence[Labels], sizes: Mapping[str, int]) -> View:
    """The term's axes in the order of ``groups``; labels that it lacks are broadcast."""
    places = {label: i for i, label in enumerate(term.labels)}
    order = [label for group in groups for label in group]
    strides = tuple(term.view.strides[places[label]] if label in places else 0 for label in order)
    shape = tuple(sizes[label] for label in order)
    return View(term.view.storage, shape, strides, term.view.offset)


def _merged(view: View, counts: Sequence[int]) -> View | None:
    """``view`` with each run of axes merged into one, or None where its strides forbid that."""
    groups: list[list[int]] = []
    for count in counts:
        start = sum(len(g) for g in groups)
        groups.append(list(range(start, start + count)))
    merged = merge_axes([view], groups)
    return None if merged is None else merged[0]


def _matrix(lowering: Lowering, node: Node, view: View, counts: Sequence[int]) -> View:
    """``view`` with each run of axes merged into one, copied where its strides forbid that."""
    merged = _merged(view, counts) or _merged(lowering.contiguous(view, node), counts)
    require(merged is not None, f"a contiguous view of {list(view.shape)} merges by {counts}")
    return merged or view


def _multiply(
    lowering: Lowering,
    node: Node,
    a: _Term,
    b: _Term,
    keep: Sequence[str],
    sizes: Mapping[str, int],
    into: _Term | None,
) -> _Term:
    """The product of two terms summed over all labels that are not in ``keep``; its axes are the
    batch, the rows (labels of ``a``), the columns (labels of ``b``). It is written to ``into``
    where its strides allow that.
    """
    batch = tuple(c for c in keep if c in a.labels and c in b.labels)
    rows = tuple(c for c in keep if c in a.labels and c not in b.labels)
    columns = tuple(c for c in keep if c in b.labels and c not in a.labels)
    summed = tuple(c for c in dict.fromkeys(a.labels + b.labels) if c not in keep)
    labels = (*batch, *rows, *columns)
    groups = (batch, rows, columns)
    y = None
    if into is not None and set(into.labels) == set(labels):
        y = _merged(_arranged(into, groups, sizes), [len(g) for g in groups])
    if y is None or into is None:
        shape = [sizes[c] for c in labels]
        into = _Term(lowering.temporary(f"{node.name}.product", shape, a.view.dtype), labels)
        y = _matrix(lowering, node, into.view, [len(g) for g in groups])
    x = _arranged(a, (batch, rows, summed), sizes)
    w = _arranged(b, (batch, columns, summed), sizes)
    dispatch_gemm(
        lowering,
        node,
        _matrix(lowering, node, x, (len(batch), len(rows), len(summed))),
        _matrix(lowering, node, w, (len(batch), len(columns), len(summed))),
        y,
    )
    return into


def _sum(
    lowering: Lowering, node: Node, term: _Term, keep: Sequence[str], sizes: Mapping[str, int]
) -> _Term:
    """The term summed over the labels that are not in ``keep``."""
    kept = tuple(c for c in keep if c in term.labels)
    summed = tuple(c for c in term.labels if c not in keep)
    if not summed:
        return _Term(_arranged(term, (kept,), sizes), kept)
    out = lowering.temporary(f"{node.name}.sum", [sizes[c] for c in kept], term.view.dtype)
    x = _matrix(
        lowering, node, _arranged(term, (kept, summed), sizes), (0, 0, len(kept), 0, len(summed))
    )
    y = _matrix(lowering, node, out, (0, 0, len(kept)))
    lowering.dispatch("reduce", node, {"op": REDUCE_OPS["sum"]}, {"x": x, "y": y})
    return _Term(out, kept)


def emit_product(
    lowering: Lowering,
    node: Node,
    product: Product,
    views: Sequence[View],
    into: View | None = None,
) -> View:
    """The views' product, from left to right; a view in the order of the result's labels, of
    ``into`` where the last product could be written there.
    """
    sizes = product_sizes(product, [v.shape for v in views])
    terms = [_term(v, labels, sizes) for v, labels in zip(views, product.operands, strict=True)]
    found = terms[0]
    target = None if into is None else _Term(into, product.result)
    for i, term in enumerate(terms[1:], 1):
        later = {c for t in terms[i + 1 :] for c in t.labels}
        every = dict.fromkeys((*product.result, *found.labels, *term.labels))
        keep = [c for c in every if c in later or c in product.result]
        last = target if i == len(terms) - 1 else None
        found = _multiply(lowering, node, found, term, keep, sizes, last)
    found = _sum(lowering, node, found, product.result, sizes)
    return found.view.permute([found.labels.index(c) for c in product.result])


Describe = Callable[[Mapping[str, Any]], tuple[Product, list[Value]]]


def _einsum(args: Mapping[str, Any]) -> tuple[Product, list[Value]]:
    tensors = _tensors(args["tensors"])
    equation = args["equation"]
    require(isinstance(equation, str), f"the equation must be a string, got {equation!r}")
    return parse_equation(equation, [t.rank for t in tensors]), tensors


def _tensors(value: Any) -> list[Value]:
    found = [t for t in value if isinstance(t, Value)] if isinstance(value, list) else []
    require(bool(found) and len(found) == len(value), "its operands must be tensors")
    return found


def _equation(equation: str, *names: str) -> Describe:
    """A product that is always the same equation."""

    def describe(args: Mapping[str, Any]) -> tuple[Product, list[Value]]:
        tensors = _tensors([args[name] for name in names])
        return parse_equation(equation, [t.rank for t in tensors]), tensors

    return describe


def _tensordot(args: Mapping[str, Any]) -> tuple[Product, list[Value]]:
    a, b = tensors = _tensors([args["self"], args["other"]])
    first = [axis(d, a.rank, "dims_self") for d in integers(args["dims_self"], "dims_self")]
    second = [axis(d, b.rank, "dims_other") for d in integers(args["dims_other"], "dims_other")]
    require(
        len(first) == len(second)
        and len(set(first)) == len(first)
        and len(set(second)) == len(second),
        f"dims {first} and {second} do not pair up",
    )
    x = tuple(f"s{first.index(d)}" if d in first else f"a{d}" for d in range(a.rank))
    w = tuple(f"s{second.index(d)}" if d in second else f"b{d}" for d in range(b.rank))
    result = (*(c for c in x if c[0] == "a"), *(c for c in w if c[0] == "b"))
    return Product((x, w), result), tensors


def _inner(args: Mapping[str, Any]) -> tuple[Product, list[Value]]:
    a, b = tensors = _tensors([args["self"], args["other"]])
    if 0 in (a.rank, b.rank):
        x, w = (tuple(f"{p}{d}" for d in range(t.rank)) for p, t in (("a", a), ("b", b)))
        return Product((x, w), x + w), tensors
    x = (*(f"a{d}" for d in range(a.rank - 1)), "k")
    w = (*(f"b{d}" for d in range(b.rank - 1)), "k")
    return Product((x, w), x[:-1] + w[:-1]), tensors


def _vecdot(args: Mapping[str, Any]) -> tuple[Product, list[Value]]:
    a, b = tensors = _tensors([args["x"], args["y"]])
    rank = max(a.rank, b.rank)
    require(min(a.rank, b.rank) >= 1, "0-d tensors have no vectors")
    dim = axis(args["dim"], rank)
    x, w = (tuple(str(d) for d in range(rank - t.rank, rank)) for t in (a, b))
    return Product((x, w), tuple(str(d) for d in range(rank) if d != dim)), tensors


def _chain(name: str) -> Describe:
    """Matrices one after the other; the first and the last may be vectors."""

    def describe(args: Mapping[str, Any]) -> tuple[Product, list[Value]]:
        tensors = _tensors(args[name])
        last = len(tensors) - 1
        for i, t in enumerate(tensors):
            require(
                t.rank == 2 or (t.rank == 1 and i in (0, last) and last > 0),
                f"operand {i} must be a matrix, got {list(t.shape)}",
            )
        labels = [(f"c{i}", f"c{i + 1}") for i in range(len(tensors))]
        operands: list[Labels] = list(labels)
        result: Labels = ("c0", f"c{len(tensors)}")
        if tensors[0].rank == 1:
            operands[0], result = labels[0][1:], result[1:]
        if tensors[-1].rank == 1 and last > 0:
            operands[-1], result = labels[-1][:1], result[:-1]
        return Product(tuple(operands), result), tensors

    return describe


def _bilinear(args: Mapping[str, Any]) -> tuple[Product, list[Value]]:
    tensors = _tensors([args["input1"], args["weight"], args["input2"]])
    return parse_equation("...i,oij,...j->...o", [t.rank for t in tensors]), tensors


def _check(describe: Describe) -> Callable[[Node], str | None]:
    def check(node: Node) -> str | None:
        product, tensors = describe(node.args)
        sizes = product_sizes(product, [t.shape for t in tensors])
        dtypes = [v.dtype for v in (*node.inputs(), *node.outputs)]
        require(len(set(dtypes)) == 1, f"operands and result must have one dtype, got {dtypes}")
        shape = tuple(sizes[c] for c in product.result)
        addend = node.args.get("self") if "beta" in node.args else node.args.get("bias")
        if isinstance(addend, Value):
            extra = len(shape) - addend.rank
            require(
                extra >= 0
                and all(n in (1, m) for n, m in zip(addend.shape, shape[extra:], strict=True)),
                f"{list(addend.shape)} does not broadcast to {list(shape)}",
            )
        same_shape(node, shape)
        return None

    return check


def _lower(describe: Describe) -> Callable[[Lowering, Node], None]:
    def lower(lowering: Lowering, node: Node) -> None:
        product, tensors = describe(node.args)
        views = [lowering.read(t) for t in tensors]
        if not any(node.output is output for output in lowering.graph.outputs):
            lowering.alias(node.output, emit_product(lowering, node, product, views))
            return
        out = lowering.define(node.output, image=False)
        view = emit_product(lowering, node, product, views, out)
        name = "+".join(node.origins)
        if view.storage is not out.storage:
            lowering.copy(view, out, node, name=f"{name}.copy")
        elif out.pad is not None:
            lowering.zero_padding(out, node, f"{name}.padding")

    return lower


def _lower_sum(describe: Describe, addend_name: str) -> Callable[[Lowering, Node], None]:
    """beta * addend + alpha * product; PyTorch passes over the addend where beta is 0."""

    def lower(lowering: Lowering, node: Node) -> None:
        product, tensors = describe(node.args)
        view = emit_product(lowering, node, product, [lowering.read(t) for t in tensors])
        addend = node.args[addend_name]
        alpha, beta = node.args.get("alpha", 1), node.args.get("beta", 1)
        out = lowering.define(node.output, image=False)
        builder = Builder()
        result = builder.load(view)
        if alpha != 1:
            result = builder("mul_f", result, alpha)
        if addend is not None and beta != 0:
            scaled = builder.load(addend)
            scaled = scaled if beta == 1 else builder("mul_f", scaled, beta)
            result = builder("add_f", result, scaled)
        emit_program(lowering, out, builder, result, node)

    return lower


def _check_scales(args: Mapping[str, Any]) -> str | None:
    number(args["alpha"], "alpha")
    number(args["beta"], "beta")
    return None


_PRODUCTS: tuple[tuple[str, str, Describe], ...] = (
    ("aten.einsum.default", "equation; tensors:T[]; path=None", _einsum),
    ("aten.tensordot.default", "self:T; other:T; dims_self; dims_other", _tensordot),
    ("aten.inner.default", "self:T, other:T", _inner),
    ("aten.outer.default", "self:T, vec2:T", _equation("i,j->ij", "self", "vec2")),
    ("aten.ger.default", "self:T, vec2:T", _equation("i,j->ij", "self", "vec2")),
    ("aten.dot.default", "self:T, tensor:T", _equation("i,i->", "self", "tensor")),
    ("aten.vdot.default", "self:T, other:T", _equation("i,i->", "self", "other")),
    ("aten.mv.default", "self:T, vec:T", _equation("ij,j->i", "self", "vec")),
    ("aten.linalg_vecdot.default", "x:T, y:T, dim=-1", _vecdot),
    ("aten.chain_matmul.default", "matrices:T[]", _chain("matrices")),
    ("aten.linalg_multi_dot.default", "tensors:T[]", _chain("tensors")),
)
_SCALES = "beta=1, alpha=1"
_SUMS: tuple[tuple[str, str, Describe], ...] = (
    ("aten.addmv.default", "mat:T, vec:T", _equation("ij,j->i", "mat", "vec")),
    ("aten.addr.default", "vec1:T, vec2:T", _equation("i,j->ij", "vec1", "vec2")),
    ("aten.addbmm.default", "batch1:T, batch2:T", _equation("bij,bjk->ik", "batch1", "batch2")),
)
RECORDS = (
    *(
        OpRecord(op_type, signature, lower=_lower(describe), check=_check(describe))
        for op_type, signature, describe in _PRODUCTS
    ),
    *(
        OpRecord(
            op_type,
            f"self:T, {signature}, {_SCALES}",
            lower=_lower_sum(describe, "self"),
            check_attrs=_check_scales,
            check=_check(describe),
        )
        for op_type, signature, describe in _SUMS
    ),
    OpRecord(
        "aten.bilinear.default",
        "input1:T, input2:T, weight:T, bias:T?",
        lower=_lower_sum(_bilinear, "bias"),
        check=_check(_bilinear),
    ),
)
