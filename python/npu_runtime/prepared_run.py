"""PreparedRun: a run whose buffers are resolved once, for steps that repeat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_runtime.buffer import NPUBuffer
from npu_runtime.names import NamedOutputs

if TYPE_CHECKING:
    from npu_runtime import _native
    from npu_runtime.executor import DispatchTimes
    from npu_runtime.loaded_program import LoadedProgram


class PreparedRun:
    """An executor's run with fixed buffers, made by ``Executor.prepare``.

    Write new values into ``inputs`` (``inputs["input_ids"].write(array)``), call ``run``, read
    ``outputs``: the same buffers each time, whose content the next run replaces. A repeated run
    allocates nothing. Buffers are used as they are: do not run two of them that share buffers at
    the same time.
    """

    def __init__(
        self,
        loaded: LoadedProgram,
        entry: int,
        weights: Mapping[str, NPUBuffer],
        inputs: NamedOutputs[NPUBuffer],
        outputs: NamedOutputs[NPUBuffer],
    ) -> None:
        self._loaded = loaded
        self._entry = entry
        self._weights = weights
        self._inputs = inputs
        self._outputs = outputs
        self._changes = -1
        self._call = self._resolved()

    @property
    def inputs(self) -> NamedOutputs[NPUBuffer]:
        """The input buffers by name; aliases are found too."""
        return self._inputs

    @property
    def outputs(self) -> NamedOutputs[NPUBuffer]:
        """The output buffers by name; their content is that of the last run."""
        return self._outputs

    def run(self) -> NamedOutputs[NPUBuffer]:
        """Run once and wait: ``outputs``."""
        if self._changes != NPUBuffer.changes:
            self._call = self._resolved()
        self._call.run()
        return self._outputs

    def run_profiled(self) -> tuple[NamedOutputs[NPUBuffer], DispatchTimes]:
        """As ``run``, and when each dispatch began and ended."""
        if self._changes != NPUBuffer.changes:
            self._call = self._resolved()
        return self._outputs, self._call.run(profile=True) or []

    def _resolved(self) -> _native.Call:
        """The native call; a change of a weight makes it anew, with weights packed again."""
        self._changes = NPUBuffer.changes
        return self._loaded.executable.prepare(
            self._loaded.binding(self._weights),
            self._entry,
            [buffer.native for buffer in self._inputs.values()],
            [buffer.native for buffer in self._outputs.values()],
        )
