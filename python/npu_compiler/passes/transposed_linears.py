"""Linear layers written as ``addmm`` between reshapes, as GPT-2's with their transposed weights:
``view(addmm(bias, view(x), weight))`` becomes a linear layer of x, so that what follows it (an
activation, an addition) can be a part of its dispatch.
"""

from __future__ import annotations

from npu_compiler.fusions.parts import RESHAPE
from npu_compiler.graph import IRGraph, Node, Value

_ADDMM = "aten.addmm.default"
_RESHAPE = frozenset(RESHAPE.split())


def use_transposed_linears(graph: IRGraph) -> None:
    """Replace every such expression that nobody else reads a part of."""
    users = graph.users()
    outputs = set(graph.outputs)
    nodes: list[Node] = []
    gone: set[Node] = set()
    for node in graph.nodes:
        found = _product(node, users, outputs)
        if found is None:
            nodes.append(node)
            continue
        product, x = found
        weight = product.tensor("mat2")
        turned = Node(
            f"{product.name}.weight", "aten.t.default", {"self": weight}, [], product.source
        )
        k, n = weight.shape
        turned.outputs = [Value(turned.name, (n, k), weight.dtype, "node", None, turned)]
        layer = Node(
            product.name,
            "aten.linear.default",
            {
                "input": x,
                "weight": turned.output,
                "bias": product.tensor("self"),
            },
            node.outputs,
            product.source,
            (*product.origins, *node.origins),
        )
        node.output.producer = layer
        nodes += [turned, layer]
        gone.add(product)
    graph.nodes = [node for node in nodes if node not in gone]


def _product(
    node: Node, users: dict[Value, list[Node]], outputs: set[Value]
) -> tuple[Node, Value] | None:
    """The addmm that ``node`` shows in the shape of what it multiplies, and that."""
    if node.op_type not in _RESHAPE:
        return None
    product = node.tensor("self").producer
    if product is None or product.op_type != _ADDMM or product.output in outputs:
        return None
    rows, weight = product.tensor("mat1").producer, product.tensor("mat2")
    if rows is None or rows.op_type not in _RESHAPE or users.get(product.output) != [node]:
        return None
    bias, x = product.tensor("self"), rows.tensor("self")
    plain = product.args["alpha"] == product.args["beta"] == 1
    known = weight.is_parameter and bias.is_parameter and bias.shape == weight.shape[1:]
    fits = x.shape[-1:] == weight.shape[:1] and node.output.shape == (*x.shape[:-1], *bias.shape)
    return (product, x) if plain and known and fits else None
