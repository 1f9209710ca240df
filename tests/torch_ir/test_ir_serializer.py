"""JSON round trips, and what the reader does with JSON that is wrong in any one place."""

from __future__ import annotations

import copy
import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.torch_ir.models import DeepResNet, randomize
from torch_ir import (
    IR,
    IRExecutor,
    IRSerializer,
    SerializationError,
    TorchIRError,
    ValidationError,
    deserialize_ir,
    dict_to_ir,
    extract_ir,
    ir_to_dict,
    load_ir,
    save_ir,
    serialize_ir,
)


@pytest.fixture(scope="module")
def ir() -> IR:
    return extract_ir(
        randomize(DeepResNet(channels=8, blocks=1)), torch.randn(1, 3, 8, 8), model_name="small"
    )


class Rich(nn.Module):
    """A model whose IR has every part: constants, tied weights, signature, lists, writes."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.b = nn.Linear(2, 2)
        self.b.weight = self.a.weight
        self.register_buffer("cache", torch.zeros(2, 2))

    def forward(self, pair: Any, n: int) -> Any:
        x, y = pair["x"], pair["y"]
        self.cache[0].copy_(x[0])
        x, y = torch.cat([x, y]).masked_fill(x[:1] > 0, float("-inf")).split(2)
        z = self.b(self.a(x)) + torch.tensor([1.0, 2.0]) * n
        return {"z": z, "n": n, "y": y.to(torch.bfloat16), "c": self.cache}


RICH_INPUTS = ({"x": torch.randn(2, 2), "y": torch.randn(2, 2)}, 3)


@pytest.fixture(scope="module")
def rich() -> dict[str, Any]:
    """The dict of an IR with every part."""
    found = ir_to_dict(extract_ir(randomize(Rich()), RICH_INPUTS))
    assert found.keys() >= {"constants", "tied_weights", "signature"}
    return found


def test_json_layout(ir: IR) -> None:
    data = json.loads(serialize_ir(ir))
    assert data == ir_to_dict(ir) == ir.to_dict()
    assert list(data) == [
        "format_version",
        "model_name",
        "pytorch_version",
        "graph_inputs",
        "graph_outputs",
        "weights",
        "weight_name_mapping",
        "nodes",
    ]
    assert data["model_name"] == "small"
    assert data["graph_inputs"] == [{"name": "x", "shape": [1, 3, 8, 8], "dtype": "float32"}]
    assert data["graph_outputs"] == [{"name": "linear", "shape": [1, 10], "dtype": "float32"}]
    node = data["nodes"][1]
    assert node["op_type"] == "aten.batch_norm.default"
    assert node["inputs"][0] == {
        "name": "conv2d",
        "shape": [1, 8, 8, 8],
        "dtype": "float32",
        "producer_node": "conv2d",
        "producer_output_idx": 0,
    }
    assert node["outputs"] == [{"name": "batch_norm", "shape": [1, 8, 8, 8], "dtype": "float32"}]
    assert set(node["attrs"]) == {"training", "momentum", "eps", "cudnn_enabled"}


def test_save_and_load(ir: IR, tmp_path: Path) -> None:
    ir.save(tmp_path / "a.json")
    save_ir(ir, str(tmp_path / "b.json"))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert IR.load(tmp_path / "a.json") == load_ir(tmp_path / "b.json") == ir
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json"]
    assert IR.from_dict(ir.to_dict()) == ir


def test_str_is_readable(ir: IR) -> None:
    text = str(ir)
    assert "small" in text and "conv2d: float32[1, 8, 8, 8] = aten.conv2d.default(x, " in text
    assert "nodes=" in repr(ir)


def test_attributes_survive_json_exactly() -> None:
    class Attrs(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return (
                x.masked_fill(x > 0, float("-inf")),
                x.to(torch.bfloat16, memory_format=torch.channels_last),
                torch.full((2,), float("nan"), dtype=torch.float64, device="cpu"),
                x.clone(memory_format=torch.contiguous_format),
                torch.nan_to_num(x, nan=0.1, posinf=float("inf")),
                x * complex(1.5, float("inf")),
                torch.zeros(2, layout=torch.strided),
                torch.nn.functional.gelu(x, approximate="tanh"),
                torch.div(x, 3, rounding_mode="floor"),
                x + 1e-45,
                torch.full((1,), 2**62 + 1),
                x.sum(dim=(0, -1), keepdim=True),
            )

    ir = extract_ir(Attrs().eval(), torch.randn(1, 2, 3, 3))
    read = deserialize_ir(serialize_ir(ir))
    for left, right in zip(ir.nodes, read.nodes, strict=True):
        assert repr(left.attrs) == repr(right.attrs)
    assert "NaN" not in serialize_ir(ir) and "Infinity" not in serialize_ir(ir)
    attrs = {node.op_type: node.attrs for node in read.nodes}
    assert attrs["aten.masked_fill.Scalar"] == {"value": float("-inf")}
    assert attrs["aten.gelu.default"] == {"approximate": "tanh"}


def test_the_garbage_collector_rests_while_an_ir_is_read_and_written(
    ir: IR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[bool] = []
    monkeypatch.setattr("torch_ir.serializer.validate_ir", lambda _: states.append(gc.isenabled()))
    assert gc.isenabled()
    save_ir(ir, tmp_path / "ir.json")
    load_ir(tmp_path / "ir.json")
    deserialize_ir(serialize_ir(ir))
    assert states == [False] * 4
    assert gc.isenabled()
    with pytest.raises(SerializationError):
        deserialize_ir("{")
    assert gc.isenabled()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing.json"):
        load_ir(tmp_path / "nothing.json")


def test_a_directory_is_not_an_ir(tmp_path: Path, ir: IR) -> None:
    with pytest.raises(SerializationError, match=tmp_path.name):
        load_ir(tmp_path)
    with pytest.raises(SerializationError, match="cannot write"):
        save_ir(ir, tmp_path / "no" / "such" / "dir.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "3",
        '"text"',
        "\xff\xfe",
        "[" * 100_000,
        '{"model_name": NaN}',
        "1" * 5000,
    ],
    ids=lambda text: repr(text[:8]),
)
def test_broken_json(text: str, tmp_path: Path) -> None:
    with pytest.raises(SerializationError):
        deserialize_ir(text)
    path = tmp_path / "bad.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SerializationError, match=r"bad\.json"):
        load_ir(path)


def test_an_invalid_ir_is_not_written(ir: IR, tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    save_ir(ir, path)
    kept = path.read_bytes()
    broken = copy.deepcopy(ir)
    broken.nodes[0].op_type = "aten.nothing.default"
    with pytest.raises(ValidationError):
        save_ir(broken, path)
    assert path.read_bytes() == kept
    assert [p.name for p in tmp_path.iterdir()] == ["kept.json"]


def test_serializer_without_validation(ir: IR) -> None:
    broken = copy.deepcopy(ir)
    broken.nodes[0].op_type = "mylib.unknown.default"
    loose = IRSerializer(validate=False)
    assert loose.deserialize(loose.serialize(broken)) == broken
    with pytest.raises(ValidationError, match=r"conv2d.*mylib\.unknown"):
        deserialize_ir(loose.serialize(broken))


def test_format_versions(ir: IR) -> None:
    data = ir_to_dict(ir)
    assert dict_to_ir({**data, "format_version": "1.9"}) == ir
    del data["format_version"]
    assert dict_to_ir(data) == ir
    for version in ("2.0", "0.9", "new", "", "1.x"):
        with pytest.raises(SerializationError, match="format_version"):
            dict_to_ir({**data, "format_version": version})


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a JSON structure."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += _places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += _places(item, (*path, index))
    return found


def _parent(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        data = data[key]
    return data


JUNK = (None, True, -1, 3, 1.5, "junk", [], {}, [None], {"junk": 1}, 10**30, "meta")


def test_any_one_wrong_value_is_a_typed_error_or_still_valid(rich: dict[str, Any]) -> None:
    """Every value of a file replaced by junk, or removed: a TorchIRError, or an IR that runs."""
    text = json.dumps(rich)
    weights = randomize(Rich()).state_dict()
    refused = 0
    places = _places(rich)
    for number, path in enumerate(places):
        for junk in (*JUNK[number % 3 :: 3], "remove"):
            data = json.loads(text)
            parent = _parent(data, path)
            if junk == "remove":
                del parent[path[-1]]
            else:
                parent[path[-1]] = junk
            try:
                read = dict_to_ir(data)
                serialize_ir(read)
                IRExecutor(read, weights=weights).execute(RICH_INPUTS)
            except TorchIRError:
                refused += 1
    assert refused > len(places)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("nodes"), "nodes"),
        (lambda d: d["nodes"][0].pop("name"), r"nodes\[0\].*name"),
        (lambda d: d["nodes"][0].update(inputs=3), r"conv2d.*inputs.*list"),
        (lambda d: d["nodes"][0].update(attrs=[]), r"conv2d.*attrs.*object"),
        (lambda d: d["nodes"][0]["inputs"][0].update(shape="1x3"), r"conv2d.*shape"),
        (lambda d: d["nodes"][0]["outputs"][0].update(shape=[-1, 2]), r"conv2d.*shape\[0\].*-1"),
        (lambda d: d["nodes"][0]["outputs"][0].update(shape=[1.0]), r"conv2d.*shape\[0\].*1.0"),
        (lambda d: d["nodes"][0].update(attrs={"stride": {"a": 1}}), r"conv2d.*stride"),
        (lambda d: d["weight_name_mapping"].update(p_x=3), "p_x"),
        (lambda d: d.update(model_name=None), "model_name"),
    ],
)
def test_messages_name_the_place(ir: IR, change: Any, message: str) -> None:
    data = json.loads(serialize_ir(ir))
    change(data)
    with pytest.raises(SerializationError, match=message):
        dict_to_ir(data)


@pytest.mark.parametrize(
    "constant",
    [
        {"data": [1, 2], "dtype": "nothing", "shape": [2]},
        {"data": [1, 2], "dtype": "float32", "shape": [3]},
        {"data": [1, [2]], "dtype": "float32", "shape": [2]},
        {"data": [300], "dtype": "uint8", "shape": [1]},
        {"data": [1.5], "dtype": "int64", "shape": [1]},
        {"data": [1], "dtype": "bool", "shape": [1]},
        {"data": ["x"], "dtype": "float32", "shape": [1]},
        {"data": [1.0], "dtype": "complex64", "shape": [1]},
        {"data": None, "dtype": "float32", "shape": []},
        {"data": [2**70], "dtype": "int64", "shape": [1]},
        {"data": [], "dtype": "float32", "shape": [0, 10**30]},
        {"dtype": "float32", "shape": []},
        [1, 2],
    ],
    ids=str,
)
def test_bad_constants(rich: dict[str, Any], constant: Any) -> None:
    data = copy.deepcopy(rich)
    name = next(iter(data["constants"]))
    data["constants"][name] = constant
    with pytest.raises(SerializationError, match=name):
        dict_to_ir(data)


@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.float32, torch.int64])
def test_large_constants_lie_beside_the_json(dtype: torch.dtype, tmp_path: Path) -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            table = (torch.arange(40_000).reshape(200, 200) % 7).to(dtype)
            self.register_buffer("table", table, persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(self.table > 2, x, 0.5)

    ir = extract_ir(Large().eval(), torch.randn(200))
    path = tmp_path / "large.json"
    ir.save(path)
    beside = tmp_path / "large.constants.safetensors"
    assert beside.exists() and path.stat().st_size < 4000
    entry = json.loads(path.read_text())["constants"]["table"]
    assert entry == {
        "file": beside.name,
        "key": "table",
        "dtype": str(dtype).removeprefix("torch."),
        "shape": [200, 200],
    }
    read = load_ir(path)
    assert read == ir and torch.equal(read.constants["table"], ir.constants["table"])
    with pytest.raises(SerializationError, match=r"table.*load the IR from its file"):
        deserialize_ir(path.read_text())
    text = path.read_text()
    for old, new in (
        (beside.name, "../large.constants.safetensors"),
        (beside.name, "gone.safetensors"),
        ('"key": "table"', '"key": "chair"'),
        ("[200, 200]", "[200, 201]"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(SerializationError, match="table"):
            load_ir(path)
    beside.write_bytes(b"junk")
    path.write_text(text)
    with pytest.raises(SerializationError, match=r"large\.json.*table"):
        load_ir(path)
