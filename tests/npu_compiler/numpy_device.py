"""A device in numpy: interprets .npubin bytes over flat memory, honouring offsets and strides.

Memory is poisoned with NaN patterns when a buffer comes to life, every access is bounds-checked,
and whoever reads a padded tensor checks that its padding is zero. Arithmetic is float32, rounded at
the store.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npu_compiler.arrays import Array, cast, numpy_dtype
from npu_compiler.compiled_program import KernelCall, OperandView, TensorSpec
from npu_compiler.dtypes import FLOATING
from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.scalar_ops import BY_NAME, CONSTANT, LOAD, SCALAR_OPS, STORE
from npu_compiler.program.reader import read_program
from npu_compiler.program.recipes import run_recipe

POISON = 0xFF


def strided(memory: np.ndarray, offset: int, dtype: str, shape, strides) -> Array:
    """A window on bytes; asserts that it lies inside."""
    size = numpy_dtype(dtype).itemsize
    if 0 not in shape:
        reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
        low = offset + size * sum(r for r in reach if r < 0)
        high = offset + size * (1 + sum(r for r in reach if r > 0))
        assert low >= 0 and high <= memory.size, f"bytes {low}..{high} of {memory.size}"
    base = memory[offset : offset + (memory.size - offset) // size * size].view(numpy_dtype(dtype))
    return np.lib.stride_tricks.as_strided(base, shape, [s * size for s in strides])


class NumpyDevice:
    """Runs one program; ``run`` takes and gives arrays in logical layout and IR dtypes."""

    def __init__(self, data: bytes, state: Mapping[str, Array]) -> None:
        self.program = read_program(data)
        self.constant = np.frombuffer(bytearray(self.program.constants), np.uint8)
        self.weights = {}
        for spec, recipe in zip(
            self.program.weight_specs, self.program.weight_recipes, strict=True
        ):
            value = run_recipe(recipe, state, spec.name)
            assert value.shape == spec.shape and value.dtype == numpy_dtype(spec.storage_dtype)
            self.weights[spec.buffer] = self._bytes(spec.buffer, value)

    def _bytes(self, buffer: int, value: Array) -> np.ndarray:
        allocation = self.program.buffer_allocations[buffer]
        memory = np.zeros(allocation.size_bytes, np.uint8)
        memory[: value.nbytes] = np.frombuffer(value.tobytes(), np.uint8)
        return memory

    def _whole(self, spec: TensorSpec, padded: bool) -> Array:
        shape = spec.alloc_shape if padded else spec.shape
        memory = self.memory[spec.buffer]
        return strided(memory, spec.offset, spec.storage_dtype, shape, spec.strides)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        program = self.program
        arena = np.full(program.arena_size, POISON, np.uint8)
        self.memory: list[np.ndarray] = []
        for index, b in enumerate(program.buffer_allocations):
            if b.kind == "arena":
                assert b.offset % 64 == 0 and b.offset + b.size_bytes <= arena.size
                self.memory.append(arena[b.offset : b.offset + b.size_bytes])
            elif b.kind == "constant":
                self.memory.append(self.constant[b.offset : b.offset + b.size_bytes])
            elif b.kind == "weight":
                self.memory.append(self.weights[index])
            else:
                fill = 0 if b.kind == "input" else POISON
                self.memory.append(np.full(b.size_bytes, fill, np.uint8))
        for spec in program.input_specs:
            self._whole(spec, False)[...] = cast(inputs[spec.name], spec.storage_dtype)
        for index, call in enumerate(program.kernel_calls):
            for b, memory in zip(program.buffer_allocations, self.memory, strict=True):
                if b.kind == "arena" and b.first_use == index and b.alias_of is None:
                    memory[:] = POISON
            self._launch(call)
        results = {}
        for spec in program.output_specs:
            self._check_padding(spec)
            results[spec.name] = cast(self._whole(spec, False).copy(), spec.dtype)
        return results

    def _check_padding(self, spec: TensorSpec) -> None:
        if spec.shape == spec.alloc_shape or 0 in spec.shape:
            return
        (dim,) = (d for d in range(len(spec.shape)) if spec.shape[d] != spec.alloc_shape[d])
        lanes = self._whole(spec, True).swapaxes(0, dim)[spec.shape[dim] :].astype(np.float32)
        # A kernel that computes padded channels with zero weights makes NaN of infinite inputs;
        # nothing reads them.
        finite = np.isfinite(self._whole(spec, False).astype(np.float32)).all()
        assert np.all((lanes == 0) | (np.isnan(lanes) & ~finite)), (
            f"{spec.name}: padding is not zero"
        )

    def _launch(self, call: KernelCall) -> None:
        kernel = KERNELS[call.kernel_name]
        shapes = {}
        views: dict[str, Array | None] = {}
        for record, operand in zip(kernel.operands, call.operands, strict=True):
            views[record.name] = None if operand is None else self._view(operand)
            shapes[record.name] = None if operand is None else operand.shape
            if operand is not None:
                allocation = self.program.buffer_allocations[operand.buffer]
                if operand.access == "write":
                    assert allocation.kind in ("arena", "output"), (
                        f"{call.name} writes {allocation}"
                    )
                else:
                    self._check_padding(self.program.tensors[operand.tensor])
        env = kernel.check(shapes, call.params)
        assert kernel.grid(env) == call.grid
        self._check_overlaps(call)
        with np.errstate(all="ignore"):
            getattr(self, f"_run_{call.kernel_name}")(views, dict(call.params))

    def _view(self, operand: OperandView) -> Array:
        memory = self.memory[operand.buffer]
        return strided(memory, operand.offset, operand.dtype, operand.shape, operand.strides)

    def _check_overlaps(self, call: KernelCall) -> None:
        """A written arena buffer shares no memory with one that is read, but for allowed in-place
        pairs.
        """
        buffers = self.program.buffer_allocations
        pairs = KERNELS[call.kernel_name].inplace
        present = [o for o in call.operands if o is not None]
        for w in (o for o in present if o.access == "write"):
            for r in (o for o in present if o.access == "read"):
                a, b = buffers[w.buffer], buffers[r.buffer]
                if a.kind != "arena" or b.kind != "arena":
                    continue
                if a.offset + a.size_bytes <= b.offset or b.offset + b.size_bytes <= a.offset:
                    continue
                same = (w.offset, w.shape, w.strides) == (r.offset, r.shape, r.strides)
                assert a.alias_of == r.buffer and same and (r.name, w.name) in pairs, call.name

    @staticmethod
    def _store(target: Array, value: Array) -> None:
        target[...] = value.astype(target.dtype)

    @staticmethod
    def _clamp(value: Array, params: Mapping[str, float]) -> Array:
        low, high = np.float32(params["clamp_lo"]), np.float32(params["clamp_hi"])
        return np.minimum(np.maximum(value, low), high)

    def _run_conv2d(self, v, p) -> None:
        x, w, y = (v[k].astype(np.float32) for k in "xwy")
        n, c, h, width = x.shape
        oc, kh, kw, ic = w.shape
        g = p["groups"]
        oh, ow = y.shape[2:]
        rows = (oh - 1) * p["stride_h"] + (kh - 1) * p["dilation_h"] + 1
        cols = (ow - 1) * p["stride_w"] + (kw - 1) * p["dilation_w"] + 1
        top, left = p["pad_top"], p["pad_left"]
        image = np.zeros((n, c, max(rows, top + h), max(cols, left + width)), np.float32)
        image[:, :, top : top + h, left : left + width] = x
        total = np.zeros((n, g, oc // g, oh, ow), np.float32)
        for i in range(kh):
            for j in range(kw):
                a, b = i * p["dilation_h"], j * p["dilation_w"]
                part = image[
                    :,
                    :,
                    a : a + (oh - 1) * p["stride_h"] + 1 : p["stride_h"],
                    b : b + (ow - 1) * p["stride_w"] + 1 : p["stride_w"],
                ]
                taps = w[:, i, j, :].reshape(g, oc // g, ic)
                total += np.einsum(
                    "ngihw,goi->ngohw", part.reshape(n, g, ic, oh, ow), taps, optimize=True
                )
        total = total.reshape(n, oc, oh, ow)
        if v["bias"] is not None:
            total = total + v["bias"][None, :, None, None]
        if v["residual"] is not None:
            total = total + v["residual"].astype(np.float32)
        self._store(v["y"], self._clamp(total, p))

    def _run_gemm(self, v, p) -> None:
        x, w = v["x"].astype(np.float32), v["w"].astype(np.float32)
        total = np.matmul(x, w.swapaxes(1, 2))
        if v["bias"] is not None:
            total = total + v["bias"]
        if v["residual"] is not None:
            total = total + v["residual"].astype(np.float32)
        self._store(v["y"], self._clamp(total, p))

    def _windows(self, x, y, p, outside):
        """(taps, n, c, oh, ow) of window values and (taps, oh, ow) of whether each lies in the
        image.
        """
        h, w = x.shape[2:]
        taps, inside = [], []
        for i in range(p["kh"]):
            for j in range(p["kw"]):
                r = np.arange(y.shape[2]) * p["stride_h"] - p["pad_h"] + i * p.get("dilation_h", 1)
                s = np.arange(y.shape[3]) * p["stride_w"] - p["pad_w"] + j * p.get("dilation_w", 1)
                ok = ((r >= 0) & (r < h))[:, None] & ((s >= 0) & (s < w))[None, :]
                value = x[:, :, np.clip(r, 0, h - 1)][:, :, :, np.clip(s, 0, w - 1)]
                taps.append(np.where(ok, value, np.float32(outside)))
                inside.append(ok)
        return np.stack(taps), np.stack(inside)

    def _run_max_pool2d(self, v, p) -> None:
        taps, _ = self._windows(v["x"].astype(np.float32), v["y"], p, -np.inf)
        self._store(v["y"], taps.max(axis=0))

    def _run_avg_pool2d(self, v, p) -> None:
        x, y = v["x"].astype(np.float32), v["y"]
        taps, inside = self._windows(x, y, p, 0)
        if p["divisor_override"]:
            divisor = np.float32(p["divisor_override"])
        elif p["count_include_pad"]:
            r = np.arange(y.shape[2]) * p["stride_h"] - p["pad_h"]
            s = np.arange(y.shape[3]) * p["stride_w"] - p["pad_w"]
            rows = np.minimum(r + p["kh"], x.shape[2] + p["pad_h"]) - r
            cols = np.minimum(s + p["kw"], x.shape[3] + p["pad_w"]) - s
            divisor = (rows[:, None] * cols[None, :]).astype(np.float32)
        else:
            divisor = inside.sum(axis=0).astype(np.float32)
        self._store(y, taps.sum(axis=0) / divisor)

    def _run_adaptive_avg_pool2d(self, v, p) -> None:
        x, y = v["x"].astype(np.float32), v["y"]
        h, w = x.shape[2:]
        oh, ow = y.shape[2:]
        for i in range(oh):
            for j in range(ow):
                rows = slice(i * h // oh, -(-(i + 1) * h // oh))
                cols = slice(j * w // ow, -(-(j + 1) * w // ow))
                self._store(y[:, :, i, j], x[:, :, rows, cols].mean(axis=(2, 3), dtype=np.float32))

    def _run_softmax(self, v, p) -> None:
        x = v["x"].astype(np.float32)
        shifted = x - x.max(axis=-1, keepdims=True)
        total = np.exp(shifted).sum(axis=-1, keepdims=True)
        result = shifted - np.log(total) if p["log"] else np.exp(shifted) / total
        self._store(v["y"], result)

    def _run_reduce(self, v, p) -> None:
        x = v["x"].astype(np.float32)
        run = {0: np.sum, 1: np.mean, 2: np.max, 3: np.min, 4: np.prod}[p["op"]]
        self._store(v["y"], run(x, axis=(3, 4)))

    def _run_elementwise(self, v, p) -> None:
        ops = {op.id: op for op in SCALAR_OPS}
        registers: dict[int, Array] = {}
        shape = v["out0"].shape
        for k in range(p["num_instructions"]):
            word, c, immediate, _ = p["code"][4 * k : 4 * k + 4]
            op, dst, a, b = word & 255, word >> 8 & 255, word >> 16 & 255, word >> 24
            if op == LOAD:
                value = v[f"in{a}"]
                floating = value.dtype.name in FLOATING
                registers[dst] = value.astype(np.float32 if floating else np.int32)
            elif op == STORE:
                floating = v[f"out{dst}"].dtype.name in FLOATING
                value = _typed(registers[a], "f" if floating else "i")
                self._store(v[f"out{dst}"], np.broadcast_to(value, shape))
            elif op == CONSTANT:
                # Its type is known where it is used.
                registers[dst] = np.array(immediate, np.uint32)
            else:
                record = ops[op]
                args = [
                    _typed(registers[r], t) for r, t in zip((a, b, c), record.args, strict=False)
                ]
                result = _SCALAR[record.name](*args)
                registers[dst] = result.astype(np.float32 if record.result == "f" else np.int32)


def _typed(value: Array, kind: str) -> Array:
    if value.dtype == np.uint32:
        return value.view(np.float32 if kind == "f" else np.int32)
    assert value.dtype == (np.float32 if kind == "f" else np.int32), "register of the other type"
    return value


def _erf(a: Array) -> Array:
    return np.vectorize(BY_NAME["erf_f"].python, otypes=[np.float32])(a)


_SCALAR = {
    "add_f": lambda a, b: a + b,
    "sub_f": lambda a, b: a - b,
    "mul_f": lambda a, b: a * b,
    "div_f": lambda a, b: a / b,
    "neg_f": lambda a: -a,
    "abs_f": np.abs,
    "max_f": np.maximum,
    "min_f": np.minimum,
    "exp_f": np.exp,
    "log_f": np.log,
    "sqrt_f": np.sqrt,
    "rsqrt_f": lambda a: np.float32(1) / np.sqrt(a),
    "tanh_f": np.tanh,
    "erf_f": _erf,
    "sigmoid_f": lambda a: np.float32(1) / (np.float32(1) + np.exp(-a)),
    "lt_f": lambda a, b: a < b,
    "le_f": lambda a, b: a <= b,
    "eq_f": lambda a, b: a == b,
    "select_f": lambda a, b, c: np.where(a != 0, b, c),
    "i_to_f": lambda a: a.astype(np.float32),
    "mul_i": lambda a, b: a * b,
    "max_i": np.maximum,
    "eq_i": lambda a, b: a == b,
    "select_i": lambda a, b, c: np.where(a != 0, b, c),
}
