"""What fuzzing has found, as small as it could be made. Each was wrong once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.fuzz.builder import Builder, RejectedError, Value
from tests.fuzz.check import check
from tests.npu_compiler.harness import DEVICES, images


def verify(
    inputs: list[torch.Tensor],
    *calls: tuple[str, list[Any], dict[str, Any]],
    weights: tuple[torch.Tensor, ...] = (),
    compute_dtype: str = "float32",
) -> None:
    """Run calls one after another on every device; a string among arguments names a value: ``x0``
    an input, ``w0`` a weight, ``y0`` the (first) result of a call."""
    builder = Builder()
    values: dict[str, Value] = {f"x{i}": builder.input(t) for i, t in enumerate(inputs)}
    values |= {f"w{i}": builder.weight(t) for i, t in enumerate(weights)}
    for index, (op_type, args, words) in enumerate(calls):
        found = builder.call(
            op_type, [values.get(a, a) if isinstance(a, str) else a for a in args], words
        )
        values[f"y{index}"] = found[0]
    case = builder.case([values[f"y{len(calls) - 1}"]])
    check(case, compute_dtype, DEVICES, orders=True)


def test_a_weight_without_dimensions() -> None:
    """Its recipe made one dimension of none."""
    verify([images(2, 3)], ("aten.mul.Tensor", ["x0", "w0"], {}), weights=(torch.tensor(1.5),))


def test_a_cast_to_uint8_of_a_padded_image() -> None:
    """Whether padding stays zero was asked with a float where the operation takes an integer."""
    x = torch.randint(-9, 9, (2, 20, 3, 4), dtype=torch.int32)
    verify([x], ("aten._to_copy.default", ["x0"], {"dtype": torch.uint8}))


@pytest.mark.parametrize("name", ["__and__", "__or__", "__xor__", "bitwise_xor"])
def test_bits_of_a_padded_image(name: str) -> None:
    x = torch.randint(-9, 9, (2, 20, 3, 4), dtype=torch.int16)
    verify([x], (f"aten.{name}.Scalar", ["x0", 5], {}))


def test_powers_of_integers_of_a_padded_image() -> None:
    x = torch.randint(0, 5, (2, 20, 3, 4), dtype=torch.int32)
    verify([x, x.clone()], ("aten.pow.Tensor_Tensor", ["x0", "x1"], {}))


@pytest.mark.parametrize("number", [0.5, 2])
def test_softmax_of_a_sum_with_a_number(number: float) -> None:
    """The number was taken for the scores."""
    verify(
        [images(5)],
        ("aten.add.Tensor", ["x0", number], {}),
        ("aten._softmax.default", ["y0", -1, False], {}),
    )


@pytest.mark.parametrize("name", ["eq", "ne", "ge", "lt"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_comparison_with_a_number_that_the_dtype_rounds(name: str, dtype: torch.dtype) -> None:
    """PyTorch rounds the number to the tensor's dtype first."""
    x = torch.tensor([-0.3, 0.3, 0.1], dtype=dtype)
    verify(
        [x],
        (f"aten.{name}.Scalar", ["x0", -0.3], {}),
        compute_dtype=str(dtype).removeprefix("torch."),
    )


def test_softplus_far_below_zero() -> None:
    """log(1 + exp(x)) loses the digits that log1p(exp(x)) keeps."""
    verify([torch.linspace(-12, -9, 40)], ("aten.softplus.default", ["x0"], {}))


def test_indices_of_take_along_dim_may_be_negative() -> None:
    index = torch.tensor([[0, -1, 2], [-3, 1, 1]])
    verify([images(2, 4), index], ("aten.take_along_dim.default", ["x0", "x1", 1], {}))


@pytest.mark.parametrize(
    ("op_type", "inputs", "args"),
    [
        # It crops first and repeats what is left.
        ("aten.pad.default", [images(1, 3, 4, 4)], ["x0", [-1, 1, 0, 0], "circular"]),
        ("aten.prelu.default", [torch.tensor(1.5), torch.tensor([0.25])], ["x0", "x1"]),
    ],
)
def test_what_is_refused_now(op_type: str, inputs: list[torch.Tensor], args: list[Any]) -> None:
    """Wrong numbers, or an error that named nothing."""
    with pytest.raises(RejectedError, match=r"circular|weight"):
        verify(inputs, (op_type, args, {}))


def test_writes_in_place_through_views() -> None:
    """Never wrong, but what fuzzing does has to be able to go wrong."""
    builder = Builder()
    x = builder.input(images(3, 4))
    (y,) = builder.call("aten.neg.default", [x], {})
    (row,) = builder.call("aten.select.int", [y, 0, 1], {})
    (before,) = builder.call("aten.add.Tensor", [y, 0.5], {})
    builder.call_in_place("aten.mul_.Scalar", [row, 3.0], {})
    case = builder.case([y, before])
    assert torch.equal(y.tensor[1], x.tensor[1] * -3)
    check(case, "float32", DEVICES, orders=True)
    with pytest.raises(RejectedError, match="input"):
        builder.call_in_place("aten.mul_.Scalar", [x, 3.0], {})


@pytest.mark.parametrize("meshgrid", [False, True])
def test_results_of_operators_on_lists_share_memory(meshgrid: bool) -> None:
    """They were copies, in the compiler's mind, and did not see writes to their operands."""
    builder = Builder()
    x, other = builder.input(images(4)), builder.input(images(3 if meshgrid else 1, seed=1))
    (y,) = builder.call("aten.neg.default", [x], {})
    words = {"indexing": "xy"} if meshgrid else {}
    name = "meshgrid.indexing" if meshgrid else "broadcast_tensors.default"
    results = builder.call(f"aten.{name}", [[y, other]], words)
    builder.call_in_place("aten.mul_.Scalar", [y, 3.0], {})
    case = builder.case([*results, y])
    assert torch.equal(results[0].tensor.flatten()[:4], x.tensor * -3)
    check(case, "float32", DEVICES, orders=True)


def test_positive_is_its_operand() -> None:
    """It did not see writes to it."""
    builder = Builder()
    (y,) = builder.call("aten.neg.default", [builder.input(images(4))], {})
    (same,) = builder.call("aten.positive.default", [y], {})
    builder.call_in_place("aten.mul_.Scalar", [y, 3.0], {})
    check(builder.case([same, y]), "float32", DEVICES)


def test_a_norm_multiplied_by_itself() -> None:
    """It became a norm whose weight was itself."""
    verify(
        [images(33)],
        ("aten.rms_norm.default", ["x0", [33], None, 1e-5], {}),
        ("aten.mul.Tensor", ["y0", "y0"], {}),
    )


@pytest.mark.parametrize("name", ["remainder", "fmod"])
def test_remainders_of_a_number_that_the_dtype_rounds(name: str) -> None:
    x = torch.arange(10, dtype=torch.float16)
    verify([x], (f"aten.{name}.Scalar", ["x0", 0.3], {}), compute_dtype="float16")


def test_bitwise_not_of_what_was_a_bool() -> None:
    """It became the logical one."""
    verify(
        [images(9) > 0],
        ("aten._to_copy.default", ["x0"], {"dtype": torch.uint8}),
        ("aten.bitwise_not.default", ["y0"], {}),
    )
