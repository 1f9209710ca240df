"""The executor: inputs, memory, errors, and that it never changes what it was given."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from tests.torch_ir.models import DeepResNet, randomize
from tests.torch_ir.support import assert_same
from torch_ir import (
    IR,
    ExecutionError,
    IRExecutor,
    IRNode,
    TensorMeta,
    execute_ir,
    extract_ir,
    register_executor,
    unregister_op,
)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return randomize(DeepResNet(channels=8, blocks=1))


@pytest.fixture(scope="module")
def ir(model: nn.Module) -> IR:
    return extract_ir(model, torch.randn(2, 3, 8, 8))


def test_weights_not_loaded(ir: IR) -> None:
    with pytest.raises(ExecutionError, match="Weights not loaded"):
        IRExecutor(ir).execute(torch.randn(2, 3, 8, 8))


def test_execute_ir_needs_one_source_of_weights(ir: IR, model: nn.Module) -> None:
    x = torch.randn(2, 3, 8, 8)
    with pytest.raises(ValueError, match="Either weights or weights_path"):
        execute_ir(ir, x)
    assert_same(execute_ir(ir, (x,), weights=model.state_dict())[0], model(x))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), "takes 1 tensors.*found 0"),
        ((torch.zeros(2, 3, 8, 8),) * 2, "takes 1 tensors.*found 2"),
        ({"y": torch.zeros(2, 3, 8, 8)}, r"\['y'\]"),
        ((torch.zeros(1, 3, 8, 8),), r"'x'.*\[2, 3, 8, 8\].*\[1, 3, 8, 8\]"),
        ((torch.zeros(2, 3, 8, 8, dtype=torch.float64),), "'x'.*float32.*float64"),
        ((torch.zeros(2, 3, 8, 8, device="meta"),), "'x'.*meta"),
        ((3,), "found 1 values"),
        (3, "found int"),
        ({"x": [1.0]}, "'x'.*found list"),
    ],
)
def test_bad_inputs(ir: IR, model: nn.Module, inputs: Any, message: str) -> None:
    executor = IRExecutor(ir, weights=model.state_dict())
    with pytest.raises(ExecutionError, match=message):
        executor.execute(inputs)


def test_a_failing_operator_is_named_with_its_source(ir: IR, model: nn.Module) -> None:
    broken = IR.from_dict(ir.to_dict())
    broken.nodes[0].attrs["groups"] = 5
    place = r"'conv2d' \(aten\.conv2d\.default\) of conv at .*skip_connections\.py:\d+ failed"
    with pytest.raises(ExecutionError, match=place):
        IRExecutor(broken, weights=model.state_dict()).execute(torch.randn(2, 3, 8, 8))


def test_weights_are_shared_not_copied(ir: IR, model: nn.Module) -> None:
    weights = model.state_dict()
    executor = IRExecutor(ir, weights=weights)
    x = torch.randn(2, 3, 8, 8)
    before = executor.execute(x)[0]
    with torch.no_grad():
        weights["fc.bias"].add_(1)
        torch.testing.assert_close(executor.execute(x)[0], before + 1)
        weights["fc.bias"].sub_(1)


def test_strided_inputs(ir: IR, model: nn.Module) -> None:
    x = torch.randn(2, 8, 3, 8).transpose(1, 2)
    torch.testing.assert_close(
        IRExecutor(ir, weights=model.state_dict()).execute(x)[0], model(x), rtol=1e-5, atol=1e-6
    )


def test_outputs_carry_no_gradient_and_are_independent(ir: IR, model: nn.Module) -> None:
    executor = IRExecutor(ir, weights=dict(model.named_parameters()) | dict(model.named_buffers()))
    first = executor.execute(torch.randn(2, 3, 8, 8))[0]
    kept = first.clone()
    executor.execute(torch.randn(2, 3, 8, 8))
    assert not first.requires_grad
    assert_same(first, kept)


def test_many_threads_share_one_executor(ir: IR, model: nn.Module) -> None:
    executor = IRExecutor(ir, weights=model.state_dict())
    inputs = [torch.randn(2, 3, 8, 8) for _ in range(8)]
    results: dict[int, torch.Tensor] = {}

    def work(index: int) -> None:
        for _ in range(5):
            results[index] = executor.execute(inputs[index])[0]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, x in enumerate(inputs):
        torch.testing.assert_close(results[index], executor.execute(x)[0])


def test_intermediates_are_freed_after_their_last_use() -> None:
    alive: list[int] = []
    seen: list[weakref.ref[torch.Tensor]] = []

    @register_executor("aten.cos.default")
    def cos(inputs: list[torch.Tensor], attrs: dict[str, Any]) -> list[torch.Tensor]:
        gc.collect()
        alive.append(sum(ref() is not None for ref in seen))
        result = inputs[0].cos()
        seen.append(weakref.ref(result))
        return [result]

    class Chain(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(10):
                x = x.cos()
            return x

    try:
        IRExecutor(extract_ir(Chain().eval(), torch.randn(4))).execute(torch.randn(4))
    finally:
        unregister_op("aten.cos.default")
    assert alive == [0] + [1] * 9


def test_unused_results_are_freed_too() -> None:
    class Unused(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.max(0)
            return x + 1

    ir = extract_ir(Unused().eval(), torch.randn(3, 3))
    assert_same(IRExecutor(ir).execute(torch.ones(3, 3))[0], torch.full((3, 3), 2.0))


def test_an_ir_written_by_hand() -> None:
    x = TensorMeta("x", (2, 3), "float32")
    operand = TensorMeta("x", (2, 3), "float32", "x", 0)
    total = TensorMeta("total", (3,), "float32")
    ir = IR(
        "hand",
        torch.__version__,
        graph_inputs=[x],
        graph_outputs=[total],
        nodes=[IRNode("total", "aten.sum.dim_IntList", [operand], [total], {"dim": [0]})],
    )
    value = torch.randn(2, 3)
    assert_same(IRExecutor(ir).execute(value)[0], value.sum(0))


def test_random_operators_run() -> None:
    class Noise(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x) + torch.randn(3)

    ir = extract_ir(Noise().eval(), torch.zeros(3))
    torch.manual_seed(3)
    first = IRExecutor(ir).execute(torch.zeros(3))[0]
    torch.manual_seed(3)
    assert_same(first, Noise()(torch.zeros(3)))
