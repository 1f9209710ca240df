"""Pooling: records and lowering to the pooling kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from npu_compiler.graph import Node
from npu_compiler.ops.arguments import integer, pair, require, same_shape
from npu_compiler.ops.record import OpRecord

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def _window(args: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    kernel = pair(args["kernel_size"], "kernel_size")
    stride = args.get("stride")
    return {
        "kernel": kernel,
        "stride": kernel if stride in (None, []) else pair(stride, "stride"),
        "padding": pair(args["padding"], "padding"),
        "dilation": pair(args.get("dilation", 1), "dilation"),
    }


def _check_window(args: Mapping[str, Any]) -> str | None:
    window = _window(args)
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
        require(value != 0 and abs(value) < 2**31, f"divisor_override must not be 0, got {value}")
    return None


def pooled_size(size: int, k: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> int:
    """PyTorch's output size: with ``ceil_mode`` the last window must start inside the image or its
    left padding.
    """
    span = size + 2 * pad - dilation * (k - 1) - 1
    out = (span + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (out - 1) * stride >= size + pad:
        out -= 1
    return out


def _check_pool(node: Node) -> str | None:
    x = node.tensor("self")
    require(x.rank == 4, f"the input must be a 4-D batch of images, got {list(x.shape)}")
    require(min(x.shape[2:]) >= 1, f"the image is empty: {list(x.shape)}")
    require(x.dtype == node.output.dtype, f"the result must be {x.dtype}")
    window = _window(node.args)
    ceil_mode = bool(node.args["ceil_mode"])
    sides = [
        pooled_size(
            x.shape[2 + side],
            window["kernel"][side],
            window["stride"][side],
            window["padding"][side],
            window["dilation"][side],
            ceil_mode,
        )
        for side in (0, 1)
    ]
    require(min(sides) >= 1, f"the window is larger than the padded image {list(x.shape[2:])}")
    same_shape(node, (*x.shape[:2], *sides))
    return None


def _has_empty_window(node: Node) -> bool:
    """Whether some window has no tap inside the image, so that zeros do not give zero."""
    window = _window(node.args)
    x, y = node.tensor("self"), node.output
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
    lowering: Lowering, node: Node, kernel: str, fields: Mapping[str, Any], zero_stays: bool = True
) -> None:
    x = lowering.read(node.tensor("self"))
    y = lowering.define(node.output, image=True)
    out = y
    if zero_stays and y.pad is not None and x.pad is not None and x.pad[0] == 1:
        whole = x.padded()
        if whole.shape[1] == y.pad[1]:
            x, y = whole, y.padded()
    lowering.dispatch(kernel, node, fields, {"x": x, "y": y})
    if out.pad is not None and y.shape[1] == out.shape[1]:
        lowering.zero_padding(out, node, f"{'+'.join(node.origins)}.padding")


def _window_fields(node: Node) -> dict[str, int]:
    window = _window(node.args)
    fields = {}
    for field, name in (("k", "kernel"), ("stride_", "stride"), ("pad_", "padding")):
        fields[f"{field}h"], fields[f"{field}w"] = window[name]
    return fields


def _lower_max(lowering: Lowering, node: Node) -> None:
    dilation = _window(node.args)["dilation"]
    fields = {**_window_fields(node), "dilation_h": dilation[0], "dilation_w": dilation[1]}
    _emit(lowering, node, "max_pool2d", fields, zero_stays=not _has_empty_window(node))


def _lower_avg(lowering: Lowering, node: Node) -> None:
    fields = {
        **_window_fields(node),
        "count_include_pad": int(bool(node.args["count_include_pad"])),
        "divisor_override": node.args["divisor_override"] or 0,
    }
    _emit(lowering, node, "avg_pool2d", fields, zero_stays=not _has_empty_window(node))


def _check_adaptive(node: Node) -> str | None:
    x = node.tensor("self")
    require(x.rank == 4, f"the input must be a 4-D batch of images, got {list(x.shape)}")
    require(min(x.shape[2:]) >= 1, f"the image is empty: {list(x.shape)}")
    require(x.dtype == node.output.dtype, f"the result must be {x.dtype}")
    size = node.args["output_size"]
    given = list(size) if isinstance(size, (list, tuple)) else [size]
    require(len(given) in (1, 2), f"output_size must have one or two values, got {given}")
    given = [given[0], given[-1]]
    sides = [
        n if s is None else integer(s, "output_size")
        for n, s in zip(x.shape[2:], given, strict=True)
    ]
    require(min(sides) >= 0, f"output_size must not be negative, got {sides}")
    same_shape(node, (*x.shape[:2], *sides))
    return None


def _lower_adaptive_avg(lowering: Lowering, node: Node) -> None:
    _emit(lowering, node, "adaptive_avg_pool2d", {})


def _check_adaptive_max(node: Node) -> str | None:
    _check_adaptive(node)
    sides = tuple(zip(node.tensor("self").shape[2:], node.output.shape[2:], strict=True))
    require(
        all(o >= 1 and n % o == 0 for n, o in sides),
        "adaptive max pooling needs an image that the output size divides, got "
        f"{list(node.tensor('self').shape[2:])} and {list(node.output.shape[2:])}",
    )
    return None


def _lower_adaptive_max(lowering: Lowering, node: Node) -> None:
    (h, oh), (w, ow) = zip(node.tensor("self").shape[2:], node.output.shape[2:], strict=True)
    fields = {"kh": h // oh, "kw": w // ow, "stride_h": h // oh, "stride_w": w // ow}
    fields |= {"pad_h": 0, "pad_w": 0, "dilation_h": 1, "dilation_w": 1}
    _emit(lowering, node, "max_pool2d", fields)


_MAX = "self:T, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False"
_AVG = (
    "self:T, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, "
    "divisor_override=None"
)
RECORDS = (
    OpRecord(
        "aten.max_pool2d.default",
        _MAX,
        lower=_lower_max,
        check_attrs=_check_window,
        check=_check_pool,
    ),
    OpRecord(
        "aten.max_pool2d_with_indices.default",
        _MAX,
        lower=_lower_max,
        check_attrs=_check_window,
        check=_check_pool,
        single_output=True,
    ),
    OpRecord(
        "aten.avg_pool2d.default",
        _AVG,
        lower=_lower_avg,
        check_attrs=_check_window,
        check=_check_pool,
    ),
    OpRecord(
        "aten.adaptive_avg_pool2d.default",
        "self:T, output_size",
        lower=_lower_adaptive_avg,
        check=_check_adaptive,
    ),
    OpRecord(
        "aten._adaptive_avg_pool2d.default",
        "self:T, output_size",
        lower=_lower_adaptive_avg,
        check=_check_adaptive,
    ),
    OpRecord(
        "aten.adaptive_max_pool2d.default",
        "self:T, output_size",
        lower=_lower_adaptive_max,
        check=_check_adaptive_max,
        single_output=True,
    ),
)
