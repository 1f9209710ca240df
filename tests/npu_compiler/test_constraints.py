"""What the NPU refuses, with the actual values; support queries; compile options."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import npu_compiler
from npu_compiler import TargetConfig, check_constraints, is_op_supported, load_ir_from_dict
from npu_compiler.errors import CompileOptionError, ConstraintError, UnsupportedOpError
from tests.npu_compiler.harness import Function, check, images, ir_of, run
from tests.npu_compiler.ir_builder import IRBuilder, small_cnn

X = images(2, 4, 6, 6)
REFUSED: dict[str, tuple[Callable[..., object], tuple[torch.Tensor, ...], str]] = {
    "3-D convolution": (
        lambda x: torch.ops.aten.convolution.default(
            x, x[:, :, :1, :1, :1], None, [1] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1
        ),
        (images(4, 4, 6, 6, 6),),
        "3-D convolution is not supported",
    ),
    "rounding": (
        lambda x: torch.round(x, decimals=2),
        (X,),
        "rounding to 2 decimals is not supported",
    ),
    "training dropout": (lambda x: F.dropout(x, 0.3, True), (X,), "call model.eval"),
    "training batch norm": (
        lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4), training=True),
        (X,),
        "call model.eval",
    ),
    "integer pooling": (
        lambda x: F.max_pool2d(x, 2),
        (torch.arange(16).reshape(1, 1, 4, 4),),
        "is int64",
    ),
    "unpooling": (
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
        (X,),
        "max_unpool2d.default: the NPU has no such operator",
    ),
    "mask index": (
        lambda x: torch.ops.aten.index_put.default(x, [x > 0], x.sum()),
        (X,),
        "every index must be int64 or int32, got bool; what a mask picks depends on the data",
    ),
    "float64": (lambda x: x * 2, (X.double(),), "is float64"),
    "unknown": (lambda x: torch.fft.rfft(x.abs()).real, (X,), "complex64|has no such operator"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    function, inputs, message = REFUSED[name]
    with pytest.raises(npu_compiler.CompilerError, match=message):
        run(Function(function), *inputs)


def test_all_violations_are_listed_with_their_places() -> None:
    b = IRBuilder()
    x = b.input("x", 2, 3)
    y = b.node("first", "aten.frobnicate.default", [x], [2, 3])
    b.data["nodes"][-1]["source"] = {"module": "layer1.0", "location": "net.py:57"}
    y = b.node("second", "aten.round.decimals", [y], [2, 3], decimals=7)
    ir = b.output(y)
    with pytest.raises(UnsupportedOpError) as caught:
        npu_compiler.compile(ir)
    text = str(caught.value)
    for part in (
        "'first' (layer1.0 at net.py:57)",
        "aten.frobnicate",
        "7 decimals",
        "get_supported_ops",
    ):
        assert part in text
    assert [v.node for v in caught.value.violations] == ["first", "second"]
    found = check_constraints(load_ir_from_dict(ir))
    assert [(v.node, v.unsupported) for v in found] == [("first", True), ("second", False)]
    assert check_constraints(load_ir_from_dict(small_cnn())) == []


def test_constraint_error_where_the_operator_is_known() -> None:
    with pytest.raises(ConstraintError) as caught:
        run(Function(lambda x: torch.round(x, decimals=2)), X)
    assert not isinstance(caught.value, UnsupportedOpError)


def test_dead_unsupported_code_does_not_matter() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        x.cumsum(1)
        return x * 2

    check(Function(forward), X)


def test_writing_to_a_buffer_is_refused() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.total.add_(x)
            return self.total * 2

    with pytest.raises(ConstraintError, match="writes to 'b_total' in place"):
        run(Counts(), images(3))


def test_is_op_supported() -> None:
    assert is_op_supported("aten.conv2d.default")
    assert is_op_supported("aten.relu_.default")
    assert is_op_supported("<built-in function getitem>")
    assert not is_op_supported("aten.squeeze_.dim")
    assert not is_op_supported("aten.frobnicate.default")
    conv = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "output_padding": [0, 0]}
    conv["groups"] = 1
    assert is_op_supported("aten.convolution.default", {**conv, "transposed": False})
    assert is_op_supported("aten.convolution.default", {**conv, "transposed": True})
    volume = {**conv, "stride": [1, 1, 1], "transposed": False}
    assert not is_op_supported("aten.convolution.default", volume)
    assert not is_op_supported("aten.dropout.default", {"p": 0.5, "train": True})
    assert is_op_supported("aten.div.Tensor_mode", {"rounding_mode": None})
    assert "npu.scatter_view" not in npu_compiler.get_supported_ops()
    for op_type in npu_compiler.get_supported_ops():
        assert is_op_supported(op_type)


def test_compute_dtypes() -> None:
    ir = ir_of(nn.Sequential(nn.Conv2d(3, 4, 3)), [images(1, 3, 5, 5)])
    assert npu_compiler.compile(ir).compute_dtype == "float16"
    assert npu_compiler.compile(ir, compute_dtype="bfloat16").compute_dtype == "bfloat16"
    half = nn.Sequential(nn.Conv2d(3, 4, 3)).to(torch.bfloat16)
    ir = ir_of(half, [images(1, 3, 5, 5).to(torch.bfloat16)])
    program = npu_compiler.compile(ir)
    assert program.compute_dtype == "bfloat16"
    assert program.output_specs[0].dtype == "bfloat16"
    for bad in ("float64", "int8", ""):
        with pytest.raises(CompileOptionError, match="compute_dtype"):
            npu_compiler.compile(ir, compute_dtype=bad)


def test_float32_tensors_of_a_bfloat16_model_stay_float32() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(x)
            return y.to(torch.float32) * 1.001 + 1e-3

    result = check(Mixed().to(torch.bfloat16), images(4, 8).to(torch.bfloat16), compute_dtype=None)
    assert result.program.output_specs[0].storage_dtype == "float32"
    assert result.program.input_specs[0].storage_dtype == "bfloat16"


@pytest.mark.parametrize(
    "fields",
    [
        {"channel_alignment": 0},
        {"buffer_alignment": 32},
        {"row_major_input_channels": -1},
        {"compute_dtypes": ("int8",)},
        {"compute_dtypes": ()},
    ],
)
def test_target_config(fields: dict[str, object]) -> None:
    with pytest.raises(CompileOptionError, match=f"TargetConfig.{next(iter(fields))}"):
        TargetConfig(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("alignment", [1, 8, 32, 128])
def test_other_channel_alignments(alignment: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 20, 3), nn.Sigmoid(), nn.Conv2d(20, 7, 1), nn.MaxPool2d(2))
    target = TargetConfig(channel_alignment=alignment)
    result = check(model, images(2, 3, 9, 9), target=target)
    assert all(s.alloc_shape[1] % alignment == 0 for s in result.program.output_specs)


def test_target_without_a_dtype() -> None:
    target = TargetConfig(compute_dtypes=("float32",))
    with pytest.raises(CompileOptionError, match="computes in float32"):
        npu_compiler.compile(small_cnn(), target=target)
