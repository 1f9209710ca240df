"""The validator: each broken rule is one ValidationError that names the node."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from tests.torch_ir.models import DeepResNet, randomize
from torch_ir import IR, IRExecutor, IRNode, TensorMeta, ValidationError, extract_ir, validate_ir


@pytest.fixture(scope="module")
def valid() -> IR:
    return extract_ir(randomize(DeepResNet(channels=8, blocks=1)), torch.randn(1, 3, 8, 8))


def _swap_first_nodes(ir: IR) -> None:
    ir.nodes[0], ir.nodes[1] = ir.nodes[1], ir.nodes[0]


def _make_cycle(ir: IR) -> None:
    first, last = ir.nodes[0], ir.nodes[1]
    result = last.outputs[0]
    first.inputs[0] = TensorMeta(result.name, result.shape, result.dtype, last.name, 0)


def _duplicate(ir: IR) -> None:
    ir.nodes.insert(1, copy.deepcopy(ir.nodes[0]))


def _duplicate_output(ir: IR) -> None:
    ir.nodes[1].outputs[0].name = ir.nodes[0].outputs[0].name


def _getitem(index: object) -> Callable[[IR], None]:
    def change(ir: IR) -> None:
        source = ir.nodes[0].outputs[0]
        operand = TensorMeta(source.name, source.shape, source.dtype, ir.nodes[0].name, 0)
        output = TensorMeta("picked", source.shape, source.dtype)
        ir.nodes.insert(
            1,
            IRNode("picked", "<built-in function getitem>", [operand], [output], {"index": index}),
        )

    return change


CHANGES: list[tuple[str, Callable[[IR], object], str]] = [
    ("unknown op", lambda ir: setattr(ir.nodes[0], "op_type", "aten.nope.default"), "conv2d.*nope"),
    ("odd op", lambda ir: setattr(ir.nodes[0], "op_type", "conv2d"), "conv2d.*unknown op"),
    ("attribute op", lambda ir: setattr(ir.nodes[0], "op_type", "aten.add.op"), "unknown op"),
    ("private", lambda ir: setattr(ir.nodes[0], "op_type", "__class__.mro.x"), "unknown op"),
    (
        "file op",
        lambda ir: setattr(ir.nodes[0], "op_type", "aten.from_file.default"),
        "conv2d.*must not open files",
    ),
    ("dangling", lambda ir: setattr(ir.nodes[1].inputs[0], "name", "gone"), "batch_norm.*gone"),
    (
        "wrong producer",
        lambda ir: setattr(ir.nodes[1].inputs[0], "producer_node", "linear"),
        "batch_norm.*linear",
    ),
    (
        "wrong producer index",
        lambda ir: setattr(ir.nodes[1].inputs[0], "producer_output_idx", 1),
        "batch_norm.*output 1",
    ),
    ("order", _swap_first_nodes, "batch_norm.*before node 'conv2d'"),
    ("cycle", _make_cycle, "conv2d.*cycle"),
    ("duplicate node", _duplicate, "conv2d.*two nodes"),
    ("duplicate output", _duplicate_output, "batch_norm.*unique"),
    ("empty name", lambda ir: setattr(ir.nodes[0], "name", ""), "empty name"),
    (
        "negative shape",
        lambda ir: setattr(ir.nodes[0].outputs[0], "shape", (1, -8)),
        r"conv2d.*dimension 1 is -8",
    ),
    (
        "float shape",
        lambda ir: setattr(ir.nodes[0].outputs[0], "shape", (float("inf"),)),
        "conv2d.*dimension 0 is inf",
    ),
    ("dtype", lambda ir: setattr(ir.nodes[0].outputs[0], "dtype", "float33"), "conv2d.*float33"),
    (
        "input shape",
        lambda ir: setattr(ir.nodes[1].inputs[0], "shape", (1, 2)),
        r"batch_norm.*\[1, 2\]",
    ),
    ("unknown argument", lambda ir: ir.nodes[0].attrs.update(color=1), "conv2d.*'color'"),
    ("missing argument", lambda ir: ir.nodes[1].attrs.pop("eps"), "batch_norm.*'eps'"),
    ("missing tensor", lambda ir: ir.nodes[0].inputs.clear(), "conv2d.*'input'"),
    ("too many tensors", lambda ir: ir.nodes[2].inputs.append(ir.nodes[2].inputs[0]), "relu.*2"),
    (
        "too many outputs",
        lambda ir: ir.nodes[0].outputs.append(TensorMeta("more", (1,), "float32")),
        "conv2d.*2 outputs",
    ),
    (
        "dtype attribute",
        lambda ir: ir.nodes.append(
            IRNode("zeros", "aten.zeros.default", [], [], {"size": [1], "dtype": "x"})
        ),
        "zeros.*unknown dtype 'x'",
    ),
    (
        "list sizes",
        lambda ir: ir.nodes.append(
            IRNode("cat", "aten.cat.default", [], [], {"_tensor_list_sizes": [-1]})
        ),
        "cat.*_tensor_list_sizes",
    ),
    (
        "list masks",
        lambda ir: ir.nodes.append(
            IRNode(
                "cat",
                "aten.cat.default",
                [],
                [],
                {"_tensor_list_sizes": [1], "_tensor_list_none_masks": [[1]]},
            )
        ),
        "cat.*_tensor_list_none_masks",
    ),
    ("getitem index", _getitem(1), "picked.*index 1"),
    ("getitem type", _getitem("0"), "picked.*index '0'"),
    ("getitem bool", _getitem(False), "picked.*index False"),
    ("output", lambda ir: setattr(ir.graph_outputs[0], "name", "gone"), "'gone'"),
    ("output shape", lambda ir: setattr(ir.graph_outputs[0], "shape", (3,)), "linear.*3"),
    ("mapping", lambda ir: ir.weight_name_mapping.update(p_gone="gone"), "p_gone.*gone"),
    ("mapping clash", lambda ir: ir.weight_name_mapping.update(x="fc.bias"), "'x'"),
    ("weight twice", lambda ir: ir.weights.append(ir.weights[0]), "weight.*twice"),
    ("input twice", lambda ir: ir.graph_inputs.append(ir.graph_inputs[0]), "input.*twice"),
    ("tied", lambda ir: ir.tied_weights.update({"fc.bias": "fc.weight"}), "fc.bias"),
]


@pytest.mark.parametrize(
    ("change", "message"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_broken_rules(valid: IR, change: Callable[[IR], object], message: str) -> None:
    ir = copy.deepcopy(valid)
    change(ir)
    with pytest.raises(ValidationError, match=message):
        validate_ir(ir)
    with pytest.raises(ValidationError):
        IRExecutor(ir)


def test_a_valid_ir(valid: IR) -> None:
    assert validate_ir(valid) is True
    assert validate_ir(valid, check_shapes=True) is True
    with pytest.raises(ValidationError, match="dict"):
        validate_ir({})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ir: ir.nodes[0].attrs.update(padding=[0, 0]), r"conv2d.*\[1, 8, 6, 6\]"),
        (lambda ir: ir.nodes[0].attrs.update(stride=[0, 0]), "conv2d.*refuses"),
        (lambda ir: ir.nodes[0].attrs.update(groups=5), "conv2d.*refuses"),
    ],
)
def test_shapes_are_derived_anew_on_request(
    valid: IR, change: Callable[[IR], object], message: str
) -> None:
    ir = copy.deepcopy(valid)
    change(ir)
    assert validate_ir(ir)
    with pytest.raises(ValidationError, match=message):
        validate_ir(ir, check_shapes=True)
