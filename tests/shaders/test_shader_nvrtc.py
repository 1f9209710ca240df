"""Every shader compiles with NVRTC, without a GPU or CUDA headers, and has its entry points."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.shaders import nvrtc
from tests.shaders.texts import ENTRIES, shader_text

ARCHITECTURES = ("compute_80", "compute_90")

pytestmark = pytest.mark.skipif(nvrtc.nvrtc() is None, reason=nvrtc.MISSING)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shader", ENTRIES)
def test_shader_compiles(shader: str, architecture: str) -> None:
    ptx, log = nvrtc.compile_cuda(shader_text(shader, "cuda"), architecture)
    assert log == ""
    assert f".target sm_{architecture.removeprefix('compute_')}".encode() in ptx
    entries = re.findall(r"\.entry (\w+)", ptx.decode())
    assert sorted(entries) == sorted(ENTRIES[shader])


def test_error_names_the_shader_and_its_line() -> None:
    text = shader_text("softmax.metal", "cuda").replace("npu_log(sum)", "npu_log(amount)")
    ptx, log = nvrtc.compile_cuda(text, ARCHITECTURES[0])
    assert ptx == b""
    source = Path(__file__).parents[2] / "shaders" / "softmax.metal"
    line = source.read_text().splitlines().index("  const npu_f32 log_sum = npu_log(sum);") + 1
    assert f'shaders/softmax.metal({line}): error: identifier "amount" is undefined' in log
