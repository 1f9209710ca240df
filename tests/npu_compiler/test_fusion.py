"""Fusion: what is fused, what must not be, and that the numbers stay right with trained-like
BatchNorm statistics.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from npu_compiler import find_fusion_groups, get_supported_ops, load_ir_from_dict, optimize_graph
from npu_compiler.kernels.activation import ACTIVATIONS as KERNEL_ACTIVATIONS
from npu_compiler.kernels.activation import MOVES_ZERO
from npu_compiler.ops import find_op
from npu_compiler.ops.activation import FORMULAS
from tests.npu_compiler.harness import Function, Result, check, images, ir_of, trained_like

SHAPE = (2, 3, 9, 10)


class ConvNorm(nn.Module):
    """Convolution, BatchNorm, and what follows."""

    def __init__(
        self,
        after: Callable[..., object] = lambda y: y,
        bias: bool = False,
        channels: int = 20,
        affine: bool = True,
        **conv: object,
    ) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, channels, 3, bias=bias, **conv)
        self.norm = nn.BatchNorm2d(channels, affine=affine)
        self.after = after

    def forward(self, x: torch.Tensor, *rest: torch.Tensor) -> object:
        return self.after(self.norm(self.conv(x)), *rest)


def kernels(result: Result) -> list[str]:
    return result.kernels


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("channels", [20, 64])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_conv_batch_norm(bias: bool, affine: bool, channels: int, dtype: str) -> None:
    module = trained_like(ConvNorm(bias=bias, affine=affine, channels=channels))
    result = check(module, images(*SHAPE), compute_dtype=dtype)
    assert result.kernels == ["conv2d"]
    # Without a bias of its own the folded convolution still has one.
    assert [s.name for s in result.program.weight_specs] == ["conv.weight", "conv.bias"]
    assert result.program.weight_specs[1].storage_dtype == "float32"


@pytest.mark.parametrize(
    "name",
    ["relu", "relu_", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "clamp_far_from_0"],
)
def test_clamps_are_fused(name: str) -> None:
    clamps: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "relu": F.relu,
        "relu_": lambda y: F.relu(y, inplace=True),
        "relu6": F.relu6,
        "hardtanh": lambda y: F.hardtanh(y, -0.5, 0.5),
        "clamp": lambda y: y.clamp(-1, 2),
        "clamp_min": lambda y: y.clamp(min=-0.25),
        "clamp_max": lambda y: y.clamp(max=0.25),
        "clamp_far_from_0": lambda y: y.clamp(0.5, 1.0),
    }
    result = check(trained_like(ConvNorm(clamps[name])), images(*SHAPE))
    # A clamp that moves zero would leave its bound in the padding: logical channels, and a fill.
    fills = ["elementwise"] if name == "clamp_far_from_0" else []
    assert result.kernels == ["conv2d", *fills]


def test_clamp_far_from_zero_before_another_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(3, 20, 3), nn.Hardtanh(1.0, 2.0), nn.Conv2d(20, 5, 3))
    check(model, images(*SHAPE))


def test_residual_and_relu_are_fused_in_either_order_of_operands() -> None:
    residual = images(2, 20, 7, 8, seed=3)
    for add in (lambda y, r: F.relu(y + r), lambda y, r: F.relu(r + y), lambda y, r: y.add_(r)):
        result = check(trained_like(ConvNorm(add)), images(*SHAPE), residual)
        assert result.kernels == ["conv2d"]
        assert result.copies == 0


def test_a_residual_that_is_also_the_input_is_not_overwritten() -> None:
    def forward(m: Function, x: torch.Tensor) -> torch.Tensor:
        y = F.max_pool2d(x, 2)
        return F.relu(F.conv2d(y, m.w) + y) * 2

    result = check(Function(forward, w=images(20, 20, 1, 1)), images(2, 20, 6, 6))
    assert result.kernels == ["max_pool2d", "conv2d", "elementwise"]

    def square(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        return torch.sigmoid(torch.mm(y, y) + y)

    check(Function(square), images(5, 5))


def test_add_of_two_convolutions_is_fused_once() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = ConvNorm()
            self.b = ConvNorm(bias=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.relu(self.a(x) + self.b(x))

    assert check(trained_like(Two()), images(*SHAPE)).kernels == ["conv2d", "conv2d"]


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda y: F.gelu(y, approximate="tanh"),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
}


class Apply(nn.Module):
    """An activation as a layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ACTIVATIONS[self.name](x)


def test_every_activation_has_a_record_a_formula_and_a_test() -> None:
    assert set(ACTIVATIONS) | {"none"} == set(KERNEL_ACTIVATIONS) == set(FORMULAS) | {"none"}
    names = set()
    for op_type in get_supported_ops():
        record = find_op(op_type)
        if record is not None and record.activation is not None:
            names |= {record.activation({"approximate": form}) for form in ("none", "tanh")}
    assert names == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_activations_are_fused_behind_batch_norm_and_residual(name: str, dtype: str) -> None:
    residual = images(2, 20, 7, 8, seed=3)
    module = trained_like(ConvNorm(lambda y, r: ACTIVATIONS[name](y + r).clamp(-0.1, 2)))
    result = check(module, images(*SHAPE), residual, compute_dtype=dtype)
    # What an activation makes of zero must not stand in the padding.
    fills = ["elementwise"] if name in MOVES_ZERO else []
    assert result.kernels == ["conv2d", *fills]
    linear = nn.Sequential(nn.Linear(12, 30), nn.BatchNorm1d(30), Apply(name))
    assert check(trained_like(linear), images(5, 12), compute_dtype=dtype).kernels == ["gemm"]


def test_relu_after_an_activation_is_fused_but_not_before() -> None:
    after = check(trained_like(ConvNorm(lambda y: F.relu(F.gelu(y)))), images(*SHAPE))
    assert after.kernels == ["conv2d"]
    before = check(trained_like(ConvNorm(lambda y: F.gelu(F.relu(y)))), images(*SHAPE))
    assert before.kernels == ["conv2d", "elementwise"]


def test_an_activation_behind_a_cast_is_not_fused() -> None:
    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return F.gelu(torch.mm(x, w).to(torch.float16))

    result = check(Function(forward), images(4, 5), images(5, 6, seed=1), compute_dtype="float32")
    assert result.kernels[0] == "gemm" and "elementwise" in result.kernels


def test_activation_between_two_layers_keeps_padding_zero() -> None:
    for name in ("silu", "sigmoid"):
        layers = [nn.Conv2d(3, 20, 3), Apply(name), nn.Conv2d(20, 20, 3), Apply(name)]
        model = nn.Sequential(*layers, nn.Conv2d(20, 5, 3))
        assert check(model.eval(), images(*SHAPE)).kernels.count("conv2d") == 3


NOT_FUSED: dict[str, tuple[Callable[..., object], list[str]]] = {
    # The value between is read again, or is an output.
    "second_consumer": (lambda y: F.relu(y) + y * 2, ["conv2d", "elementwise"]),
    "second_consumer_view": (lambda y: (F.relu(y), y.flatten(1)), ["conv2d", "elementwise"]),
    "graph_output": (lambda y: (y, F.relu(y)), ["conv2d", "elementwise"]),
    "relu_then_add": (lambda y: F.relu(y) + 1.5, ["conv2d", "elementwise"]),
    "self_add": (lambda y: y + y, ["conv2d", "elementwise"]),
    "alpha": (lambda y: torch.add(y, y.abs(), alpha=2), ["conv2d", "elementwise"]),
    "leaky_relu": (F.leaky_relu, ["conv2d", "elementwise"]),
    "activation_read_twice": (lambda y: F.silu(y) + y * 2, ["conv2d", "elementwise"]),
    "activation_graph_output": (lambda y: (y, F.gelu(y)), ["conv2d", "elementwise"]),
    "activation_then_residual": (lambda y: F.gelu(y) + y.new_ones(()), ["conv2d", "elementwise"]),
    "two_activations": (lambda y: torch.tanh(F.silu(y)), ["conv2d", "elementwise"]),
    "two_clamps": (lambda y: F.relu6(F.hardtanh(y)), ["conv2d", "elementwise"]),
}


@pytest.mark.parametrize("name", NOT_FUSED)
def test_what_must_not_be_fused(name: str) -> None:
    after, expected = NOT_FUSED[name]
    result = check(trained_like(ConvNorm(after)), images(*SHAPE))
    assert [k for k in result.kernels][: len(expected)] == expected


@pytest.mark.parametrize("name", ["gelu", "sigmoid"])
def test_a_residual_after_the_activation_is_added_apart(name: str) -> None:
    f = ACTIVATIONS[name]
    module = trained_like(ConvNorm(lambda y, r: f(y) + r))
    kernels_of = check(module, images(*SHAPE), images(2, 20, 7, 8, seed=3)).kernels
    assert kernels_of[0] == "conv2d" and kernels_of[-1] == "elementwise"


@pytest.mark.parametrize("shape", [(20, 1, 1), (1, 20, 7, 8), (2, 1, 7, 8), (8,), ()])
def test_broadcast_residual_is_not_fused(shape: tuple[int, ...]) -> None:
    result = check(
        trained_like(ConvNorm(lambda y, r: F.relu(y + r))), images(*SHAPE), images(*shape, seed=2)
    )
    assert result.kernels[0] == "conv2d" and "elementwise" in result.kernels


def test_growing_addition_is_not_fused() -> None:
    """The convolution's result broadcasts to the other operand."""

    def forward(m: Function, x: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        return F.relu(F.conv2d(x, m.w) + r)

    module = Function(forward, w=images(1, 3, 3, 3))
    check(module, images(1, 3, 9, 10), images(4, 5, 7, 8, seed=1))


def test_batch_norm_of_a_shared_convolution_is_not_folded() -> None:
    module = trained_like(ConvNorm())

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.m = module

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = self.m.conv(x)
            return self.m.norm(y), y

    assert check(Shared().eval(), images(*SHAPE)).kernels == ["conv2d", "elementwise"]


def test_one_convolution_before_two_batch_norms_gets_two_weights() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)
            self.a, self.b = nn.BatchNorm2d(5), nn.BatchNorm2d(5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(self.conv(x)) - self.b(self.conv(x * 2))

    result = check(trained_like(Twice()), images(*SHAPE))
    assert result.kernels.count("conv2d") == 2
    names = [s.name for s in result.program.weight_specs]
    assert names == ["conv.weight", "conv.bias", "conv.weight.2", "conv.bias.2"]


def test_batch_norm_before_a_convolution_is_a_scale_and_a_shift() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 5, 3, padding=1))
    assert check(trained_like(model), images(*SHAPE)).kernels[-1] == "conv2d"


@pytest.mark.parametrize("groups", [1, 2, 20])
def test_grouped_conv_batch_norm(groups: int) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 20, 1),
        nn.Conv2d(20, 20, 3, groups=groups, bias=False),
        nn.BatchNorm2d(20),
        nn.ReLU6(),
    )
    result = check(trained_like(model), images(*SHAPE))
    # Only groups that are neither one nor all channels need a fill of the padding.
    assert result.kernels == ["conv2d", "conv2d", *(["elementwise"] if groups == 2 else [])]


def test_linear_batch_norm_residual_relu() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(12, 12, bias=False)
            self.norm = nn.BatchNorm1d(12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.relu(self.norm(self.linear(x)) + x)

    assert check(trained_like(Block()), images(4, 12)).kernels == ["gemm"]


def test_batch_norm_over_sequence_positions_is_not_folded_into_linear() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(5))
    assert check(trained_like(model), images(2, 5, 6)).kernels == ["gemm", "elementwise"]


def test_addmm_with_a_matrix_takes_no_second_residual() -> None:
    def forward(s: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return F.relu(torch.addmm(s, a, b) + s)

    check(Function(forward), images(4, 5), images(4, 3), images(3, 5))


def test_elementwise_chains_become_one_dispatch() -> None:
    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.silu(x * 2 - 1) * torch.sigmoid(y) / 3 + y

    assert check(Function(forward), images(3, 7), images(3, 7, seed=1)).kernels == ["elementwise"]


def test_silu_times_gate_in_either_order() -> None:
    for f in (lambda x, y: F.silu(x) * y, lambda x, y: y * F.silu(x)):
        assert check(Function(f), images(3, 7), images(3, 7, seed=1)).kernels == ["elementwise"]


def test_long_chains_are_split_at_the_kernels_limits() -> None:
    def forward(*inputs: torch.Tensor) -> torch.Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = F.gelu(total) + F.silu(x)
        return total

    inputs = [images(3, 7, seed=i) for i in range(12)]
    result = check(Function(forward), *inputs)
    assert len(result.kernels) > 1 and set(result.kernels) == {"elementwise"}


def test_chain_with_many_live_values() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        parts = [x * (i + 0.5) for i in range(40)]
        total = parts[0]
        for p in reversed(parts[1:]):
            total = total + p
        return total

    check(Function(forward), images(3, 7))


def test_a_cast_in_a_chain_rounds() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return (x * 1.001).to(torch.bfloat16).to(torch.float32) * 1000

    result = check(Function(forward), images(4, 50), compute_dtype="float32")
    assert result.kernels == ["elementwise"]


def test_find_fusion_groups_names_ir_nodes() -> None:
    module = trained_like(ConvNorm(lambda y: F.relu(y)))
    graph = optimize_graph(load_ir_from_dict(ir_of(module, [images(*SHAPE)])))
    assert find_fusion_groups(graph) == [("conv2d", "batch_norm", "relu")]


def test_without_optimization_every_node_is_a_dispatch() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x.exp() + 1) * torch.sigmoid(x)

    assert check(Function(function), images(3, 10), optimize=False).kernels == ["elementwise"] * 5
    assert check(Function(function), images(3, 10)).kernels == ["elementwise"]
