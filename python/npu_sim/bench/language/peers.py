"""Other runtimes of language models, by the names that benchmarks of images know them by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from npu_sim.bench.contenders import Absent
from npu_sim.bench.language.settings import Settings
from npu_sim.bench.language.stepper import Stepper
from npu_sim.errors import NpuSimError, UsageError
from npu_sim.extras import install_hint, installed


@dataclass(frozen=True)
class Peer:
    """A runtime: the libraries that it needs, and how it loads the model of a benchmark."""

    name: str
    libraries: tuple[str, ...]
    load: Callable[[Settings], Stepper]


def _torch(settings: Settings) -> Stepper:
    from npu_sim.bench.language.torch_stepper import TorchStepper

    return TorchStepper(settings)


def _torch_compile(settings: Settings) -> Stepper:
    from npu_sim.bench.language.torch_compile_stepper import TorchCompileStepper

    return TorchCompileStepper(settings)


def _openvino(settings: Settings) -> Stepper:
    from npu_sim.bench.language.openvino_stepper import OpenVinoStepper

    return OpenVinoStepper(settings)


def _llama_cpp(settings: Settings) -> Stepper:
    from npu_sim.bench.language.llama_cpp_stepper import LlamaCppStepper

    return LlamaCppStepper(settings)


_TRANSFORMERS = ("torch", "transformers")
PEERS = {
    peer.name: peer
    for peer in (
        Peer("torch", _TRANSFORMERS, _torch),
        Peer("torch-compile", _TRANSFORMERS, _torch_compile),
        Peer("openvino", ("openvino", *_TRANSFORMERS), _openvino),
        Peer("llama.cpp", ("llama_cpp", "gguf"), _llama_cpp),
    )
}


def check_names(names: Sequence[str]) -> None:
    """UsageError for a name that no peer has."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise UsageError(
            f"--against {', '.join(unknown)}: language models have the peers {', '.join(PEERS)}"
        )


def load_peers(
    settings: Settings, on_step: Callable[[str], None]
) -> tuple[list[Stepper], list[Absent]]:
    """The peers of ``settings.against`` with the model loaded, and those that cannot take part."""
    ready: list[Stepper] = []
    absent: list[Absent] = []
    for name in dict.fromkeys(settings.against):
        peer = PEERS[name]
        missing = [library for library in peer.libraries if not installed(library)]
        if missing:
            absent.append(Absent(name, f"not installed: {install_hint(missing[0])}"))
            continue
        on_step(f"loading {name}")
        try:
            ready.append(peer.load(settings))
        except NpuSimError as error:
            absent.append(Absent(name, str(error)))
    return ready, absent
