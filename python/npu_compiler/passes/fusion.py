"""Fuses what follows a matrix product or convolution into its kernel: BatchNorm, addition,
activation, clamp, in this order.

A node may be fused only where nothing else sees the value between: its one reader is the fused
node, and it is no output of the graph.
"""

from __future__ import annotations

from npu_compiler.graph import BatchNorm, Epilogue, IRGraph, Node, Value
from npu_compiler.ops import find_op
from npu_compiler.ops.batch_norm import batch_norm_of
from npu_compiler.ops.conv import RECORDS as CONVOLUTIONS

_BATCH_NORM = frozenset(
    {
        "aten.batch_norm.default",
        "aten._native_batch_norm_legit_no_training.default",
        "aten.native_batch_norm.default",
    }
)
# Layers whose weight can take a BatchNorm's scale; their output channels are dimension 1 of the
# result (of a linear layer: the last).
_CONVOLUTIONS = frozenset(record.op_type for record in CONVOLUTIONS)
_FOLDS_BATCH_NORM = _CONVOLUTIONS | {"aten.linear.default"}


def fuse_epilogues(graph: IRGraph) -> None:
    """Apply every fusion that is possible, to a fixed point."""
    users = graph.users()
    outputs = set(graph.outputs)
    order: list[Node | None] = list(graph.nodes)
    position = {node: i for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        record = find_op(node.op_type)
        if record is None or record.epilogue is None or node not in position:
            continue
        while record.epilogue(node):
            value = node.output
            readers = users.get(value, [])
            if value in outputs or len(readers) != 1 or not _absorb(node, readers[0]):
                break
            reader = readers[0]
            # The fused node stands where the reader was: everything it reads is computed by then.
            order[position[node]] = None
            order[position[reader]] = node
            position[node] = position.pop(reader)
            if node.epilogue.residual is not None:
                residual_users = users[node.epilogue.residual]
                users[node.epilogue.residual] = [
                    node if user is reader else user for user in residual_users
                ]
    graph.nodes = [node for node in order if node is not None]


def _absorb(node: Node, reader: Node) -> bool:
    """Take ``reader`` into ``node``'s epilogue if that is the same computation."""
    record = find_op(reader.op_type)
    epilogue = node.epilogue
    if record is None or reader.epilogue != Epilogue():
        return False
    if reader.op_type in _BATCH_NORM:
        batch_norm = _foldable(node, reader)
        if batch_norm is None:
            return False
        epilogue.batch_norm = batch_norm
    elif reader.op_type == "aten.add.Tensor":
        residual = _residual(node, reader)
        if residual is None:
            return False
        epilogue.residual = residual
    elif record.activation is not None and reader.output.dtype == node.output.dtype:
        if epilogue.activation is not None:
            return False
        epilogue.activation = record.activation(reader.args)
    elif record.clamp is not None and reader.output.dtype == node.output.dtype:
        bounds = record.clamp(reader.args)
        if bounds is None:
            return False
        epilogue.clamp = bounds
    else:
        return False
    node.outputs = reader.outputs[:1]
    node.output.producer = node
    node.origins += reader.origins
    return True


def _foldable(node: Node, reader: Node) -> BatchNorm | None:
    """The reader's BatchNorm where it can go into ``node``'s weight and bias."""
    epilogue = node.epilogue
    if node.op_type not in _FOLDS_BATCH_NORM or reader.args["input"] is not node.output:
        return None
    if epilogue != Epilogue():
        return None
    batch_norm = batch_norm_of(reader)
    weight, bias = node.args["weight"], node.args["bias"]
    if node.output.rank != (weight.rank if node.op_type in _CONVOLUTIONS else 2):
        return None
    parameters: list[Value] = [weight, *batch_norm.parameters, *([] if bias is None else [bias])]
    if not weight.is_parameter or any(v.kind != weight.kind for v in parameters):
        return None
    return batch_norm


def _residual(node: Node, reader: Node) -> Value | None:
    """The other operand of an addition where it needs no broadcasting, conversion or scaling."""
    epilogue = node.epilogue
    if epilogue.residual is not None or epilogue.activation is not None:
        return None
    if reader.args.get("alpha", 1) != 1:
        return None
    value = node.output
    operands = [reader.args["self"], reader.args["other"]]
    others = [o for o in operands if o is not value]
    if len(others) != 1 or not isinstance(others[0], Value):
        return None
    other = others[0]
    same = other.shape == value.shape and other.dtype == value.dtype == reader.output.dtype
    return other if same and reader.output.shape == value.shape and not other.is_parameter else None


def find_fusion_groups(graph: IRGraph) -> list[tuple[str, ...]]:
    """Names of the IR nodes that become one dispatch, for every dispatch that computes more than
    one node.

    ``graph`` must have been through ``optimize_graph``.
    """
    from npu_compiler.elementwise_groups import elementwise_groups

    found = []
    groups = elementwise_groups(graph)
    for node in graph.nodes:
        nodes = groups.get(node, [node])
        names = tuple(origin for member in nodes for origin in member.origins)
        if len(names) > 1:
            found.append(names)
    return found
