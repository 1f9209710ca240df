"""Kernel records: every NPU instruction, declared once. ``KERNELS`` maps names to records, ordered
by id.
"""

from __future__ import annotations

from npu_compiler.kernels.conv import CONV2D
from npu_compiler.kernels.elementwise import ELEMENTWISE
from npu_compiler.kernels.matmul import GEMM
from npu_compiler.kernels.pool import ADAPTIVE_AVG_POOL2D, AVG_POOL2D, MAX_POOL2D
from npu_compiler.kernels.record import Kernel
from npu_compiler.kernels.reduce import REDUCE, SOFTMAX

KERNELS: dict[str, Kernel] = {
    k.name: k
    for k in (
        CONV2D,
        GEMM,
        MAX_POOL2D,
        AVG_POOL2D,
        ADAPTIVE_AVG_POOL2D,
        SOFTMAX,
        REDUCE,
        ELEMENTWISE,
    )
}
KERNELS_BY_ID: dict[int, Kernel] = {k.id: k for k in KERNELS.values()}
