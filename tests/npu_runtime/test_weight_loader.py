"""load_weights: every kind of source, and a clear error for each kind of wrong weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from npu_runtime import Device, Executor, load_weights
from npu_runtime.errors import FileError, NpuError, WeightError
from npu_runtime.tensor_files import INDEX_NAME
from tests.npu_runtime.programs import small_net


@pytest.fixture
def device() -> Device:
    """Recipes run on the host: one device is enough here."""
    return Device("reference")


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    """The weights of the small network as PyTorch users save them."""
    path = tmp_path / "model.safetensors"
    save_file(small_net().state_dict, path)
    return path


def logits(weights, device: Device) -> np.ndarray:
    case = small_net()
    outputs = Executor(case.program, device).run({"input": case.inputs[0]}, weights)
    return outputs["output"].to_numpy()


def test_sources_give_the_same_weights(device: Device, weights_file: Path) -> None:
    case = small_net()
    expected = logits(load_weights(case.state_dict, case.program, device), device)
    sources = (
        weights_file,
        str(weights_file),
        weights_file.parent,
        {k: v.numpy() for k, v in case.state_dict.items()},
    )
    for source in sources:
        weights = load_weights(source, case.program, device)
        np.testing.assert_array_equal(logits(weights, device), expected)
        assert list(weights) == [spec.name for spec in case.program.weight_specs]


def test_shards(device: Device, tmp_path: Path) -> None:
    case = small_net()
    names = list(case.state_dict)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({n: case.state_dict[n] for n in part}, tmp_path / file)
    places = {name: file for file, part in halves.items() for name in part}
    (tmp_path / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    expected = logits(load_weights(case.state_dict, case.program, device), device)
    for source in (tmp_path, tmp_path / INDEX_NAME):
        weights = load_weights(source, case.program, device)
        np.testing.assert_array_equal(logits(weights, device), expected)


def test_a_file_may_hold_another_floating_dtype(device: Device, tmp_path: Path) -> None:
    case = small_net()
    half = {k: v.half() if v.is_floating_point() else v for k, v in case.state_dict.items()}
    save_file(half, tmp_path / "half.safetensors")
    weights = load_weights(tmp_path / "half.safetensors", case.program, device)
    result = logits(weights, device).astype(np.float32)
    np.testing.assert_allclose(result, case.expected[0], rtol=2e-2, atol=2e-2)


def test_bfloat16_weights_of_a_bfloat16_program(device: Device, tmp_path: Path) -> None:
    case = small_net("bfloat16")
    brain = {k: v.bfloat16() if v.is_floating_point() else v for k, v in case.state_dict.items()}
    save_file(brain, tmp_path / "brain.safetensors")
    weights = load_weights(tmp_path / "brain.safetensors", case.program, device)
    outputs = Executor(case.program, device).run({"input": case.inputs[0]}, weights)
    result = outputs["output"].to_numpy("float32")
    np.testing.assert_allclose(result, case.expected[0], rtol=6e-2, atol=6e-2)


def test_progress_is_told(device: Device) -> None:
    case = small_net()
    seen: list[tuple[int, int]] = []
    weights = load_weights(
        case.state_dict, case.program, device, progress=lambda done, of: seen.append((done, of))
    )
    total = weights.size_bytes
    assert {of for _, of in seen} == {total}
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (total, total)


def without(name: str):
    return lambda sd: {k: v for k, v in sd.items() if k != name}


BAD_TENSORS = {
    "missing": (without("fc.bias"), "missing 'fc.bias'"),
    "extra": (lambda sd: {**sd, "head.weight": torch.zeros(3)}, "unknown 'head.weight'"),
    "shape": (
        lambda sd: {**sd, "fc.weight": torch.zeros(10, 9)},
        r"'fc.weight' has shape \[10, 9\], not \[10, 8\]",
    ),
    "too large": (
        lambda sd: {**sd, "conv1.weight": torch.zeros(80, 30, 3, 3)},
        r"'conv1.weight' has shape \[80, 30, 3, 3\]",
    ),
    "dtype": (
        lambda sd: {**sd, "fc.weight": torch.zeros(10, 8, dtype=torch.int32)},
        "'fc.weight' has dtype int32, not float32",
    ),
    "all of it": (
        lambda sd: {"a": torch.zeros(1), "fc.bias": torch.zeros(2)},
        r"missing 'conv1.weight', .*; 'fc.bias' has shape \[2\].*unknown 'a'",
    ),
}


@pytest.mark.parametrize("bad", BAD_TENSORS)
@pytest.mark.parametrize("as_file", [False, True])
def test_tensors_that_do_not_fit(
    device: Device, tmp_path: Path, bad: str, as_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = small_net()
    make, message = BAD_TENSORS[bad]
    source = make(case.state_dict)
    if as_file:
        save_file(source, tmp_path / "w.safetensors")
        source = tmp_path / "w.safetensors"
        message = f"{source.name}.*{message}"

    def uploads_nothing(*_args: object) -> None:
        raise AssertionError("something was uploaded before the check")

    monkeypatch.setattr("npu_runtime.weight_loader._upload", uploads_nothing)
    with pytest.raises(WeightError, match=message) as raised:
        load_weights(source, case.program, device)
    assert "\n" not in str(raised.value)


def test_extra_tensors_may_be_allowed(device: Device) -> None:
    case = small_net()
    more = {**case.state_dict, "head.weight": torch.zeros(3)}
    assert load_weights(more, case.program, device, strict=False)
    assert load_weights({**case.state_dict, "bn9.num_batches_tracked": 1}, case.program, device)


def truncated(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-5])
    return path


def renamed(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


BAD_FILES = {
    "absent": (lambda p: p.with_name("nothing.safetensors"), "no such file"),
    "truncated": (truncated, "not a safetensors file, or a damaged one"),
    "text": (lambda p: (p.write_text("not weights at all"), p)[1], "not a safetensors file"),
    "empty": (lambda p: (p.write_bytes(b""), p)[1], "not a safetensors file"),
    "header of a huge size": (
        lambda p: (p.write_bytes(b"\xff" * 8 + b"{}"), p)[1],
        "not a safetensors file",
    ),
    "PyTorch's format": (lambda p: renamed(p, "model.pt"), "save_file.*torch.load"),
    "directory without weights": (lambda p: (p.unlink(), p.parent)[1], "0 other safetensors files"),
    "directory in PyTorch's format": (
        lambda p: renamed(p, "pytorch_model.bin").parent,
        "pytorch_model.bin: PyTorch's own format",
    ),
    "index that is no index": (
        lambda p: ((p.parent / INDEX_NAME).write_text("[1]"), p.parent)[1],
        "not an index",
    ),
    "index with a missing shard": (
        lambda p: (
            (p.parent / INDEX_NAME).write_text('{"weight_map": {"a": "none.safetensors"}}'),
            p.parent,
        )[1],
        "none.safetensors: no such file, but model.safetensors.index.json says.*in part",
    ),
    "index with a wrong place": (
        lambda p: (
            (p.parent / INDEX_NAME).write_text('{"weight_map": {"a": "model.safetensors"}}'),
            p.parent,
        )[1],
        "'a' is not in model.safetensors",
    ),
    "shard outside of the folder": (
        lambda p: (
            (p.parent / INDEX_NAME).write_text('{"weight_map": {"a": "../x.safetensors"}}'),
            p.parent,
        )[1],
        "outside the folder",
    ),
}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_files_that_are_no_weights(device: Device, weights_file: Path, bad: str) -> None:
    make, message = BAD_FILES[bad]
    source = make(weights_file)
    with pytest.raises(FileError, match=message) as raised:
        load_weights(source, small_net().program, device)
    assert isinstance(raised.value, (NpuError, OSError))
    assert "\n" not in str(raised.value)


def test_a_source_of_another_type(device: Device) -> None:
    with pytest.raises(WeightError, match="type int"):
        load_weights(3, small_net().program, device)
    with pytest.raises(NpuError, match=r"'fc.bias'.*not an array"):
        load_weights({**small_net().state_dict, "fc.bias": "x"}, small_net().program, device)
