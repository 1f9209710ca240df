"""Random IRs with views, writes in place, several outputs and state, for tests of partitions."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tests.npu_compiler.ir_builder import IRBuilder

UNARY = ("relu", "sigmoid", "tanh", "neg")
# Operators of which at least some have no record, so that PyTorch has to run them.
FOREIGN = ("cumprod", "logcumsumexp")


@dataclass
class Drawn:
    """A random IR and the operators in it."""

    ir: dict[str, Any]
    op_types: list[str]


class Drawer:
    """Draws one graph over matrices of (4, 6) and what views make of them."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.b = IRBuilder()
        self.count = 0
        self.names = [self.b.input("x", 4, 6), self.b.input("y", 4, 6)]
        # Weights are read; the buffer may also be written to.
        self.weight = self.b.weight("layer.weight", 6, 6)
        self.buffer = self.b.weight("total", 4, 6)
        self.constant = self.b.constant("offset", [0.5, -0.5, 0.25, 1.0, 0.0, -1.0], [6])

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor."""
        return list(self.b.tensors[name]["shape"])

    def add(self, op: str, inputs: list[str], shape: list[int], **attrs: Any) -> str:
        """A node."""
        self.count += 1
        name = self.b.node(f"n{self.count}", f"aten.{op}", inputs, shape, **attrs)
        self.names.append(name)
        return name

    def pick(self, shape: list[int] | None = None) -> str:
        """Some tensor, of a shape if one is given; recent ones more often."""
        names = [n for n in self.names if shape is None or self.shape(n) == shape]
        return self.draw.choice(names[-6:] if self.draw.random() < 0.7 else names)

    def step(self) -> None:
        """One more node."""
        kinds = (
            self.unary,
            self.unary,
            self.binary,
            self.binary,
            self.view,
            self.view,
            self.write,
            self.write,
            self.foreign,
            self.split,
            self.matrix,
            self.state,
        )
        self.draw.choice(kinds)()

    def unary(self) -> None:
        x = self.pick()
        self.add(f"{self.draw.choice(UNARY)}.default", [x], self.shape(x))

    def foreign(self) -> None:
        x = self.pick()
        shape = self.shape(x)
        dim = self.draw.randrange(len(shape))
        self.add(f"{self.draw.choice(FOREIGN)}.default", [x], shape, dim=dim)

    def binary(self) -> None:
        x = self.pick()
        shape = self.shape(x)
        if shape[-1] == 6 and self.draw.random() < 0.2:
            self.add("add.Tensor", [x, self.constant], shape)
            return
        op = self.draw.choice(("add.Tensor", "maximum.default", "sub.Tensor"))
        self.add(op, [x, self.pick(shape)], shape)

    def view(self) -> None:
        x = self.pick()
        shape = self.shape(x)
        dim = self.draw.randrange(len(shape))
        rest = shape[:dim] + shape[dim + 1 :]
        kind = self.draw.randrange(4)
        if kind == 0 and len(shape) > 1:
            self.add("select.int", [x], rest, dim=dim, index=self.draw.randrange(shape[dim]))
        elif kind == 1 and shape[dim] > 1:
            size = shape[dim] // 2
            self.add(
                "slice.Tensor", [x], [*shape[:dim], size, *shape[dim + 1 :]], dim=dim, end=size
            )
        elif kind == 2 and len(shape) > 1:
            self.add("transpose.int", [x], [*shape[:-2], shape[-1], shape[-2]], dim0=-2, dim1=-1)
        else:
            self.add("alias.default", [x], shape)

    def write(self) -> None:
        x = self.pick()
        shape = self.shape(x)
        kind = self.draw.randrange(3)
        if kind == 0:
            self.add(f"{self.draw.choice(UNARY)}_.default", [x], shape)
        elif kind == 1:
            others = [n for n in self.names if self.shape(n) == shape and n != x]
            if others:
                self.add("add_.Tensor", [x, self.draw.choice(others)], shape)
        else:
            self.add("fill_.Scalar", [x], shape, value=0.5)

    def split(self) -> None:
        x = self.pick()
        shape = self.shape(x)
        if shape[-1] % 2:
            return
        part = [*shape[:-1], shape[-1] // 2]
        name = self.add("split.Tensor", [x], part, split_size=part[-1], dim=-1)
        self.names.remove(name)
        made = [
            {"name": f"{name}_{i}", "shape": part, "dtype": "float32", "producer_node": name}
            for i in range(2)
        ]
        made = [{**t, "producer_output_idx": i} for i, t in enumerate(made)]
        self.b.data["nodes"][-1]["outputs"] = made
        self.b.tensors.update({t["name"]: t for t in made})
        for i in range(2):
            got = self.b.node(
                f"{name}_get{i}", "<built-in function getitem>", [t["name"] for t in made], part
            )
            self.b.data["nodes"][-1]["attrs"] = {"index": i}
            self.names.append(got)

    def matrix(self) -> None:
        rows = [n for n in self.names if self.shape(n)[-1] == 6]
        x = self.draw.choice(rows)
        self.add(
            "tanh.default",
            [self.add("linear.default", [x, self.weight], self.shape(x))],
            self.shape(x),
        )

    def state(self) -> None:
        if self.draw.random() < 0.5:
            self.add("mul.Tensor", [self.buffer, self.pick([4, 6])], [4, 6])
        else:
            self.add(
                "add_.Tensor", [self.buffer, self.pick([4, 6])], [4, 6], _mutates=[self.buffer]
            )
            self.add("tanh_.default", [self.names[-1]], [4, 6], _mutates=[self.buffer])


def random_ir(seed: int, nodes: int) -> Drawn:
    """A graph of about ``nodes`` nodes with up to four outputs; inputs may be among them."""
    drawer = Drawer(seed)
    while drawer.count < nodes:
        drawer.step()
    outputs = [drawer.pick() for _ in range(drawer.draw.randint(1, 4))]
    ir = drawer.b.output(*outputs, drawer.names[-1])
    op_types = sorted({n["op_type"] for n in ir["nodes"] if n["op_type"].startswith("aten")})
    return Drawn(ir, op_types)
