"""Large products in half precision go to MPS, between the encoders of what surrounds them."""

from __future__ import annotations

import pytest
import torch

from npu_runtime import Executor, load_weights
from npu_runtime.device import Device
from npu_runtime.errors import InternalError
from tests.metal_standin.standin import Standin
from tests.metal_standin.test_ops import run
from tests.npu_compiler.harness import Function, images, to_numpy

ENCODE = "MPSMatrixMultiplication encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:"
ENCODE_ARRAYS = (
    "MPSNDArrayMatrixMultiplication encodeToCommandBuffer:sourceArrays:destinationArray:"
)
ENCODER = "MTLCommandBuffer computeCommandEncoderWithDispatchType:"
# 2**24 multiplications and a few more.
ROWS, COLUMNS, INNER = 260, 256, 256


def chain(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Dispatches before, between and after two products that depend on each other."""
    return torch.softmax(torch.sin(torch.sin(x) @ y.T) @ y.T, 1)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return images(ROWS, INNER), images(COLUMNS, INNER, seed=1, scale=0.1)


@pytest.mark.parametrize("order", ["reverse", "forward"])
@pytest.mark.parametrize(
    ("dtype", "encode"), [("float16", ENCODE), ("bfloat16", ENCODE_ARRAYS)], ids=lambda v: v[:8]
)
def test_products_of_mps(
    standin: Standin, metal: Device, dtype: str, encode: str, order: str
) -> None:
    with standin.changed(order=order, macos=15):
        result = run(metal, Function(chain), *inputs(), dtype=dtype)
        assert result.kernels.count("gemm") == 2
        assert standin.messages(encode) == 2
        assert 2 <= standin.messages(ENCODER) <= 3
        assert standin.messages("MTLCommandBuffer commit") == 1


@pytest.mark.parametrize(
    ("shape", "dtype", "macos"),
    [
        ((ROWS, INNER), "float32", 15),
        ((100, INNER), "float16", 15),
        ((ROWS, INNER), "bfloat16", 14),
    ],
)
def test_other_products_are_the_kernels(
    standin: Standin, metal: Device, shape: tuple[int, int], dtype: str, macos: int
) -> None:
    with standin.changed(macos=macos):
        run(metal, Function(chain), images(*shape), inputs()[1], dtype=dtype)
        assert standin.messages(ENCODE) == standin.messages(ENCODE_ARRAYS) == 0


def test_rows_that_arrays_would_pad_are_the_kernels(standin: Standin, metal: Device) -> None:
    with standin.changed(macos=15):
        inner = INNER + 4  # 520 bytes a row
        run(
            metal,
            Function(lambda x, y: x @ y.T),
            images(ROWS, inner),
            images(COLUMNS, inner),
            dtype="bfloat16",
        )
        assert standin.messages(ENCODE_ARRAYS) == 0


def test_products_with_a_bias_and_of_columns_that_lie_apart_are_the_kernels(
    standin: Standin, metal: Device
) -> None:
    x, y = inputs()
    biased = Function(lambda x, y, b: torch.nn.functional.linear(x, y, b))
    run(metal, biased, x, y, images(COLUMNS, seed=2), dtype="float16")
    every_other = Function(lambda x, y: x[:, ::2] @ y.T)
    result = run(metal, every_other, images(ROWS, 2 * INNER), y, dtype="float16")
    assert "gemm" in result.kernels
    assert standin.messages(ENCODE) == 0


def test_mps_can_be_switched_off(
    standin: Standin, metal: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPU_SIM_METAL_MPS", "0")
    run(metal, Function(chain), *inputs(), dtype="float16")
    assert standin.messages(ENCODE) == 0


def test_timestamps(standin: Standin, metal: Device) -> None:
    program = run(metal, Function(chain), *inputs(), dtype="float16").program
    executor = Executor(program, metal)
    arrays = dict(zip((s.name for s in program.input_specs), map(to_numpy, inputs()), strict=True))
    _, times = executor.run_profiled(arrays, load_weights({}, program, metal))
    assert [t[0] for t in times] == list(range(len(program.kernel_calls)))
    assert all(begin < end for _, begin, end in times)


def test_an_open_encoder_is_noticed(standin: Standin, metal: Device) -> None:
    standin.leave_out("MTLComputeCommandEncoder endEncoding", 1)
    with pytest.raises(InternalError, match="MPS is encoded while an encoder is open"):
        run(metal, Function(chain), *inputs(), dtype="float16")
    standin.take_findings()
