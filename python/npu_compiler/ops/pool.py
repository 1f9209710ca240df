"""Pooling: records and lowering to the pooling kernels. 1-D and unbatched forms are images, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from npu_compiler.graph import Node
from npu_compiler.ops.arguments import integer, integers, require, same_shape
from npu_compiler.ops.image_form import ImageForm
from npu_compiler.ops.record import FLOATS, OpRecord
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

Pair = tuple[int, int]
_WITH_INDICES = FLOATS | {"int64"}


def _sides(value: Any, name: str, spatial: int, neutral: int) -> Pair:
    """An argument with one value per spatial axis (or one for all) as (rows, columns)."""
    found = integers(value, name)
    require(
        len(found) in (1, spatial), f"{name} must have 1 or {spatial} values, got {list(found)}"
    )
    return (neutral, found[-1]) if spatial == 1 else (found[0], found[-1])


def _window(args: Mapping[str, Any], spatial: int) -> dict[str, Pair]:
    stride = args.get("stride")
    given = args["kernel_size"] if stride in (None, []) else stride
    return {
        "kernel": _sides(args["kernel_size"], "kernel_size", spatial, 1),
        "stride": _sides(given, "stride", spatial, 1),
        "padding": _sides(args["padding"], "padding", spatial, 0),
        "dilation": _sides(args.get("dilation", 1), "dilation", spatial, 1),
    }


def _check_window(spatial: int) -> Callable[[Mapping[str, Any]], str | None]:
    def check(args: Mapping[str, Any]) -> str | None:
        window = _window(args, spatial)
        kernel, padding = window["kernel"], window["padding"]
        for name in ("kernel", "stride", "dilation"):
            require(min(window[name]) >= 1, f"{name} must be positive, got {list(window[name])}")
        require(
            all(0 <= 2 * p <= k for p, k in zip(padding, kernel, strict=True)),
            f"padding must be at most half of the kernel {list(kernel)}, got {list(padding)}",
        )
        divisor = args.get("divisor_override")
        if divisor is not None:
            value = integer(divisor, "divisor_override")
            require(
                value != 0 and abs(value) < 2**31, f"divisor_override must not be 0, got {value}"
            )
        return None

    return check


def pooled_size(size: int, k: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> int:
    """PyTorch's output size: with ``ceil_mode`` the last window must start inside the image or its
    left padding.
    """
    span = size + 2 * pad - dilation * (k - 1) - 1
    out = (span + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (out - 1) * stride >= size + pad:
        out -= 1
    return out


def _check_images(node: Node, spatial: int) -> ImageForm:
    x = node.tensor("self")
    require(x.dtype in FLOATS, f"only floating-point images can be pooled, got {x.dtype}")
    form = ImageForm.of(x, spatial)
    require(min(form.images(x.shape)[2:]) >= 1, f"the image is empty: {list(x.shape)}")
    require(x.dtype == node.output.dtype, f"the result must be {x.dtype}")
    return form


def _same_shapes(node: Node, form: ImageForm, sides: Pair) -> None:
    """Refuse a node whose results (values, indices) are declared in another shape."""
    n, c, _, _ = form.images(node.tensor("self").shape)
    for index, output in enumerate(node.outputs):
        same_shape(node, form.shape((n, c, *sides)), index)
        require(index == 0 or output.dtype == "int64", f"indices must be int64: {output!r}")


def _check_pool(spatial: int) -> Callable[[Node], str | None]:
    def check(node: Node) -> str | None:
        form = _check_images(node, spatial)
        window = _window(node.args, spatial)
        sizes = form.images(node.tensor("self").shape)[2:]
        ceil_mode = bool(node.args["ceil_mode"])
        rows, columns = (
            pooled_size(size, k, stride, pad, dilation, ceil_mode)
            for size, k, stride, pad, dilation in zip(
                sizes,
                window["kernel"],
                window["stride"],
                window["padding"],
                window["dilation"],
                strict=True,
            )
        )
        require(
            min(rows, columns) >= 1, f"the window is larger than the padded image {list(sizes)}"
        )
        _same_shapes(node, form, (rows, columns))
        return None

    return check


def _has_empty_window(window: Mapping[str, Pair], x: View, y: View) -> bool:
    """Whether some window has no tap inside the image, so that zeros do not give zero."""
    for side in (0, 1):
        k, stride, pad, dilation = (
            window[name][side] for name in ("kernel", "stride", "padding", "dilation")
        )
        size = x.shape[2 + side]
        for i in range(y.shape[2 + side]):
            start = i * stride - pad
            if not any(0 <= start + t * dilation < size for t in range(k)):
                return True
    return False


def _emit(
    lowering: Lowering,
    node: Node,
    spatial: int,
    kernel: str,
    fields: Mapping[str, Any],
    window: Mapping[str, Pair] | None = None,
    indices: bool = False,
) -> None:
    """One dispatch. The padding of channels is pooled along where that gives zeros, else filled."""
    form = ImageForm.of(node.tensor("self"), spatial)
    x = form.view(lowering.read(node.tensor("self")))
    results = [form.define(lowering, v) for v in node.outputs[: 2 if indices else 1]]
    y = results[0]
    zero_stays = not indices and (window is None or not _has_empty_window(window, x, y))
    if zero_stays and y.pad is not None and x.pad is not None and x.pad[0] == 1:
        whole = x.padded()
        if whole.shape[1] == y.pad[1]:
            x, y = whole, y.padded()
    operands: dict[str, View | None] = {"x": x, "y": y}
    if kernel in ("max_pool2d_with_indices", "adaptive_max_pool2d"):
        operands["index"] = results[1] if indices else None
    lowering.dispatch(kernel, node, fields, operands)
    if y.shape[1] == results[0].shape[1]:
        for result in results:
            if result.pad is not None:
                lowering.zero_padding(result, node, f"{'+'.join(node.origins)}.padding")


def _window_fields(window: Mapping[str, Pair]) -> dict[str, int]:
    fields = {}
    for field, name in (("k", "kernel"), ("stride_", "stride"), ("pad_", "padding")):
        fields[f"{field}h"], fields[f"{field}w"] = window[name]
    return fields


def _reads_indices(lowering: Lowering, node: Node) -> bool:
    """Whether anything reads the places of the maxima."""
    indices = node.outputs[1:]
    readers = (value for reader in lowering.graph.nodes for value in reader.inputs())
    return bool(indices) and any(
        value is indices[0] for value in (*lowering.graph.outputs, *readers)
    )


def _lower_max(spatial: int) -> Callable[[Lowering, Node], None]:
    def lower(lowering: Lowering, node: Node) -> None:
        window = _window(node.args, spatial)
        dilation = window["dilation"]
        fields = {**_window_fields(window), "dilation_h": dilation[0], "dilation_w": dilation[1]}
        if _reads_indices(lowering, node):
            _emit(lowering, node, spatial, "max_pool2d_with_indices", fields, indices=True)
        else:
            _emit(lowering, node, spatial, "max_pool2d", fields, window)

    return lower


def _lower_avg(spatial: int) -> Callable[[Lowering, Node], None]:
    def lower(lowering: Lowering, node: Node) -> None:
        window = _window(node.args, spatial)
        fields = {
            **_window_fields(window),
            "count_include_pad": int(bool(node.args["count_include_pad"])),
            "divisor_override": node.args.get("divisor_override") or 0,
        }
        _emit(lowering, node, spatial, "avg_pool2d", fields, window)

    return lower


def _check_adaptive(spatial: int) -> Callable[[Node], str | None]:
    def check(node: Node) -> str | None:
        form = _check_images(node, spatial)
        sizes = form.images(node.tensor("self").shape)[2:]
        size = node.args["output_size"]
        given = list(size) if isinstance(size, (list, tuple)) else [size]
        require(len(given) in (1, spatial), f"output_size must have {spatial} values, got {given}")
        asked = [1, given[0]] if spatial == 1 else [given[0], given[-1]]
        rows, columns = (
            n if s is None else integer(s, "output_size") for n, s in zip(sizes, asked, strict=True)
        )
        require(min(rows, columns) >= 0, f"output_size must not be negative, got {[rows, columns]}")
        _same_shapes(node, form, (rows, columns))
        return None

    return check


def _lower_adaptive_avg(spatial: int) -> Callable[[Lowering, Node], None]:
    def lower(lowering: Lowering, node: Node) -> None:
        _emit(lowering, node, spatial, "adaptive_avg_pool2d", {})

    return lower


def _lower_adaptive_max(spatial: int) -> Callable[[Lowering, Node], None]:
    def lower(lowering: Lowering, node: Node) -> None:
        indices = _reads_indices(lowering, node)
        _emit(lowering, node, spatial, "adaptive_max_pool2d", {}, indices=indices)

    return lower


_MAX = "self:T, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False"
_AVG = "self:T, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True"
_ADAPTIVE = "self:T, output_size"


def _windowed(
    name: str,
    spatial: int,
    signature: str,
    lower: Callable[[int], Callable[[Lowering, Node], None]],
    dtypes: frozenset[str] = FLOATS,
) -> OpRecord:
    return OpRecord(
        f"aten.{name}.default",
        signature,
        lower=lower(spatial),
        check_attrs=_check_window(spatial),
        check=_check_pool(spatial),
        dtypes=dtypes,
    )


def _adaptive(
    name: str,
    spatial: int,
    lower: Callable[[int], Callable[[Lowering, Node], None]],
    dtypes: frozenset[str] = FLOATS,
) -> OpRecord:
    return OpRecord(
        f"aten.{name}.default",
        _ADAPTIVE,
        lower=lower(spatial),
        check=_check_adaptive(spatial),
        dtypes=dtypes,
    )


RECORDS = (
    _windowed("max_pool1d", 1, _MAX, _lower_max),
    _windowed("max_pool1d_with_indices", 1, _MAX, _lower_max, _WITH_INDICES),
    _windowed("max_pool2d", 2, _MAX, _lower_max),
    _windowed("max_pool2d_with_indices", 2, _MAX, _lower_max, _WITH_INDICES),
    _windowed("avg_pool1d", 1, _AVG, _lower_avg),
    _windowed("avg_pool2d", 2, f"{_AVG}, divisor_override=None", _lower_avg),
    _adaptive("adaptive_avg_pool1d", 1, _lower_adaptive_avg),
    _adaptive("adaptive_avg_pool2d", 2, _lower_adaptive_avg),
    _adaptive("_adaptive_avg_pool2d", 2, _lower_adaptive_avg),
    _adaptive("adaptive_max_pool1d", 1, _lower_adaptive_max, _WITH_INDICES),
    _adaptive("adaptive_max_pool2d", 2, _lower_adaptive_max, _WITH_INDICES),
)
