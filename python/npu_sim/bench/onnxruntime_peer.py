"""ONNX Runtime as a peer: float32 on its CPU provider, from a model exported in memory."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from npu_sim.bench.contenders import Contender, Peer, Workload
from npu_sim.extras import require


class OnnxRuntimePeer(Peer):
    """ONNX Runtime with all graph optimisations. (Its CPU provider has no fast half precision.)"""

    name = "onnxruntime"
    libraries = ("onnxruntime", "onnx", "onnxscript", "torch")

    def version(self) -> str:
        """ONNX Runtime's version."""
        return str(require("onnxruntime", "this benchmark").__version__)

    def prepare(self, work: Workload) -> list[Contender]:
        """float32."""
        runtime = require("onnxruntime", "this benchmark")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = work.threads
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        session = runtime.InferenceSession(
            onnx_bytes(work), options, providers=["CPUExecutionProvider"]
        )
        feed = {session.get_inputs()[0].name: work.images}
        last: list[Any] = [None]

        def run() -> None:
            last[0] = session.run(None, feed)

        return [Contender(self.name, "float32", run, lambda: last[0][0])]


def onnx_bytes(work: Workload) -> bytes:
    """The model as a serialised ONNX graph."""
    torch = require("torch", "ONNX export")
    images = torch.from_numpy(work.images)
    # The exporter remarks on its own deprecations and on torchvision's absence.
    remarks = logging.getLogger("torch.onnx")
    level = remarks.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        remarks.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(work.model, (images,), dynamo=True, verbose=False)
        finally:
            remarks.setLevel(level)
    model: bytes = program.model_proto.SerializeToString()
    return model
