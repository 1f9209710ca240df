"""Upsampling and downsampling of images by interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from npu_compiler.elementwise import to_float32
from npu_compiler.graph import Node, Value
from npu_compiler.kernels.resize import RESIZE_MODES
from npu_compiler.ops.arguments import integers, number, require, same_shape
from npu_compiler.ops.record import OpRecord

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def _input(node: Node) -> Value:
    return node.tensor("input" if "input" in node.args else "self")


def _factors(node: Node, sides: int) -> list[float | None]:
    """The scale factor that the call states for each side, or None."""
    args = node.args
    given: Any = args.get("scale_factors")
    if "scale_factors" not in args:
        names = ("scales",) if sides == 1 else ("scales_h", "scales_w")
        given = [args[name] for name in names]
    if given is None:
        return [None] * sides
    require(len(given) == sides, f"scale_factors {given!r} must be {sides}")
    return [None if f is None else number(f, "scale factor") for f in given]


def _check(node: Node) -> str | None:
    x = _input(node)
    sides = x.rank - 2
    require(x.rank == (3 if "1d" in node.op_type else 4), f"{list(x.shape)} has another rank")
    require(x.dtype == node.output.dtype, f"the result must be {x.dtype}")
    require(min(x.shape[2:]) >= 1, f"the image {list(x.shape)} has no pixels")
    factors = _factors(node, sides)
    size = node.args["output_size"]
    if size is None:
        require(None not in factors, "it has neither output_size nor scale_factors")
        found = [int(n * f) for n, f in zip(x.shape[2:], factors, strict=True) if f is not None]
    else:
        found = list(integers(size, "output_size"))
    same_shape(node, (*x.shape[:2], *found))
    return None


def _scale(extent: int, count: int, factor: float | None, mode: str, align_corners: bool) -> float:
    """Pixels of the original per pixel of the result."""
    if align_corners:
        return to_float32((extent - 1) / (count - 1)) if count > 1 else 0.0
    if mode == "nearest" and count in (extent, 2 * extent):
        # PyTorch then passes over a stated factor.
        return extent / count
    return to_float32(1.0 / factor if factor is not None and factor > 0 else extent / count)


def _lower(lowering: Lowering, node: Node, mode: str) -> None:
    x = lowering.read(_input(node))
    out = lowering.define(node.output, image=True, strided=True)
    align_corners = bool(node.args.get("align_corners", False))
    sides = len(x.shape) - 2
    scales = [
        _scale(n, m, factor, mode, align_corners)
        for n, m, factor in zip(x.shape[2:], out.shape[2:], _factors(node, sides), strict=True)
    ]
    y = out
    if sides == 1:
        x, y, scales = x.insert(2), y.insert(2), [1.0, *scales]
    # Between zeros there are only zeros; planes of padding would be computed one by one.
    shares_padding = out.pad is not None and x.pad == out.pad and x.strides[1] == 1
    if shares_padding:
        x, y = x.padded(), y.padded()
    fields = {
        "mode": RESIZE_MODES[mode],
        "align_corners": int(align_corners),
        "scale_h": scales[0],
        "scale_w": scales[1],
    }
    lowering.dispatch("resize", node, fields, {"x": x, "y": y})
    if out.pad is not None and not shares_padding:
        lowering.zero_padding(out, node, f"{'+'.join(node.origins)}.padding")


def _records(name: str, mode: str, sides: int, corners: bool) -> Sequence[OpRecord]:
    corner = ", align_corners" if corners else ""
    scales = "scales=None" if sides == 1 else "scales_h=None, scales_w=None"
    return [
        OpRecord(
            f"aten.{name}.{overload}",
            signature,
            lower=lambda lowering, node: _lower(lowering, node, mode),
            check=_check,
        )
        for overload, signature in (
            ("vec", f"input:T, output_size{corner}, scale_factors"),
            ("default", f"self:T, output_size{corner}, {scales}"),
        )
    ]


RECORDS = (
    *_records("upsample_nearest1d", "nearest", 1, False),
    *_records("upsample_nearest2d", "nearest", 2, False),
    *_records("_upsample_nearest_exact1d", "nearest_exact", 1, False),
    *_records("_upsample_nearest_exact2d", "nearest_exact", 2, False),
    *_records("upsample_linear1d", "bilinear", 1, True),
    *_records("upsample_bilinear2d", "bilinear", 2, True),
    *_records("upsample_bicubic2d", "bicubic", 2, True),
)
