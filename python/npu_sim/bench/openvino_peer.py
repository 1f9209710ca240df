"""OpenVINO as a peer: its CPU plugin in bfloat16 and float32, from a model converted in memory."""

from __future__ import annotations

import warnings
from typing import Any

from npu_sim.bench.contenders import Contender, Peer, Workload
from npu_sim.extras import require


class OpenVinoPeer(Peer):
    """OpenVINO's CPU plugin, tuned for latency."""

    name = "openvino"
    libraries = ("openvino", "torch")

    def version(self) -> str:
        """OpenVINO's version."""
        return str(require("openvino", "this benchmark").__version__)

    def prepare(self, work: Workload) -> list[Contender]:
        """bfloat16 and float32, as the inference precision hint says."""
        openvino = require("openvino", "this benchmark")
        torch = require("torch", "this benchmark")
        with warnings.catch_warnings():
            # The converter traces with TorchScript, which warns of its deprecation.
            warnings.simplefilter("ignore")
            model = openvino.convert_model(work.model, example_input=torch.from_numpy(work.images))
        model.reshape(list(work.images.shape))
        return [self._contender(openvino, model, work, p) for p in ("bfloat16", "float32")]

    def _contender(self, openvino: Any, model: Any, work: Workload, precision: str) -> Contender:
        hint = {"bfloat16": openvino.Type.bf16, "float32": openvino.Type.f32}[precision]
        compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": hint,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": work.threads,
            },
        )
        request = compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(work.images, shared_memory=True))
        # What the plugin made of the hint: it falls back where the processor lacks a precision.
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        notes = {"precision_in_use": used}
        return Contender(
            self.name, precision, request.infer, lambda: request.get_output_tensor().data, notes
        )
