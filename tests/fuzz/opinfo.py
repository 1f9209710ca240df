"""PyTorch's own operator samples, for the overloads that have a record.

    python -m tests.fuzz.opinfo [--stride N] [--offset N] [--samples N] [--dtypes float32,int64]

prints one JSON object: how many samples of each overload were compared, and the failures. A program
of its own: importing PyTorch's test utilities changes global settings of the process.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils._pytree import tree_map

from npu_compiler import get_supported_ops
from npu_compiler.errors import ConstraintError
from tests.fuzz.builder import Builder, Case, RejectedError
from tests.fuzz.check import check
from tests.fuzz.traits import UNINITIALISED, base_name
from tests.npu_compiler.harness import DEVICES
from tests.torch_ir.aten_coverage import operator_database
from torch_ir.attrs import dtype_name
from torch_ir.errors import TorchIRError

LARGEST = 50.0
# Where elements are equal, PyTorch does not say which of them is named.
ANY_PLACE = frozenset({"argsort", "kthvalue", "median", "mode", "nanmedian", "sort", "topk"})


def overloads() -> dict[str, list[str]]:
    """Overloads with a record, by the name of their operator."""
    found: dict[str, list[str]] = {}
    for op_type in sorted(get_supported_ops()):
        if base_name(op_type) not in UNINITIALISED:
            found.setdefault(base_name(op_type), []).append(op_type)
    return found


def cases(info: Any, dtype: torch.dtype, count: int) -> Iterator[tuple[str, Case]]:
    """Samples of an operator as graphs of one call, for each of its overloads that takes them."""
    names = {info.aten_name, info.name.rpartition(".")[2], *(a.name for a in info.aliases)}
    known = overloads()
    try:
        samples = list(islice(info.sample_inputs("cpu", dtype), count))
    except (RuntimeError, ImportError):
        # Some need libraries that are not here.
        return
    for sample in samples:
        arguments = (sample.input, *sample.args)
        for op_type in (o for name in sorted(names & known.keys()) for o in known[name]):
            builder = Builder()
            try:
                args, words = tree_map(
                    lambda leaf, b=builder: _operand(b, leaf), (list(arguments), sample.kwargs)
                )
                results = builder.call(op_type, args, words)
            except (RejectedError, TorchIRError):
                continue
            for value in results:
                value.exact = False
            if base_name(op_type) in ANY_PLACE:
                results = [value for value in results if value.dtype == args[0].dtype][:1]
            if results:
                yield op_type, builder.case(results)


def _operand(builder: Builder, leaf: Any) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    if leaf.layout is not torch.strided or leaf.is_complex():
        raise RejectedError("no dense real tensor")
    tensor = leaf.detach().clone(memory_format=torch.contiguous_format)
    if tensor.is_floating_point():
        tensor = tensor.clamp(-LARGEST, LARGEST).to(torch.bfloat16).to(tensor.dtype)
    return builder.input(tensor)


def _compute_dtype(dtype: torch.dtype) -> str:
    return dtype_name(dtype) if dtype in (torch.float16, torch.bfloat16) else "float32"


def run(stride: int, offset: int, count: int, dtypes: list[torch.dtype]) -> dict[str, Any]:
    """Compare samples of every ``stride``-th operator."""
    passed: Counter[str] = Counter()
    failures: dict[str, str] = {}
    for info in operator_database()[offset::stride]:
        for dtype in dtypes:
            if dtype not in info.dtypes:
                continue
            for op_type, case in cases(info, dtype, count):
                try:
                    check(case, _compute_dtype(dtype), DEVICES)
                    passed[op_type] += 1
                except ConstraintError:
                    continue
                except Exception as error:
                    label = f"{op_type} {dtype} ({info.name}.{info.variant_test_name})"
                    failures.setdefault(label, f"{type(error).__name__}: {error}\n{case.ir}")
    return {"passed": dict(sorted(passed.items())), "failures": failures}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--dtypes", default="float32,int64")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dtypes = [getattr(torch, name) for name in args.dtypes.split(",")]
    json.dump(run(args.stride, args.offset, args.samples, dtypes), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
