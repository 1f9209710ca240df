"""In-place operators, with their target read later, also through views; inputs, outputs and
identities.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

import npu_compiler
from npu_compiler.errors import ConstraintError, IRError
from npu_runtime import CpuBackend, DAGExecutor
from tests.npu_compiler.harness import Function, check, images, ir_of


def _relu_then_old_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    view = y.view(2, -1)
    y.relu_()
    return view + 1


def _write_through_slice(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y[:, 1:3].mul_(10)
    return y + 1


def _write_through_view_and_read_other_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    rows = y[1:]
    y[:, :2].add_(100)
    return rows * 2


def _write_twice(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x * 1
    a = y.add_(1)
    b = y.mul_(3)
    return a + 0, b + 0, y + 0


def _write_through_transpose(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.transpose(0, 1).sub_(5, alpha=2)
    return y


def _write_to_reshape_that_copies(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.transpose(0, 1).reshape(-1).mul_(7)
    return y


def _write_to_reshape_that_views(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.reshape(-1).mul_(7)
    return y


def _write_to_clone(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.clone().mul_(7)
    return y


def _write_through_select_and_expand(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y[0].copy_(y[1])
    y[:, 0] = 3.5
    return y.expand(2, *y.shape) * 2


def _write_a_chunk(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x * 1
    a, b = y.chunk(2, 1)
    a.zero_()
    b.fill_(2.0)
    return y * 3, a + b


def _dropout_is_an_alias(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    z = F.dropout(y, 0.5, False)
    z.add_(1)
    return y * 2


def _read_before_and_after(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    before = y * 2
    y.relu_()
    return before + y


FUNCTIONS: list[Callable[..., object]] = [
    _relu_then_old_view,
    _write_through_slice,
    _write_through_view_and_read_other_view,
    _write_twice,
    _write_through_transpose,
    _write_to_reshape_that_copies,
    _write_to_reshape_that_views,
    _write_to_clone,
    _write_through_select_and_expand,
    _write_a_chunk,
    _dropout_is_an_alias,
    _read_before_and_after,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__.strip("_"))
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3, 5)], ids=["2d", "4d"])
def test_in_place(function: Callable[..., object], shape: tuple[int, ...]) -> None:
    check(Function(function), images(*shape))


@pytest.mark.parametrize(
    "name", ["relu_", "sigmoid_", "tanh_", "neg_", "exp_", "abs_", "square_", "zero_"]
)
def test_in_place_method(name: str) -> None:
    check(Function(lambda x: getattr(x * 2, name)() + 1), images(3, 5))


def test_in_place_functions() -> None:
    def forward(x: torch.Tensor) -> list[torch.Tensor]:
        functions = (
            F.relu6,
            F.hardtanh,
            F.leaky_relu,
            F.silu,
            F.hardswish,
            F.hardsigmoid,
            F.elu,
            F.mish,
        )
        return [f(x * 1, inplace=True) for f in functions] + [(x * 1).clamp_(-1, 1)]

    check(Function(forward), images(3, 5))


def test_in_place_on_an_input_gives_the_right_outputs() -> None:
    check(Function(lambda x: F.relu(x, inplace=True) + x), images(3, 5))


def test_in_place_on_a_convolution_whose_view_is_read() -> None:
    def forward(m: Function, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = F.conv2d(x, m.w)
        flat = y.flatten(1)
        y.relu_()
        return flat * 1, y

    check(Function(forward, w=images(20, 3, 3, 3)), images(2, 3, 6, 6))


def _outputs(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    z = x + y
    return x, z, z, z.flatten(1), y[:, 1:]


@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 3, 4), (2, 20, 3, 4)])
def test_inputs_repetitions_and_views_as_outputs(shape: tuple[int, ...]) -> None:
    result = check(Function(_outputs), images(*shape), images(*shape, seed=1))
    buffers = [spec.buffer for spec in result.program.output_specs]
    kinds = {result.program.buffer_allocations[b].kind for b in buffers}
    assert len(set(buffers)) == 5 and kinds == {"output"}


def test_weights_and_constants_as_outputs() -> None:
    def forward(m: Function, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return m.w, m.w.t(), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), x * 2

    check(Function(forward, w=images(3, 5)), images(2, 2))


def test_no_computation_at_all() -> None:
    result = check(Function(lambda x: F.dropout(x, 0.1, False)), images(2, 3, 4, 5))
    assert result.kernels == ["elementwise"] and result.copies == 1


def test_unused_input_and_dead_code() -> None:
    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        torch.relu(y)
        return x * 2

    result = check(Function(forward), images(2, 3), images(4, 5))
    assert result.kernels == ["elementwise"] and len(result.program.input_specs) == 2


def test_copy_keeps_what_it_copied() -> None:
    def forward(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        a, b = x * 1, y * 2
        a.copy_(b)
        b.mul_(3)
        returned = a[0].copy_(a[1])
        a[1].add_(5)
        returned.sub_(1)
        return [a * 1, b * 1, returned * 1, a[:, 1] * 1]

    check(Function(forward), images(3, 4), images(3, 4, seed=1))


def _contiguous_of_a_transposed_result(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x.transpose(0, 1) * 2
    z = y.contiguous()
    z.add_(1)
    return y + 0, z + 0


def _reshape_of_a_transposed_result(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = torch.relu(x.transpose(0, 1))
    z = y.reshape(-1)
    z.add_(1)
    return y + 0, z + 0


def _clone_keeps_strides(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x.transpose(0, 1).clone()
    copy, same = y.reshape(-1), y.transpose(0, 1).reshape(-1)
    copy.add_(1)
    same.mul_(3)
    return y + 0, copy + 0, same + 0


def _view_of_a_transposed_result(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = torch.relu(x.transpose(0, 1))
    z = y.transpose(0, 1).view(-1)
    z[2:7].add_(1)
    y.mul_(2)
    z[5:].sub_(4)
    return y + 0, z + 0


def _contiguous_of_a_contiguous_result(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x.transpose(0, 1) * 2
    z = y.transpose(0, 1).contiguous()
    z.add_(1)
    return y + 0, z + 0


def _to_with_copy(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x * 2
    z, same = y.to(torch.float32, copy=True), y.to(torch.float32)
    z.add_(1)
    same.mul_(3)
    return y + 0, z + 0


STRIDED: list[Callable[..., object]] = [
    _contiguous_of_a_transposed_result,
    _reshape_of_a_transposed_result,
    _clone_keeps_strides,
    _view_of_a_transposed_result,
    _contiguous_of_a_contiguous_result,
    _to_with_copy,
]


@pytest.mark.parametrize("function", STRIDED, ids=lambda f: f.__name__.strip("_"))
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3, 5)], ids=["2d", "4d"])
def test_results_that_are_not_row_major(
    function: Callable[..., object], shape: tuple[int, ...]
) -> None:
    """Whether contiguous and reshape give a view or a copy depends on PyTorch's strides."""
    check(Function(function), images(*shape))


def test_channels_last_is_a_copy() -> None:
    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x * 2
        z = y.contiguous(memory_format=torch.channels_last)
        z.add_(1)
        same = z.contiguous(memory_format=torch.channels_last)
        same.mul_(2)
        return y + 0, z + 0

    check(Function(forward), images(2, 3, 4, 5))


@pytest.mark.parametrize("strides", ["x", [[1]], [None, None], [[6, "1"]], [[-6, 1]]])
def test_strides_that_make_no_sense_are_refused(strides: object) -> None:
    ir = ir_of(Function(_contiguous_of_a_transposed_result), (images(4, 6),))
    node = next(n for n in ir["nodes"] if "_strides" in n["attrs"])
    node["attrs"]["_strides"] = strides
    with pytest.raises(IRError, match="_strides must list strides or null for each of its 1"):
        npu_compiler.compile(ir)


def _write_to_windows(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.unfold(0, 3, 1).mul_(2)
    return y


def _fill_overlapping_rows(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.as_strided((4, 3), (2, 1)).fill_(2.0)
    return y


@pytest.mark.parametrize("function", [_write_to_windows, _fill_overlapping_rows])
def test_a_write_to_elements_that_share_memory(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Refused with the strides, and left to the CPU by the partitioner."""
    x = images(10)
    ir = ir_of(Function(function), (x,))
    with pytest.raises(ConstraintError, match=r"strides \[\d, 1\], whose elements share memory"):
        npu_compiler.compile(ir)
    plan = npu_compiler.partition(ir)
    reasons = [v.reason for v in plan.fallbacks.values()]
    assert any("whose elements share memory; write to a copy (clone())" in r for r in reasons)
    (found,) = DAGExecutor(plan, CpuBackend()).execute({"args_0": x.numpy()}).values()
    assert (found == function(x).numpy()).all()


def test_windows_that_do_not_overlap_are_written_to() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = x * 1
        y.unfold(0, 3, 4)[:, 1:].mul_(2)
        return y

    check(Function(forward), images(12))
