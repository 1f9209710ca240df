"""Elementwise operators beyond op_cases.py: every dtype and its promotion, integers exactly, and
the functions of unary.py, binary.py, division.py and bitwise.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import images
from tests.npu_compiler.op_cases import SPECIAL, X, case

aten = torch.ops.aten
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
HALVES = (torch.float16, torch.bfloat16)
# Sizes that are no multiple of a vector, with bits beyond float32 and beyond int32.
_BIG = torch.tensor([0, 1, -1, 7, -9, 100, 2**31 - 1, -(2**31), 2**40 + 1, -(2**62) - 3, 2**63 - 1])


def integers(dtype: torch.dtype, seed: int = 0, *, small: bool = False) -> torch.Tensor:
    """(11, 7) integers; wide ones wrap to the dtype."""
    generator = torch.Generator().manual_seed(seed)
    if small:
        low = 0 if dtype == torch.uint8 else -6
        return torch.randint(low, 7, (11, 7), generator=generator).to(dtype)
    order = torch.randint(0, len(_BIG), (11, 7), generator=generator)
    return _BIG[order].to(dtype)


def divisor(x: torch.Tensor) -> torch.Tensor:
    """Neither 0 nor -1: PyTorch raises, or crashes when the quotient overflows."""
    return torch.where((x == 0) | (x == -1), 3, x)


def each(name: str, function: Callable[..., Any], *inputs: tuple[torch.Tensor, ...]) -> None:
    """One case that applies ``function`` to every tuple of operands."""
    count = [len(i) for i in inputs]

    def apply(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        at, results = 0, []
        for n in count:
            results.append(function(*tensors[at : at + n]))
            at += n
        return tuple(results)

    case(name, apply, *(t for group in inputs for t in group))


def _unary_integers() -> None:
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "neg": torch.neg,
        "positive": torch.positive,
        "abs": torch.abs,
        "sign": torch.sign,
        "sgn": torch.sgn,
        "square": torch.square,
        "relu": torch.relu,
        "hardtanh": lambda x: F.hardtanh(x, 1, 3),
        "relu6": F.relu6,
        "threshold": lambda x: F.threshold(x, 1, 5),
        "bitwise_not": torch.bitwise_not,
        "logical_not": torch.logical_not,
        "add_scalar": lambda x: x + 3,
        "add_alpha": lambda x: torch.add(x, x, alpha=3),
        "sub_scalar": lambda x: 5 - x,
        "mul_scalar": lambda x: x * 7,
        "pow_0": lambda x: x**0,
        "pow_2": lambda x: x**2,
        "pow_3": lambda x: x**3,
        "pow_7": lambda x: x**7,
        "ceil": torch.ceil,
        "round": torch.round,
        "clamp": lambda x: x.clamp(2, 90),
        "clamp_max": lambda x: x.clamp(max=5),
        "eq": lambda x: x == 7,
        "ge": lambda x: x >= 1,
        "nan_to_num": torch.nan_to_num,
        "signbit": torch.signbit,
        "isfinite": lambda x: aten.isfinite.default(x),
        "and_scalar": lambda x: x & 6,
        "shift": lambda x: (x << 3) ^ (x >> 2),
        "masked_fill": lambda x: x.masked_fill(x > 5, 42),
        "where": lambda x: torch.where(x > 5, x, 3),
        "fill": lambda x: aten.fill.Scalar(x, 3) + x,
        "clone": lambda x: x.clone().t().contiguous(),
    }
    for name, function in functions.items():
        each(f"integers_{name}", function, *((integers(d),) for d in INTEGERS))
    floats: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "sqrt": lambda x: torch.sqrt(x * x),
        "exp": torch.exp,
        "sigmoid": torch.sigmoid,
        "sin": torch.sin,
        "reciprocal": torch.reciprocal,
        "true_divide": lambda x: x / 7,
        "add_float": lambda x: x + 0.5,
        "mul_float": lambda x: x * 0.5,
        "pow_half": lambda x: (x * x) ** 0.5,
        "clamp_float": lambda x: x.clamp(min=0.5),
        "compare_float": lambda x: x > 0.5,
        "where_float": lambda x: torch.where(x > 0, x, 0.25),
        "isnan": torch.isnan,
    }
    for name, function in floats.items():
        each(
            f"integers_to_float_{name}",
            function,
            *((integers(d, small=True),) for d in INTEGERS),
            (integers(torch.int64, small=True) > 0,),
        )


def _binary_integers() -> None:
    functions: dict[str, Callable[..., torch.Tensor]] = {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "maximum": torch.maximum,
        "minimum": torch.minimum,
        "fmax": torch.fmax,
        "fmin": torch.fmin,
        "eq": torch.eq,
        "lt": torch.lt,
        "le": torch.le,
        "bitwise_and": torch.bitwise_and,
        "bitwise_or": torch.bitwise_or,
        "bitwise_xor": torch.bitwise_xor,
        "logical_and": torch.logical_and,
        "logical_or": torch.logical_or,
        "logical_xor": torch.logical_xor,
        "div_trunc": lambda a, b: torch.div(a, divisor(b), rounding_mode="trunc"),
        "div_floor": lambda a, b: torch.div(a, divisor(b), rounding_mode="floor"),
        "floor_divide": lambda a, b: a // divisor(b),
        "remainder": lambda a, b: a % divisor(b),
        "fmod": lambda a, b: torch.fmod(a, divisor(b)),
        "heaviside": lambda a, b: torch.heaviside(a, b),
        "addcmul": lambda a, b: torch.addcmul(a, a, b, value=3),
        "clamp_tensors": lambda a, b: torch.clamp(a, b, b + 1),
        "isclose": lambda a, b: torch.isclose(a, b),
    }
    for name, function in functions.items():
        each(
            f"integers_{name}_tensors",
            function,
            *((integers(d, 1), integers(d, 2)) for d in INTEGERS),
            *(
                (integers(d, 1, small=True), integers(d, 2, small=True).t().contiguous().t())
                for d in INTEGERS
            ),
        )
    shifts = torch.tensor([0, 1, 3, 7, 8, 15, 31, 32, 63, 64, -1])[:, None]
    for name, function in {
        "left": lambda a, b: a << b,
        "right": lambda a, b: a >> b,
        "left_shift": torch.bitwise_left_shift,
        "right_shift": torch.bitwise_right_shift,
    }.items():
        each(
            f"integers_shift_{name}",
            function,
            *((integers(d), shifts.to(d)) for d in INTEGERS[:-1]),
        )
    exponents = torch.tensor([0, 1, 2, 3, 5, 62, 64, -1, -2, -3, 9])[:, None]
    each(
        "integers_pow",
        torch.pow,
        *((integers(d, 3), exponents.to(d)) for d in INTEGERS[:-1]),
        (torch.tensor([[1, -1, 0, 2, -2, 3, 7]]), exponents),
    )
    scalars: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "floor_divide": lambda x: x // -3,
        "remainder": lambda x: x % -3,
        "fmod": lambda x: torch.fmod(x, -3),
        "remainder_of": lambda x: 100 % divisor(x),
        "div_trunc": lambda x: torch.div(x, 7, rounding_mode="trunc"),
        "power_of": lambda x: 2 ** (x & 31),
    }
    for name, function in scalars.items():
        each(f"integers_{name}_scalar", function, *((integers(d),) for d in INTEGERS[:-1]))


def _promotion() -> None:
    """Every pair of dtypes, with dimensions, without, and as numbers."""
    kinds = (*INTEGERS, torch.bool, torch.float32, *HALVES)
    values = {d: integers(torch.int8, 4, small=True).to(d) for d in kinds}
    other = {d: integers(torch.int8, 5, small=True).to(d) for d in kinds}
    pairs = [(values[a], other[b]) for a in kinds for b in kinds]
    zero_d = [(values[a], other[b][0, 0]) for a in kinds for b in kinds]
    for name, group in {"tensors": pairs, "zero_d": zero_d}.items():
        each(f"promotion_add_{name}", torch.add, *group)
        each(f"promotion_mul_{name}", lambda a, b: b * a, *group)
        each(f"promotion_lt_{name}", torch.lt, *group)
        each(f"promotion_where_{name}", lambda a, b: torch.where(a > 1, a, b), *group)
    singles = [(v,) for v in values.values()]
    each("promotion_add_int", lambda a: a + 2, *singles)
    each("promotion_add_float", lambda a: a + 2.5, *singles)
    each("promotion_add_bool", lambda a: a + True, *singles)
    each("promotion_eq_int", lambda a: a == 2, *singles)
    each("promotion_eq_wrapping_int", lambda a: a < 300, *singles)
    each("promotion_max_zero_d", lambda a: torch.maximum(a, torch.tensor(3)), *singles)
    case("where_two_ints", lambda a: torch.where(a > 0, 1, 2), X)
    case("where_int_and_float", lambda a: torch.where(a > 0, 1, 2.5), X)
    case("where_two_bools", lambda a: torch.where(a > 0, True, False), X)
    case("zero_d_beyond_the_dtype", lambda a, b: a + b, values[torch.int8], torch.tensor(2**33 + 1))
    case(
        "in_place_keeps_the_dtype",
        lambda a, b: a.clone().add_(b),
        values[torch.int32],
        _BIG[:, None],
    )
    case(
        "bool_arithmetic",
        lambda a, b: (a + b, a * b, torch.maximum(a, b)),
        values[torch.bool],
        other[torch.bool],
    )


def _casts() -> None:
    kinds = (*INTEGERS, torch.bool, torch.float32, *HALVES)
    source = {d: integers(d, 6) for d in INTEGERS}
    source[torch.bool] = source[torch.int64] > 0
    for target in kinds:
        each(
            f"cast_integers_to_{str(target)[6:]}",
            lambda a, t=target: a.to(t),
            *((v,) for v in source.values()),
        )
        floats = [
            (images(11, 7).mul(100).clamp(-128, 127).to(d),) for d in (torch.float32, *HALVES)
        ]
        each(f"cast_floats_to_{str(target)[6:]}", lambda a, t=target: a.to(t), *floats)
    case(
        "cast_between_nodes",
        lambda a: (a.to(torch.uint8) + 1).to(torch.int64) * 1000,
        integers(torch.int64),
    )
    case("convert_element_type", lambda a: torch.ops.prims.convert_element_type(a, torch.int8), X)
    case(
        "casts_round_on_the_way",
        lambda a: (a * 3).to(torch.bfloat16).to(torch.float32) - (a * 3).to(torch.float16).float(),
        X,
    )


_TORCH = (
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"),
    *("exp2", "expm1", "log2", "log10", "log1p", "erfc", "ceil", "floor", "round", "trunc"),
    *("frac", "sign", "sgn", "isnan", "isinf", "isfinite", "isposinf", "isneginf", "signbit"),
    *("sinc", "deg2rad", "rad2deg", "positive", "square", "nan_to_num", "arcsin", "arccos"),
    *("arctan", "arcsinh", "arccosh", "arctanh", "fix", "absolute", "negative"),
)
_SPECIAL = ("erf", "erfc", "exp2", "expm1", "expit", "log1p", "logit", "round")
_UNARY: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    **{name: getattr(torch, name) for name in _TORCH},
    **{f"special_{name}": getattr(torch.special, name) for name in _SPECIAL},
    "isfinite_overload": lambda x: aten.isfinite.default(x),
    "isinf_overload": lambda x: aten.isinf.default(x),
    "round_0": lambda x: torch.round(x, decimals=0),
    "nan_to_numbers": lambda x: torch.nan_to_num(x, 1.5, 7.0, -8.0),
    "logit": torch.logit,
    "logit_eps": lambda x: torch.logit(x, 0.1),
    "celu": lambda x: F.celu(x, 1.3),
    "selu": F.selu,
    "elu": F.elu,
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "tanhshrink": F.tanhshrink,
    "softsign": F.softsign,
    "logsigmoid": F.logsigmoid,
    "threshold": lambda x: F.threshold(x, 0.3, -2.0),
    "rrelu": lambda x: F.rrelu(x, 0.1, 0.4, False),
    "pow_1_7": lambda x: x**1.7,
    "pow_5": lambda x: x**5,
    "pow_minus_3": lambda x: x**-3,
    "power_of_2": lambda x: 2.0**x,
    "power_of_minus_2": lambda x: (-2.0) ** x,
    "clip": lambda x: torch.clip(x, -0.5, 0.5),
    "ne_alias": lambda x: aten.not_equal.Scalar(x, 0.0),
    "xlogy_scalar": lambda x: torch.xlogy(x, 2.0),
    "xlogy_of_scalar": lambda x: torch.xlogy(2.0, x),
    "copysign_scalar": lambda x: torch.copysign(x, -1.0),
    "lerp_scalar": lambda x: torch.lerp(x, x * 2, 0.3),
    "floor_divide_scalar": lambda x: aten.floor_divide.Scalar(x, 0.3),
    "div_floor_scalar": lambda x: torch.div(x, 0.3, rounding_mode="floor"),
    "div_trunc_scalar": lambda x: torch.div(x, 0.3, rounding_mode="trunc"),
    "remainder_scalar": lambda x: x % 0.3,
    "remainder_of_scalar": lambda x: aten.remainder.Scalar_Tensor(1.5, x),
    "fmod_scalar": lambda x: torch.fmod(x, 0.3),
    "true_divide_scalar": lambda x: aten.true_divide.Scalar(x, 0.3),
}


def _unary() -> None:
    for name, function in _UNARY.items():
        case(f"float_{name}", function, X)
        # PyTorch leaves what becomes of NaN and infinities here to the platform.
        case(f"float_{name}_special", function, SPECIAL)
        if name in ("sin", "log2", "round", "celu", "nan_to_num"):
            each(f"halves_{name}", function, *((images(5, 9).to(d),) for d in HALVES))


_BINARY: dict[str, Callable[..., torch.Tensor]] = {
    "atan2": torch.atan2,
    "arctan2": torch.arctan2,
    "copysign": torch.copysign,
    "hypot": torch.hypot,
    "logaddexp": torch.logaddexp,
    "logaddexp2": torch.logaddexp2,
    "pow": torch.pow,
    "pow_positive": lambda a, b: a.abs() ** b,
    "fmax": torch.fmax,
    "fmin": torch.fmin,
    "fmod": torch.fmod,
    "remainder": torch.remainder,
    "floor_divide": torch.floor_divide,
    "div_floor": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "div_trunc": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "heaviside": torch.heaviside,
    "xlogy": torch.xlogy,
    "special_xlogy": torch.special.xlogy,
    "special_xlog1py": torch.special.xlog1py,
    "isclose": lambda a, b: torch.isclose(a, b, 0.1, 0.2),
    "isclose_nan": lambda a, b: torch.isclose(a, b, equal_nan=True),
    "lerp": lambda a, b: torch.lerp(a, b, a * b),
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.5),
    "addcdiv": lambda a, b: torch.addcdiv(a, b, a.abs() + 1, value=0.5),
    "rsub": lambda a, b: torch.rsub(a, b, alpha=2),
    "clamp_min": lambda a, b: torch.clamp_min(a, b),
    "clamp_max": lambda a, b: torch.clamp_max(a, b),
    "clip": lambda a, b: torch.clip(a, b, b + 0.5),
    "multiply": torch.multiply,
    "subtract": torch.subtract,
    "divide": torch.divide,
    "divide_floor": lambda a, b: torch.divide(a, b, rounding_mode="floor"),
    "greater": torch.greater,
    "greater_equal": torch.greater_equal,
    "less": torch.less,
    "less_equal": torch.less_equal,
    "not_equal": torch.not_equal,
    "logical_and": torch.logical_and,
    "logical_xor": torch.logical_xor,
    "prelu_kernel": lambda a, b: aten._prelu_kernel.default(a, b),
}


def _binary() -> None:
    special = SPECIAL.reshape(-1, 1).expand(8, 8)
    for name, function in _BINARY.items():
        case(f"float_{name}_tensors", function, X, (5, 1, 1))
        case(f"float_{name}_tensors_special", function, special, special.t().contiguous())


def _overloads() -> None:
    """Overloads that torch.export chooses rarely."""
    x, y = integers(torch.int64), integers(torch.int64, 1)
    for op in ("and", "or", "xor"):
        bitwise, dunder = getattr(aten, f"bitwise_{op}"), getattr(aten, f"__{op}__")
        case(f"bitwise_{op}_scalar_overload", lambda a, f=bitwise: f.Scalar(a, 13), x)
        case(f"bitwise_{op}_of_scalar", lambda a, f=bitwise: f.Scalar_Tensor(13, a), x)
        case(f"dunder_{op}", lambda a, b, f=dunder: f.Tensor(a, b), x, y)
        case(f"dunder_{op}_scalar", lambda a, f=dunder: f.Scalar(a, 13), x)
        case(f"bools_bitwise_{op}_scalar", lambda a, f=bitwise: f.Scalar(a, True), x > 0)
    for word in ("left", "right"):
        shift, dunder = getattr(aten, f"bitwise_{word}_shift"), getattr(aten, f"__{word[0]}shift__")
        case(f"{word}_shift_scalar", lambda a, f=shift: f.Tensor_Scalar(a, 3), x)
        case(f"{word}_shift_of_scalar", lambda a, f=shift: f.Scalar_Tensor(-77, a), x & 15)
        case(f"dunder_{word}_shift", lambda a, b, f=dunder: f.Tensor(a, b), x, y & 15)
        case(f"dunder_{word}_shift_scalar", lambda a, f=dunder: f.Scalar(a, 3), x)
    for name in ("greater", "greater_equal", "less", "less_equal"):
        overload = getattr(aten, name).Scalar
        case(f"{name}_scalar", lambda a, f=overload: f(a, 3), x)
    case("multiply_scalar", lambda a: aten.multiply.Scalar(a, 3), x)
    case("subtract_scalar", lambda a: aten.subtract.Scalar(a, 3), x)
    case("divide_scalar", lambda a: aten.divide.Scalar(a, 3), x)
    case("divide_scalar_mode", lambda a: aten.divide.Scalar_mode(a, 3, rounding_mode="floor"), x)
    case(
        "special_xlogy_scalars",
        lambda a: aten.xlogy.Scalar_Other(a, 2.5) + aten.xlogy.Scalar_Self(2.5, a.abs()),
        X,
    )
    case("pow_scalar_overload", lambda a: aten.pow.Scalar(3, a), x & 7)
    case("logical_not_of_floats", torch.logical_not, SPECIAL)
    case("masked_fill_int_tensor", lambda a: aten.masked_fill.Tensor(a, a > 5, torch.tensor(9)), x)
    case("where_uint8", lambda c, a: torch.where(c, a, a + 1), (x > 0), y)
    case("nan_to_num_half", lambda a: torch.nan_to_num(a), SPECIAL.to(torch.bfloat16))


def _glu() -> None:
    case("glu_rows", lambda a: F.glu(a), (3, 10))
    case("glu_first", lambda a: F.glu(a, 0), (6, 5))
    case("glu_channels", lambda a: F.glu(a, 1), (2, 10, 3, 5))
    case(
        "glu_wide_channels", lambda a: F.glu(F.conv2d(a, torch.ones(140, 3, 1, 1)), 1), (2, 3, 3, 5)
    )
    case("glu_permuted", lambda a: F.glu(a.permute(2, 0, 1), -2), (4, 3, 5))


def _layouts() -> None:
    """Images with padded channels, permuted operands, 0-d and empty tensors."""
    wide = images(2, 70, 3, 5)
    case("image_cos", lambda a: torch.cos(F.relu(F.max_pool2d(a, 1))), wide)
    case("image_exp2", lambda a: torch.exp2(F.max_pool2d(a, 1)) * 2, wide)
    case("image_where", lambda a: torch.where(a > 0, a, -1.0) + F.max_pool2d(a, 1), wide)
    case("image_isnan", lambda a: torch.isnan(F.max_pool2d(a, 1)), wide)
    case(
        "permuted_integers",
        lambda a: (a.permute(2, 0, 1) * 3) % 7,
        torch.arange(60).reshape(3, 4, 5),
    )
    case(
        "zero_d",
        lambda a, b: (torch.sin(a), a * b, b // 2, b.to(torch.float32)),
        torch.tensor(0.5),
        torch.tensor(2**40),
    )
    case("empty", lambda a: (torch.sin(a), a.to(torch.int64) + 1), torch.zeros(0, 3))
    case("strided_integers", lambda a: a[::2, 1:] + a[1::2, :-1], torch.arange(48).reshape(6, 8))


for _family in (
    _unary_integers,
    _binary_integers,
    _promotion,
    _casts,
    _unary,
    _binary,
    _overloads,
    _glu,
    _layouts,
):
    _family()
