"""Large float16 products go to MPS, between the encoders of what comes before and after them."""

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
ENCODER = "MTLCommandBuffer computeCommandEncoderWithDispatchType:"
# 2**24 multiplications and a few more.
ROWS, COLUMNS, INNER = 260, 256, 256


def chain(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Dispatches before, between and after two products that depend on each other."""
    return torch.softmax(torch.sin(torch.relu(x) @ y.T) @ y.T, 1)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return images(ROWS, INNER), images(COLUMNS, INNER, seed=1, scale=0.1)


@pytest.mark.parametrize("order", ["reverse", "forward"])
def test_products_of_mps(standin: Standin, metal: Device, order: str) -> None:
    with standin.changed(order=order):
        result = run(metal, Function(chain), *inputs(), dtype="float16")
        assert result.kernels.count("gemm") == 2
        assert standin.messages(ENCODE) == 2
        assert 2 <= standin.messages(ENCODER) <= 3
        assert standin.messages("MTLCommandBuffer commit") == 1


@pytest.mark.parametrize(
    ("shape", "dtype"), [((ROWS, INNER), "float32"), ((100, INNER), "float16")]
)
def test_other_products_are_the_kernels(
    standin: Standin, metal: Device, shape: tuple[int, int], dtype: str
) -> None:
    run(metal, Function(chain), images(*shape), inputs()[1], dtype=dtype)
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
