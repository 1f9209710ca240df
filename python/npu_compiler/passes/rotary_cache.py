"""What a decoder layer does between its projections and attention, in one dispatch: rotary
embeddings of queries and keys, and keys and values put into rows of their caches.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from npu_compiler.fusions.parts import ATTENTION, RESHAPE
from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.ops import find_op
from npu_compiler.ops.eager_attention import EAGER_ATTENTION
from npu_compiler.ops.position_attention import POSITION_ATTENTION
from npu_compiler.ops.rotary import ROTARY
from npu_compiler.ops.rotary_cache import ROTARY_CACHE
from npu_compiler.passes.same_values import is_view, same_value

_ATTENTION = frozenset({ATTENTION, POSITION_ATTENTION})
_INDEX_COPY = "aten.index_copy.default"
_RESHAPE = frozenset(RESHAPE.split())
_TRANSPOSE = frozenset({"aten.transpose.int"})


@dataclass(frozen=True)
class _Turned:
    """A rotary embedding of a whole head or of its first part: what is turned, the tables, the
    result, and the nodes in between.
    """

    x: Value
    cos: Value
    sin: Value
    output: Value
    nodes: tuple[Node, ...]


def fuse_rotary_cache(graph: IRGraph) -> None:
    """Fuse around every attention node whose keys and values come from caches updated alike."""
    users = graph.users()
    outputs = set(graph.outputs)
    gone: set[Node] = set()
    added: dict[Node, Node] = {}
    for attention in graph.nodes:
        found = _fused(attention, users, outputs, gone)
        if found is None:
            continue
        node, members = found
        gone.update(members)
        added[members[-1]] = node
        for index, value in enumerate(node.outputs):
            value.producer, value.index = node, index
    if added:
        graph.nodes = [
            added.get(node, node) for node in graph.nodes if node not in gone or node in added
        ]
        _sort(graph)


def _fused(
    attention: Node, users: dict[Value, list[Node]], outputs: set[Value], gone: set[Node]
) -> tuple[Node, list[Node]] | None:
    """The fused node and those that it replaces, for an attention node."""
    if attention.op_type in _ATTENTION:
        names = ("query", "key", "value")
    elif attention.op_type == EAGER_ATTENTION:
        names = ("query", "keys", "value")
    else:
        return None
    query, key, value = (attention.tensor(name) for name in names)
    q = _turned(query)
    puts = [_through_views(v) for v in (key, value)]
    if q is None or any(p is None or p.op_type != _INDEX_COPY or p in gone for p in puts):
        return None
    put_k, put_v = (p for p in puts if p is not None)
    form = _form(put_k)
    if put_k is put_v or form is None or form != _form(put_v):
        return None
    found = _turned_keys(put_k.tensor("source"), form)
    if found is None:
        return None
    k, path = found
    alike = (
        same_value(put_k.tensor("index"), put_v.tensor("index"))
        and same_value(q.cos, k.cos)
        and same_value(q.sin, k.sin)
    )
    members = list(dict.fromkeys((*q.nodes, *k.nodes, *path, put_k, put_v)))
    inside = {*members, attention}
    between = [n.output for n in (*q.nodes, *k.nodes, *path)]
    private = all(
        v not in outputs and inside.issuperset(users.get(v, ())) for v in between
    ) and users.get(q.output) == [attention]
    if not (alike and private):
        return None
    arguments = {
        "q": q.x,
        "k": k.x,
        "v": put_v.tensor("source"),
        "cos": q.cos,
        "sin": q.sin,
        "slots": put_k.tensor("index"),
        "k_cache": put_k.tensor("self"),
        "v_cache": put_v.tensor("self"),
    }
    node = Node(
        put_v.name,
        ROTARY_CACHE,
        arguments,
        [q.output, put_k.output, put_v.output],
        put_k.source,
        tuple(o for member in members for o in member.origins),
    )
    record = find_op(ROTARY_CACHE)
    made = {output for member in members for output in member.outputs}
    if record is None or record.reason(node) is not None or made.intersection(node.inputs()):
        return None
    return node, members


def _through_views(value: Value) -> Node | None:
    """The node that computes what ``value`` is a view of."""
    node = value.producer
    while node is not None and is_view(node):
        node = next(node.inputs()).producer
    return node


def _form(node: Node) -> int | None:
    """The rank of the caches that rows are put into: 3 for (rows, heads, size), 4 for (batch,
    heads, rows, size); None where something else is replaced.
    """
    rank, dim = node.output.rank, node.args["dim"]
    rows = {3: 0, 4: 2}.get(rank)
    known = rows is not None and dim in (rows, rows - rank) and node.tensor("index").rank == 1
    return rank if known else None


def _turned(value: Value) -> _Turned | None:
    """The rotary embedding that ``value`` is, whole or with the rest of the head behind it."""
    node = value.producer
    if node is None or value.rank != 4:
        return None
    if node.op_type == ROTARY:
        tables = (node.tensor("cos"), node.tensor("sin"))
        if any(2 * table.shape[-1] != value.shape[-1] for table in tables):
            return None
        return _Turned(node.tensor("x"), *tables, value, (node,))
    if node.op_type != "aten.cat.default" or node.args["dim"] not in (-1, 3):
        return None
    parts = node.args["tensors"]
    if len(parts) != 2 or not all(isinstance(part, Value) for part in parts):
        return None
    first, rest = _turned(parts[0]), parts[1]
    if first is None or len(first.nodes) != 1:
        return None
    size = parts[0].shape[-1]
    if rest.numel == 0 and first.output.shape == value.shape:
        nodes = () if rest.producer is None else (rest.producer,)
        return _Turned(first.x, first.cos, first.sin, value, (*first.nodes, *nodes, node))
    low, high = first.x.producer, rest.producer
    whole = _sliced(low, 0, size)
    if (
        low is None
        or high is None
        or whole is None
        or whole is not _sliced(high, size, value.shape[-1])
    ):
        return None
    if whole.shape != value.shape:
        return None
    return _Turned(whole, first.cos, first.sin, value, (low, *first.nodes, high, node))


def _sliced(node: Node | None, start: int, end: int) -> Value | None:
    """x for x[..., start:end]."""
    if node is None or node.op_type != "aten.slice.Tensor":
        return None
    x = node.tensor("self")
    size = x.shape[-1]
    if node.args["dim"] not in (-1, x.rank - 1) or node.args["step"] != 1:
        return None
    first, last = node.args["start"] or 0, node.args["end"]
    last = size if last is None else min(last, size)
    bounds = tuple(n + size if n < 0 else n for n in (first, last))
    return x if bounds == (start, end) else None


def _turned_keys(source: Value, form: int) -> tuple[_Turned, tuple[Node, ...]] | None:
    """The turned keys that ``source`` puts into a cache, and the nodes in between."""
    if form == 3:
        return _turned_tokens(source)
    turned = _turned(source)
    return None if turned is None else (turned, ())


def _turned_tokens(source: Value) -> tuple[_Turned, tuple[Node, ...]] | None:
    """The turned keys (b, g, t, d) that ``source`` (b * t, g, d) has as rows, and the nodes that
    bring them into that form.
    """
    reshape = source.producer
    if reshape is None or reshape.op_type not in _RESHAPE or source.rank != 3:
        return None
    tokens = reshape.tensor("self")
    transpose = tokens.producer
    if transpose is None or transpose.op_type not in _TRANSPOSE or tokens.rank != 4:
        return None
    if {transpose.args["dim0"] % 4, transpose.args["dim1"] % 4} != {1, 2}:
        return None
    turned = _turned(transpose.tensor("self"))
    if turned is None or source.shape != (tokens.shape[0] * tokens.shape[1], *tokens.shape[2:]):
        return None
    return turned, (transpose, reshape)


def _sort(graph: IRGraph) -> None:
    """Producers before readers, otherwise in the order that there is."""
    position = {node: at for at, node in enumerate(graph.nodes)}
    needs: dict[Node, int] = {}
    readers: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        producers = {v.producer for v in node.inputs() if v.producer is not None}
        needs[node] = len(producers)
        for producer in producers:
            readers.setdefault(producer, []).append(node)
    ready = [position[node] for node, count in needs.items() if count == 0]
    heapify(ready)
    order: list[Node] = []
    while ready:
        node = graph.nodes[heappop(ready)]
        order.append(node)
        for reader in readers.get(node, ()):
            needs[reader] -= 1
            if needs[reader] == 0:
                heappush(ready, position[reader])
    graph.nodes = order
