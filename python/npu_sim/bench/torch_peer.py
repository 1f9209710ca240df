"""PyTorch as a peer: eager in float32 and bfloat16, and compiled with Inductor."""

from __future__ import annotations

import copy
from typing import Any

from npu_sim.bench.contenders import Contender, Peer, Workload
from npu_sim.errors import NpuSimError
from npu_sim.extras import require


class TorchPeer(Peer):
    """Eager PyTorch; channels_last, which is its faster layout for convolutions."""

    name = "torch"
    libraries = ("torch",)

    def version(self) -> str:
        """PyTorch's version."""
        return str(require("torch", "this benchmark").__version__)

    def prepare(self, work: Workload) -> list[Contender]:
        """float32 and bfloat16."""
        torch = require("torch", "this benchmark")
        torch.set_num_threads(work.threads)
        return [
            self._contender(torch, work, precision, dtype)
            for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        ]

    def _contender(self, torch: Any, work: Workload, precision: str, dtype: Any) -> Contender:
        model, images = _converted(torch, work, dtype)
        return _contender(torch, self.name, precision, self._ready(torch, model, images), images)

    def _ready(self, torch: Any, model: Any, images: Any) -> Any:
        """What is called with the images."""
        return model


class TorchCompilePeer(TorchPeer):
    """PyTorch compiled with Inductor (needs a C++ compiler; compiling takes a minute)."""

    name = "torch-compile"

    def _ready(self, torch: Any, model: Any, images: Any) -> Any:
        compiled = torch.compile(model)
        try:
            with torch.inference_mode():
                compiled(images)
        except Exception as error:
            # Whatever Inductor stumbles over (no compiler, an unsupported platform) makes this
            # peer absent, by name.
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise NpuSimError(f"torch.compile failed: {reason[0]}") from error
        return compiled


def _converted(torch: Any, work: Workload, dtype: Any) -> tuple[Any, Any]:
    layout = torch.channels_last
    model = copy.deepcopy(work.model).to(dtype=dtype, memory_format=layout)
    images = torch.from_numpy(work.images).to(dtype=dtype, memory_format=layout)
    return model, images


def _contender(torch: Any, name: str, precision: str, model: Any, images: Any) -> Contender:
    last: list[Any] = [None]
    source, dtype = images.float().contiguous(), images.dtype

    def run() -> None:
        # As the others do, every run starts from float32 images in NCHW order.
        with torch.inference_mode():
            last[0] = model(source.to(dtype=dtype, memory_format=torch.channels_last))

    return Contender(name, precision, run, lambda: last[0].float().numpy())
