"""Scalar operations in Python, where they are not one of its own: for constant evaluation in the
compiler and as the tests' reference. Floats are exact to float64; NaN and infinities as IEEE 754
says.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable


def nan_max(a: float, b: float) -> float:
    return a if a != a else b if b != b else max(a, b)


def nan_min(a: float, b: float) -> float:
    return a if a != a else b if b != b else min(a, b)


def div(a: float, b: float) -> float:
    if b != 0:
        return a / b
    return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1, b)


def wrap(value: int, bits: int = 32) -> int:
    """Integer arithmetic wraps, as PyTorch's does."""
    half = 1 << (bits - 1)
    return (value + half) % (2 * half) - half


def wrap64(value: int) -> int:
    return wrap(value, 64)


def exp(a: float) -> float:
    try:
        return math.exp(a)
    except OverflowError:
        return math.inf


def log(a: float) -> float:
    return math.log(a) if a > 0 else -math.inf if a == 0 else math.nan


def sqrt(a: float) -> float:
    return math.sqrt(a) if a >= 0 else math.nan


def to_int(a: float, bits: int = 32) -> int:
    limit = 1 << (bits - 1)
    return max(-limit, min(limit - 1, int(a))) if math.isfinite(a) else 0


def div_trunc(a: int, b: int) -> int:
    """Rounded towards zero; 0 where ``b`` is (PyTorch raises)."""
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def div_floor(a: int, b: int) -> int:
    """Rounded down; 0 where ``b`` is (PyTorch raises)."""
    return 0 if b == 0 else a // b


def wrapping(function: Callable[[int, int], int], bits: int) -> Callable[[int, int], int]:
    """The function's result as an integer of so many bits."""
    return lambda a, b: wrap(function(a, b), bits)


def power(bits: int) -> Callable[[int, int], int]:
    """``a`` to the ``b``, where fractions are 0 as in PyTorch."""

    def evaluate(a: int, b: int) -> int:
        if b < 0:
            return 1 if a == 1 else (-1 if b % 2 else 1) if a == -1 else 0
        return wrap(pow(a, b, 1 << bits), bits)

    return evaluate


def shift_left(bits: int) -> Callable[[int, int], int]:
    """0 where the shift is negative or too wide."""
    return lambda a, b: wrap(a << b, bits) if 0 <= b < bits else 0


def shift_right(bits: int) -> Callable[[int, int], int]:
    """Only the sign is left where the shift is negative or too wide."""
    return lambda a, b: a >> (b if 0 <= b < bits else bits - 1)


def total(function: Callable[..., float]) -> Callable[..., float]:
    """A function of ``math`` that returns NaN or infinity where that raises; NaN gives NaN."""

    def evaluate(*args: float) -> float:
        try:
            return function(*args)
        except OverflowError:
            return math.inf
        except ValueError:
            return math.nan

    return evaluate


def signed_total(function: Callable[[float], float]) -> Callable[[float], float]:
    """As ``total`` for an odd function: an overflow has the argument's sign."""
    return lambda a: math.copysign(total(function)(abs(a)), a)


def integral(function: Callable[[float], float]) -> Callable[[float], float]:
    """A rounding to integers that keeps infinities, NaN and the sign of zero."""
    return lambda a: math.copysign(float(function(a)), a) if math.isfinite(a) else a


def sigmoid(a: float) -> float:
    return 1 / (1 + exp(-a))


def gelu(a: float) -> float:
    if a == -math.inf:
        return math.nan
    return 0.5 * a * math.erfc(-a * math.sqrt(0.5))


def gelu_tanh(a: float) -> float:
    return a * sigmoid(2 * math.sqrt(2 / math.pi) * (a + 0.044715 * a * a * a))


def log1p(a: float) -> float:
    return -math.inf if a == -1 else total(math.log1p)(a)


def logarithm(function: Callable[[float], float]) -> Callable[[float], float]:
    """A logarithm with that of 0."""
    return lambda a: -math.inf if a == 0 else total(function)(a)


def atanh(a: float) -> float:
    return math.copysign(math.inf, a) if abs(a) == 1 else total(math.atanh)(a)


def float_power(a: float, b: float) -> float:
    if a == 0 and b < 0:
        odd = math.isfinite(b) and b % 2 == 1
        return math.copysign(math.inf, a) if odd else math.inf
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and b % 2 == 1 else math.inf
    except ValueError:
        return math.nan


def float_remainder(a: float, b: float) -> float:
    r = total(math.fmod)(a, b)
    return r + b if r != 0 and (r < 0) != (b < 0) else r


def float_div_floor(a: float, b: float) -> float:
    r = total(math.fmod)(a, b)
    q = div(a - r, b)
    if r != 0 and (r < 0) != (b < 0):
        q -= 1
    if b == 0 or q != q:
        return div(a, b) if b == 0 else q
    down = float(math.floor(q)) if math.isfinite(q) else q
    return math.copysign(0.0, div(a, b)) if q == 0 else down + 1 if q - down > 0.5 else down


def logaddexp(a: float, b: float) -> float:
    if a == b and math.isinf(a):
        return a
    return nan_max(a, b) + math.log1p(exp(-abs(a - b)))


def round_f16(a: float) -> float:
    if not math.isfinite(a):
        return a
    try:
        return float(struct.unpack("<e", struct.pack("<e", a))[0])
    except OverflowError:
        return math.copysign(math.inf, a)


def round_bf16(a: float) -> float:
    if not math.isfinite(a):
        return a
    bits = int.from_bytes(struct.pack("<f", a), "little")
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return float(struct.unpack("<f", bits.to_bytes(4, "little"))[0])
