"""Arguments of elementwise operators whose values matter: domains, bounds, conditions."""

from __future__ import annotations

from tests.fuzz.builder import Value
from tests.fuzz.registry import Call, generator
from tests.fuzz.sampler import Sampler

WHOLE = ("int64", "int32", "int16", "int8", "uint8", "bool")


@generator("bitwise_and", "bitwise_or", "bitwise_xor", "__and__", "__or__", "__xor__",
           "bitwise_not")  # fmt: skip
def _bitwise(s: Sampler) -> Call:
    x = s.tensor(dtype=s.dtypes(WHOLE))
    if "not" in s.record.op_type:
        return [x], {}
    if s.record.op_type.endswith("Scalar"):
        return [x, s.chance() if x.dtype == "bool" else s.integer(0, 9)], {}
    return [x, s.fresh(s.broadcast_shape(x.shape), x.dtype)], {}


@generator("__lshift__", "__rshift__", "bitwise_left_shift", "bitwise_right_shift")
def _shift(s: Sampler) -> Call:
    """Shifts by less than the width: others are undefined."""
    overload = s.record.op_type.split(".")[2]
    x = s.tensor(dtype=s.dtypes(WHOLE[:5]))
    if overload == "Scalar_Tensor":
        return [s.integer(0, 9), _small(s, x)], {}
    if overload in ("Scalar", "Tensor_Scalar"):
        return [x, s.integer(0, 6)], {}
    return [x, _small(s, s.fresh(s.broadcast_shape(x.shape), x.dtype))], {}


def _small(s: Sampler, x: Value) -> Value:
    (found,) = s.builder.call("aten.clamp.default", [x, 0, 6], {})
    return found


@generator("bitwise_and.Scalar_Tensor", "bitwise_or.Scalar_Tensor", "bitwise_xor.Scalar_Tensor")
def _bitwise_scalar(s: Sampler) -> Call:
    return [s.integer(0, 9), s.tensor(dtype=s.dtypes(WHOLE[:5]))], {}


@generator("logical_and", "logical_or", "logical_xor")
def _logical(s: Sampler) -> Call:
    x = s.tensor(dtype="bool" if s.chance(70) else s.dtype())
    return [x, s.fresh(s.broadcast_shape(x.shape), x.dtype)], {}


@generator("log", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "lgamma", "digamma")
def _positive(s: Sampler) -> Call:
    return [s.tensor(kind="normal" if s.special else "positive")], {}


@generator("log1p")
def _log1p(s: Sampler) -> Call:
    return [s.tensor(kind="positive")], {}


@generator("acos", "asin", "atanh", "logit")
def _unit(s: Sampler) -> Call:
    return [s.tensor(kind="unit")], {}


@generator("acosh")
def _acosh(s: Sampler) -> Call:
    return [s.tensor(kind="positive")], {}


@generator("pow.Tensor_Tensor")
def _pow(s: Sampler) -> Call:
    x = s.tensor(kind="positive")
    return [x, s.fresh(s.broadcast_shape(x.shape), x.dtype, "positive")], {}


@generator("pow.Scalar")
def _pow_scalar(s: Sampler) -> Call:
    return [s.pick([2.0, 0.5, 3, 1]), s.tensor(kind="positive")], {}


@generator(
    "div.Tensor", "div.Tensor_mode", "true_divide.Tensor", "divide.Tensor", "divide.Tensor_mode",
    "floor_divide.default", "fmod.Tensor", "remainder.Tensor",
)  # fmt: skip
def _divide(s: Sampler) -> Call:
    """Divisors away from zero: integer division by zero is an error in PyTorch."""
    x = s.tensor()
    other = s.fresh(s.broadcast_shape(x.shape), x.dtype, "positive")
    if "int" in x.dtype:
        (other,) = s.builder.call("aten.clamp_min.default", [other, 1], {})
    if s.record.op_type.endswith("_mode"):
        return [x, other], {"rounding_mode": _rounding(s, x)}
    return [x, other], {}


def _rounding(s: Sampler, x: Value) -> str | None:
    return (
        s.pick([None, None, "floor", "trunc"])
        if "float" in x.dtype
        else s.pick(["floor", "trunc", None])
    )


@generator(
    "div.Scalar", "div.Scalar_mode", "true_divide.Scalar", "divide.Scalar", "divide.Scalar_mode",
    "floor_divide.Scalar", "fmod.Scalar", "remainder.Scalar",
)  # fmt: skip
def _divide_scalar(s: Sampler) -> Call:
    x = s.tensor()
    by = s.pick([2, 3, 5]) if "int" in x.dtype else s.pick([2.0, 0.3, 3, -1.5])
    if s.record.op_type.endswith("_mode"):
        return [x, by], {"rounding_mode": _rounding(s, x)}
    return [x, by], {}


@generator("clamp.default")
def _clamp(s: Sampler) -> Call:
    x = s.tensor()
    low, high = s.pick([(-1, 1), (None, 1), (0, None), (1, -1), (-0.5, 2.5)])
    if "int" in x.dtype:
        low, high = (None if v is None else int(v) for v in (low, high))
    return [x, low, high], {}


@generator("hardtanh")
def _hardtanh(s: Sampler) -> Call:
    return [s.tensor(), *s.pick([(-1, 1), (-0.5, 2), (0, 6)])], {}


@generator("clamp.Tensor")
def _clamp_tensor(s: Sampler) -> Call:
    x = s.tensor()
    bounds = [s.fresh(s.broadcast_shape(x.shape), x.dtype) if s.chance(70) else None for _ in "lh"]
    if bounds == [None, None]:
        bounds[0] = s.fresh(x.shape, x.dtype)
    return [x, *bounds], {}


@generator("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar")
def _where(s: Sampler) -> Call:
    x = s.tensor()
    condition = s.fresh(s.broadcast_shape(x.shape), "bool")
    overload = s.record.op_type.split(".")[2]
    if overload == "self":
        return [condition, x, s.fresh(s.broadcast_shape(x.shape), x.dtype)], {}
    if overload == "Scalar":
        return [condition, s.number(s.float_dtype), s.number(s.float_dtype)], {}
    number = s.number(x.dtype)
    return [condition, number, x] if overload == "ScalarSelf" else [condition, x, number], {}


@generator("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(s: Sampler) -> Call:
    x = s.tensor()
    mask = s.fresh(s.broadcast_shape(x.shape), "bool")
    if s.record.op_type.endswith("Tensor"):
        return [x, mask, s.fresh((), x.dtype)], {}
    floats = "float" in x.dtype and x.dtype != "float16"
    return [x, mask, -float("inf") if floats and s.special else s.number(x.dtype)], {}


@generator("masked_scatter")
def _masked_scatter(s: Sampler) -> Call:
    x = s.tensor((1, 3))
    return [x, s.fresh(x.shape, "bool"), s.fresh(x.shape, x.dtype)], {}


@generator("lerp")
def _lerp(s: Sampler) -> Call:
    x = s.float()
    end = s.fresh(s.broadcast_shape(x.shape))
    if s.record.op_type.endswith("Scalar"):
        return [x, end, s.pick([0.3, 1.5])], {}
    return [x, end, s.fresh(s.broadcast_shape(x.shape))], {}


@generator("polar", "complex")
def _float_pair(s: Sampler) -> Call:
    x = s.float()
    return [x, s.fresh(x.shape)], {}
