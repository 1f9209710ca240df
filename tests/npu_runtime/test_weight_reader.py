"""Weights that need no computation: used in the mapped file, or read straight into their memory."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from npu_compiler.program.recipes import RecipeStep
from npu_runtime import Device, load_weights, weight_reader
from npu_runtime.dtypes import numpy_dtype
from npu_runtime.errors import FileError, WeightError
from npu_runtime.layout import Layout
from npu_runtime.tensor_files import ArraySource, SafetensorsSource, open_tensors
from npu_runtime.weight_reader import WeightReader, stored_parts
from torch_ir import extract_ir


class Gated(nn.Module):
    """Two linear layers of one input, which become one, and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(80, 64)
        self.gate = nn.Linear(64, 96, bias=False)
        self.up = nn.Linear(64, 96, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(T,) -> (T, 96)."""
        x = self.table(tokens)
        return nn.functional.silu(self.gate(x)) * self.up(x)


@functools.cache
def gated() -> tuple[CompiledProgram, dict[str, torch.Tensor]]:
    """The program in bfloat16, and its weights."""
    torch.manual_seed(0)
    model = Gated().eval().bfloat16()
    ir = extract_ir(model, (torch.zeros(4, dtype=torch.long),), model_name="gated")
    return npu_compiler.compile(ir), model.state_dict()


def bits(array: object) -> np.ndarray:
    """A bfloat16 tensor or array as its bits."""
    if isinstance(array, torch.Tensor):
        return array.contiguous().view(torch.int16).numpy()
    return np.ascontiguousarray(array).view(np.int16)


@pytest.fixture(params=["file", "shards", "arrays", "small chunks"])
def source(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> object:
    """The weights in each form."""
    _, weights = gated()
    if request.param == "arrays":
        return weights
    if request.param == "small chunks":
        monkeypatch.setattr(weight_reader, "CHUNK_BYTES", 100)
    if request.param == "shards":
        names = list(weights)
        for file, part in (("a", names[:2]), ("b", names[2:])):
            save_file({n: weights[n] for n in part}, tmp_path / f"{file}.safetensors")
        index = {n: f"{'a' if n in names[:2] else 'b'}.safetensors" for n in names}
        text = json.dumps({"weight_map": index})
        (tmp_path / "model.safetensors.index.json").write_text(text)
        return tmp_path
    save_file(weights, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_stored_weights_are_the_tensors(source: object) -> None:
    program, tensors = gated()
    merged = [r for r in program.weight_recipes if any(s.op == "append" for s in r)]
    assert len(merged) == 1, "the linear layers are meant to be merged"
    weights = load_weights(source, program, Device("cpu"))
    for spec, recipe in zip(program.weight_specs, program.weight_recipes, strict=True):
        names = [s.sources[0] for s in recipe if s.sources]
        expected = np.concatenate([bits(tensors[str(n)]) for n in names])
        np.testing.assert_array_equal(bits(weights[spec.name].to_numpy()), expected)


def test_stored_weights_are_converted_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, tensors = gated()
    wide = {name: value.float() + 1e-3 for name, value in tensors.items()}
    expected = load_weights({n: v.bfloat16() for n, v in wide.items()}, program, Device("cpu"))
    save_file(wide, tmp_path / "model.safetensors")
    for chunk in (weight_reader.CHUNK_BYTES, 1000):
        monkeypatch.setattr(weight_reader, "CHUNK_BYTES", chunk)
        done: list[int] = []
        told = done.append
        weights = load_weights(
            tmp_path, program, Device("cpu"), progress=lambda count, _, told=told: told(count)
        )
        for name, buffer in weights.items():
            np.testing.assert_array_equal(bits(buffer.to_numpy()), bits(expected[name].to_numpy()))
        assert done == sorted(done)
        assert done[-1] == weights.size_bytes


def test_a_single_tensor_stays_in_the_file_and_merged_ones_do_not(tmp_path: Path) -> None:
    program, tensors = gated()
    save_file(tensors, tmp_path / "model.safetensors")
    weights = load_weights(tmp_path, program, Device("cpu"))
    in_place = {name: not buffer.native.writable for name, buffer in weights.items()}
    assert in_place["table.weight"]
    assert sorted(in_place.values()) == [False, True]


def test_weights_that_another_program_has_made_are_taken() -> None:
    program, tensors = gated()
    made: dict = {}
    load_weights(tensors, program, Device("cpu"), made=made)
    again = load_weights(tensors, program, Device("cpu"), made=made)
    assert {id(b) for b in again.values()} <= {id(b) for b in made.values()}


LOAD = RecipeStep("load", ("a",))
APPEND = RecipeStep("append", ("b",))
CAST = RecipeStep("cast", dtype="float32")
SOURCES = ArraySource(
    {
        "a": np.zeros((4, 6), np.float32),
        "b": np.zeros((2, 6), np.float32),
        "wide": np.zeros((2, 7), np.float32),
        "half": np.zeros((2, 6), np.float16),
        "whole": np.zeros((2, 6), np.int32),
        "scalar": np.zeros((), np.float32),
    }
)


@pytest.mark.parametrize(
    ("recipe", "shape", "parts"),
    [
        ((LOAD,), (4, 6), ["a"]),
        ((LOAD, APPEND), (6, 6), ["a", "b"]),
        ((LOAD, RecipeStep("cast", dtype="float32")), (4, 6), ["a"]),
        ((LOAD, RecipeStep("reshape", args=(24,))), (24,), ["a"]),
        ((LOAD, APPEND, RecipeStep("reshape", args=(2, 3, 6))), (2, 3, 6), ["a", "b"]),
        ((RecipeStep("load", ("half",)), CAST), (2, 6), ["half"]),
        ((RecipeStep("load", ("half",)), CAST, CAST), (2, 6), ["half"]),
        ((RecipeStep("load", ("half",)), CAST, APPEND), (4, 6), None),
        ((LOAD, RecipeStep("cast", dtype="float16"), CAST), (4, 6), None),
        ((LOAD, RecipeStep("cast", dtype="int32"), CAST), (4, 6), None),
        ((RecipeStep("load", ("whole",)), CAST), (2, 6), None),
        ((LOAD, RecipeStep("cast", dtype="float16")), (4, 6), None),
        ((LOAD, RecipeStep("permute", args=(1, 0))), (6, 4), None),
        ((LOAD, RecipeStep("append", ("wide",))), (6, 6), None),
        ((LOAD, RecipeStep("append", ("half",))), (6, 6), None),
        ((LOAD, RecipeStep("append", ("scalar",))), (5, 6), None),
        ((LOAD, RecipeStep("reshape", args=(25,))), (25,), None),
        ((LOAD,), (6, 4), None),
        ((RecipeStep("load", ("half",)),), (2, 6), None),
        ((RecipeStep("zeros", args=(4, 6)),), (4, 6), None),
        ((APPEND,), (2, 6), None),
        ((), (), None),
    ],
)
def test_what_counts_as_stored(
    recipe: tuple[RecipeStep, ...], shape: tuple[int, ...], parts: list[str] | None
) -> None:
    assert stored_parts(recipe, Layout.row_major(shape, np.dtype(np.float32)), SOURCES) == parts


def test_padded_weights_are_computed() -> None:
    layout = Layout.row_major((4, 6), np.dtype(np.float32), (4, 8))
    assert stored_parts((LOAD,), layout, SOURCES) is None


def test_parts_that_do_not_join_are_a_weight_error() -> None:
    program, tensors = gated()
    broken = npu_compiler.link({"main": program})
    broken.weight_recipes = tuple(
        (*recipe, RecipeStep("append", ("wide",))) for recipe in broken.weight_recipes
    )
    with pytest.raises(WeightError, match=r"the given weights: .*does not fit behind"):
        load_weights({**tensors, "wide": torch.zeros(2, 65)}, broken, Device("cpu"), strict=False)


def test_a_file_that_shrinks_while_it_is_read_is_a_file_error(tmp_path: Path) -> None:
    _, tensors = gated()
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    source = SafetensorsSource(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 4)
    with (
        pytest.raises(
            FileError, match=r"model.safetensors: tensor '(gate|up).weight' ends at byte"
        ),
        WeightReader(source, Device("cpu"), lambda _: None) as reader,
    ):
        reader.weight(
            ["gate.weight", "up.weight"], Layout.row_major((192, 64), numpy_dtype("bfloat16"))
        )
        reader.finish()


def test_advice_changes_no_data(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    values = torch.randn(3, 40_000)
    save_file({"small": torch.ones(3), "w": values}, path)
    source = open_tensors(path)
    for name in ("small", "w"):
        source.expect(name)
        source.release(name)
    np.testing.assert_array_equal(source.get("w"), values.numpy())
