"""The .npubin: round trip, damage, atomic saving, and the facts a program states of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from npu_compiler.errors import ProgramFormatError
from npu_compiler.kernels import KERNELS
from npu_compiler.program import schema, writer
from npu_compiler.program.checksum import with_checksum
from npu_compiler.program.reader import read_program
from tests.npu_compiler.ir_builder import IRBuilder, small_cnn


@pytest.fixture(scope="module")
def data() -> bytes:
    return npu_compiler.compile(small_cnn()).to_bytes()


def test_round_trip(data: bytes, tmp_path: Path) -> None:
    program = npu_compiler.compile(small_cnn())
    assert program.to_bytes() == data, "compilation is deterministic"
    again = read_program(data)
    assert again.to_bytes() == data
    assert again == program
    path = tmp_path / "p.npubin"
    program.save(path)
    loaded = CompiledProgram.load(path)
    assert loaded.path == path and loaded.to_bytes() == path.read_bytes() == data


def test_facts(data: bytes) -> None:
    program = read_program(data)
    assert program.model_name == "hand" and program.compute_dtype == "float16"
    assert program.execution_plan == ["conv+bn+relu", "pool", "fc"]
    (x,), (y,) = program.input_specs, program.output_specs
    assert (x.name, x.shape, x.dtype) == ("x", (2, 3, 8, 8), "float32")
    assert (x.storage_dtype, x.alloc_shape, x.layout) == ("float16", (2, 64, 8, 8), "row_major")
    assert x.transform_steps == (
        {"op": "cast", "dtype": "float16"},
        {"op": "pad", "shape": [2, 64, 8, 8]},
    )
    assert (y.name, y.shape, y.alloc_shape, y.dtype) == ("fc", (2, 10), (2, 10), "float32")
    assert program.weight_name_mapping["p_fc_bias"] == "fc.bias"
    conv, _, gemm = program.kernel_calls
    assert conv.kernel_source == KERNELS["conv2d"].shader and conv.dispatch_type == "3d"
    assert gemm.output_buffers == (y.buffer,) and len(gemm.input_buffers) == 3
    assert conv.flops == 2 * 2 * 8 * 8 * 64 * 9 * 3
    assert {b.kind for b in program.buffer_allocations} == {"input", "output", "arena", "weight"}
    assert all(b.size_bytes % 64 == 0 for b in program.buffer_allocations)
    sources = {s.name: s.shape for s in program.source_tensors}
    assert sources["conv.weight"] == (20, 3, 3, 3) and "bn.running_var" in sources


def test_sources_reach_the_program() -> None:
    ir = small_cnn()
    ir["nodes"][-1]["source"] = {"module": "fc", "location": "net.py:12"}
    call = read_program(npu_compiler.compile(ir).to_bytes()).kernel_calls[-1]
    assert call.source is not None
    assert (call.source.module, call.source.file, call.source.line) == ("fc", "net.py", 12)


def test_large_channel_inputs_are_channels_last() -> None:
    b = IRBuilder()
    x = b.input("x", 2, 20, 3, 5)
    program = npu_compiler.compile(b.output(b.node("r", "aten.relu.default", [x], [2, 20, 3, 5])))
    (spec,) = program.input_specs
    assert spec.layout == "channels_last" and spec.alloc_shape == (2, 64, 3, 5)
    assert spec.strides == (3 * 5 * 64, 1, 5 * 64, 64)
    assert spec.transform_steps[-1] == {"op": "permute", "axes": [0, 2, 3, 1]}
    # Zero stays zero under relu, so the padding is computed along: one dispatch over dense memory.
    (call,) = program.kernel_calls
    assert call.operands[-4].shape == (1, 1, 1, 1, 1, 2 * 64 * 3 * 5)


def test_truncation_and_excess(data: bytes) -> None:
    for size in {0, 1, 7, 63, 64, 100, 500, len(data) // 2, len(data) - 1}:
        with pytest.raises(ProgramFormatError):
            read_program(data[:size])
    with pytest.raises(ProgramFormatError, match="the header says"):
        read_program(data + b"\0")


def test_every_flipped_byte_is_noticed(data: bytes) -> None:
    for at in [*range(schema.HEADER.size), *range(schema.HEADER.size, len(data), 97)]:
        flipped = bytearray(data)
        flipped[at] ^= 0x55
        with pytest.raises(ProgramFormatError):
            read_program(bytes(flipped))


def test_flips_behind_a_right_checksum_never_give_another_exception(data: bytes) -> None:
    refused = 0
    for at in range(schema.HEADER.size, len(data), 5):
        for value in (0xFF, 0x01):
            flipped = bytearray(data)
            flipped[at] ^= value
            try:
                read_program(with_checksum(bytes(flipped)))
            except ProgramFormatError as error:
                assert str(error)
                refused += 1
    assert refused > 100


def test_versions(data: bytes) -> None:
    newer_major = data[:8] + (schema.VERSION_MAJOR + 1).to_bytes(2, "little") + data[10:]
    with pytest.raises(ProgramFormatError, match=f"format version {schema.VERSION_MAJOR + 1}"):
        read_program(newer_major)
    with pytest.raises(ProgramFormatError, match=r"not a \.npubin"):
        read_program(b"PK" + data[2:])


def test_records_may_be_longer_than_known(data: bytes) -> None:
    """A newer minor version appends fields: the stored record size is the stride."""
    program = read_program(data)
    kind = list(schema.SECTIONS).index("SOURCE_TENSORS")
    entry = schema.HEADER.size + kind * schema.SECTION.size
    found = schema.SECTION.format.unpack_from(data, entry)
    _, size, offset, count = found
    body = b"".join(
        data[offset + i * size : offset + (i + 1) * size] + b"\xaa" * 8 for i in range(count)
    )
    end = len(data)
    longer = bytearray(data + body.ljust(-(-len(body) // 64) * 64, b"\0"))
    schema.SECTION.format.pack_into(longer, entry, kind, size + 8, end, count)
    longer[16:24] = len(longer).to_bytes(8, "little")
    assert read_program(with_checksum(bytes(longer))).source_tensors == program.source_tensors


def test_saving_is_atomic(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.npubin"
    path.write_bytes(b"before")

    def fail(source: str, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(writer.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        read_program(data).save(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CompiledProgram.load(tmp_path / "none.npubin")


def test_constants_are_in_the_program() -> None:
    b = IRBuilder()
    x, k = b.input("x", 2, 3), b.constant("k", [1.0, "-inf", "nan"], [3])
    program = npu_compiler.compile(b.output(b.node("add", "aten.add.Tensor", [x, k], [2, 3])))
    again = read_program(program.to_bytes())
    # An elementwise operand keeps float32, whatever the compute dtype.
    stored = np.frombuffer(again.constants, np.float32)[:3]
    assert stored[0] == 1 and stored[1] == -np.inf and np.isnan(stored[2])
    assert not again.weight_specs


def test_schema_and_kernels_need_only_the_standard_library() -> None:
    code = (
        "import sys, npu_compiler, npu_compiler.kernels, npu_compiler.program.schema, "
        "npu_compiler.dtypes; "
        "bad = {'numpy', 'ml_dtypes', 'torch', 'json'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=_environment())


def test_the_compiler_never_imports_torch_or_the_runtime() -> None:
    code = (
        "import sys, npu_compiler\n"
        "for name in npu_compiler.__all__: getattr(npu_compiler, name)\n"
        "npu_compiler.get_supported_ops()\n"
        "bad = {'torch', 'torch_ir', 'npu_runtime', 'npu_sim'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=_environment())


def _environment() -> dict[str, str]:
    package = Path(npu_compiler.__file__).parent.parent
    return {"PYTHONPATH": str(package), "PATH": ""}


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = npu_compiler.nothing_like_this
    assert "compile" in dir(npu_compiler)
