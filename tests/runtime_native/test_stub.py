"""The committed stub of the native module is the one that nanobind generates."""

from pathlib import Path

import npu_runtime
from npu_runtime import _native


def test_stub_is_up_to_date() -> None:
    generated = Path(_native.__file__).with_name("_native.pyi")
    committed = Path(npu_runtime.__file__).with_name("_native.pyi")
    assert committed.read_text() == generated.read_text(), (
        f"the bindings changed: cp {generated} {committed}"
    )
