"""Executor: results, names, bindings, life of outputs, threads, every kind of bad input."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from npu_runtime import Device, Executor, NPUBuffer, load_weights
from npu_runtime.errors import ArgumentError, NpuError, ProgramError, WeightError
from tests.npu_runtime.programs import SmallNet, build, small_net, two_in_two_out


@pytest.fixture(params=["cpu", "reference"])
def device(request: pytest.FixtureRequest) -> Device:
    """Each device in turn."""
    return Device(request.param)


def ready(case, device):
    """An executor and weights of a case."""
    return Executor(case.program, device), load_weights(case.state_dict, case.program, device)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("float16", 5e-3), ("bfloat16", 4e-2)]
)
def test_results_are_those_of_pytorch(device: Device, dtype: str, tolerance: float) -> None:
    case = small_net(dtype)
    executor, weights = ready(case, device)
    spec = case.program.input_specs[0]
    buffer = NPUBuffer.from_numpy(case.inputs[0], device, spec=spec)
    outputs = executor.run(inputs={spec.name: buffer}, weights=weights)
    out_spec = case.program.output_specs[0]
    assert list(outputs) == [out_spec.name]
    result = outputs[out_spec.name].to_numpy(spec=out_spec)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, case.expected[0], rtol=tolerance, atol=tolerance)


def test_arrays_and_torch_tensors_are_accepted_as_inputs(device: Device) -> None:
    case = small_net()
    executor, weights = ready(case, device)
    name = case.program.input_specs[0].name
    buffer = NPUBuffer.from_numpy(case.inputs[0], device, spec=case.program.input_specs[0])
    expected = executor.run({name: buffer}, weights)["output"].to_numpy()
    for given in (
        case.inputs[0],
        torch.from_numpy(case.inputs[0]),
        case.inputs[0].astype(np.float64),
    ):
        result = executor.run({name: given}, weights)["output"].to_numpy()
        np.testing.assert_array_equal(result, expected)


def test_aliases_of_a_sole_input_and_output(device: Device) -> None:
    case = small_net()
    executor, weights = ready(case, device)
    for alias in ("input", "input_0"):
        outputs = executor.run({alias: case.inputs[0]}, weights)
        real = outputs[case.program.output_specs[0].name]
        for name in ("output", "logits", "output_0"):
            assert name in outputs
            assert outputs[name] is real
            assert outputs.get(name) is real
        assert len(outputs) == 1
    assert outputs.get("nonsense") is None
    with pytest.raises(KeyError, match="nonsense"):
        outputs["nonsense"]


def test_several_inputs_and_outputs_go_by_name_and_position(device: Device) -> None:
    case = two_in_two_out()
    executor, weights = ready(case, device)
    a, b = case.inputs
    names = [spec.name for spec in case.program.input_specs]
    outputs = executor.run({names[1]: b, names[0]: a}, weights)
    by_position = executor.run({"input_0": a, "input_1": b}, weights)
    for index, expected in enumerate(case.expected):
        np.testing.assert_array_equal(outputs[f"output_{index}"].to_numpy(), expected)
        np.testing.assert_array_equal(by_position[f"output_{index}"].to_numpy(), expected)
    with pytest.raises(KeyError):
        outputs["output"]
    with pytest.raises(ArgumentError, match="unknown 'input'"):
        executor.run({"input": a, names[1]: b}, weights)


def test_outputs_stay_valid_and_unchanged(device: Device) -> None:
    case = small_net()
    executor, weights = ready(case, device)
    kept, copies = [], []
    for scale in range(1, 6):
        output = executor.run({"input": case.inputs[0] * scale}, weights)["output"]
        kept.append(output)
        copies.append(output.to_numpy())
    for output, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(output.to_numpy(), copy)
    assert not np.array_equal(copies[0], copies[1])


def test_views_keep_an_output_alive(device: Device) -> None:
    case = small_net()
    executor, weights = ready(case, device)
    exports = [
        export(executor.run({"input": case.inputs[0]}, weights)["output"])
        for export in (np.asarray, torch.from_dlpack, memoryview, lambda o: o.numpy_view()[0])
    ]
    first = np.asarray(exports[0]).copy()
    for _ in range(6):
        executor.run({"input": case.inputs[0] * 3}, weights)
    for export in exports[:3]:
        np.testing.assert_array_equal(np.asarray(export), first)
    np.testing.assert_array_equal(exports[3], first[0])


def test_memory_of_dropped_outputs_is_used_again(device: Device) -> None:
    case = small_net()
    executor, weights = ready(case, device)
    places = set()
    for _ in range(5):
        output = executor.run({"input": case.inputs[0]}, weights)["output"]
        places.add(output.numpy_view().__array_interface__["data"][0])
        del output
    assert len(places) == 1


def test_outputs_feed_another_run(device: Device) -> None:
    case = two_in_two_out()
    executor, weights = ready(case, device)
    a, b = case.inputs
    first = executor.run({"input_0": a, "input_1": b}, weights)
    second = executor.run({"input_0": first["output_0"], "input_1": first["output_1"]}, weights)
    np.testing.assert_array_equal(second["output_0"].to_numpy(), (a + b) + (a * b))


def test_changed_weights_are_noticed(device: Device) -> None:
    case = small_net("float32")
    executor, weights = ready(case, device)
    before = executor.run({"input": case.inputs[0]}, weights)["output"].to_numpy()
    name = next(n for n, w in weights.items() if w.shape == (10,))
    bias = weights[name]
    bias.write(bias.to_numpy() + 1)
    after = executor.run({"input": case.inputs[0]}, weights)["output"].to_numpy()
    np.testing.assert_allclose(after, before + 1, rtol=1e-6, atol=1e-6)
    bias.numpy_view()[:] -= 1
    bias.mark_changed()
    again = executor.run({"input": case.inputs[0]}, weights)["output"].to_numpy()
    np.testing.assert_allclose(again, before, rtol=1e-6, atol=1e-6)


def test_a_plain_dict_of_weights_and_a_second_set(device: Device) -> None:
    case = small_net("float32")
    executor, weights = ready(case, device)
    other = load_weights(
        {k: v * 0 if k == "fc.weight" else v for k, v in case.state_dict.items()},
        case.program,
        device,
    )
    expected = executor.run({"input": case.inputs[0]}, weights)["output"].to_numpy()
    plain = dict(weights)
    for _ in range(2):
        result = executor.run({"input": case.inputs[0]}, plain)["output"].to_numpy()
        np.testing.assert_array_equal(result, expected)
        zeroed = executor.run({"input": case.inputs[0]}, other)["output"].to_numpy()
        np.testing.assert_allclose(zeroed, case.state_dict["fc.bias"].expand(2, 10))
    plain.update(other)
    result = executor.run({"input": case.inputs[0]}, plain)["output"].to_numpy()
    np.testing.assert_array_equal(result, zeroed)


def test_one_program_in_two_threads(device: Device) -> None:
    case = small_net()
    executor, weights = ready(case, device)
    arrays = [case.inputs[0] * (k + 1) for k in range(4)]
    expected = [executor.run({"input": a}, weights)["output"].to_numpy() for a in arrays]
    failures: list[str] = []

    def work(index: int) -> None:
        for _ in range(20 if device.kind == "cpu" else 3):
            result = executor.run({"input": arrays[index]}, weights)["output"].to_numpy()
            if not np.array_equal(result, expected[index]):
                failures.append(f"thread {index}")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_two_programs_on_one_device(device: Device) -> None:
    first, second = small_net(), two_in_two_out()
    one, one_weights = ready(first, device)
    two, two_weights = ready(second, Device(device.kind))
    expected = one.run({"input": first.inputs[0]}, one_weights)["output"].to_numpy()
    for _ in range(3):
        outputs = two.run(
            dict(zip(("input_0", "input_1"), second.inputs, strict=True)), two_weights
        )
        result = one.run({"input": first.inputs[0]}, one_weights)["output"].to_numpy()
        np.testing.assert_array_equal(result, expected)
        np.testing.assert_array_equal(outputs["output_1"].to_numpy(), second.expected[1])


def test_devices_agree() -> None:
    case = small_net("float32")
    results = []
    for kind in ("cpu", "reference"):
        executor, weights = ready(case, Device(kind))
        results.append(executor.run({"input": case.inputs[0]}, weights)["output"].to_numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-5)


def other_device(device: Device) -> Device:
    """The other of the two devices."""
    return Device("cpu" if device.kind == "reference" else "reference")


BAD_INPUTS = {
    "missing": (lambda x, d, s: {}, r"missing 'x'.*takes 'x'"),
    "extra": (lambda x, d, s: {"x": x, "y": x}, "unknown 'y'"),
    "twice": (lambda x, d, s: {"x": x, "input": x}, "'x' is given twice"),
    "shape": (lambda x, d, s: {"x": x[:, :2]}, r"'x'.*\[2, 2, 12, 12\].*\[2, 3, 12, 12\]"),
    "dtype": (lambda x, d, s: {"x": x.astype(np.int32)}, "'x'.*int32.*float16"),
    "not an array": (lambda x, d, s: {"x": "image.png"}, "'x'.*str"),
    "not a mapping": (lambda x, d, s: [x], "list.*give a dict"),
    "buffer dtype": (
        lambda x, d, s: {"x": NPUBuffer.zeros(s.shape, d, "float32", s.alloc_shape)},
        r"'x' is float32.*takes float16.*from_numpy",
    ),
    "buffer shape": (
        lambda x, d, s: {"x": NPUBuffer.zeros((2, 3, 12, 11), d)},
        r"'x' is float16\[2, 3, 12, 11\]",
    ),
    "buffer without padding": (
        lambda x, d, s: {"x": NPUBuffer.from_numpy(x, d)},
        "'x'.*from_numpy.*spec",
    ),
    "buffer of another device": (
        lambda x, d, s: {"x": NPUBuffer.from_numpy(x, other_device(d), spec=s)},
        "'x' lies on device",
    ),
}


@pytest.mark.parametrize("bad", BAD_INPUTS)
def test_bad_inputs(device: Device, bad: str) -> None:
    case = small_net()
    executor, weights = ready(case, device)
    spec = case.program.input_specs[0]
    assert spec.name == "x"
    make, message = BAD_INPUTS[bad]
    with pytest.raises(ArgumentError, match=message) as raised:
        executor.run(make(case.inputs[0], device, spec), weights)
    assert isinstance(raised.value, (NpuError, ValueError))
    # Nothing is left half done: the next run is right.
    result = executor.run({"x": case.inputs[0]}, weights)["output"].to_numpy("float32")
    np.testing.assert_allclose(result, case.expected[0], rtol=5e-3, atol=5e-3)


def test_bad_weights(device: Device) -> None:
    case = small_net()
    executor, weights = ready(case, device)
    x = {"x": case.inputs[0]}
    names = list(weights)
    with pytest.raises(WeightError, match=f"missing '{names[0]}'"):
        executor.run(x, {n: weights[n] for n in names[1:]})
    with pytest.raises(WeightError, match="unknown 'more'"):
        executor.run(x, {**weights, "more": weights[names[0]]})
    with pytest.raises(WeightError, match=f"'{names[0]}' is a ndarray"):
        executor.run(x, {**weights, names[0]: weights[names[0]].to_numpy()})
    with pytest.raises(WeightError, match=f"weight '{names[0]}' is float16"):
        executor.run(x, {**weights, names[0]: NPUBuffer.zeros((1,), device)})
    with pytest.raises(WeightError, match="use load_weights"):
        executor.run(x, None)
    elsewhere = load_weights(case.state_dict, case.program, other_device(device))
    with pytest.raises(WeightError, match="lies on device"):
        executor.run(x, elsewhere)


def test_a_file_that_has_become_another_program(device: Device, tmp_path) -> None:
    path = tmp_path / "program.npubin"
    case = build(SmallNet(), torch.randn(1, 3, 8, 8))
    case.program.save(path)
    Executor(case.program, device)
    two_in_two_out().program.from_bytes(two_in_two_out().program.to_bytes()).save(path)
    with pytest.raises(ProgramError, match="load it again"):
        Executor(case.program, device)


def test_a_damaged_file_is_refused(device: Device, tmp_path) -> None:
    path = tmp_path / "program.npubin"
    case = build(SmallNet(), torch.randn(1, 3, 8, 8))
    case.program.save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ProgramError, match="checksum"):
        Executor(case.program, device)
    path.write_bytes(data[:100])
    with pytest.raises(ProgramError):
        Executor(case.program, device)
