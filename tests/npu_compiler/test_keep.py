"""``compile(keep=...)``: tensors inside of a model are returned, and nothing else changes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from tests.npu_compiler.harness import (
    Function,
    execute,
    images,
    ir_of,
    open_device,
    to_numpy,
    trained_like,
)
from tests.npu_compiler.test_models import Mobile


def names(ir: dict[str, object]) -> list[str]:
    return [t["name"] for node in ir["nodes"] for t in node["outputs"]]  # type: ignore[index,attr-defined]


def calls(program: CompiledProgram) -> list[tuple[str, object]]:
    """What the program computes, without the copies of what it keeps."""
    own = [c for c in program.kernel_calls if not c.name.removesuffix(".padding").endswith(".kept")]
    return [(c.kernel_name, c.params.get("code")) for c in own]


def test_kept_tensors_change_nothing_else() -> None:
    torch.manual_seed(0)
    module, x = trained_like(Mobile()), images(2, 3, 17, 18)
    ir = ir_of(module, [x])
    plain = npu_compiler.compile(ir, compute_dtype="float32")
    kept = npu_compiler.compile(ir, compute_dtype="float32", keep=names(ir), check=True)
    assert calls(kept) == calls(plain) and kept.arena_size == plain.arena_size
    assert plain.kept == {} and len(kept.kept) >= 10
    assert [s.name for s in kept.output_specs[:1]] == [s.name for s in plain.output_specs]
    # Fused away, so that there is nothing to keep.
    assert "conv2d" not in kept.kept.values() and "hardswish" in kept.kept.values()

    state = {k: to_numpy(v) for k, v in module.state_dict().items()}
    inputs = {kept.input_specs[0].name: x.numpy()}
    for device in ("cpu", "reference"):
        (alone,) = execute(plain, inputs, state, open_device(device))
        beside, *_ = execute(kept, inputs, state, open_device(device))
        assert np.array_equal(alone, beside)


def test_kept_tensors_are_what_they_were_before_they_are_overwritten() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = F.max_pool2d(x, 2).sigmoid()
        z = y + 1
        z[:, 1] = 7
        return z.flatten(1).sum(1)

    x = images(2, 3, 6, 6)
    ir = ir_of(Function(forward), [x])
    program = npu_compiler.compile(ir, compute_dtype="float32", keep=names(ir))
    results = execute(program, {program.input_specs[0].name: x.numpy()}, {}, open_device("cpu"))
    found = dict(zip([s.name for s in program.output_specs], results, strict=True))
    added = next(found[label] for label, name in program.kept.items() if name == "add")
    assert np.allclose(added, F.max_pool2d(x, 2).sigmoid().numpy() + 1, atol=1e-6)
