"""What a benchmark compares: runtimes that can run one image classifier in some precision."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from npu_sim.errors import NpuSimError, UsageError
from npu_sim.extras import install_hint, installed, require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Images = NDArray[np.float32]
    Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Workload:
    """A model (a torch.nn.Module in eval mode) and its images, float32 (N, 3, H, W)."""

    name: str
    model: Any
    images: Images
    threads: int

    def expected(self) -> Logits:
        """The logits that PyTorch computes in float32."""
        torch = require("torch", "this benchmark")
        with torch.inference_mode():
            logits: Logits = self.model(torch.from_numpy(self.images)).numpy()
        return logits


@dataclass
class Contender:
    """A model made ready: ``run`` computes and waits, ``logits`` gives its result (float32)."""

    name: str
    precision: str
    run: Callable[[], Any]
    logits: Callable[[], Logits]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What a table calls it."""
        return f"{self.name} {self.precision}"


class Peer(ABC):
    """Another runtime. Its libraries are imported when it is asked to prepare."""

    name: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]]

    def missing(self) -> list[str]:
        """Libraries that are not installed."""
        return [library for library in self.libraries if not installed(library)]

    @abstractmethod
    def version(self) -> str:
        """Version of the runtime."""

    @abstractmethod
    def prepare(self, work: Workload) -> list[Contender]:
        """The workload in each precision that the peer is good at."""


@dataclass(frozen=True)
class Absent:
    """A peer that cannot take part, and why."""

    name: str
    reason: str


def peers() -> dict[str, Peer]:
    """Every peer by name."""
    from npu_sim.bench.onnxruntime_peer import OnnxRuntimePeer
    from npu_sim.bench.openvino_peer import OpenVinoPeer
    from npu_sim.bench.torch_peer import TorchCompilePeer, TorchPeer

    return {p.name: p for p in (TorchPeer(), TorchCompilePeer(), OnnxRuntimePeer(), OpenVinoPeer())}


def choose_peers(names: Sequence[str]) -> list[Peer]:
    """Peers by name; UsageError lists those that exist."""
    known = peers()
    unknown = [n for n in names if n not in known]
    if unknown:
        raise UsageError(f"no peer {', '.join(unknown)}: choose from {', '.join(known)}")
    return [known[n] for n in dict.fromkeys(names)]


def prepare_peers(
    chosen: Sequence[Peer], work: Workload, on_done: Callable[[str], None] | None = None
) -> tuple[list[Contender], list[Absent]]:
    """Every installed peer made ready, and those that are absent with the way to install them."""
    ready: list[Contender] = []
    absent: list[Absent] = []
    for peer in chosen:
        if on_done is not None:
            on_done(peer.name)
        missing = peer.missing()
        if missing:
            absent.append(Absent(peer.name, f"not installed: {install_hint(missing[0])}"))
            continue
        try:
            ready += peer.prepare(work)
        except NpuSimError as error:
            absent.append(Absent(peer.name, str(error)))
    return ready, absent


def default_threads() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
