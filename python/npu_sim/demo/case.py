"""One model of the demonstration: built, compiled, stored, loaded again, compared and timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from npu_compiler.dtypes import COMPUTE
from npu_runtime import Device, Executor, NPUBuffer, Profiler, load_weights
from npu_runtime.weight_set import WeightSet
from npu_sim.agreement import Agreement, Logits, compare
from npu_sim.bench.measure import Statistics, interleave
from npu_sim.errors import UsageError
from npu_sim.extras import require
from npu_sim.pipeline import MODELS, build_model, extract
from npu_sim.summary import arena_lower_bound

# Called with a sentence on what comes next.
Step = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What is shown: models, devices, images per device, compute dtype."""

    models: tuple[str, ...]
    devices: tuple[str, ...]
    images: int
    reference_images: int
    image_size: int
    dtype: str
    rounds: int
    seed: int
    output: Path

    def __post_init__(self) -> None:
        unknown = [name for name in self.models if name not in MODELS]
        if unknown or not self.models:
            raise UsageError(f"models {unknown}: choose from {', '.join(MODELS)}")
        if self.dtype not in COMPUTE:
            raise UsageError(f"dtype {self.dtype!r}: choose from {', '.join(COMPUTE)}")
        for kind in self.devices:
            Device(kind)

    def images_for(self, device: str) -> int:
        """The reference device runs thread by thread: it gets fewer images."""
        return min(self.images, self.reference_images) if device == "reference" else self.images


# Steps that run_case reports, without those of the devices.
FIXED_STEPS = 4


@dataclass(frozen=True)
class DeviceResult:
    """Agreement of one device with PyTorch."""

    device: str
    seconds_per_image: float
    agreement: Agreement

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "device": self.device,
            "seconds_per_image": self.seconds_per_image,
            **self.agreement.to_dict(),
        }


@dataclass(frozen=True)
class CaseResult:
    """What the demonstration shows of one model. Times in milliseconds, sizes in bytes."""

    model: str
    dtype: str
    devices: tuple[DeviceResult, ...]
    latency: Statistics
    torch_latency: Statistics
    dispatches: int
    arena_bytes: int
    arena_lower_bound_bytes: int
    extract_ms: float
    compile_ms: float
    load_verify_ms: float
    read_ms: float
    weights_ms: float
    program_bytes: int

    @property
    def agrees(self) -> bool:
        """Whether every device agrees with PyTorch on every image."""
        return all(d.agreement.agrees for d in self.devices)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **asdict(self),
            "devices": [d.to_dict() for d in self.devices],
            "latency": self.latency.to_dict(),
            "torch_latency": self.torch_latency.to_dict(),
            "agrees": self.agrees,
        }


@dataclass(frozen=True)
class _Runner:
    """A program with its weights on one device, used as the usage guide shows it."""

    kind: str
    executor: Executor
    weights: WeightSet
    weights_ms: float

    @classmethod
    def open(cls, kind: str, program: CompiledProgram, weights_path: Path) -> _Runner:
        """Load everything; ``weights_ms`` is the time to read, fold, cast and repack weights."""
        device = Device(kind)
        executor = Executor(program, device)
        begin = time.perf_counter()
        weights = load_weights(weights_path, program, device)
        executor.bind(weights)
        return cls(kind, executor, weights, (time.perf_counter() - begin) * 1e3)

    def logits(self, image: Logits) -> Logits:
        """Upload, run, download."""
        program = self.executor.program
        spec = program.input_specs[0]
        buffer = NPUBuffer.from_numpy(image, self.executor.device, spec=spec)
        outputs = self.executor.run({spec.name: buffer}, self.weights)
        return outputs["output"].to_numpy(spec=program.output_specs[0])


def run_case(name: str, options: Options, step: Step) -> CaseResult:
    """Take one model through every part; files go to ``options.output``."""
    torch = require("torch", "the demonstration")
    from safetensors.torch import save_file

    from npu_sim.models import random_images

    step(f"{name}: drawing trained-like weights")
    model = build_model(name, seed=options.seed, image_size=options.image_size)
    shape = (1, 3, options.image_size, options.image_size)
    ir_path, program_path, weights_path = (
        options.output / f"{name}{suffix}" for suffix in ("_ir.json", ".npubin", ".safetensors")
    )
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, weights_path)

    step(f"{name}: extracting the IR")
    extract_ms = _milliseconds(lambda: extract(model, name, shape).save(ir_path))
    step(f"{name}: compiling")
    compiled = npu_compiler.compile(ir_path, compute_dtype=options.dtype)
    compile_ms = _median_milliseconds(
        lambda: npu_compiler.compile(ir_path, compute_dtype=options.dtype), 3
    )
    compiled.save(program_path)
    read_ms = _median_milliseconds(lambda: CompiledProgram.load(program_path), 5)
    program = CompiledProgram.load(program_path)
    load_verify_ms = _median_milliseconds(lambda: _load_and_verify(program_path), 20)

    images = random_images(options.images, options.image_size, seed=options.seed + 1)
    with torch.inference_mode():
        expected = torch.cat([model(image[None]) for image in images]).numpy()
    runners = [_Runner.open(kind, program, weights_path) for kind in options.devices]
    results = []
    for runner in runners:
        count = options.images_for(runner.kind)
        actual, seconds = [], 0.0
        for index, image in enumerate(images[:count]):
            step(f"{name} on {runner.kind}: image {index + 1} of {count}")
            begin = time.perf_counter()
            actual.append(runner.logits(image[None].numpy())[0])
            seconds += time.perf_counter() - begin
        agreement = compare(expected[:count], np.stack(actual), options.dtype)
        results.append(DeviceResult(runner.kind, seconds / count, agreement))
        if runner is runners[0]:
            _save_logits(options.output / f"{name}_logits.npz", expected, np.stack(actual))

    step(f"{name}: timing beside torch")
    first, image = runners[0], images[:1].numpy()
    profiler = Profiler(first.executor)
    profiler.run({"input": image}, first.weights)
    profiler.save_trace(options.output / f"{name}_trace.json")
    latency = _latencies(torch, model, first, image, options.rounds)
    return CaseResult(
        model=name,
        dtype=options.dtype,
        devices=tuple(results),
        latency=latency["ours"],
        torch_latency=latency["torch"],
        dispatches=len(program.kernel_calls),
        arena_bytes=program.arena_size,
        arena_lower_bound_bytes=arena_lower_bound(program),
        extract_ms=extract_ms,
        compile_ms=compile_ms,
        load_verify_ms=load_verify_ms,
        read_ms=read_ms,
        weights_ms=first.weights_ms,
        program_bytes=program_path.stat().st_size,
    )


def _latencies(
    torch: Any, model: Any, runner: _Runner, image: Logits, rounds: int
) -> dict[str, Statistics]:
    """Ours and eager float32 PyTorch's (in its faster layout), in turns."""
    eager = model.to(memory_format=torch.channels_last)
    tensor = torch.from_numpy(image)

    def run_torch() -> None:
        with torch.inference_mode():
            eager(tensor.to(memory_format=torch.channels_last))

    return interleave(
        {"ours": lambda: runner.executor.run({"input": image}, runner.weights), "torch": run_torch},
        rounds=rounds,
    )


def _load_and_verify(path: Path) -> None:
    from npu_runtime import _native

    _native.Program.from_file(path)


def _save_logits(path: Path, expected: Logits, actual: Logits) -> None:
    with path.open("wb") as file:
        np.savez(file, torch=expected, npu_sim=actual)


def _milliseconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


def _median_milliseconds(work: Callable[[], object], times: int) -> float:
    return sorted(_milliseconds(work) for _ in range(times))[times // 2]
