"""How far a result may be from the exact one: stated once per storage dtype, for every device.

Kernels read operands in the storage dtype, compute in float32 and round once, to nearest even.
"""

from __future__ import annotations

from math import sqrt
from pathlib import Path

# Unit roundoff: half the distance from 1 to the next larger value.
UNIT_ROUNDOFF = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "float64": 2.0**-24}
# Half the smallest subnormal: the rounding error of the smallest results.
UNDERFLOW = {"float32": 2.0**-150, "float16": 2.0**-25, "bfloat16": 2.0**-134, "float64": 2.0**-150}
FLOAT32_ROUNDOFF = UNIT_ROUNDOFF["float32"]
_CPUINFO = Path("/proc/cpuinfo")
# There the cpu device multiplies float16 as pairs of bfloat16 and drops the product of both low
# halves.
HAS_AMX = _CPUINFO.exists() and "amx_bf16" in _CPUINFO.read_text()


def tolerance(dtype: object, k: int = 1) -> tuple[float, float]:
    """(rtol, atol) of a result stored as ``dtype`` that sums ``k`` terms of magnitude about 1.

    ``dtype`` is a name or anything that prints as one (``torch.float16``). The exact value is the
    float64 result from the same (already rounded) operands.

    * rtol: one rounding to ``dtype`` errs by its unit roundoff u. The float32 value that is rounded
      may itself be off by a few float32 roundoffs (transcendental functions: 1.4 ulp), which for
      float16 and bfloat16 only moves values that lie next to a tie, by one more u; for float32 it
      adds itself. Hence 2 u, and 4 u for float32.
    * atol: cancellation makes the error of a sum relative to its terms, not to its value. Partial
      sums of k random terms of magnitude 1 grow as sqrt(k), and each of the k additions errs by at
      most one float32 roundoff of them, in random directions: sqrt(k) * sqrt(k) = k roundoffs. Four
      times that covers the largest of many results.
    * Where matrix tiles multiply float16 as high + low bfloat16, each half of 2^-9 at most, a
      product lacks up to 2^-18 of itself, and k of them, in random directions, sqrt(k) as much;
      four times that for the largest.

    Integers and bools are exact: (0, 0). float64 is for storage only: values went through float32.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in UNIT_ROUNDOFF:
        return 0.0, 0.0
    factor = 2 if name in ("float16", "bfloat16") else 4
    atol = UNDERFLOW[name] + (4 * k * FLOAT32_ROUNDOFF if k > 1 else 0.0)
    if HAS_AMX and name == "float16" and k > 1:
        atol += 4 * sqrt(k) * 2.0**-18
    return factor * UNIT_ROUNDOFF[name], atol
