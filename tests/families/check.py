"""Takes one family through torch_ir: extract, JSON and back, validate, execute, compare."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from npu_compiler import CompilerError, check_constraints, load_ir_from_dict
from torch_ir import (
    ExportError,
    TorchIRError,
    deserialize_ir,
    extract_ir,
    ir_to_dict,
    serialize_ir,
    validate_ir,
    verify_ir_with_state_dict,
)

from .family import Family

PASSED, BLOCKED, FAILED, SKIPPED = "passed", "not exportable", "FAILED", "skipped"


@dataclass
class Result:
    """How a family fared.

    Attributes:
        status: PASSED; BLOCKED (torch.export refuses it, as its record says); FAILED; SKIPPED (its
            library is missing).
        detail: the reason, where there is one.
        max_diff: largest difference from eager.
        npu_unsupported: nodes that the NPU cannot run, or None where the compiler rejects the IR.
        seconds: wall time of it all.
    """

    name: str
    kind: str
    model: str
    status: str
    detail: str = ""
    nodes: int = 0
    operators: int = 0
    weights: int = 0
    parameters: int = 0
    max_diff: float = 0.0
    npu_unsupported: int | None = None
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def run_family(family: Family) -> Result:
    """Check one family; failures are reported, not raised."""
    result = Result(family.name, family.kind, family.model, SKIPPED)
    missing = family.missing()
    if missing is not None:
        result.detail = missing
        return result
    start = perf_counter()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    noise = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(noise), redirect_stderr(noise):
            warnings.simplefilter("ignore")
            _check(family, result)
    except ExportError as error:
        result.status, result.detail = FAILED, _line(error)
        if family.blocked is not None and family.blocked[0] in str(error):
            result.status, result.detail = BLOCKED, ": ".join(family.blocked)
    except Exception as error:
        result.status, result.detail = FAILED, _line(error)
    result.seconds = perf_counter() - start
    return result


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


def _check(family: Family, result: Result) -> None:
    model, inputs = family.build()
    ir = extract_ir(model, inputs, model_name=family.model)
    text = serialize_ir(ir)
    read = deserialize_ir(text)
    validate_ir(read)
    result.nodes = len(read.nodes)
    result.operators = len({node.op_type for node in read.nodes})
    result.weights = len(read.weights)
    result.parameters = sum(parameter.numel() for parameter in model.parameters())
    if read != ir or serialize_ir(read) != text:
        raise TorchIRError("the IR differs after a round trip through JSON")
    try:
        result.npu_unsupported = len(check_constraints(load_ir_from_dict(ir_to_dict(read))))
    except CompilerError as error:
        result.detail = f"npu_compiler: {_line(error)}"
    valid, report = verify_ir_with_state_dict(
        read, model.state_dict(), model, inputs, family.tolerance, family.tolerance
    )
    result.max_diff = report.max_diff
    if family.blocked is not None:
        result.status, result.detail = FAILED, "exports now: remove its `blocked` reason"
    elif not valid:
        result.status, result.detail = FAILED, report.error_message or "verification failed"
    elif report.num_outputs == 0:
        result.status, result.detail = FAILED, "the model returns no tensors: nothing was compared"
    else:
        result.status = PASSED
