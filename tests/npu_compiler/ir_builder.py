"""Hand-made IR dicts for tests that need no torch."""

from __future__ import annotations

from typing import Any


class IRBuilder:
    """Builds an IR dict node by node; tensors are referred to by name."""

    def __init__(self) -> None:
        self.tensors: dict[str, dict[str, Any]] = {}
        self.data: dict[str, Any] = {
            "model_name": "hand",
            "pytorch_version": "2.13.0",
            "graph_inputs": [],
            "graph_outputs": [],
            "weights": [],
            "weight_name_mapping": {},
            "nodes": [],
        }

    def input(self, name: str, *shape: int, dtype: str = "float32") -> str:
        """A graph input."""
        meta = {"name": name, "shape": list(shape), "dtype": dtype}
        self.data["graph_inputs"].append(meta)
        self.tensors[name] = {**meta, "producer_node": name, "producer_output_idx": 0}
        return name

    def weight(self, key: str, *shape: int, dtype: str = "float32") -> str:
        """A weight; returns its placeholder."""
        placeholder = f"p_{key.replace('.', '_')}"
        self.data["weights"].append({"name": key, "shape": list(shape), "dtype": dtype})
        self.data["weight_name_mapping"][placeholder] = key
        self.tensors[placeholder] = {"name": placeholder, "shape": list(shape), "dtype": dtype}
        return placeholder

    def constant(self, name: str, data: Any, shape: list[int], dtype: str = "float32") -> str:
        """A lifted constant."""
        entry = {"data": data, "dtype": dtype, "shape": shape}
        self.data.setdefault("constants", {})[name] = entry
        self.data["weight_name_mapping"][f"c_{name}"] = name
        self.tensors[f"c_{name}"] = {"name": f"c_{name}", "shape": shape, "dtype": dtype}
        return f"c_{name}"

    def node(
        self,
        name: str,
        op_type: str,
        inputs: list[str],
        shape: list[int],
        dtype: str = "float32",
        **attrs: Any,
    ) -> str:
        """A node with one output named like it."""
        output = {
            "name": name,
            "shape": list(shape),
            "dtype": dtype,
            "producer_node": name,
            "producer_output_idx": 0,
        }
        self.data["nodes"].append(
            {
                "name": name,
                "op_type": op_type,
                "inputs": [dict(self.tensors[i]) for i in inputs],
                "outputs": [dict(output)],
                "attrs": attrs,
            }
        )
        self.tensors[name] = output
        return name

    def output(self, *names: str) -> dict[str, Any]:
        """Declare the outputs; returns the IR."""
        self.data["graph_outputs"] = [dict(self.tensors[n]) for n in names]
        return self.data


def small_cnn() -> dict[str, Any]:
    """conv, batch norm, relu, pool, flatten, linear."""
    b = IRBuilder()
    x = b.input("x", 2, 3, 8, 8)
    w = b.weight("conv.weight", 20, 3, 3, 3)
    norm = [b.weight(f"bn.{k}", 20) for k in ("weight", "bias", "running_mean", "running_var")]
    fw, fb = b.weight("fc.weight", 10, 20), b.weight("fc.bias", 10)
    y = b.node("conv", "aten.conv2d.default", [x, w], [2, 20, 8, 8], padding=[1, 1])
    y = b.node(
        "bn",
        "aten.batch_norm.default",
        [y, *norm],
        [2, 20, 8, 8],
        training=False,
        momentum=0.1,
        eps=1e-5,
        cudnn_enabled=True,
    )
    y = b.node("relu", "aten.relu.default", [y], [2, 20, 8, 8])
    y = b.node("pool", "aten.adaptive_avg_pool2d.default", [y], [2, 20, 1, 1], output_size=[1, 1])
    y = b.node("flatten", "aten.flatten.using_ints", [y], [2, 20], start_dim=1)
    y = b.node("fc", "aten.linear.default", [y, fw, fb], [2, 10])
    return b.output(y)
