"""Matrix products: records and lowering to the gemm kernel.

Every product becomes y[b, m, n] = x[b, m, k] * w[b, n, k]; transposed and broadcast operands are
strides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Epilogue, Node, Value
from npu_compiler.ops.arguments import number, require, same_shape
from npu_compiler.ops.conv import bias_parameter, epilogue_fields, fold_step
from npu_compiler.ops.record import OpRecord
from npu_compiler.ops.weight_norm import weight_source
from npu_compiler.program.recipes import RecipeStep
from npu_compiler.view import View, merge_axes

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    require(
        all(n == m or 1 in (n, m) for n, m in zip(a, b, strict=True)),
        f"batch dimensions {list(a)} and {list(b)} do not broadcast",
    )
    return tuple(m if n == 1 else n for n, m in zip(a, b, strict=True))


def _one_dtype(node: Node) -> None:
    dtypes = [v.dtype for v in (*node.inputs(), *node.outputs)]
    require(len(set(dtypes)) == 1, f"operands and result must have one dtype, got {dtypes}")


def _check_linear(node: Node) -> str | None:
    x, weight, bias = node.tensor("input"), node.tensor("weight"), node.args["bias"]
    require(
        x.rank >= 1 and weight.rank == 2 and x.shape[-1] == weight.shape[1],
        f"input {list(x.shape)} and weight {list(weight.shape)} do not fit together",
    )
    require(
        bias is None or bias.shape == (weight.shape[0],),
        f"the bias must have {weight.shape[0]} values, got {bias!r}",
    )
    _one_dtype(node)
    same_shape(node, (*x.shape[:-1], weight.shape[0]))
    return None


def _product_shape(a: Value, b: Value) -> tuple[int, ...]:
    require(a.rank >= 1 and b.rank >= 1, "0-d operands cannot be multiplied as matrices")
    inner = b.shape[-2] if b.rank > 1 else b.shape[0]
    require(
        a.shape[-1] == inner,
        f"inner sizes differ: {list(a.shape)} and {list(b.shape)}",
    )
    batch = _broadcast(a.shape[:-2], b.shape[:-2])
    rows = (a.shape[-2],) if a.rank > 1 else ()
    return (*batch, *rows, *((b.shape[-1],) if b.rank > 1 else ()))


def _check_product(first: str, second: str, rank: int | None) -> Callable[[Node], str | None]:
    def check(node: Node) -> str | None:
        a, b = node.tensor(first), node.tensor(second)
        if rank is not None:
            require(
                a.rank == rank and b.rank == rank,
                f"both operands must be {rank}-D, got {list(a.shape)} and {list(b.shape)}",
            )
            require(
                a.shape[:-2] == b.shape[:-2],
                f"batch sizes differ: {list(a.shape)} and {list(b.shape)}",
            )
        _one_dtype(node)
        same_shape(node, _product_shape(a, b))
        return None

    return check


def _check_addmm(first: str, second: str, rank: int) -> Callable[[Node], str | None]:
    product = _check_product(first, second, rank)

    def check(node: Node) -> str | None:
        product(node)
        addend = node.tensor("self")
        require(
            _broadcast(addend.shape, node.output.shape) == node.output.shape,
            f"{list(addend.shape)} does not broadcast to {list(node.output.shape)}",
        )
        return None

    return check


def _check_scales(args: Mapping[str, Any]) -> str | None:
    number(args["alpha"], "alpha")
    number(args["beta"], "beta")
    return None


def emit_gemm(
    lowering: Lowering,
    node: Node,
    x: View,
    w: View,
    out: View,
    bias: View | None = None,
    residual: View | None = None,
) -> None:
    """out[..., m, n] = x[..., m, k] * w[..., n, k] (+ bias + residual, and the rest of the node's
    epilogue); batch dimensions broadcast. Copies where strides cannot merge the batch; the padding
    of ``out`` is zero afterwards.
    """
    batch = out.shape[:-2]
    if len(w.shape) == 2 and len(batch) >= 1:
        # One matrix for the whole batch: its rows form one tall matrix.
        groups = [[], list(range(len(batch) + 1)), [len(batch) + 1]]
        w = w.insert(0)
    else:
        groups = [list(range(len(batch))), [len(batch)], [len(batch) + 1]]
        x = x.expand((*batch, *x.shape[-2:]))
        w = w.expand((*batch, *w.shape[-2:]))
        merged = merge_axes([w], groups)
        w = merged[0] if merged else _merged(lowering.contiguous(w, node), groups)
    merged = merge_axes([x], groups)
    x = merged[0] if merged else _merged(lowering.contiguous(x, node), groups)
    if residual is not None:
        merged = merge_axes([residual], groups)
        residual = merged[0] if merged else _merged(lowering.contiguous(residual, node), groups)
    merged = merge_axes([out], groups)
    target = out
    if merged is None:
        target = lowering.temporary(f"{node.name}.product", out.shape, out.dtype)
        merged = [_merged(target, groups)]
    dispatch_gemm(lowering, node, x, w, merged[0], bias, residual)
    if target is not out:
        lowering.copy(target, out, node, name=f"{node.name}.copy")
    elif out.pad is not None:
        lowering.zero_padding(out, node, f"{'+'.join(node.origins)}.padding")


def dispatch_gemm(
    lowering: Lowering,
    node: Node,
    x: View,
    w: View,
    y: View,
    bias: View | None = None,
    residual: View | None = None,
) -> None:
    """One gemm y[b, m, n] = x[b, m, k] * w[b, n, k]. A single column is computed as a row: the
    rows of x are then the matrix, which is read once where it is.
    """
    if y.shape[2] == 1 and y.shape[1] > 1 and x.strides[2] == 1:
        x, w, y = w, x, y.permute((0, 2, 1))
        residual = residual and residual.permute((0, 2, 1))
        bias = bias and bias.expand((y.shape[2],))
    operands = {"x": x, "w": w, "bias": bias, "residual": residual, "y": y}
    lowering.dispatch("gemm", node, epilogue_fields(node), operands)


def _merged(view: View, groups: list[list[int]]) -> View:
    merged = merge_axes([view], groups)
    if merged is None:
        raise ValueError(f"a contiguous view of {list(view.shape)} merges along {groups}")
    return merged[0]


def _lower_linear(lowering: Lowering, node: Node) -> None:
    weight, bias = node.tensor("weight"), node.args["bias"]
    x = lowering.read(node.tensor("input"))
    residual = node.epilogue.residual
    added = None if residual is None else lowering.read(residual)
    out = lowering.define(node.output, image=False, strided=True)
    source = weight_source(weight)
    if source is not None and (bias is None or bias.is_parameter):
        base, made = source
        steps = list(made)
        if node.epilogue.batch_norm is not None:
            steps.append(fold_step("fold_bn_weight", node.epilogue.batch_norm))
        w = lowering.parameter(base, [*steps, RecipeStep("cast", dtype=x.dtype)], x.dtype)
        n = weight.shape[0]
        b = bias_parameter(lowering, node, bias, base, n, n)
    else:
        w = lowering.read(weight)
        if bias is not None and bias.is_parameter:
            b = lowering.parameter(bias, [], "float32", bias.shape)
        else:
            b = bias and lowering.contiguous(lowering.read(bias), node, "float32")
    if len(x.shape) == 1:
        x, whole, added = x.insert(0), out.insert(0), added and added.insert(0)
    else:
        whole = out
    emit_gemm(lowering, node, x, w, whole, b, added)


def _lower_product(first: str, second: str) -> Callable[[Lowering, Node], None]:
    def lower(lowering: Lowering, node: Node) -> None:
        residual = node.epilogue.residual
        added = None if residual is None else lowering.read(residual)
        out = lowering.define(node.output, image=False, strided=True)
        _emit_product(lowering, node, node.tensor(first), node.tensor(second), out, None, added)

    return lower


def _emit_product(
    lowering: Lowering,
    node: Node,
    a: Value,
    b: Value,
    out: View,
    bias: View | None = None,
    residual: View | None = None,
) -> None:
    """matmul's rules: a 1-D operand is a row (first) or a column (second), whose dimension the
    result lacks.
    """
    x, w = lowering.read(a), lowering.read(b)
    added = residual
    if len(x.shape) == 1:
        x = x.insert(0)
        out = out.insert(len(out.shape) - (len(w.shape) > 1))
        added = added and added.insert(len(added.shape) - (len(w.shape) > 1))
    if len(w.shape) == 1:
        w = w.insert(1)
        out = out.insert(len(out.shape))
        added = added and added.insert(len(added.shape))
    axes = (*range(len(w.shape) - 2), len(w.shape) - 1, len(w.shape) - 2)
    emit_gemm(lowering, node, x, w.permute(axes), out, bias, added)


def _lower_addmm(first: str, second: str) -> Callable[[Lowering, Node], None]:
    def lower(lowering: Lowering, node: Node) -> None:
        addend = node.tensor("self")
        alpha, beta = node.args["alpha"], node.args["beta"]
        a, b = node.tensor(first), node.tensor(second)
        out_shape = node.output.shape
        row = addend.shape in ((out_shape[-1],), (1, out_shape[-1])) and addend.is_parameter
        if alpha == 1 and beta == 1 and row:
            n = out_shape[-1]
            steps = [RecipeStep("reshape", args=(n,))] if addend.rank == 2 else []
            bias = lowering.parameter(addend, steps, "float32", (n,))
            added = (
                None if node.epilogue.residual is None else lowering.read(node.epilogue.residual)
            )
            out = lowering.define(node.output, image=False, strided=True)
            _emit_product(lowering, node, a, b, out, bias, added)
            return
        if alpha == 1 and beta == 1 and addend.shape == out_shape and not _has_epilogue(node):
            residual = lowering.read(addend)
            out = lowering.define(node.output, image=False, strided=True)
            _emit_product(lowering, node, a, b, out, None, residual)
            return
        # beta * self + alpha * product; PyTorch passes over self where beta is 0.
        out = lowering.define(node.output, image=False, strided=True)
        product = lowering.temporary(f"{node.name}.product", out_shape, out.dtype)
        _emit_product(lowering, node, a, b, product)
        builder = Builder()
        result = builder.load(product)
        if alpha != 1:
            result = builder("mul_f", result, alpha)
        if beta != 0:
            scaled = builder.load(addend)
            scaled = scaled if beta == 1 else builder("mul_f", scaled, beta)
            result = builder("add_f", result, scaled)
        emit_program(lowering, out, builder, result, node)

    return lower


def _has_epilogue(node: Node) -> bool:
    return node.epilogue != Epilogue()


def _can_fuse(node: Node) -> bool:
    return node.epilogue.clamp is None


def _can_fuse_addmm(node: Node) -> bool:
    addend, shape = node.tensor("self"), node.output.shape
    row = addend.is_parameter and addend.shape in ((shape[-1],), (1, shape[-1]))
    return node.args["alpha"] == 1 and node.args["beta"] == 1 and row and _can_fuse(node)


_SCALED = "beta=1, alpha=1"
RECORDS = (
    OpRecord(
        "aten.linear.default",
        "input:T, weight:T, bias:T?",
        lower=_lower_linear,
        check=_check_linear,
        epilogue=_can_fuse,
    ),
    *(
        OpRecord(
            op_type,
            f"self:T, {second}:T",
            lower=_lower_product("self", second),
            check=_check_product("self", second, rank),
            epilogue=_can_fuse,
        )
        for op_type, second, rank in (
            ("aten.mm.default", "mat2", 2),
            ("aten.bmm.default", "mat2", 3),
            ("aten.matmul.default", "other", None),
            ("aten.linalg_matmul.default", "other", None),
        )
    ),
    *(
        OpRecord(
            op_type,
            f"self:T, {first}:T, {second}:T, {_SCALED}",
            lower=_lower_addmm(first, second),
            check_attrs=_check_scales,
            check=_check_addmm(first, second, rank),
            epilogue=_can_fuse_addmm,
        )
        for op_type, first, second, rank in (
            ("aten.addmm.default", "mat1", "mat2", 2),
            ("aten.baddbmm.default", "batch1", "batch2", 3),
        )
    ),
)
