"""Weights: files of every kind, bad files, and weights that do not fit the IR."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.torch_ir.models import MLP, randomize
from tests.torch_ir.support import assert_same
from torch_ir import (
    IR,
    IRExecutor,
    TorchIRError,
    WeightLoadError,
    execute_ir,
    extract_ir,
    load_weights,
    load_weights_pt,
    load_weights_safetensors,
)
from torch_ir.weight_loader import validate_weights_against_ir


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in randomize(MLP()).state_dict().items()}


@pytest.fixture(scope="module")
def ir() -> IR:
    return extract_ir(randomize(MLP()), torch.randn(2, 12))


def _same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert_same(value, right[key])


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_pt(weights: dict[str, torch.Tensor], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    torch.save(weights, path)
    _same(load_weights(path), weights)
    _same(load_weights_pt(str(path)), weights)


def test_safetensors_and_shards(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "w.safetensors")
    _same(load_weights(tmp_path / "w.safetensors"), weights)
    _same(load_weights_safetensors(tmp_path / "w.safetensors"), weights)

    names = list(weights)
    shards = {name: f"part-{index % 2}.safetensors" for index, name in enumerate(names)}
    for shard in set(shards.values()):
        save_file({n: weights[n] for n in names if shards[n] == shard}, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    _same(load_weights(tmp_path), weights)
    _same(load_weights(index), weights)

    index.write_text(json.dumps({"weight_map": {**shards, "more": "part-0.safetensors"}}))
    with pytest.raises(WeightLoadError, match=r"'more'.*part-0"):
        load_weights(tmp_path)
    for content in ("[]", "{", '{"weight_map": 3}', '{"weight_map": {"a": "../x.safetensors"}}'):
        index.write_text(content)
        with pytest.raises(WeightLoadError, match=r"index\.json"):
            load_weights(tmp_path)


def test_executor_loads_files(ir: IR, weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(weights, path)
    x = torch.randn(2, 12)
    executor = IRExecutor(ir)
    executor.load_weights(path)
    expected = randomize(MLP())(x)
    assert_same(executor(x)[0], expected.detach())
    assert_same(execute_ir(ir, x, weights_path=path)[0], expected.detach())


class Evil:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('pickle ran code')",))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk" * 10,
        pickle.dumps({"a": 1}),
        pickle.dumps(Evil()),
        b"PK\x03\x04" + b"\0" * 50,
        b"\x08\0\0\0\0\0\0\0{}      ",
        b"\xff" * 8,
    ],
    ids=range(7),
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_that_are_not_weights(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    if suffix == ".safetensors" and content.endswith(b"{}      "):
        assert load_weights(path) == {}
        return
    with pytest.raises(WeightLoadError, match="bad"):
        load_weights(path)


def test_pt_with_other_things(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    for content in (Evil(), [torch.zeros(1)], {"state_dict": {}, "epoch": 3}, {1: torch.zeros(1)}):
        torch.save(content, path)
        with pytest.raises(WeightLoadError, match=r"w\.pt"):
            load_weights(path)


def test_missing_file_and_unknown_suffix(tmp_path: Path) -> None:
    for error in (FileNotFoundError, TorchIRError):
        with pytest.raises(error, match=r"gone\.pt"):
            load_weights(tmp_path / "gone.pt")
    path = tmp_path / "w.onnx"
    path.touch()
    with pytest.raises(WeightLoadError, match=r"\.onnx"):
        load_weights(path)
    with pytest.raises(WeightLoadError, match=r"index\.json"):
        load_weights(tmp_path)


def test_weights_that_do_not_fit(ir: IR, weights: dict[str, torch.Tensor]) -> None:
    assert validate_weights_against_ir(weights, ir) == []
    bad = dict(weights)
    del bad["layers.0.bias"]
    bad["layers.0.weight"] = torch.zeros(16, 13)
    bad["layers.3.weight"] = bad["layers.3.weight"].double()
    bad["layers.3.bias"] = bad["layers.3.bias"].to("meta")
    bad["other"] = torch.zeros(1)
    errors = "\n".join(validate_weights_against_ir(bad, ir))
    assert "missing weight 'layers.0.bias'" in errors
    assert "'layers.0.weight' has shape [16, 13], expected [16, 12]" in errors
    assert "'layers.3.weight' has dtype float64, expected float32" in errors
    assert "'layers.3.bias' is on the meta device" in errors
    assert "unexpected weight 'other'" in errors
    with pytest.raises(WeightLoadError, match=r"layers\.0\.bias"):
        IRExecutor(ir, weights=bad)
    with pytest.raises(WeightLoadError, match="list"):
        IRExecutor(ir, weights=[])  # type: ignore[arg-type]


def test_failed_loading_keeps_the_old_weights(ir: IR, weights: dict[str, torch.Tensor]) -> None:
    executor = IRExecutor(ir, weights=weights)
    x = torch.randn(2, 12)
    before = executor(x)[0]
    with pytest.raises(WeightLoadError):
        executor.load_weights_from_state_dict({})
    assert_same(executor(x)[0], before)
