"""Custom operators: through torch.ops without registration, and with converters and executors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from tests.torch_ir.support import assert_same, check_model, ops_of
from torch_ir import (
    ConversionError,
    ExecutionError,
    IRExecutor,
    IRNode,
    RegistrationError,
    TorchIRWarning,
    deserialize_ir,
    extract_ir,
    list_registered_ops,
    register_executor,
    register_op,
    serialize_ir,
    unregister_op,
    validate_ir,
)
from torch_ir.analyzer import NodeInfo


@torch.library.custom_op("torch_ir_tests::scaled", mutates_args=())
def scaled(x: torch.Tensor, factor: float, mode: str = "inf") -> torch.Tensor:
    return x * factor if mode != "half" else x * factor / 2


@scaled.register_fake
def _(x: torch.Tensor, factor: float, mode: str = "inf") -> torch.Tensor:
    return torch.empty_like(x)


class Sine(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sin() + 1


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    for op in list_registered_ops():
        unregister_op(op)


def test_a_custom_op_needs_no_registration() -> None:
    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return scaled(x, float("inf"), "half"), scaled(x, 2.0, "nan")

    ir = check_model(Model().eval(), torch.randn(3))
    assert ops_of(ir) == ["torch_ir_tests.scaled.default"] * 2
    assert ir.nodes[1].attrs == {"factor": 2.0, "mode": "nan"}


def test_registered_executor_is_used() -> None:
    ir = extract_ir(Sine().eval(), torch.zeros(3))

    @register_executor("aten.sin.default")
    def sine(inputs: list[torch.Tensor], attrs: dict[str, Any]) -> list[torch.Tensor]:
        attrs["changed"] = True
        return [inputs[0] + 10]

    assert list_registered_ops() == ["aten.sin.default"]
    assert_same(IRExecutor(ir).execute(torch.zeros(3))[0], torch.full((3,), 11.0))
    assert ir.nodes[0].attrs == {}
    unregister_op("aten.sin.default")
    assert_same(IRExecutor(ir).execute(torch.zeros(3))[0], torch.ones(3))


def test_registered_executor_must_return_a_list_of_tensors() -> None:
    ir = extract_ir(Sine().eval(), torch.zeros(3))
    register_executor("aten.sin.default")(lambda inputs, attrs: [])
    with pytest.raises(ExecutionError, match=r"'sin'.*returned 0 tensors"):
        IRExecutor(ir).execute(torch.zeros(3))


def test_an_op_that_only_this_process_knows() -> None:
    @register_op("aten.sin.default")
    def convert(info: NodeInfo) -> IRNode:
        return IRNode(info.name, "npu.fast_sine", info.input_metas, info.output_metas, {"order": 3})

    ir = extract_ir(Sine().eval(), torch.zeros(3))
    assert ops_of(ir)[0] == "npu.fast_sine"
    with pytest.raises(Exception, match=r"sin.*npu\.fast_sine"):
        validate_ir(ir)
    register_executor("npu.fast_sine")(lambda inputs, attrs: [inputs[0] * attrs["order"]])
    assert validate_ir(ir, check_shapes=True)
    read = deserialize_ir(serialize_ir(ir))
    assert_same(IRExecutor(read).execute(torch.ones(3))[0], torch.full((3,), 4.0))


@pytest.mark.parametrize(
    "broken", [lambda info: 1 / 0, lambda info: None], ids=["raises", "wrong type"]
)
def test_a_failing_converter_falls_back_or_raises(broken: Any) -> None:
    register_op("aten.sin.default")(broken)
    with pytest.warns(TorchIRWarning, match=r"'sin'.*aten\.sin\.default.*default conversion"):
        ir = extract_ir(Sine().eval(), torch.zeros(3))
    assert ops_of(ir) == ["aten.sin.default", "aten.add.Tensor"]
    with pytest.raises(ConversionError, match="'sin'"):
        extract_ir(Sine().eval(), torch.zeros(3), strict=True)


def test_wrong_registrations() -> None:
    with pytest.raises(RegistrationError, match="register_op"):
        register_op(lambda info: info)  # type: ignore[arg-type]
    with pytest.raises(RegistrationError, match="expected a function"):
        register_executor("a.b.c")(3)  # type: ignore[type-var]
    assert list_registered_ops() == []
