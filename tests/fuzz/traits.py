"""What fuzzing must know of operators beyond their schema: which ones are exact, which ones jump.

Everything that is not listed is taken for continuous and rounded.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Results are elements of the operands (or their negation): exact where the operands are.
_SELECTING = _names(
    """
    _to_copy _unsafe_view abs adaptive_max_pool1d adaptive_max_pool2d alias alpha_dropout amax amin
    arange as_strided atleast_1d atleast_2d atleast_3d broadcast_tensors broadcast_to cat
    channel_shuffle chunk clamp clamp_max clamp_min clone concat constant_pad_nd contiguous copy
    detach detach_ diag_embed diagonal diagonal_scatter dropout embedding expand expand_as eye
    feature_dropout fill flatten flip fliplr flipud full full_like gather hardtanh hsplit index
    index_copy index_fill index_put index_select lift_fresh_copy masked_fill masked_scatter max
    max_pool1d max_pool2d max_pool3d maximum meshgrid min minimum moveaxis movedim narrow
    native_channel_shuffle neg new_full new_ones new_zeros numpy_T ones ones_like pad permute
    pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d relu relu6 repeat
    repeat_interleave replication_pad1d replication_pad2d reshape roll rot90 select select_scatter
    slice slice_scatter split split_with_sizes squeeze stack swapaxes swapdims t take
    take_along_dim tensor_split tile to transpose tril triu type_as unbind unflatten unfold
    unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze upsample_nearest1d
    upsample_nearest2d view view_as where zero zeros zeros_like
    """
)
# A rounding error of an operand may change the result at will: operands must be exact. So are the
# results: comparisons, whole numbers, elements in another order.
_EXACT_JUMPS = _names(
    """
    __and__ __or__ __xor__ adaptive_max_pool1d_with_indices all any argmax argmin argsort
    bitwise_and bitwise_not bitwise_or bitwise_xor ceil cummax cummin eq fix floor ge gt
    heaviside isfinite isinf isnan isneginf isposinf le logical_and logical_not logical_or
    logical_xor lt max_pool1d_with_indices max_pool2d_with_indices msort nan_to_num ne nonzero
    round searchsorted bucketize sgn sign signbit sort topk trunc
    """
)
# The same, with results that are rounded.
_ROUNDED_JUMPS = _names("arctan2 atan2 copysign floor_divide fmod frac nextafter remainder tan")
JUMPS = _EXACT_JUMPS | _ROUNDED_JUMPS
EXACT = _SELECTING | _EXACT_JUMPS
# Rounding inside of the operator is lost to cancellation, whatever its operands are: the sine of a
# rounded multiple of pi, one minus nearly one.
CANCELLING = _names("gelu sinc")
# They keep results of their own steps in memory, rounded to the storage dtype.
STEPPING = _names("addbmm addmv addr bilinear chain_matmul einsum linalg_multi_dot")
# Their results are memory as it was found.
UNINITIALISED = _names("empty empty_like empty_permuted empty_strided new_empty new_empty_strided")


def base_name(op_type: str) -> str:
    """``add`` of ``aten.add.Tensor``, ``round`` of ``aten.special_round.default``."""
    name = op_type.split(".")[1] if op_type.count(".") == 2 else op_type
    return name.removeprefix("special_")
