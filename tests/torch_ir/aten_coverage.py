"""Runs PyTorch's own operator samples through the IR: extract, JSON, execute, compare with eager.

    python -m tests.torch_ir.aten_coverage [--stride N] [--dtypes float32,int64]
    python -m tests.torch_ir.aten_coverage --write docs/torch-ir

prints one JSON object: the ATen overloads covered, the failures, and the samples skipped with the
reason; or writes the page of operators, which takes minutes. It is a program of its own because
importing PyTorch's test utilities changes global settings of the process.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import logging
import sys
import types
import unittest
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tests.torch_ir.operator_table import english, korean
from torch_ir import (
    IR,
    ConversionError,
    ExportError,
    IRExecutor,
    deserialize_ir,
    extract_ir,
    serialize_ir,
    validate_ir,
)
from torch_ir.aliasing import shared_registers
from torch_ir.plan import make_plan, result_tensors

# What they return is memory as it was found.
UNINITIALISED = {
    "empty",
    "empty_like",
    "empty_permuted",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
}
# The seed that PyTorch's samples of random operators use themselves.
SEED = 42
# Dtypes of the samples that the documentation lists.
WRITTEN_DTYPES = ["float32", "int64", "bool", "complex64"]


def operator_database() -> list[Any]:
    """Return PyTorch's table of operators with sample inputs."""
    if "expecttest" not in sys.modules:
        # Only its base class is needed, and only for tests that are not run here.
        stand_in = types.ModuleType("expecttest")
        stand_in.TestCase = unittest.TestCase  # type: ignore[attr-defined]
        sys.modules["expecttest"] = stand_in
    from torch.testing._internal.common_methods_invocations import op_db

    return list(op_db)


class Sample(torch.nn.Module):
    """An operator with all arguments that are not tensors filled in."""

    def __init__(self, function: Callable[..., Any], arguments: Any) -> None:
        super().__init__()
        leaves, self.spec = pytree.tree_flatten(arguments)
        self.function = function
        self.fixed = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self.is_tensor = [isinstance(leaf, torch.Tensor) for leaf in leaves]
        self.tensors = tuple(leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor))

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        leaves = [
            next(given) if tensor else value
            for tensor, value in zip(self.is_tensor, self.fixed, strict=True)
        ]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.function(*args, **kwargs)


def first_sample(info: Any, dtype: torch.dtype) -> Any:
    """Return an operator's first sample input."""
    samples = iter(info.sample_inputs("cpu", dtype))
    try:
        return next(samples)
    finally:
        # Left to the garbage collector, it would run on in the middle of somebody's tracing.
        if isinstance(samples, types.GeneratorType):
            samples.close()


def check_aliases(ir: IR, inputs: tuple[torch.Tensor, ...]) -> None:
    """Check that no operator returns an operand's memory unless the executor expects it to."""
    plan = make_plan(ir)
    registers: list[Any] = [None] * len(plan.registers)
    for placeholder, key in ir.weight_name_mapping.items():
        registers[plan.registers[placeholder]] = ir.constants[key].clone()
    for register, tensor in zip(plan.inputs, inputs, strict=True):
        registers[register] = tensor.clone()
    for step in plan.steps:
        args, kwargs = step.operands(registers)
        results = result_tensors(step.op(*args, **kwargs))
        memory = {value.untyped_storage()._cdata for value in results}
        expected = shared_registers(plan, step, {})
        for register in step.reads():
            operand = registers[register]
            if operand.untyped_storage()._cdata in memory and register not in expected:
                raise AssertionError(f"{step.node.op_type} returns memory of an operand")
        for register, value in zip(step.outputs, results, strict=True):
            registers[register] = value


def check_sample(model: Sample) -> list[str]:
    """Compare a sample's IR with eager mode; return the operators of the IR."""
    inputs = model.tensors
    kept = copy.deepcopy(inputs)
    torch.manual_seed(SEED)
    with torch.no_grad():
        expected = pytree.tree_leaves(model(*copy.deepcopy(inputs)))
    ir = extract_ir(model, inputs)
    read = deserialize_ir(serialize_ir(ir))
    if read != ir:
        raise AssertionError("the IR changes when it is written and read")
    validate_ir(read, check_shapes=True)
    torch.manual_seed(SEED)
    outputs = IRExecutor(read).execute(inputs)
    tensors = [leaf for leaf in expected if isinstance(leaf, torch.Tensor)]
    torch.testing.assert_close(outputs, tuple(tensors), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(inputs, kept, rtol=0, atol=0, equal_nan=True)
    check_aliases(read, inputs)
    return [node.op_type for node in ir.nodes]


def run(stride: int, offset: int, dtypes: list[torch.dtype]) -> dict[str, Any]:
    """Check one sample per operator, in-place variant and dtype."""
    covered: set[str] = set()
    skipped: dict[str, str] = {}
    failures: dict[str, str] = {}
    for info in operator_database()[offset::stride]:
        if info.name in UNINITIALISED:
            continue
        variants = {info.name: info.op, f"{info.name}_": info.inplace_variant}
        for (label, function), dtype in itertools.product(variants.items(), dtypes):
            if function is None or dtype not in info.dtypes:
                continue
            name = f"{label}.{info.variant_test_name}[{dtype}]"
            try:
                sample = first_sample(info, dtype)
                model = Sample(function, ((sample.input, *sample.args), sample.kwargs)).eval()
                with torch.no_grad():
                    model(*copy.deepcopy(model.tensors))
            except Exception as error:
                skipped[name] = f"eager mode fails: {str(error).splitlines()[:1]}"
                continue
            try:
                covered.update(check_sample(model))
            except (ExportError, ConversionError) as error:
                skipped[name] = str(error)
            except Exception as error:
                failures[name] = f"{type(error).__name__}: {error}"
    return {"covered": sorted(covered), "failures": failures, "skipped": skipped}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--dtypes", default="float32")
    parser.add_argument("--write", type=Path, help="write operators.md and .ko.md to this folder")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = WRITTEN_DTYPES if args.write is not None else args.dtypes.split(",")
    result = run(args.stride, args.offset, [getattr(torch, name) for name in names])
    if args.write is None:
        json.dump(result, sys.stdout, indent=1)
        return
    for file, page in (("operators.md", english), ("operators.ko.md", korean)):
        (args.write / file).write_text(page(result, names), encoding="utf-8")
    for name, reason in result["failures"].items():
        print(f"{name}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
