"""NPUBuffer: every dtype and layout in and out, padding, DLPack, the buffer protocol, errors."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
import torch

from npu_compiler.dtypes import DTYPES
from npu_runtime import Device, NPUBuffer, _native
from npu_runtime.dtypes import numpy_dtype
from npu_runtime.errors import ArgumentError
from npu_runtime.memory import Memory

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True)
class Spec:
    """A tensor spec as programs have them."""

    name: str
    shape: tuple[int, ...]
    storage_dtype: str
    dtype: str
    alloc_shape: tuple[int, ...]
    strides: tuple[int, ...]


def channels_last(n: int, c: int, h: int, w: int, dtype: str, ir_dtype: str = "float32") -> Spec:
    """An image with channels padded to 64, the channel index moving fastest."""
    pad = -(-c // 64) * 64
    return Spec("x", (n, c, h, w), dtype, ir_dtype, (n, pad, h, w), (h * w * pad, 1, w * pad, pad))


def planes(n: int, c: int, h: int, w: int, dtype: str, ir_dtype: str = "float32") -> Spec:
    """An image in NCHW planes, padded to 64 of them."""
    return Spec("x", (n, c, h, w), dtype, ir_dtype, (n, 64, h, w), (64 * h * w, h * w, w, 1))


@pytest.fixture(params=["cpu", "reference"])
def device(request: pytest.FixtureRequest) -> Device:
    """Each device in turn."""
    return Device(request.param)


def values(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values that the dtype holds exactly."""
    draw = np.random.default_rng(1)
    if dtype == "bool":
        return draw.integers(0, 2, shape).astype(bool)
    if "float" in dtype:
        return draw.integers(-64, 64, shape).astype(numpy_dtype(dtype))
    limits = np.iinfo(dtype)
    return draw.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_as_it_went(device: Device, dtype: str) -> None:
    array = values(dtype, (3, 5))
    spec = Spec("x", (3, 5), dtype, dtype, (3, 5), (5, 1))
    buffer = NPUBuffer.from_numpy(array, device, spec=spec)
    assert buffer.dtype == numpy_dtype(dtype)
    result = buffer.to_numpy(spec=spec)
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("float32", "float16"),
        ("float64", "float16"),
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
        ("int64", "int64"),
        ("uint8", "uint8"),
        ("bool", "bool"),
    ],
)
def test_storage_without_a_spec(device: Device, given: str, stored: str) -> None:
    buffer = NPUBuffer.from_numpy(values(given, (4, 2)), device)
    assert buffer.dtype == numpy_dtype(stored)
    assert (buffer.shape, buffer.alloc_shape) == ((4, 2), (4, 2))


@pytest.mark.parametrize("make", [channels_last, planes])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("batch", [1, 3])
def test_padded_images(device: Device, make, dtype: str, batch: int) -> None:
    spec = make(batch, 5, 3, 4, dtype)
    array = np.random.default_rng(2).standard_normal(spec.shape, np.float32)
    buffer = NPUBuffer.from_numpy(array, device, spec=spec)
    assert buffer.alloc_shape == (batch, 64, 3, 4)
    # What lies in memory: the rounded values at their strides, and nothing but zeros between them.
    raw = np.zeros(buffer.size_bytes, np.uint8)
    buffer.native.download(0, raw)
    memory = raw.view(numpy_dtype(dtype))
    index = np.indices(spec.shape).reshape(4, -1)
    places = (index * np.array(spec.strides)[:, None]).sum(0)
    rounded = array.astype(numpy_dtype(dtype)).reshape(-1)
    np.testing.assert_array_equal(memory[places], rounded)
    rest = np.delete(memory, places)
    assert not rest.astype(np.float32).any()
    result = buffer.to_numpy(spec=spec)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, array.astype(numpy_dtype(dtype)).astype(np.float32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_is_to_nearest_even_as_in_torch(device: Device, dtype: str) -> None:
    steps = 2.0 ** -np.arange(7, 14)
    array = np.concatenate(
        [1 + steps, 1 + 3 * steps, [65504, 65520, 1e6, np.inf, -np.inf, 1e-8, 6e-8, -0.0]]
    ).astype(np.float32)
    spec = Spec("x", array.shape, dtype, "float32", array.shape, (1,))
    result = NPUBuffer.from_numpy(array, device, spec=spec).to_numpy(dtype="float32")
    expected = torch.from_numpy(array).to(getattr(torch, dtype)).float().numpy()
    np.testing.assert_array_equal(result, expected)
    assert np.isnan(NPUBuffer.from_numpy(np.float32([np.nan]), device).to_numpy()).all()


def test_alloc_shape_without_a_spec(device: Device) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    buffer = NPUBuffer.from_numpy(array, device, alloc_shape=(2, 8))
    assert (buffer.shape, buffer.alloc_shape) == ((2, 3), (2, 8))
    raw = np.zeros(32, np.uint8)
    buffer.native.download(0, raw)
    np.testing.assert_array_equal(
        raw.view(np.float16).reshape(2, 8), np.pad(array, ((0, 0), (0, 5)))
    )
    np.testing.assert_array_equal(buffer.to_numpy(), array)


def test_zeros(device: Device) -> None:
    buffer = NPUBuffer.zeros((2, 3), device)
    assert (buffer.dtype, buffer.shape) == (np.float16, (2, 3))
    assert not buffer.to_numpy().any()
    other = NPUBuffer.zeros((1, 3, 2, 2), device, dtype=torch.bfloat16, alloc_shape=(1, 64, 2, 2))
    assert other.dtype == BFLOAT16
    assert other.size_bytes == 64 * 4 * 2


def test_scalars_and_empty_arrays(device: Device) -> None:
    scalar = NPUBuffer.from_numpy(np.float32(2.5), device)
    assert scalar.shape == ()
    assert scalar.to_numpy() == 2.5
    empty = NPUBuffer.from_numpy(np.zeros((0, 3), np.float32), device)
    assert empty.to_numpy().shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_torch_tensors_are_arrays_too(device: Device, dtype: torch.dtype) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    result = NPUBuffer.from_numpy(tensor.t(), device).to_numpy(dtype="float32")
    np.testing.assert_array_equal(result, tensor.t().float().numpy())


def test_int64_narrows_only_where_it_fits(device: Device) -> None:
    spec = Spec("ids", (3,), "int32", "int64", (3,), (1,))
    top = 2**31 - 1
    buffer = NPUBuffer.from_numpy(np.array([top, -(2**31), 0]), device, spec=spec)
    result = buffer.to_numpy(spec=spec)
    assert (result.dtype, result.tolist()) == (np.int64, [top, -(2**31), 0])
    with pytest.raises(ArgumentError, match=r"'ids'.*2147483648.*int32"):
        NPUBuffer.from_numpy(np.array([top + 1, 0, 0]), device, spec=spec)


def test_dtypes_that_do_not_convert_silently(device: Device) -> None:
    spec = Spec("x", (2,), "float16", "float32", (2,), (1,))
    with pytest.raises(ArgumentError, match=r"'x'.*int64.*float16.*astype"):
        NPUBuffer.from_numpy(np.array([1, 2]), device, spec=spec)
    with pytest.raises(ArgumentError, match="float32"):
        ids = Spec("ids", (2,), "int32", "int64", (2,), (1,))
        NPUBuffer.from_numpy(np.float32([1, 2]), device, spec=ids)
    with pytest.raises(ArgumentError, match="complex64"):
        NPUBuffer.from_numpy(np.zeros(2, np.complex64), device)
    with pytest.raises(ArgumentError, match="not an array of numbers"):
        NPUBuffer.from_numpy(["a", "b"], device)


def test_shapes_that_do_not_fit(device: Device) -> None:
    spec = planes(1, 3, 2, 2, "float16")
    with pytest.raises(ArgumentError, match=r"\[1, 2, 2, 3\].*\[1, 3, 2, 2\]"):
        NPUBuffer.from_numpy(np.zeros((1, 2, 2, 3), np.float32), device, spec=spec)
    with pytest.raises(ArgumentError, match="alloc_shape"):
        NPUBuffer.from_numpy(np.zeros((2, 4), np.float32), device, alloc_shape=(2, 3))
    with pytest.raises(ArgumentError, match="negative"):
        NPUBuffer.zeros((-1, 2), device)
    with pytest.raises(ArgumentError, match="shape"):
        NPUBuffer.zeros((1, 3, 2, 3), device).to_numpy(spec=spec)


def test_write_replaces_the_content(device: Device) -> None:
    spec = channels_last(1, 3, 2, 2, "float16")
    buffer = NPUBuffer.from_numpy(np.ones(spec.shape, np.float32), device, spec=spec)
    buffer.write(np.full(spec.shape, 2, np.float32))
    assert (buffer.to_numpy() == 2).all()
    with pytest.raises(ArgumentError):
        buffer.write(np.ones((1, 3, 2, 3), np.float32))
    assert (buffer.to_numpy() == 2).all()


def test_dlpack_shares_memory_with_torch_and_numpy(device: Device) -> None:
    spec = channels_last(1, 3, 2, 2, "float16")
    array = np.random.default_rng(3).standard_normal(spec.shape).astype(np.float32)
    buffer = NPUBuffer.from_numpy(array, device, spec=spec)
    tensor = torch.from_dlpack(buffer)
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.float16, spec.shape)
    np.testing.assert_array_equal(tensor.numpy(), buffer.to_numpy())
    tensor[0, 1, 1, 1] = 7
    assert buffer.to_numpy()[0, 1, 1, 1] == 7
    np.testing.assert_array_equal(np.from_dlpack(buffer), buffer.to_numpy())


def test_dlpack_of_bfloat16(device: Device) -> None:
    array = values("bfloat16", (2, 3))
    buffer = NPUBuffer.from_numpy(array, device)
    tensor = torch.from_dlpack(buffer)
    assert tensor.dtype == torch.bfloat16
    np.testing.assert_array_equal(tensor.float().numpy(), array.astype(np.float32))
    tensor[0, 0] = 3
    assert buffer.to_numpy()[0, 0] == 3


def test_exports_outlive_the_buffer(device: Device) -> None:
    buffer = NPUBuffer.from_numpy(np.float32([1, 2, 3]), device)
    exports = torch.from_dlpack(buffer), np.asarray(buffer), buffer.numpy_view()
    del buffer
    for export in exports:
        assert export.tolist() == [1, 2, 3]


def test_numpy_sees_the_logical_tensor(device: Device) -> None:
    spec = channels_last(1, 3, 2, 2, "float16")
    array = np.arange(12, dtype=np.float32).reshape(spec.shape)
    buffer = NPUBuffer.from_numpy(array, device, spec=spec)
    np.testing.assert_array_equal(np.asarray(buffer), array)
    assert np.shares_memory(np.asarray(buffer), buffer.numpy_view())
    copy = np.array(buffer, dtype=np.float64)
    assert copy.dtype == np.float64
    assert not np.shares_memory(copy, buffer.numpy_view())


@pytest.mark.parametrize(("dtype", "letter"), [("float16", "e"), ("int32", "i"), ("bfloat16", "H")])
def test_buffer_protocol(device: Device, dtype: str, letter: str) -> None:
    array = values(dtype, (2, 3))
    spec = Spec("x", (2, 3), dtype, dtype, (2, 3), (3, 1))
    view = memoryview(NPUBuffer.from_numpy(array, device, spec=spec))
    assert (view.shape, view.format) == ((2, 3), letter)
    np.testing.assert_array_equal(np.asarray(view).view(array.dtype), array)


def test_repr_says_what_it_is(device: Device) -> None:
    buffer = NPUBuffer.zeros((1, 3, 2, 2), device, alloc_shape=(1, 64, 2, 2))
    assert repr(buffer) == (
        f"NPUBuffer(float16[1, 3, 2, 2] padded to [1, 64, 2, 2], {device.kind})"
    )


def test_memory_that_the_host_cannot_see(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a discrete GPU: everything goes through uploads and downloads.
    monkeypatch.setattr(Memory, "host", lambda self: None)
    device = Device("cpu")
    spec = channels_last(2, 3, 4, 5, "bfloat16")
    array = np.random.default_rng(4).standard_normal(spec.shape).astype(np.float32)
    buffer = NPUBuffer.from_numpy(array, device, spec=spec)
    expected = array.astype(BFLOAT16)
    np.testing.assert_array_equal(buffer.to_numpy(), expected)
    buffer.write(-array)
    np.testing.assert_array_equal(np.asarray(buffer), -expected)
    with pytest.raises(ValueError, match="without a copy"):
        buffer.__array__(copy=False)
    with pytest.raises(ArgumentError, match=r"to_numpy\(\)"):
        buffer.numpy_view()
    with pytest.raises(BufferError):
        torch.from_dlpack(buffer)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000])
def test_float32_rounds_to_float16_as_numpy_does(size: int) -> None:
    bits = np.random.default_rng(size).integers(0, 2**32, size, dtype=np.uint32)
    edges = [0.0, -0.0, 6e-8, 2.9e-8, 65519.9, 65520.0, np.inf, -np.inf, np.nan, 1 + 2**-11]
    values = np.concatenate([bits.view(np.float32), np.array(edges, np.float32)])
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(np.float16)
    for array in (values, np.repeat(values, 2)[::2]):
        stored = NPUBuffer.from_numpy(array, Device("cpu")).to_numpy()
        np.testing.assert_array_equal(stored, expected)


def test_arrays_of_different_sizes_are_not_rounded_into_each_other() -> None:
    with pytest.raises(ArgumentError, match="8 bytes of float32 do not fill 6 bytes"):
        _native.round_to_float16(np.zeros(2, np.float32), np.zeros(3, np.float16))
