"""From a torch model to something that runs: extract, compile, load, bind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from npu_runtime import Device, Executor, load_weights
from npu_runtime.weight_set import WeightSet
from npu_sim.errors import UsageError
from npu_sim.extras import require

MODELS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def build_model(name: str, *, seed: int, image_size: int = 224) -> Any:
    """One of MODELS with trained-like random weights, in eval mode."""
    require("torch", f"building {name}")
    from npu_sim.models import resnet, trained_like

    if name not in MODELS:
        raise UsageError(f"no model {name!r}: choose from {', '.join(MODELS)}")
    return trained_like(getattr(resnet, name)(), seed, image_size=image_size)


def extract(model: Any, name: str, shape: Sequence[int]) -> Any:
    """The IR of an image classifier for images of ``shape`` (N, 3, H, W)."""
    torch = require("torch", "extracting an IR")
    from torch_ir import extract_ir

    return extract_ir(model, torch.zeros(tuple(shape)), model_name=name)


@dataclass(frozen=True)
class Ready:
    """A program with its weights bound on a device."""

    program: CompiledProgram
    executor: Executor
    weights: WeightSet

    @classmethod
    def of(cls, program: CompiledProgram, state_dict: Any, device: Device) -> Ready:
        """Load a program and the weights of a model (a state_dict or a safetensors path)."""
        executor = Executor(program, device)
        weights = load_weights(state_dict, program, device)
        executor.bind(weights)
        return cls(program, executor, weights)

    def logits(self, images: Any) -> Any:
        """The only output for the only input, as a numpy array of the IR's dtype."""
        outputs = self.executor.run({"input": images}, self.weights)
        return outputs["output"].to_numpy(spec=self.program.output_specs[0])


def compile_model(model: Any, name: str, shape: Sequence[int], dtype: str) -> CompiledProgram:
    """Extract and compile in one go."""
    return npu_compiler.compile(extract(model, name, shape), compute_dtype=dtype)
