"""Weight recipes: what they compute, and that damaged ones are refused."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from npu_compiler.errors import RecipeError
from npu_compiler.program.recipes import RecipeStep, recipe_sources, run_recipe

RNG = np.random.default_rng(0)
W = RNG.standard_normal((5, 3, 2, 2)).astype(np.float32)
GAMMA, BETA, MEAN = (RNG.standard_normal(5).astype(np.float32) for _ in range(3))
VAR = RNG.random(5).astype(np.float32) + 0.2
SOURCES = {"w": W, "g": GAMMA, "b": BETA, "m": MEAN, "v": VAR}
LOAD = RecipeStep("load", sources=("w",))


def test_fold_batch_norm() -> None:
    keys = ("g", "b", "m", "v")
    weight = run_recipe((LOAD, RecipeStep("fold_bn_weight", keys, value=1e-3)), SOURCES)
    zeros = RecipeStep("zeros", args=(5,))
    bias = run_recipe((zeros, RecipeStep("fold_bn_bias", keys, value=1e-3)), SOURCES)
    scale = GAMMA.astype(np.float64) / np.sqrt(VAR.astype(np.float64) + 1e-3)
    np.testing.assert_allclose(weight, W * scale[:, None, None, None], rtol=2e-7)
    np.testing.assert_allclose(bias, BETA - MEAN * scale, rtol=1e-6, atol=1e-7)
    assert weight.dtype == bias.dtype == np.float32


def test_fold_without_gamma_and_beta() -> None:
    step = RecipeStep("fold_bn_bias", (None, None, "m", "v"), value=0.0)
    bias = run_recipe((RecipeStep("full", args=(5,), value=2.0), step), SOURCES)
    np.testing.assert_allclose(bias, (2.0 - MEAN) / np.sqrt(VAR), rtol=1e-6)


def test_layout_and_one_rounding() -> None:
    recipe = (
        LOAD,
        RecipeStep("cast", dtype="bfloat16"),
        RecipeStep("pad", args=(8, 4, 2, 2)),
        RecipeStep("permute", args=(0, 2, 3, 1)),
    )
    made = run_recipe(recipe, SOURCES)
    assert made.shape == (8, 2, 2, 4) and made.flags.c_contiguous
    expected = W.astype(ml_dtypes.bfloat16).transpose(0, 2, 3, 1)
    assert np.array_equal(made[:5, :, :, :3], expected)
    assert not made[5:].any() and not made[..., 3:].any()
    assert recipe_sources(recipe) == ["w"]


def test_slice_and_flip() -> None:
    steps = (RecipeStep("slice", args=(0, 1, 2, 2)), RecipeStep("flip", args=(1, 3)))
    made = run_recipe((LOAD, *steps), SOURCES)
    assert made.flags.c_contiguous
    assert np.array_equal(made, W[1:5:2, ::-1, :, ::-1])
    assert run_recipe((LOAD, RecipeStep("slice", args=(2, 0, 1, 0))), SOURCES).shape == (5, 3, 0, 2)
    for args in ((0, 1, 2, 3), (4, 0, 1, 1)):
        with pytest.raises(RecipeError, match="slice"):
            run_recipe((LOAD, RecipeStep("slice", args=args)), SOURCES)
    with pytest.raises(RecipeError, match="flip"):
        run_recipe((LOAD, RecipeStep("flip", args=(4,))), SOURCES)
    for op, bad in (("slice", (0, 1, 0, 1)), ("slice", (0, 1)), ("flip", (1, 1))):
        with pytest.raises(RecipeError, match=op):
            RecipeStep(op, args=bad)


def test_append() -> None:
    more = {"w": W, "x": W[:2] + 1}
    joined = run_recipe((LOAD, RecipeStep("append", sources=("x",))), more)
    assert np.array_equal(joined, np.concatenate([W, W[:2] + 1]))
    # Floating dtypes that differ are widened, so that neither side is rounded.
    half = {"w": W.astype(np.float16), "x": (W[:2] + 1).astype(ml_dtypes.bfloat16)}
    joined = run_recipe((LOAD, RecipeStep("append", sources=("x",))), half)
    assert joined.dtype == np.float32
    assert np.array_equal(joined, np.concatenate([t.astype(np.float32) for t in half.values()]))
    for other in (W[:, :2], W[0], W.astype(np.int32)):
        with pytest.raises(RecipeError, match="append"):
            run_recipe((LOAD, RecipeStep("append", sources=("x",))), {"w": W, "x": other})
    with pytest.raises(RecipeError, match="append"):
        RecipeStep("append", sources=(None,))


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_add_is_exact_in_float32(dtype: type) -> None:
    tensor = W.astype(dtype)
    made = run_recipe((LOAD, RecipeStep("add", value=1.0)), {"w": tensor})
    assert made.dtype == np.float32
    assert np.array_equal(made, tensor.astype(np.float32) + np.float32(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(7, 33), (2, 5, 16), (3, 1), (1500, 1000), (4, 0), (0, 4)])
def test_quantize_and_its_scales(dtype: type, shape: tuple[int, ...]) -> None:
    w = RNG.standard_normal(shape).astype(dtype)
    w[..., :1, :] = 0  # a row of zeros
    values = run_recipe((LOAD, RecipeStep("quantize")), {"w": w})
    scales = run_recipe((LOAD, RecipeStep("quantize_scale")), {"w": w})
    assert values.dtype == np.int8 and values.shape == shape
    assert scales.dtype == np.float32 and scales.shape == shape[:-1]
    wide = w.astype(np.float32)
    np.testing.assert_array_equal(scales, np.abs(wide).max(-1, initial=0) / np.float32(127))
    with np.errstate(invalid="ignore"):
        want = np.nan_to_num(np.rint(wide / scales[..., None]))
    np.testing.assert_array_equal(values, want)
    assert (np.abs(values * scales[..., None] - wide) <= 0.5001 * scales[..., None]).all()


def test_quantize_rounds_halves_to_even_and_knows_its_limits() -> None:
    w = np.array([[127, 0.5, 1.5, -2.5, -127], [1e-45, 0, 0, 0, -1e-45]], np.float32)
    values = run_recipe((LOAD, RecipeStep("quantize")), {"w": w})
    assert values[0].tolist() == [127, 0, 2, -2, -127]
    assert values.min() >= -127 and not values[1].any()
    for bad in (np.float32(np.nan), np.float32(np.inf)):
        for op in ("quantize", "quantize_scale"):
            with pytest.raises(RecipeError, match="not finite"):
                run_recipe((LOAD, RecipeStep(op)), {"w": np.where(w == 0.5, bad, w)})
    for wrong in (np.float32(1), np.ones((2, 2), np.int64)):
        with pytest.raises(RecipeError, match="no rows of floats"):
            run_recipe((LOAD, RecipeStep("quantize")), {"w": np.asarray(wrong)})


def test_a_tensor_without_dimensions_keeps_none() -> None:
    steps = (RecipeStep("load", sources=("w",)), RecipeStep("cast", dtype="float16"))
    assert run_recipe(steps, {"w": np.float32(1.5).reshape(())}).shape == ()


def test_weight_norm() -> None:
    made = run_recipe((LOAD, RecipeStep("weight_norm", ("g",), args=(0,))), SOURCES)
    norm = np.sqrt((W.astype(np.float64) ** 2).sum((1, 2, 3)))
    np.testing.assert_allclose(made, W * (GAMMA / norm)[:, None, None, None], rtol=1e-6)
    one = {**SOURCES, "g": np.float32([2.0])}
    made = run_recipe((LOAD, RecipeStep("weight_norm", ("g",))), one)
    np.testing.assert_allclose(np.sqrt((made.astype(np.float64) ** 2).sum()), 2, rtol=1e-6)
    for args in ((1,), (4,), ()):
        with pytest.raises(RecipeError, match="weight_norm"):
            run_recipe((LOAD, RecipeStep("weight_norm", ("g",), args=args)), SOURCES)
    with pytest.raises(RecipeError, match="at most one axis"):
        RecipeStep("weight_norm", ("g",), args=(0, 1))


def test_sources_of_another_dtype() -> None:
    half = {"w": W.astype(np.float16)}
    made = run_recipe((LOAD, RecipeStep("cast", dtype="float32")), half)
    assert np.array_equal(made, W.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ((), "empty"),
        ((RecipeStep("permute", args=(0, 1)),), "nothing to work on"),
        ((RecipeStep("load", sources=("gone",)),), "no tensor 'gone'"),
        ((LOAD, RecipeStep("permute", args=(1, 0))), "do not fit shape"),
        ((LOAD, RecipeStep("reshape", args=(7,))), "reshape"),
        ((LOAD, RecipeStep("pad", args=(4, 3, 2, 2))), "cannot be padded"),
        ((LOAD, RecipeStep("fold_bn_weight", ("g", None, None, "w"))), "var has shape"),
    ],
)
def test_recipes_that_do_not_fit(recipe: tuple[RecipeStep, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run_recipe(recipe, SOURCES, "my.weight")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"op": "explode"}, "unknown recipe step"),
        ({"op": "load"}, "1 sources expected"),
        ({"op": "load", "sources": (None,)}, "'tensor' is missing"),
        ({"op": "fold_bn_bias", "sources": ("g", "b", None, "v")}, "'mean' is missing"),
        ({"op": "permute", "args": (0, 0)}, "no permutation"),
        ({"op": "zeros", "args": (-1,)}, "invalid arguments"),
        ({"op": "zeros", "args": (1 << 30, 1 << 30)}, "too large"),
        ({"op": "cast"}, "dtype"),
        ({"op": "cast", "dtype": "float8"}, "unknown dtype"),
        ({"op": "zeros", "dtype": "float32"}, "for cast alone"),
        ({"op": "fold_bn_weight", "sources": (None, None, None, "v"), "value": -1.0}, "epsilon"),
        ({"op": "add", "value": float("inf")}, "finite"),
    ],
)
def test_invalid_steps(fields: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        RecipeStep(**fields)  # type: ignore[arg-type]
