"""Programs written by hand, of what the compiler does not make: outputs that dispatches name in
place of the input they take over, dispatches without threads, very many at once.
"""

from __future__ import annotations

from npu_compiler.kernels.scalar_ops import (
    BY_NAME,
    CONSTANT,
    LOAD,
    STORE,
    Instruction,
    float_bits,
)
from npu_compiler.program.schema import NONE
from tests.runtime_native.npubin_builder import Builder, Record
from tests.runtime_native.toy_program import elementwise_fields

# Elements of a tensor.
N = 16


def _apply(b: Builder, name: str, op: str, value: float, source: Record, target: Record) -> None:
    """A dispatch: target = source op value."""
    b.dispatch(
        name,
        "elementwise",
        {"in0": source, "out0": target},
        elementwise_fields(
            Instruction(LOAD, 0, a=0),
            Instruction(CONSTANT, 1, immediate=float_bits(value)),
            Instruction(BY_NAME[op].id, 2, a=0, b=1),
            Instruction(STORE, 0, a=2),
        ),
    )


def _tensor(b: Builder, name: str, kind: str, elements: int = N) -> int:
    return b.tensor(name, b.buffer(name, kind, 4 * elements), (elements,))


def _view(b: Builder, tensor: int, elements: int = N) -> Record:
    return b.view(tensor, (elements, 1, 1, 1, 1, 1))


def _entry(
    b: Builder,
    name: str,
    dispatches: int,
    inputs: list[int],
    outputs: list[tuple[int, int]],
    arena: int = 0,
) -> None:
    """Of the last dispatches; outputs with their donors."""
    first = len(b.sections["IOS"])
    for tensor, donor in [(t, NONE) for t in inputs] + outputs:
        b.add("IOS", name=b.sections["TENSORS"][tensor]["name"], tensor=tensor, donor=donor)
    b.add(
        "ENTRY_POINTS", name=name, dispatch_first=len(b.sections["DISPATCHES"]) - dispatches,
        dispatch_count=dispatches, input_first=first, input_count=len(inputs),
        output_first=first + len(inputs), output_count=len(outputs), arena_size=arena,
    )  # fmt: skip


def donated() -> bytes:
    """Entry swap: (x, state) -> (y = state, state = 2 x). Entry grow: state = 2 state + 1, by way
    of an intermediate. Dispatches write the outputs that the states are donated to.
    """
    b = Builder()
    x, old = _tensor(b, "x", "input"), _tensor(b, "state", "input")
    y, new = _tensor(b, "y", "output"), _tensor(b, "state_out", "output")
    _apply(b, "read", "mul_f", 1.0, _view(b, old), _view(b, y))
    _apply(b, "write", "mul_f", 2.0, _view(b, x), _view(b, new))
    _entry(b, "swap", 2, [x, old], [(y, NONE), (new, 1)])
    old, new = _tensor(b, "before", "input"), _tensor(b, "after", "output")
    between = b.tensor(
        "between", b.buffer("between", "arena", 4 * N, first_use=2, last_use=3), (N,)
    )
    _apply(b, "double", "mul_f", 2.0, _view(b, old), _view(b, between))
    _apply(b, "add", "add_f", 1.0, _view(b, between), _view(b, new))
    _entry(b, "grow", 2, [old], [(new, 0)], 64)
    return b.build()


def parts() -> bytes:
    """x -> y = 2 x, z = four elements of y from its fourth."""
    b = Builder()
    x = _tensor(b, "x", "input")
    y, z = _tensor(b, "y", "output"), _tensor(b, "z", "output")
    _apply(b, "whole", "mul_f", 2.0, _view(b, x), _view(b, y))
    _apply(b, "part", "mul_f", 1.0, {**_view(b, y, 4), "offset": 16}, _view(b, z, 4))
    _entry(b, "main", 2, [x], [(y, NONE), (z, NONE)])
    return b.build()


def nothing() -> bytes:
    """x -> y = a product of two matrices without columns, which begin where x ends."""
    b = Builder()
    x, y = _tensor(b, "x", "input"), _tensor(b, "y", "output")
    end = {**b.view(x, (1, 4, 0)), "offset": 4 * N}
    fields = {"activation": 0, "clamp_lo": 0.0, "clamp_hi": float("inf")}
    b.dispatch("product", "gemm", {"x": end, "w": end, "y": b.view(y, (1, 4, 4))}, fields)
    _entry(b, "main", 1, [x], [(y, NONE)])
    return b.build()


def float64() -> bytes:
    """x -> y = x * 1, all of float64."""
    b = Builder()
    x = b.tensor("x", b.buffer("x", "input", 8 * N), (N,), "f64")
    y = b.tensor("y", b.buffer("y", "output", 8 * N), (N,), "f64")
    _apply(b, "copy", "mul_f", 1.0, _view(b, x), _view(b, y))
    _entry(b, "main", 1, [x], [(y, NONE)])
    return b.build()


def constants(values: list[float]) -> bytes:
    """x -> y of a row for each value: x times the value."""
    b = Builder()
    x, y = _tensor(b, "x", "input"), _tensor(b, "y", "output", len(values) * N)
    for row, value in enumerate(values):
        place = {**_view(b, y), "offset": row * 4 * N}
        _apply(b, f"row{row}", "mul_f", value, _view(b, x), place)
    _entry(b, "main", len(values), [x], [(y, NONE)])
    return b.build()
