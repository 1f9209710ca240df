"""Units: views against numpy's, elementwise programs, memory planning, names, the graph checker."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_compiler.elementwise import Builder, ProgramTooLargeError
from npu_compiler.errors import GraphCheckError
from npu_compiler.graph import Value
from npu_compiler.graph_checker import check_graph
from npu_compiler.ir_reader import load_ir_from_dict
from npu_compiler.kernels import KERNELS
from npu_compiler.lowering import Dispatch
from npu_compiler.memory import check_plan, plan_memory
from npu_compiler.names import aliases
from npu_compiler.passes import optimize_graph
from npu_compiler.view import Storage, View, contiguous_strides, merge_axes, reshape_strides
from tests.npu_compiler.ir_builder import small_cnn

QUICK = settings(max_examples=200, deadline=None, derandomize=True)


def _storage(name: str, *shape: int) -> Storage:
    strides = contiguous_strides(shape)
    return Storage(name, "arena", "float32", "float32", shape, shape, strides, "row_major")


def _array(view: View) -> np.ndarray:
    memory = np.arange(np.prod(view.storage.alloc_shape, dtype=int))
    strides = [s * memory.itemsize for s in view.strides]
    return np.lib.stride_tricks.as_strided(memory[view.offset :], view.shape, strides)


@QUICK
@given(st.data())
def test_views_show_what_numpy_shows(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    view = _storage("s", *shape).view()
    array = np.arange(np.prod(shape)).reshape(shape)
    for _ in range(data.draw(st.integers(1, 4))):
        rank = array.ndim
        dim = data.draw(st.integers(0, rank - 1)) if rank else 0
        match data.draw(
            st.sampled_from(["permute", "slice", "drop", "insert", "reshape", "expand"])
        ):
            case "permute":
                axes = data.draw(st.permutations(range(rank)))
                view, array = view.permute(axes), array.transpose(axes)
            case "slice" if rank:
                start = data.draw(st.integers(0, array.shape[dim] - 1))
                step = data.draw(st.integers(1, 2))
                length = -(-(array.shape[dim] - start) // step)
                view = view.slice(dim, start, length, step)
                array = array[(slice(None),) * dim + (slice(start, None, step),)]
            case "drop" if rank:
                index = data.draw(st.integers(0, array.shape[dim] - 1))
                view, array = view.drop(dim, index), array.take(index, axis=dim)
            case "insert" if rank < 5:
                view, array = view.insert(dim), np.expand_dims(array, dim)
            case "expand" if rank < 5:
                view = view.expand((2, *array.shape))
                array = np.broadcast_to(array, (2, *array.shape))
            case "reshape":
                flat = view.reshape((array.size,))
                if flat is not None:
                    view, array = flat, array.reshape(-1)
        assert np.array_equal(_array(view), array)


@QUICK
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.permutations(range(5)),
    st.integers(1, 4),
)
def test_reshape_strides_agree_with_numpy(shape: list[int], order: list[int], rows: int) -> None:
    axes = [a for a in order if a < len(shape)]
    array = np.arange(np.prod(shape)).reshape(shape).transpose(axes)
    size = array.size
    new_shape = (rows, size // rows) if size % rows == 0 else (size,)
    strides = [s // array.itemsize for s in array.strides]
    found = reshape_strides(array.shape, strides, new_shape)
    copy = array.reshape(new_shape)
    assert (found is not None) == np.shares_memory(copy, array)
    if found is not None:
        expected = [s // array.itemsize for s in copy.strides]
        assert all(n == 1 or a == b for n, a, b in zip(new_shape, found, expected, strict=True))


def test_merge_axes() -> None:
    view = _storage("s", 2, 3, 4).view()
    assert merge_axes([view], [[0, 1], [2]]) is not None
    assert merge_axes([view], [[0, 2], [1]]) is None
    (merged,) = merge_axes([view], [[], [0, 1, 2]]) or []
    assert merged.shape == (1, 24)


def test_unknown_times_zero_is_unknown() -> None:
    x = Value("x", (2,), "float32", "input")
    y = Value("y", (2,), "float32", "input")
    b = Builder()
    product = b("mul_f", b.load(x), b.load(y))
    assert b.evaluate(product, {x: 0.0, y: None}) is None, "the unknown value may be infinite"
    assert b.evaluate(product, {x: 0.0, y: 3.0}) == 0
    masked = b("select_f", b("lt_f", b.load(x), 1.0), 0.0, b.load(y))
    assert b.evaluate(masked, {x: 0.0, y: None}) == 0
    assert b.evaluate(b("sigmoid_f", b.load(x)), {x: 0.0, y: None}) == 0.5


def test_programs_reuse_registers_and_drop_dead_steps() -> None:
    x = Value("x", (2,), "float32", "input")
    b = Builder()
    b.load(Value("unused", (2,), "float32", "input"))
    value = b.load(x)
    for i in range(50):
        value = b("add_f", value, value)
        b("mul_f", value, float(i + 2))
    code, count = b.encode(value)
    assert count == 52 and len(code) == 4 * count
    assert max(word >> 8 & 255 for word in code[::4]) <= 1
    assert b.used_inputs(value) == [x]
    for _ in range(20):
        value = b("add_f", value, value)
    with pytest.raises(ProgramTooLargeError):
        b.encode(value)


@QUICK
@given(
    st.lists(
        st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 6)),
        min_size=1,
        max_size=14,
    )
)
def test_memory_plans_never_overlap(items: list[tuple[int, int, int]]) -> None:
    storages = [_storage(f"s{i}", size) for i, (size, _, _) in enumerate(items)]
    dispatches = []
    for time in range(27):
        live = [
            s.view()
            for s, (_, first, length) in zip(storages, items, strict=True)
            if first <= time <= first + length
        ]
        operands = {f"in{i}": v for i, v in enumerate(live)}
        operands |= {p: operands.get(p) for pair in KERNELS["softmax"].inplace for p in pair}
        dispatches.append(Dispatch(KERNELS["softmax"], operands, {}, f"d{time}", None, None))
    plan = plan_memory(dispatches)
    check_plan(plan)
    assert plan.lower_bound <= plan.arena_size <= sum(s.size_bytes for s in storages)
    assert all(offset % 64 == 0 for offset in plan.offsets.values())


def _softmax(x: View, y: View) -> Dispatch:
    return Dispatch(KERNELS["softmax"], {"x": x, "y": y}, {"log": 0}, "softmax", None, None)


def test_in_place_only_where_the_input_dies() -> None:
    a, b, c = (_storage(n, 1, 1, 2, 64) for n in "abc")
    assert plan_memory([_softmax(a.view(), b.view())]).alias_of == {b: a}
    again = [_softmax(a.view(), b.view()), _softmax(a.view(), c.view())]
    assert plan_memory(again).alias_of == {c: a}
    other_rows = View(a, (1, 1, 1, 64), a.strides, 64)
    shifted = plan_memory([_softmax(other_rows, View(b, (1, 1, 1, 64), b.strides, 0))])
    assert shifted.alias_of == {}, "not the very same elements"
    larger = _storage("d", 1, 1, 3, 64)
    part = View(larger, (1, 1, 2, 64), larger.strides, 0)
    assert plan_memory([_softmax(part, b.view())]).alias_of == {}, "another size"


def test_aliases() -> None:
    assert aliases("input", ["image"]) == {"input_0": "image", "input": "image", "x": "image"}
    assert aliases("output", ["fc"])["logits"] == "fc"
    assert aliases("output", ["a", "b"]) == {"output_0": "a", "output_1": "b"}
    assert "input" not in aliases("input", ["input"])


def test_graph_checker_finds_broken_graphs() -> None:
    def graph():  # type: ignore[no-untyped-def]
        return load_ir_from_dict(small_cnn())

    check_graph(graph(), "nothing")
    broken = graph()
    broken.nodes.reverse()
    with pytest.raises(GraphCheckError, match=r"after a pass: .*before it is defined"):
        check_graph(broken, "a pass")
    broken = graph()
    broken.nodes[1].name = broken.nodes[0].name
    with pytest.raises(GraphCheckError, match="two nodes are named"):
        check_graph(broken, "a pass")
    broken = graph()
    broken.nodes[1].output.producer = broken.nodes[0]
    with pytest.raises(GraphCheckError, match="does not know"):
        check_graph(broken, "a pass")
    broken = graph()
    broken.outputs = [Value("stray", (1,), "float32", "node")]
    with pytest.raises(GraphCheckError, match="output 'stray' is not defined"):
        check_graph(broken, "a pass")
    broken = graph()
    broken.output_names = []
    with pytest.raises(GraphCheckError, match="names"):
        check_graph(broken, "a pass")
    fused = optimize_graph(graph(), check=True)
    fused.nodes[0].epilogue.residual = fused.inputs[0]
    with pytest.raises(GraphCheckError, match="residual"):
        check_graph(fused, "a pass")
