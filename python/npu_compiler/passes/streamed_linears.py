"""Linear layers whose weights stay where they are: one dispatch takes the RMS norm before them and
the gate behind them.

A product over packed weights is faster for many rows, but the packed form is a second copy of
the weights. With few rows nothing is packed, and every dispatch that disappears counts.
"""

from __future__ import annotations

from math import prod

from npu_compiler.graph import Epilogue, IRGraph, Node, Value
from npu_compiler.ops import find_op
from npu_compiler.ops.linear import LINEAR
from npu_compiler.ops.merged_linear import MERGED_LINEAR
from npu_compiler.ops.norm import SHIFTED_RMS_NORM, epsilon, scale_steps

_LINEAR = "aten.linear.default"
_MUL = "aten.mul.Tensor"
_RMS_NORMS = frozenset({"aten.rms_norm.default", SHIFTED_RMS_NORM})
# Up to here weights that are read once cost more than multiplying each of them a few times over.
FEW_ROWS = 4


def choose_weights_in_place(graph: IRGraph) -> None:
    """Where nobody has said whether linear layers use their weights in place: they do where all of
    them have few rows.
    """
    if graph.weights_in_place is None:
        rows = [prod(n.output.shape[:-1]) for n in graph.nodes if _is_plain(n)]
        graph.weights_in_place = max(rows, default=FEW_ROWS + 1) <= FEW_ROWS


def gate_linears(graph: IRGraph) -> None:
    """``activation(linear(x)) * linear(x)`` becomes one node."""
    if not graph.weights_in_place:
        return
    users, returned = graph.users(), set(graph.outputs)

    def feeds_only(value: Value, reader: Node) -> bool:
        return users.get(value) == [reader] and value not in returned

    gone: set[Node] = set()
    for at, node in enumerate(graph.nodes):
        if node.op_type != _MUL or node.epilogue != Epilogue():
            continue
        found = _gated(node)
        if found is None:
            continue
        gate, activation, up, name = found
        inner = (gate.output, activation), (activation.output, node), (up.output, node)
        weights = (gate.tensor("weight"), up.tensor("weight"))
        if (
            all(feeds_only(value, reader) for value, reader in inner)
            and all(len(users[weight]) == 1 for weight in weights)
            and weights[0].shape == weights[1].shape
            and gate.tensor("input") is up.tensor("input")
            and (gate.args["bias"] is None) == (up.args["bias"] is None)
        ):
            graph.nodes[at] = _linear_node(node, [gate, up], name, (gate, activation, up, node))
            gone |= {gate, activation, up}
    graph.nodes = [node for node in graph.nodes if node not in gone]


def _gated(node: Node) -> tuple[Node, Node, Node, str] | None:
    """(gate, activation, up, the activation's name) of a product of a gate and what it gates."""
    one, other = node.args["self"], node.args["other"]
    for gated, up in ((one, other), (other, one)):
        if not (isinstance(gated, Value) and isinstance(up, Value)) or gated.shape != up.shape:
            continue
        activation = gated.producer
        record = None if activation is None else find_op(activation.op_type)
        if activation is None or record is None or record.activation is None:
            continue
        gate = next(activation.inputs()).producer
        if gate is not None and _is_plain(gate) and up.producer and _is_plain(up.producer):
            same = gated.dtype == gate.output.dtype == up.dtype == node.output.dtype
            if same and node.output.shape == up.shape:
                return gate, activation, up.producer, record.activation(activation.args)
    return None


def _is_plain(node: Node) -> bool:
    """Whether the node is a linear layer of the model's own weights, with nothing fused but what
    the kernel can do.
    """
    if node.op_type != _LINEAR or node.epilogue.batch_norm is not None:
        return False
    weight, bias = node.args["weight"], node.args["bias"]
    return (
        isinstance(weight, Value)
        and weight.kind == "weight"
        and (bias is None or (isinstance(bias, Value) and bias.kind == "weight"))
        and not node.tensor("input").is_parameter
        and 0 not in weight.shape
        and node.output.numel > 0
    )


def _linear_node(
    last: Node, layers: list[Node], gate: str | None, members: tuple[Node, ...]
) -> Node:
    """The node that computes ``layers`` of one input, in the place of ``last``."""
    first = layers[0]
    if first.op_type == MERGED_LINEAR:
        weights, biases = first.args["weights"], first.args["biases"]
    else:
        weights = [layer.args["weight"] for layer in layers]
        biases = [layer.args["bias"] for layer in layers if layer.args["bias"] is not None]
    made = Node(
        last.name,
        LINEAR,
        {
            "input": first.tensor("input"),
            "norm_weight": None,
            "scale_steps": (),
            "weights": weights,
            "biases": biases,
            "eps": None,
            "gate": gate,
        },
        last.outputs,
        last.source,
        tuple(origin for member in members for origin in member.origins),
        last.epilogue,
    )
    for value in made.outputs:
        value.producer = made
    return made


def stream_linears(graph: IRGraph) -> None:
    """Linear layers (merged ones, too) become nodes of kernel ``linear``, and take an RMS norm that
    only they read.
    """
    if not graph.weights_in_place:
        return
    for at, node in enumerate(graph.nodes):
        if node.op_type == MERGED_LINEAR or _is_plain(node):
            graph.nodes[at] = _linear_node(node, [node], None, (node,))
    users, returned = graph.users(), set(graph.outputs)
    gone: set[Node] = set()
    for node in graph.nodes:
        if node.op_type != LINEAR:
            continue
        norm = node.tensor("input").producer
        if norm is None or norm.op_type not in _RMS_NORMS or norm.epilogue != Epilogue():
            continue
        x, weight = norm.tensor("input"), norm.args["weight"]
        if (
            users[norm.output] == [node]
            and norm.output not in returned
            and node.epilogue.residual is not norm.output
            and list(norm.args["normalized_shape"]) == [x.shape[-1]]
            and x.dtype == norm.output.dtype
            and not x.is_parameter
            and (weight is None or (isinstance(weight, Value) and weight.kind == "weight"))
        ):
            node.args |= {
                "input": x,
                "norm_weight": weight,
                "scale_steps": scale_steps(norm),
                "eps": epsilon(norm),
            }
            node.origins = (*norm.origins, *node.origins)
            gone.add(norm)
    graph.nodes = [node for node in graph.nodes if node not in gone]
