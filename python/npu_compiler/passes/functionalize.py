"""Makes in-place operators functional, with PyTorch's aliasing: a later read of the target, or of
any view of the same memory, sees the new content.

Values that share memory have a root and a chain of views from it. A write makes a new version of
the root (through a
view: the root with the view's elements replaced); reads of older views are taken anew from the
    current version.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.ops import find_op, functional_name
from npu_compiler.ops.scatter import SCATTER_VIEW
from npu_compiler.torch_memory import TorchMemory


@dataclass(slots=True)
class _Root:
    """The current content of some memory: how often it was written and the value that holds it."""

    value: Value
    version: int = 0
    # (value, version) -> the value that shows the same elements in that version.
    seen: dict[tuple[Value, int], Value] = field(default_factory=dict)


@dataclass(slots=True)
class _Alias:
    """How a value reaches its root: its parent and the view node (None: the very same elements)."""

    parent: Value
    node: Node | None
    index: int
    version: int


class _Functionalizer:
    def __init__(self, graph: IRGraph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.roots: dict[Value, _Root] = {}
        self.aliases: dict[Value, _Alias] = {}
        # Tells reshapes that are views from those that copy.
        self.memory = TorchMemory()

    def root_of(self, value: Value) -> _Root:
        while value in self.aliases:
            value = self.aliases[value].parent
        return self.roots.setdefault(value, _Root(value))

    def current(self, value: Value) -> Value:
        """The value that shows what ``value``'s memory holds now."""
        root = self.root_of(value)
        alias = self.aliases.get(value)
        if alias is None:
            return root.value
        if alias.version == root.version:
            return value
        key = (value, root.version)
        if key not in root.seen:
            parent = self.current(alias.parent)
            root.seen[key] = parent if alias.node is None else self._again(alias, parent)
        return root.seen[key]

    def _again(self, alias: _Alias, parent: Value) -> Value:
        """The view of ``alias`` taken from another parent."""
        old = alias.node
        if old is None:
            return parent
        name = f"{old.name}.{len(self.nodes)}"
        args = {k: parent if v is next(old.inputs()) else v for k, v in old.args.items()}
        node = Node(name, old.op_type, args, source=old.source, origins=old.origins)
        node.outputs = [
            Value(f"{v.name}.{len(self.nodes)}", v.shape, v.dtype, "node", None, node, v.index)
            for v in old.outputs
        ]
        self.nodes.append(node)
        return node.outputs[alias.index]

    def run(self) -> None:
        for node in self.graph.nodes:
            originals = list(node.inputs())
            node.replace_inputs({v: self.current(v) for v in dict.fromkeys(originals)})
            record = find_op(node.op_type)
            functional = functional_name(node.op_type)
            written = functional is not None and record is not None and record.op_type == functional
            if written and functional is not None:
                node.op_type = functional
                content = _copied(node)
                if content is None:
                    self.nodes.append(node)
                self._write(node, originals[0], content)
                continue
            self.nodes.append(node)
            # The operand that the node had before the current content took its place.
            if originals and self.memory.is_view(node, originals[0]):
                step = node if find_view(node) else None
                for output in node.outputs:
                    self._alias(output, originals[0], step)
        self.graph.outputs = [self.current(v) for v in self.graph.outputs]
        self.graph.nodes = self.nodes

    def _alias(self, output: Value, source: Value, node: Node | None) -> None:
        version = self.root_of(source).version
        self.aliases[output] = _Alias(source, node, output.index, version)

    def _write(self, node: Node, target: Value, content: Value | None) -> None:
        """``node`` has computed the new content of ``target``, or ``content`` is it."""
        root = self.root_of(target)
        chain: list[tuple[Node, int]] = []
        at = target
        while at in self.aliases:
            alias = self.aliases[at]
            if alias.node is not None:
                chain.append((alias.node, alias.index))
            at = alias.parent
        result = node.output if content is None else content
        if not any(find_view(step) for step, _ in chain):
            root.value = result
        else:
            root.value = self._scatter(node, at, root.value, result, chain[::-1])
        root.version += 1
        root.seen[(target, root.version)] = result
        # A node that only copies is gone: its result is always read from the target.
        known = root.version if content is None else root.version - 1
        self.aliases[node.output] = _Alias(target, None, 0, known)
        self.memory.alias(node.output, target)

    def _scatter(
        self,
        writer: Node,
        original: Value,
        base: Value,
        part: Value,
        chain: list[tuple[Node, int]],
    ) -> Value:
        steps = [(step, index) for step, index in chain if find_view(step)]
        name = f"{writer.name}.base"
        node = Node(
            name,
            SCATTER_VIEW,
            {
                "self": base,
                "part": part,
                "chain": steps,
                "strides": self.memory.view(original).strides,
            },
            source=writer.source,
            origins=writer.origins,
        )
        node.outputs = [Value(name, base.shape, base.dtype, "node", None, node, 0)]
        self.nodes.append(node)
        return node.output


def _copied(node: Node) -> Value | None:
    """What a copy_ writes, where that needs no broadcast and no cast."""
    if node.op_type != "aten.copy.default":
        return None
    target, source = node.args["self"], node.args["src"]
    both = isinstance(target, Value) and isinstance(source, Value)
    same = both and (target.shape, target.dtype) == (source.shape, source.dtype)
    return source if same else None


def find_view(node: Node) -> bool:
    """Whether the node is a view operator (and not an identity)."""
    record = find_op(node.op_type)
    return record is not None and record.view is not None


def functionalize(graph: IRGraph) -> None:
    """Replace in-place operators by functional ones; see the module's text."""
    if any(functional_name(node.op_type) is not None for node in graph.nodes):
        _Functionalizer(graph).run()
