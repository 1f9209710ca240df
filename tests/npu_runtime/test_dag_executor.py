"""DAGExecutor against PyTorch: boundaries, dtypes, weights, state, errors, threads."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import npu_compiler
from npu_compiler import is_op_supported, partition
from npu_compiler.errors import UnsupportedOpError
from npu_runtime import (
    CpuBackend,
    DAGExecutor,
    Device,
    Executor,
    MetalBackend,
    ReferenceBackend,
    available_devices,
    execute_cpu_partition,
    load_weights,
)
from npu_runtime.convert import as_array
from npu_runtime.dag_segments import NpuSegment, Values
from npu_runtime.errors import (
    ArgumentError,
    DeviceUnavailableError,
    FileError,
    SegmentError,
    WeightError,
)
from tests.npu_compiler.ir_builder import IRBuilder
from tests.npu_runtime.programs import SmallNet
from torch_ir import extract_ir

# Relative to the largest magnitude: float16 and bfloat16 through a few layers.
TOLERANCE = {"float32": 4e-3, "float16": 4e-3, "bfloat16": 4e-2}


def without(*op_types: str) -> Callable[[str, Mapping[str, Any]], bool]:
    """A callback that keeps some operators off the NPU."""
    return lambda op_type, attrs: op_type not in op_types and is_op_supported(op_type, attrs)


# For these tests the NPU lacks an operator that it has, so that graphs are cut where they say so.
LACKING = without("aten.cumprod.default")


class Mixed(nn.Module):
    """Convolution, then an operator that the NPU lacks, then a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 20, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(20)
        self.fc = nn.Linear(20, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 10)."""
        x = torch.relu(self.norm(self.conv(x)))
        x = x + torch.fft.fft2(x).abs() * 0.01
        return self.fc(x.mean((2, 3)))


def prepared(
    module: nn.Module, *inputs: torch.Tensor, support: Any = LACKING, **options: Any
) -> tuple[DAGExecutor, dict[str, Any]]:
    """A DAGExecutor of a module with its weights, and the arrays of its inputs."""
    module = module.eval()
    ir = json.loads(json.dumps(extract_ir(module, inputs).to_dict()))
    executor = DAGExecutor(partition(ir, support, **options), CpuBackend())
    executor.load_weights(module.state_dict())
    names = [t["name"] for t in ir["graph_inputs"]]
    return executor, {n: as_array(t, n) for n, t in zip(names, inputs, strict=True)}


def compare(actual: np.ndarray, expected: torch.Tensor) -> None:
    """Same shape and dtype; values within the dtype's tolerance."""
    assert tuple(actual.shape) == tuple(expected.shape)
    dtype = str(expected.dtype).removeprefix("torch.")
    assert str(actual.dtype) == dtype
    if dtype not in TOLERANCE:
        np.testing.assert_array_equal(actual, expected.numpy())
        return
    wanted = expected.detach().double().numpy()
    scale = max(np.abs(wanted).max(initial=0), 1e-3)
    assert np.abs(actual.astype(np.float64) - wanted).max(initial=0) <= TOLERANCE[dtype] * scale


def check(
    module: nn.Module, *inputs: torch.Tensor, support: Any = LACKING, **options: Any
) -> DAGExecutor:
    """Run twice and compare every output with PyTorch's."""
    executor, arrays = prepared(module, *inputs, support=support, **options)
    with torch.no_grad():
        expected = module(*(t.clone() for t in inputs))
    expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
    for _ in range(2):
        results = executor.execute(arrays)
        assert len(results) == len(expected)
        for actual, wanted in zip(results.values(), expected, strict=True):
            compare(actual, wanted)
    return executor


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, *args: torch.Tensor) -> Any:
        """What the function returns."""
        return self.function(*args)


def trained(module: nn.Module) -> nn.Module:
    """BatchNorm statistics away from 0 and 1."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return module.eval()


@pytest.mark.parametrize("mode", ["consecutive", "cost"])
def test_mixed_model(mode: str) -> None:
    torch.manual_seed(0)
    executor = check(trained(Mixed()), torch.randn(2, 3, 12, 12), mode=mode)
    if mode == "consecutive":
        assert [p.target for p in executor.plan.partitions] == ["npu", "cpu", "npu"]


def test_a_whole_model_is_one_segment_with_the_executors_results() -> None:
    torch.manual_seed(0)
    model, x = trained(SmallNet()), torch.randn(2, 3, 12, 12)
    executor, arrays = prepared(model, x)
    (segment,) = executor.segments
    assert isinstance(segment, NpuSegment)
    device = Device("cpu")
    program = npu_compiler.compile(extract_ir(model, (x,)))
    weights = load_weights(model.state_dict(), program, device)
    direct = Executor(program, device).run(arrays, weights)
    (spec,) = program.output_specs
    results = executor.execute(arrays)
    np.testing.assert_array_equal(results["output"], direct[spec.name].to_numpy(spec=spec))
    assert results["logits"] is results[spec.name] and results["output"].dtype == np.float32


def test_everything_on_the_cpu_is_exact() -> None:
    torch.manual_seed(0)
    model, x = trained(Mixed()), torch.randn(2, 3, 12, 12)
    executor, arrays = prepared(model, x, support=lambda op_type, attrs: False)
    assert [p.target for p in executor.plan.partitions] == ["cpu"]
    with torch.no_grad():
        np.testing.assert_array_equal(executor.execute(arrays)["output"], model(x).numpy())


def test_cpu_segments_of_a_float32_model_compute_in_float32() -> None:
    """The NPU's activations are half precision; PyTorch's weights and results are not."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(16, 16)
            self.second = nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> Any:
            y = torch.relu(self.first(x))
            return y, self.second(y) * 1e-4 + 1

    support = without("aten.linear.default", "aten.mul.Tensor", "aten.add.Tensor")
    executor, arrays = prepared(Net(), torch.randn(4, 16), support=support)
    results = list(executor.execute(arrays).values())
    assert all(array.dtype == np.float32 for array in results)
    # float16 has no value between 1 and 1.001.
    assert ((results[1] != 1) & (np.abs(results[1] - 1) < 4e-4)).any()


@pytest.mark.parametrize("support", [without("aten.relu.default"), without("aten.linear.default")])
def test_bfloat16(support: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)).to(torch.bfloat16)
    executor = check(net, torch.randn(4, 16).to(torch.bfloat16), support=support)
    assert {type(s).__name__ for s in executor.segments} == {"NpuSegment", "CpuSegment"}


def test_segments_keep_the_models_compute_dtype() -> None:
    """A segment of float32 tensors of a bfloat16 model has no weights to tell it so."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.fc(x).to(torch.float32).cumprod(1)
            return y * 1.0001 + 0.0001

    torch.manual_seed(0)
    model = Net().to(torch.bfloat16)
    support = without("aten.cumprod.default", "aten.to.dtype")
    executor = check(model, torch.randn(2, 16).to(torch.bfloat16), support=support)
    last = executor.segments[-1]
    assert isinstance(last, NpuSegment)
    assert last.program.compute_dtype == "bfloat16"
    assert [s.storage_dtype for s in last.program.output_specs] == ["float32"]


def test_dtypes_cross_the_boundary_unchanged() -> None:
    def forward(x: torch.Tensor, ids: torch.Tensor) -> Any:
        mask = x > 0
        wide = ids.cumsum(0)
        return mask.cumsum(1) > 1, wide + 1, ids, torch.where(mask, x, x * 2), mask

    ids = torch.tensor([2**40 + 1, -(2**33), 7])
    check(Function(forward), torch.randn(3, 4), ids)
    check(Function(forward), torch.randn(3, 4), ids, support=without("aten.gt.Scalar"))


def test_several_outputs_of_a_node_cross_the_boundary() -> None:
    def forward(x: torch.Tensor) -> Any:
        a, b, c = torch.split(x * 2, [1, 2, 3], 1)
        values, indices = torch.sort(b.cumprod(1), 1)
        return a.cumprod(0) + 1, values * 2, indices, c

    for support in (is_op_supported, without("aten.split_with_sizes.default", "aten.sort.default")):
        check(Function(forward), torch.randn(4, 6, 3, 3), support=support)


def test_constants_reach_their_segments() -> None:
    def forward(x: torch.Tensor) -> Any:
        first = x + torch.tensor([1.0, 2.0, 3.0])
        second = first.cumprod(1) * torch.tensor([0.5, 0.25, 2.0])
        third = second + torch.tensor([[True], [False]])
        return third * torch.tensor(3), torch.tensor([7, 8])

    for support in (is_op_supported, without("aten.add.Tensor"), without("aten.mul.Tensor")):
        check(Function(forward), torch.randn(2, 3), support=support)


def test_inputs_returned_and_outputs_twice() -> None:
    def forward(x: torch.Tensor, y: torch.Tensor) -> Any:
        z = x * 2
        w = z.cumprod(0)
        return x, z, z, w, w, y, w.view(-1), w.T

    x = torch.randn(3, 4)
    executor = check(Function(forward), x, torch.arange(3))
    arrays = dict(zip(executor.input_names, (x.numpy(), np.arange(3)), strict=True))
    results = list(executor.execute(arrays).values())
    for i, one in enumerate(results):
        assert not any(np.shares_memory(one, other) for other in results[i + 1 :])
        assert not any(np.shares_memory(one, array) for array in arrays.values())


def test_weights_returned_as_they_are() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3))

        def forward(self, x: torch.Tensor) -> Any:
            return self.weight, x.cumprod(0) @ self.weight

    check(Net(), torch.randn(2, 3))


def test_no_nodes_at_all() -> None:
    b = IRBuilder()
    executor = DAGExecutor(partition(b.output(b.input("x", 2, 3, dtype="int64"))), "cpu")
    x = np.arange(6, dtype=np.int64).reshape(2, 3)
    result = executor.execute({"x": x})["x"]
    np.testing.assert_array_equal(result, x)
    assert not np.shares_memory(result, x)


def _read_view_after_write(x: torch.Tensor) -> Any:
    y = x.cumprod(0)
    row = y[1]
    y[:, :2].mul_(3)
    return row + 1, y * 2


def _write_then_read_old_name(x: torch.Tensor) -> Any:
    y = x * 2
    before = y.cumprod(1)
    y.relu_()
    return y.cumprod(1) + before


def _write_through_unsupported_view(x: torch.Tensor) -> Any:
    y = x * 2
    y.unfold(0, 2, 1)[0].fill_(5.0)
    return y + 1


def _write_to_input(x: torch.Tensor) -> Any:
    x.mul_(2)
    z = x.cumprod(0)
    x.add_(1)
    return z, x, x[0]


def _chain_of_writes(x: torch.Tensor) -> Any:
    y = x + 0
    a = y.add_(1)
    b = a.cumprod(0)
    c = y.mul_(b)
    return a + 0, b, c.cumprod(1), y


@pytest.mark.parametrize(
    "function",
    [
        _read_view_after_write,
        _write_then_read_old_name,
        _write_through_unsupported_view,
        _write_to_input,
        _chain_of_writes,
    ],
    ids=lambda f: f.__name__.strip("_"),
)
@pytest.mark.parametrize("mode", ["consecutive", "cost"])
@pytest.mark.parametrize(
    "cpu", [(), ("aten.mul.Tensor",), ("aten.relu_.default", "aten.mul_.Tensor")]
)
def test_writes_in_place(function: Any, mode: str, cpu: tuple[str, ...]) -> None:
    support = without("aten.cumprod.default", *cpu)
    # float32: the sums cancel, so that a rounding of the input shows.
    options = {"mode": mode, "compute_dtype": "float32"}
    check(Function(function), torch.randn(3, 4), support=support, **options)


class Counting(nn.Module):
    """A running sum in a buffer, with something unsupported behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(3))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(3,) -> (3,)."""
        self.total.add_(x)
        self.steps.add_(1)
        return (self.total * 2).cumprod(0) + self.steps


@pytest.mark.parametrize("cpu", [(), ("aten.add_.Tensor",), ("aten.mul.Tensor",)])
def test_buffers_keep_their_state_from_run_to_run(cpu: tuple[str, ...]) -> None:
    model = Counting().eval()
    ir = extract_ir(model, (torch.zeros(3),))
    fresh = {k: v.clone() for k, v in Counting().state_dict().items()}
    executor = DAGExecutor(partition(ir, without(*cpu)), CpuBackend())
    executor.load_weights(fresh)
    draw = torch.Generator().manual_seed(0)
    for restart in range(2):
        model = Counting().eval()
        for _ in range(3):
            x = torch.randn(3, generator=draw)
            results = executor.execute({executor.input_names[0]: x})
            compare(next(iter(results.values())), model(x))
        assert all(torch.equal(v, torch.zeros_like(v)) for v in fresh.values())
        if not restart:
            executor.load_weights(fresh)


def test_what_npu_segments_hand_on_stays_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(x: torch.Tensor) -> Any:
        y = x * 2
        z = F.relu(y).cumprod(0)
        return y + x.cumprod(1) + z

    executor, arrays = prepared(Function(forward), torch.randn(3, 4))
    fetched: list[str] = []
    original = Values.on_host
    monkeypatch.setattr(Values, "on_host", lambda s, n: (fetched.append(n), original(s, n))[1])
    executor.execute(arrays)
    assert "mul" not in fetched and any(name.startswith("relu") for name in fetched)


def test_narrow_images_pass_between_npu_segments() -> None:
    """An input of few channels lies in planes, a result of few channels does not."""

    def forward(x: torch.Tensor) -> Any:
        y = F.relu(x * 2)
        return y.cumprod(1) + 1, (y * 3 + x).cumprod(2)

    check(Function(forward), torch.randn(2, 5, 6, 6), mode="consecutive")


def test_intermediates_are_freed_after_their_last_use() -> None:
    def forward(x: torch.Tensor) -> Any:
        for _ in range(4):
            x = (x + 1).cumprod(0)
        return x

    executor, arrays = prepared(Function(forward), torch.randn(3, 4))
    sizes: list[int] = []
    for segment in executor.segments:
        run = segment.run

        def counted(values: Values, run: Any = run) -> None:
            run(values)
            sizes.append(len(values.host.keys() | values.device.keys()))

        segment.run = counted  # type: ignore[method-assign]
    executor.execute(arrays)
    assert len(sizes) == 8 and max(sizes) == 2


def test_weights_are_on_the_device_once() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.fc(x).cumprod(0))

    executor, _ = prepared(Net(), torch.randn(2, 8))
    npu = [s for s in executor.segments if isinstance(s, NpuSegment)]
    first, second = (next(iter(s.weights.values())) for s in npu)
    assert first is second


def test_every_source_of_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = trained(Mixed()), torch.randn(1, 3, 8, 8)
    state = model.state_dict()
    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "model.pt")
    shards = tmp_path / "shards"
    shards.mkdir()
    halves = [dict(list(state.items())[i::2]) for i in range(2)]
    for i, half in enumerate(halves):
        save_file(half, shards / f"{i}.safetensors")
    index = {name: f"{i}.safetensors" for i, half in enumerate(halves) for name in half}
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    executor, arrays = prepared(model, x)
    expected = executor.execute(arrays)["output"]
    sources: list[Any] = [
        tmp_path / "model.safetensors",
        str(tmp_path / "model.pt"),
        shards,
        {k: v.numpy() for k, v in state.items()},
    ]
    for source in sources:
        executor.load_weights(source)
        np.testing.assert_array_equal(executor.execute(arrays)["output"], expected)
    # Half-precision weights of a float32 model: PyTorch's segments convert them.
    executor.load_weights({k: v.half() if v.is_floating_point() else v for k, v in state.items()})
    executor.execute(arrays)


def test_wrong_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    executor, arrays = prepared(trained(Mixed()), torch.randn(1, 3, 8, 8))
    state = trained(Mixed()).state_dict()
    plan = executor.plan
    fresh = DAGExecutor(plan, CpuBackend())
    assert fresh.needs_weights
    with pytest.raises(WeightError, match="call load_weights first"):
        fresh.execute(arrays)
    missing = {k: v for k, v in state.items() if k != "fc.weight"}
    with pytest.raises(WeightError, match=r"missing 'fc.weight'"):
        executor.load_weights(missing)
    with pytest.raises(WeightError, match=r"unknown 'other'"):
        executor.load_weights({**state, "other": torch.zeros(1)})
    executor.load_weights({**state, "other": torch.zeros(1)}, strict=False)
    with pytest.raises(WeightError, match=r"'fc.weight' has shape \[1, 20\], not \[10, 20\]"):
        executor.load_weights({**state, "fc.weight": torch.zeros(1, 20)})
    with pytest.raises(FileError, match="no such file"):
        executor.load_weights(tmp_path / "none.safetensors")
    with pytest.raises(FileError, match=r"none\.pt"):
        executor.load_weights(tmp_path / "none.pt")


def test_wrong_inputs() -> None:
    executor, arrays = prepared(
        Function(lambda x, i: (x.cumprod(0) * 2, i + 1)), torch.randn(2, 3), torch.arange(3)
    )
    first, second = executor.input_names
    for inputs, message in (
        ({}, "missing"),
        ({**arrays, "z": arrays[first]}, "unknown 'z'"),
        ({**arrays, first: np.zeros((3, 2), np.float32)}, r"shape \[3, 2\] given, \[2, 3\]"),
        ({**arrays, second: np.zeros(3, np.float32)}, "float32 does not convert to int64"),
        ([1], "give a dict"),
    ):
        with pytest.raises(ArgumentError, match=message):
            executor.execute(inputs)  # type: ignore[arg-type]
    named = {"input_0": arrays[first].astype(np.float64), "input_1": arrays[second].astype(np.int8)}
    np.testing.assert_array_equal(list(executor.execute(named).values())[1], arrays[second] + 1)


def test_a_failing_node_is_named_with_its_segment() -> None:
    def forward(x: torch.Tensor, i: torch.Tensor) -> Any:
        return torch.take(x * 2, i) + 1

    inputs = (torch.randn(3), torch.arange(3))
    executor, arrays = prepared(Function(forward), *inputs, support=without("aten.take.default"))
    arrays[executor.input_names[1]] = np.array([0, 1, 99])
    with pytest.raises(SegmentError, match=r"segment 1 \(cpu.*node 'take' \(aten.take.default\)"):
        executor.execute(arrays)


def test_a_segment_that_does_not_compile_is_named() -> None:
    b = IRBuilder()
    y = b.node("what", "aten.frobnicate.default", [b.input("x", 2)], [2])
    plan = partition(b.output(y), lambda op_type, attrs: True)
    with pytest.raises(UnsupportedOpError, match=r"segment 0 \(npu") as caught:
        DAGExecutor(plan, CpuBackend())
    assert caught.value.violations


def test_backends() -> None:
    torch.manual_seed(0)
    model, x = trained(Mixed()), torch.randn(1, 3, 6, 6)
    plan = partition(extract_ir(model, (x,)))
    results = []
    for backend in (CpuBackend(), ReferenceBackend(), Device("cpu"), "reference"):
        executor = DAGExecutor(plan, backend)
        executor.load_weights(model.state_dict())
        results.append(executor.execute({"x": x})["output"])
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=0, atol=4e-3 * np.abs(results[0]).max())
    backend = CpuBackend()
    assert backend.name == "cpu" and backend.device == Device("cpu")
    buffer = backend.allocate_buffer(np.ones((2, 3), np.float32))
    assert buffer.dtype == np.float16 and backend.allocate_zeros((2,), "int32").shape == (2,)
    backend.synchronize()
    if "metal" not in available_devices():
        with pytest.raises(DeviceUnavailableError, match="no device 'metal'"):
            MetalBackend()


def test_threads_share_an_executor() -> None:
    torch.manual_seed(0)
    model = trained(Mixed())
    executor, _ = prepared(model, torch.randn(1, 3, 8, 8))
    inputs = [np.random.default_rng(i).standard_normal((1, 3, 8, 8), np.float32) for i in range(4)]
    expected = [executor.execute({"x": x})["output"] for x in inputs]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(10):
            if not np.array_equal(
                executor.execute({"x": inputs[index]})["output"], expected[index]
            ):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_results_outlive_the_executor() -> None:
    executor, arrays = prepared(Function(lambda x: x.cumprod(0) * 2), torch.randn(3, 4))
    result = executor.execute(arrays)["output"]
    kept = result.copy()
    gone = weakref.ref(executor)
    executor.execute(arrays)
    del executor
    gc.collect()
    assert gone() is None
    np.testing.assert_array_equal(result, kept)


def test_a_plan_without_cpu_segments_needs_no_torch() -> None:
    code = (
        "import sys, json, numpy as np; sys.modules['torch'] = None\n"
        "from npu_compiler import partition\n"
        "from npu_runtime import DAGExecutor\n"
        "from tests.npu_compiler.ir_builder import IRBuilder\n"
        "b = IRBuilder(); x = b.input('x', 2, 3)\n"
        "y = b.node('y', 'aten.relu.default', [x], [2, 3])\n"
        "run = DAGExecutor(partition(b.output(y)), 'cpu').execute\n"
        "print(run({'x': -np.ones((2, 3))})['y'].sum())\n"
        "ir = b.output(b.node('z', 'aten.frobnicate.default', [y], [2, 3]))\n"
        "try: DAGExecutor(partition(ir), 'cpu')\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.strip().splitlines()
    assert float(first) == 0 and "which takes PyTorch" in second and "pip install" in second


# execute_cpu_partition.


def test_execute_cpu_partition() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(4, 3).to(torch.bfloat16), torch.randn(2, 4).to(torch.bfloat16)
    ir = extract_ir(nn.Sequential(model, nn.ReLU()), (x,)).to_dict()
    pool: dict[str, Any] = {ir["graph_inputs"][0]["name"]: as_array(x, "x").astype(np.float32)}
    weights = {f"0.{k}": as_array(v, k) for k, v in model.state_dict().items()}
    results = execute_cpu_partition(ir["nodes"], pool, weights, ir["weight_name_mapping"])
    assert list(results) == [n["name"] for n in ir["nodes"]] and results.items() <= pool.items()
    compare(results[ir["nodes"][-1]["name"]], torch.relu(model(x)))
    by_placeholder = {p: weights[k] for p, k in ir["weight_name_mapping"].items()}
    again = execute_cpu_partition(ir["nodes"], dict(pool), by_placeholder)
    assert all(np.array_equal(again[name], results[name]) for name in again)
    assert execute_cpu_partition([], {}, {}) == {}
    with pytest.raises(ArgumentError, match="is neither in the pool nor in the weights"):
        execute_cpu_partition(ir["nodes"], {}, weights, ir["weight_name_mapping"])
