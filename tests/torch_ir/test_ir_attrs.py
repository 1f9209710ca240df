"""Attribute data: plain, exact, and back again for the operator's argument types."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_ir import ConversionError, SerializationError
from torch_ir.attrs import (
    attr_from_json,
    attr_to_json,
    decode_for_type,
    dtype_from_name,
    dtype_name,
    encode_attr,
    same_value,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers(allow_nan=True, allow_infinity=True)
    | st.text()
    | st.sampled_from(["inf", "-inf", "nan"])
)


@given(scalars | st.lists(scalars | st.lists(scalars)))
def test_json_round_trip_is_exact(value: Any) -> None:
    text = json.dumps(attr_to_json(value), allow_nan=False)
    assert repr(attr_from_json(json.loads(text), "here")) == repr(value)


@pytest.mark.parametrize(
    ("value", "name", "type_name"),
    [
        (torch.float32, "float32", "ScalarType"),
        (torch.bfloat16, "bfloat16", "Optional[ScalarType]"),
        (torch.bool, "bool", "ScalarType"),
        (torch.complex64, "complex64", "ScalarType"),
        (torch.float8_e4m3fn, "float8_e4m3fn", "ScalarType"),
        (torch.strided, "strided", "Optional[Layout]"),
        (torch.channels_last, "channels_last", "Optional[MemoryFormat]"),
        (torch.preserve_format, "preserve_format", "MemoryFormat"),
        (torch.device("cpu"), "cpu", "Optional[Device]"),
        (torch.device("cuda", 1), "cuda:1", "Device"),
        ("cpu", "cpu", "str"),
        (None, None, "Optional[Device]"),
        ([1, 2], [1, 2], "List[int]"),
        (math.inf, math.inf, "float"),
    ],
    ids=str,
)
def test_torch_values_have_names(value: Any, name: Any, type_name: str) -> None:
    assert encode_attr(value, "here") == name
    assert decode_for_type(name, type_name, "here") == value


def test_the_meta_device_means_the_cpu() -> None:
    assert encode_attr(torch.device("meta"), "here") == "cpu"


@pytest.mark.parametrize("type_name", ["ScalarType", "Layout", "MemoryFormat", "Device"])
@pytest.mark.parametrize("value", ["nothing", 3, [], True])
def test_unknown_names(type_name: str, value: Any) -> None:
    with pytest.raises(SerializationError, match="here"):
        decode_for_type(value, type_name, "here")


def test_values_that_no_ir_holds() -> None:
    for value in (object(), torch.Generator(), {1: 2}, [object()]):
        with pytest.raises(ConversionError, match="here"):
            encode_attr(value, "here")


@pytest.mark.parametrize("value", [{"complex": 3}, {"complex": [1]}, {"str": 3}, {}, {"a": 1}])
def test_unexpected_objects(value: Any) -> None:
    with pytest.raises(SerializationError, match="here"):
        attr_from_json(value, "here")


def test_every_dtype_has_a_name() -> None:
    for dtype in (torch.float16, torch.uint16, torch.int8, torch.complex128):
        assert dtype_from_name(dtype_name(dtype)) is dtype
    with pytest.raises(SerializationError, match="float33"):
        dtype_from_name("float33")


def test_same_value_is_strict() -> None:
    assert same_value([1, 2.0], (1, 2.0)) and same_value(math.nan, math.nan)
    for left, right in ((1, 1.0), (1, True), (0.0, -0.0), ([1], [1, 1]), (None, 0)):
        assert not same_value(left, right)
