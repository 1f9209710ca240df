"""One registered model from extraction on the meta device to verification with real numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from tests.models.base import ModelSpec
from torch_ir import (
    IR,
    TorchIRError,
    VerificationReport,
    deserialize_ir,
    extract_ir,
    serialize_ir,
    validate_ir,
    verify_ir_with_state_dict,
)

__all__ = ["BATCHES", "SEEDS", "CheckResult", "Verification", "check_model", "one_thread"]

BATCHES = (1, 3)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Verification:
    """The IR for one batch size compared with the model, with one set of weights and inputs."""

    batch: int
    seed: int
    report: VerificationReport


@dataclass
class CheckResult:
    """What became of one model.

    Attributes:
        ir: the IR for the first batch size, as read back from JSON; None if it got no further.
        error: what went wrong before verification.
    """

    spec: ModelSpec
    rtol: float
    atol: float
    ir: IR | None = None
    verifications: list[Verification] = field(default_factory=list)
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether there were verifications and all agree."""
        return self.error is None and bool(self.verifications) and not self.failures

    @property
    def failures(self) -> list[Verification]:
        """The verifications that found a difference."""
        return [found for found in self.verifications if not found.report.is_valid]

    @property
    def max_diff(self) -> float:
        """Largest absolute difference over all verifications."""
        return max((v.report.max_diff for v in self.verifications), default=float("inf"))

    @property
    def mean_diff(self) -> float:
        """Mean of the verifications' mean absolute differences."""
        found = [v.report.mean_diff for v in self.verifications]
        return sum(found) / len(found) if found else float("inf")

    @property
    def problem(self) -> str | None:
        """Why the model failed, in one line; None if it passed."""
        if self.error is not None:
            return self.error
        for found in self.failures:
            return f"batch {found.batch}, seed {found.seed}: {found.report.error_message}"
        return None if self.verifications else "nothing was verified"


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread: for small models, waiting for others takes longer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def check_model(
    spec: ModelSpec,
    rtol: float = 1e-4,
    atol: float = 1e-4,
    seeds: Sequence[int] = SEEDS,
    batches: Sequence[int] = BATCHES,
) -> CheckResult:
    """Extract a model per batch size, send its IR through JSON, and verify it once per seed.

    A failure of any step is recorded in the result, not raised.
    """
    result = CheckResult(spec, rtol, atol)
    for batch in batches:
        try:
            ir = _extract(spec, batch)
        except Exception as error:
            # A test model may fail in any way; the others are to be tested all the same.
            result.error = f"batch {batch}: {type(error).__name__}: {error}"
            return result
        result.ir = result.ir or ir
        for seed in seeds:
            model = spec.model(seed)
            inputs = spec.inputs(batch, seed)
            _, report = verify_ir_with_state_dict(ir, model.state_dict(), model, inputs, rtol, atol)
            result.verifications.append(Verification(batch, seed, report))
    return result


def _extract(spec: ModelSpec, batch: int) -> IR:
    """Return the model's IR as read back from JSON.

    Raises:
        TorchIRError: a step failed, or the IR read back is not the one written.
    """
    ir = extract_ir(spec.meta_model(), spec.meta_inputs(batch), model_name=spec.name)
    text = serialize_ir(ir)
    read = deserialize_ir(text)
    if read != ir or serialize_ir(read) != text:
        raise TorchIRError("the IR read back from JSON is not the one that was written")
    validate_ir(read, check_shapes=True)
    return read
