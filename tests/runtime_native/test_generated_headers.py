"""The generated C++ headers say what the Python records say, byte for byte."""

from __future__ import annotations

import ctypes
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from npu_compiler.dtypes import DTYPES
from npu_compiler.kernels import KERNELS, scalar_ops
from npu_compiler.kernels.record import Kernel
from npu_compiler.program import schema

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / "tools" / "generate_headers.py"
TYPES = {
    "npu_u32": ctypes.c_uint32,
    "npu_i32": ctypes.c_int32,
    "npu_i64": ctypes.c_int64,
    "npu_f32": ctypes.c_float,
    "std::uint8_t": ctypes.c_uint8,
    "std::uint16_t": ctypes.c_uint16,
    "std::uint32_t": ctypes.c_uint32,
    "std::uint64_t": ctypes.c_uint64,
    "std::int64_t": ctypes.c_int64,
    "double": ctypes.c_double,
    "StringRef": ctypes.c_uint32 * 2,
}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of generated files, made by a Python without site-packages."""
    out = tmp_path_factory.mktemp("generated")
    run = [sys.executable, "-I", "-S", str(GENERATOR), "--out", str(out)]
    first = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert first.count("generated") == 3
    again = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert again == "", "unchanged files must not be written again"
    return out


def c_struct(text: str, name: str) -> type[ctypes.Structure]:
    """The struct as a C compiler lays it out: natural alignment, members in order."""
    body = re.search(rf"struct {name} \{{\n(.*?)\n\}};", text, re.S)
    assert body, name
    members: list[tuple[str, type]] = []
    for line in body[1].splitlines():
        member = re.match(r"\s*([\w:]+) (\w+)(?:\[(\d+)\])?;", line)
        assert member, line
        kind: type = TYPES[member[1]]
        members.append((member[2], kind * int(member[3]) if member[3] else kind))
    return type(name, (ctypes.Structure,), {"_fields_": members})


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=lambda k: k.name)
def test_parameter_struct_is_what_packing_by_the_record_gives(
    kernel: Kernel, generated: Path
) -> None:
    layout = c_struct((generated / "npu_kernel_params.h").read_text(), kernel.struct_name)
    params = layout()
    packed = b""
    number = 1
    for o in kernel.operands:
        shape = list(range(number, number + len(o.axes)))
        strides = [-(1 << 40) - n for n in shape]
        number += len(o.axes)
        for axis, n, s in zip(o.axes, shape, strides, strict=True):
            setattr(params, f"{o.name}_{axis}", n)
            setattr(params, f"{o.name}_s{axis}", s)
        packed += struct.pack(f"<{len(shape)}I", *shape)
        if o.dtype == "any":
            setattr(params, f"{o.name}_dtype", number)
            packed += struct.pack("<I", number)
        packed += bytes(-len(packed) % 8) + struct.pack(f"<{len(strides)}q", *strides)
    fields: dict[str, object] = {}
    for index, f in enumerate(kernel.fields):
        values = [index + k + 1 for k in range(f.count)]
        fields[f.name] = values if f.count > 1 else values[0]
        member = getattr(params, f.name)
        setattr(params, f.name, type(member)(*values) if f.count > 1 else values[0])
    packed += kernel.pack_fields(fields)
    packed += bytes(-len(packed) % 8)
    assert bytes(params) == packed


RECORDS = [schema.HEADER, schema.SECTION, *(r for r in schema.SECTIONS.values() if r)]


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.name)
def test_schema_struct_is_what_the_record_packs(record: schema.Record, generated: Path) -> None:
    layout = c_struct((generated / "npubin_schema.hpp").read_text(), record.name)
    assert ctypes.sizeof(layout) == record.size
    flat = list(range(1, len(record.format.unpack(bytes(record.size))) + 1))
    value = layout.from_buffer_copy(record.format.pack(*flat))
    at = 0
    for f in record.fields:
        count = len(f.format)
        member = getattr(value, f.name)
        found = list(member) if count > 1 else [member]
        assert found == flat[at : at + count], f.name
        at += count


def test_constants(generated: Path) -> None:
    header = (generated / "npu_kernel_params.h").read_text()
    defines = {m[1]: int(m[2]) for m in re.finditer(r"#define NPU_(\w+) (\d+)", header)}
    for d in DTYPES.values():
        assert defines[f"DTYPE_{d.short.upper()}"] == d.id
    for k in KERNELS.values():
        assert defines[f"KERNEL_{k.name.upper()}"] == k.id
        assert defines[f"{k.name.upper()}_PARAM_BYTES"] <= 4096
    for op in scalar_ops.SCALAR_OPS:
        assert defines[f"OP_{op.name.upper()}"] == op.id
    assert defines["MAX_REGISTERS"] == scalar_ops.MAX_REGISTERS
    text = (generated / "npubin_schema.hpp").read_text()
    for name, values in schema.ENUMS.items():
        body = re.search(rf"enum class {name} : std::uint32_t \{{\n(.*?)\n\}};", text, re.S)
        assert body
        assert [int(n) for n in re.findall(r"= (\d+)", body[1])] == list(values.values())
