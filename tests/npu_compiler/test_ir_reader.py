"""Malformed IRs: one typed error each, naming what is wrong; no other exception for any damage."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npu_compiler
from npu_compiler.errors import CompilerError, IRError, IRFileNotFoundError
from npu_compiler.ir_reader import load_ir, load_ir_from_dict
from tests.npu_compiler.ir_builder import IRBuilder, small_cnn

Edit = Callable[[dict[str, Any]], object]

MALFORMED: dict[str, tuple[Edit, str]] = {
    "no nodes": (lambda d: d.pop("nodes"), "no field 'nodes'"),
    "no inputs": (lambda d: d.pop("graph_inputs"), "no field 'graph_inputs'"),
    "nodes no list": (lambda d: d.update(nodes={}), "'nodes' must be a list"),
    "node no dict": (lambda d: d["nodes"].insert(0, 7), "node 0 must be a dict"),
    "node without name": (lambda d: d["nodes"][0].pop("name"), "name must be a string"),
    "node without op": (lambda d: d["nodes"][0].pop("op_type"), "node 'conv': op_type"),
    "attrs no dict": (lambda d: d["nodes"][0].update(attrs=[1]), "node 'conv': attrs"),
    "unknown dtype": (
        lambda d: d["graph_inputs"][0].update(dtype="float8"),
        r"graph input 0 \('x'\): unknown dtype 'float8'",
    ),
    "negative shape": (
        lambda d: d["nodes"][2]["outputs"][0].update(shape=[2, -20, 8, 8]),
        "node 'relu': output 0 .*invalid size -20",
    ),
    "shape of bools": (lambda d: d["graph_inputs"][0].update(shape=[True, 3]), "invalid size True"),
    "symbolic shape": (lambda d: d["graph_inputs"][0].update(shape=["s0", 3]), "invalid size 's0'"),
    "huge shape": (
        lambda d: d["graph_inputs"][0].update(shape=[1 << 20, 1 << 20, 64]),
        "bytes, over",
    ),
    "huge dimension": (lambda d: d["graph_inputs"][0].update(shape=[1 << 40]), "invalid size"),
    "rank too high": (lambda d: d["graph_inputs"][0].update(shape=[1] * 9), "rank 9 exceeds 8"),
    "dangling producer": (
        lambda d: d["nodes"][1]["inputs"][0].update(name="gone", producer_node="gone"),
        "node 'bn': input 0 .*'gone' is no earlier node",
    ),
    "later producer": (
        lambda d: d["nodes"].insert(0, d["nodes"].pop()),
        "node 'fc': input 0 .*'flatten' is no earlier node",
    ),
    "self reference": (
        lambda d: d["nodes"][0]["inputs"].__setitem__(
            0, {"name": "conv", "shape": [2, 20, 8, 8], "dtype": "float32", "producer_node": "conv"}
        ),
        "node 'conv'",
    ),
    "output index": (
        lambda d: d["nodes"][1]["inputs"][0].update(name="conv_9", producer_output_idx=9),
        "producer_output_idx 9 is out of range",
    ),
    "unknown tensor": (
        lambda d: d["nodes"][0]["inputs"][1].update(name="p_unknown"),
        "node 'conv': input 1 .*nothing earlier produces it",
    ),
    "wrong producer": (
        lambda d: d["nodes"][2]["inputs"][0].update(producer_node="conv"),
        "producer_node is 'conv'",
    ),
    "duplicate node": (lambda d: d["nodes"][1].update(name="conv"), "the name is used twice"),
    "duplicate tensor": (
        lambda d: d["nodes"][1]["outputs"][0].update(name="conv"),
        "the name 'conv' is used twice",
    ),
    "duplicate weight": (lambda d: d["weights"].append(d["weights"][0]), "is used twice"),
    "mapping to nothing": (
        lambda d: d["weight_name_mapping"].update(p_conv_weight="gone"),
        "neither in weights nor in constants",
    ),
    "used with another shape": (
        lambda d: d["nodes"][2]["inputs"][0].update(shape=[2, 20, 8, 9]),
        "node 'relu': input 0 .*used as float32",
    ),
    "missing argument": (
        lambda d: d["nodes"][0].update(inputs=d["nodes"][0]["inputs"][:1]),
        "node 'conv' .*'weight' is in neither",
    ),
    "unknown argument": (
        lambda d: d["nodes"][0]["attrs"].update(strides=[1, 1]),
        "node 'conv' .*no argument 'strides'",
    ),
    "too many inputs": (
        lambda d: d["nodes"][2]["inputs"].append(dict(d["nodes"][2]["inputs"][0])),
        "node 'relu' .*takes 1 tensors here",
    ),
    "output undefined": (
        lambda d: d["graph_outputs"][0].update(name="gone", producer_node="gone"),
        "graph output 0",
    ),
    "name no string": (lambda d: d["graph_inputs"][0].update(name=3), "name must be a string"),
    "source no dict": (lambda d: d["nodes"][0].update(source="here"), "node 'conv': source"),
    "surrogate": (lambda d: d["nodes"][0].update(name="\ud800"), "no valid Unicode"),
    "tied to nothing": (lambda d: d.update(tied_weights={"fc.bias": "gone"}), "tied_weights"),
    "constants no dict": (lambda d: d.update(constants=[1]), "'constants' must be a dict"),
    "constant without data": (lambda d: d.update(constants={"k": {"dtype": "float32"}}), "'k'"),
    "constant of another dtype": (
        lambda d: d.update(constants={"k": {"dtype": "int32", "data": [1.5]}}),
        "1.5 is not a value of dtype int32",
    ),
    "ragged constant": (
        lambda d: d.update(constants={"k": {"dtype": "float32", "data": [[1], [1, 2]]}}),
        "constant 'k'",
    ),
    "constant of another shape": (
        lambda d: d.update(constants={"k": {"dtype": "float32", "data": [1, 2], "shape": [3]}}),
        "do not fill shape",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name: str) -> None:
    edit, message = MALFORMED[name]
    data = small_cnn()
    edit(data)
    with pytest.raises(IRError, match=message):
        load_ir_from_dict(data)


def test_declared_shapes_are_checked() -> None:
    wrong = {"conv": [2, 20, 7, 8], "relu": [2, 20, 8], "flatten": [2, 21], "fc": [2, 11]}
    for node, shape in wrong.items():
        data = json.loads(json.dumps(small_cnn()).replace("PLACE", ""))
        index = next(i for i, n in enumerate(data["nodes"]) if n["name"] == node)
        data["nodes"] = data["nodes"][: index + 1]
        data["nodes"][index]["outputs"][0]["shape"] = shape
        data["graph_outputs"] = [data["nodes"][index]["outputs"][0]]
        with pytest.raises(CompilerError, match=f"node '{node}'"):
            npu_compiler.compile(data)


def test_files(tmp_path: Path) -> None:
    with pytest.raises(IRFileNotFoundError, match=r"nothing\.json"):
        npu_compiler.compile(tmp_path / "nothing.json")
    for name, content in (("bad.json", b"{"), ("latin.json", b"\xff\xfe"), ("list.json", b"[1]")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(IRError):
            npu_compiler.compile(str(tmp_path / name))
    with pytest.raises(IRError, match="cannot read"):
        npu_compiler.compile(tmp_path)
    with pytest.raises(IRError, match="to_dict"):
        npu_compiler.compile(42)
    good = tmp_path / "good.json"
    good.write_text(json.dumps(small_cnn()))
    assert npu_compiler.compile(good).to_bytes() == npu_compiler.compile(small_cnn()).to_bytes()


class _HasToDict:
    def to_dict(self) -> dict[str, Any]:
        return small_cnn()


def test_an_object_with_to_dict_compiles() -> None:
    assert npu_compiler.compile(_HasToDict()).model_name == "hand"


def test_json_spellings_of_attributes() -> None:
    b = IRBuilder()
    x = b.input("x", 2, 3)
    y = b.node("clamp", "aten.clamp.default", [x], [2, 3], min="-inf", max="inf")
    graph = load_ir(b.output(y))
    assert graph.nodes[0].args["min"] == -np.inf and graph.nodes[0].args["max"] == np.inf


def test_tied_weights_read_the_first_key() -> None:
    b = IRBuilder()
    x = b.input("x", 2, 4)
    first, second = b.weight("a.weight", 4, 4), b.weight("b.weight", 4, 4)
    y = b.node("l1", "aten.linear.default", [x, first], [2, 4])
    y = b.node("l2", "aten.linear.default", [y, second], [2, 4])
    data = b.output(y)
    data["tied_weights"] = {"b.weight": "a.weight"}
    program = npu_compiler.compile(data)
    assert [s.name for s in program.source_tensors] == ["a.weight"]
    assert len(program.weight_specs) == 1


def test_constants_beside_the_json(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"k": np.arange(3, dtype=np.float32)}, tmp_path / "c.safetensors")
    b = IRBuilder()
    x, k = b.input("x", 2, 3), b.constant("k", [0, 0, 0], [3])
    data = b.output(b.node("add", "aten.add.Tensor", [x, k], [2, 3]))
    data["constants"]["k"] = {"file": "c.safetensors", "dtype": "float32"}
    (tmp_path / "ir.json").write_text(json.dumps(data))
    program = npu_compiler.compile(tmp_path / "ir.json")
    assert np.frombuffer(program.constants, np.float32)[:3].tolist() == [0, 1, 2]
    for name in ("../c.safetensors", "gone.safetensors"):
        data["constants"]["k"]["file"] = name
        (tmp_path / "ir.json").write_text(json.dumps(data))
        with pytest.raises(IRError, match="constant 'k'"):
            npu_compiler.compile(tmp_path / "ir.json")


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every field and list item in nested data."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found = [path] if path else []
    for key, item in items:
        found += _places(item, (*path, key))
    return found


_JUNK: list[Any] = [
    None, True, -1, 0, 1, 3, 1 << 70, 2.5, float("nan"), "", "x", "conv", "inf", [], [1], [-1, 2],
    ["a"], [[1]], {}, {"a": 1},
]  # fmt: skip


def test_no_damage_gives_another_exception() -> None:
    """Replace or delete one random field at a time: it compiles, or there is one CompilerError."""
    generator = random.Random(7)
    original = small_cnn()
    original["nodes"].append(
        IRBuilder().node("extra", "aten.leaky_relu.default", [], [2, 10], negative_slope=0.1)
        and {
            "name": "extra",
            "op_type": "aten.leaky_relu.default",
            "inputs": [dict(original["graph_outputs"][0])],
            "outputs": [{"name": "extra", "shape": [2, 10], "dtype": "float32"}],
            "attrs": {"negative_slope": 0.1},
        }
    )
    original["graph_outputs"] = [{"name": "extra", "shape": [2, 10], "dtype": "float32"}]
    original["constants"] = {"k": {"data": [1.0], "dtype": "float32", "shape": [1]}}
    places = _places(original)
    outcomes = {True: 0, False: 0}
    for _ in range(1500):
        data = copy.deepcopy(original)
        path = generator.choice(places)
        owner = data
        for key in path[:-1]:
            owner = owner[key]
        if generator.random() < 0.2:
            del owner[path[-1]]
        else:
            owner[path[-1]] = generator.choice(_JUNK)
        try:
            npu_compiler.compile(data).to_bytes()
            outcomes[True] += 1
        except CompilerError as error:
            assert str(error)
            outcomes[False] += 1
    assert min(outcomes.values()) > 50
