"""link: what entry points share, what stays apart, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from npu_compiler.errors import LinkError
from npu_compiler.program.recipes import RecipeStep
from npu_runtime import _native
from tests.npu_runtime.linked import ROWS, VOCABULARY, WIDTH, compiled, linked


class Other(nn.Module):
    """Weights of the same names as Step's, made into something else."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.key = nn.Linear(width, WIDTH, bias=False)

    def forward(
        self, tokens: torch.Tensor, slots: torch.Tensor, cache: torch.Tensor
    ) -> torch.Tensor:
        """cache (ROWS, WIDTH) -> (ROWS, WIDTH), by the transposed weight."""
        return cache @ self.key.weight[:, :WIDTH]


def test_weights_and_constants_are_shared() -> None:
    program, alone = linked(), compiled(8)
    assert [e.name for e in program.entry_points] == ["prefill", "decode"]
    assert program.weight_specs == [
        s._replace(buffer=program.weight_specs[i].buffer) for i, s in enumerate(alone.weight_specs)
    ]
    assert program.source_tensors == alone.source_tensors
    assert program.weight_name_mapping == alone.weight_name_mapping
    assert program.constants == alone.constants and len(alone.constants) > 0
    kinds = [b.kind for b in program.buffer_allocations]
    assert kinds.count("constant") == 1
    assert kinds.count("weight") == 4


def test_entry_points_have_their_own_specs() -> None:
    program = linked()
    for name, tokens in (("prefill", 8), ("decode", 1)):
        entry, alone = program.entry(name), compiled(tokens)
        assert entry.name == name
        assert [s.name for s in entry.input_specs] == ["tokens", "slots", "cache"]
        assert entry.input_specs[0].shape == (tokens,)
        assert entry.output_specs[0].shape == (VOCABULARY,)
        assert entry.output_specs[1].shape == (ROWS, WIDTH)
        assert entry.execution_plan == alone.execution_plan
        assert entry.arena_size == alone.arena_size
        assert entry.record.donors == (None, 2)
        assert json.loads(program.metadata["entries"])[name] == alone.metadata
    assert program.input_specs == program.entry("prefill").input_specs
    assert program.arena_size == max(e.arena_size for e in program.entry_points)
    assert program.metadata["copies"] == str(
        sum(int(compiled(t).metadata["copies"]) for t in (8, 1))
    )
    with pytest.raises(KeyError, match=r"no entry point 'encode'.*'prefill', 'decode'"):
        program.entry("encode")


def test_a_linked_program_survives_its_file(tmp_path: Path) -> None:
    program = linked()
    again = CompiledProgram.from_bytes(program.to_bytes())
    assert again.entry_points == program.entry_points
    assert again.kernel_calls == program.kernel_calls
    assert again.to_bytes() == program.to_bytes()
    program.save(tmp_path / "linked.npubin")
    native = _native.Program.from_file(tmp_path / "linked.npubin")
    assert [e.name for e in native.entry_points] == ["prefill", "decode"]
    program.path = None


def test_a_weight_made_otherwise_keeps_a_name_of_its_own() -> None:
    flipped = compiled(1)
    recipes = list(flipped.weight_recipes)
    recipes[1] = (*recipes[1], RecipeStep("flip", args=(0,)))
    flipped.weight_recipes = tuple(recipes)
    program = npu_compiler.link({"step": compiled(1), "other": flipped})
    names = [spec.name for spec in program.weight_specs]
    assert names == ["embed.weight", "key.weight", "key.bias", "head.weight", "other.key.weight"]
    assert program.weight_recipes[4] == recipes[1]
    assert [s.name for s in program.source_tensors].count("key.weight") == 1
    _native.Program.from_bytes(program.to_bytes())


def test_kept_tensors_are_those_of_their_entry() -> None:
    program = npu_compiler.link({"a": compiled(1), "b": compiled(8, keep=["mul"])})
    assert program.entry("a").kept == {}
    assert program.entry("b").kept == compiled(8, keep=["mul"]).kept != {}


@pytest.mark.parametrize(
    ("programs", "message"),
    [
        (lambda: {}, "a dict of entry point names and programs is needed"),
        (lambda: [compiled(1)], "a dict of entry point names and programs is needed"),
        (lambda: {"": compiled(1)}, "a non-empty string"),
        (lambda: {"a": "step.npubin"}, "'a' is a str, not a CompiledProgram"),
        (lambda: {"a": linked()}, r"'a' has 2 entry points \(\['prefill', 'decode'\]\)"),
        (
            lambda: {"a": compiled(1), "b": compiled(1, compute_dtype="bfloat16")},
            "'a' and 'b' differ in compute dtype",
        ),
        (
            lambda: {
                "a": compiled(1),
                "b": compiled(1, target=npu_compiler.TargetConfig(channel_alignment=32)),
            },
            "'a' and 'b' differ in target",
        ),
        (
            lambda: {"a": compiled(1), "b": compiled(1, Other(2 * WIDTH), donate_inputs=())},
            r"'key.weight' is float32\[64, 64\] in 'a' and float32\[64, 128\] in 'b'",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(programs: object, message: str) -> None:
    with pytest.raises(LinkError, match=message):
        npu_compiler.link(programs())  # type: ignore[operator]


def test_one_program_links_too() -> None:
    program = npu_compiler.link({"decode": compiled(1)})
    assert [e.name for e in program.entry_points] == ["decode"]
    assert program.execution_plan == compiled(1).execution_plan
    _native.Program.from_bytes(program.to_bytes())
