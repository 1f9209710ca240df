"""Arguments of matrix products, convolutions, poolings, normalisations, attention, resizing."""

from __future__ import annotations

from itertools import pairwise

from tests.fuzz.builder import RejectedError, Value
from tests.fuzz.registry import Call, generator
from tests.fuzz.sampler import CHANNELS, SIZES, Sampler, Shape

ROWS = (1, 2, 3, 5, 17, 33)


def _maybe(s: Sampler, value: Value, percent: int = 60) -> Value | None:
    return value if s.chance(percent) else None


def _column(s: Sampler, ranks: tuple[int, int], size: int | None = None) -> Value:
    """A tensor whose last dimension has a size of its own."""
    last = s.pick(ROWS) if size is None else size
    return s.float(ranks, shape=lambda rank: (*_batch(s, rank - 1), last))


def _batch(s: Sampler, rank: int) -> Shape:
    return tuple(s.pick((1, 2, 3, 5)) for _ in range(rank))


@generator("linear")
def _linear(s: Sampler) -> Call:
    x = _column(s, (1, 4))
    n = s.pick(ROWS)
    weight = s.weight((n, x.shape[-1])) if s.chance(70) else s.fresh((n, x.shape[-1]))
    return [x, weight, s.weight((n,)) if s.chance(60) else None], {}


@generator("mm")
def _mm(s: Sampler) -> Call:
    x = _column(s, (2, 2))
    return [x, s.fresh((x.shape[1], s.pick(ROWS)))], {}


@generator("mv")
def _mv(s: Sampler) -> Call:
    x = _column(s, (2, 2))
    return [x, s.fresh((x.shape[1],))], {}


@generator("dot", "vdot", "inner")
def _dot(s: Sampler) -> Call:
    x = _column(s, (1, 1))
    return [x, s.fresh(x.shape)], {}


@generator("outer", "ger")
def _outer(s: Sampler) -> Call:
    return [_column(s, (1, 1)), _column(s, (1, 1))], {}


@generator("bmm")
def _bmm(s: Sampler) -> Call:
    x = _column(s, (3, 3))
    return [x, s.fresh((x.shape[0], x.shape[2], s.pick(ROWS)))], {}


@generator("matmul", "linalg_matmul")
def _matmul(s: Sampler) -> Call:
    x = _column(s, (1, 4))
    if s.chance(25):
        return [x, s.fresh((x.shape[-1],))], {}
    batch = s.broadcast_shape(x.shape[:-2]) if x.rank > 2 else _batch(s, s.integer(0, 2))
    return [x, s.fresh((*batch, x.shape[-1], s.pick(ROWS)))], {}


@generator("addmm", "addmv", "baddbmm", "addbmm")
def _addmm(s: Sampler) -> Call:
    name = s.record.op_type.split(".")[1]
    batched = name in ("baddbmm", "addbmm")
    a = _column(s, (3, 3) if batched else (2, 2))
    last = () if name == "addmv" else (s.pick(ROWS),)
    b = s.fresh((*a.shape[:-2], a.shape[-1], *last))
    shape = (*a.shape[(1 if name == "addbmm" else 0) : -1], *last)
    words = {"beta": s.pick([1, 0.5, 0]), "alpha": s.pick([1, 2])} if s.chance() else {}
    return [s.fresh(s.broadcast_shape(shape)), a, b], words


@generator("einsum")
def _einsum(s: Sampler) -> Call:
    n, m, k = s.pick(ROWS), s.pick(ROWS), s.pick(ROWS)
    b = s.integer(1, 3)
    equation, left, right = s.pick(
        [
            ("ij,jk->ik", (n, k), (k, m)),
            ("bij,bkj->bik", (b, n, k), (b, m, k)),
            ("bij,kj->bik", (b, n, k), (m, k)),
            ("bhid,bhjd->bhij", (b, 2, n, k), (b, 2, m, k)),
            ("i,j->ij", (n,), (m,)),
        ]
    )
    return [equation, [s.fresh(left), s.fresh(right)]], {}


def _pair(s: Sampler, low: int, high: int, count: int) -> list[int]:
    return [s.integer(low, high) for _ in range(count)]


def _image(s: Sampler, dims: int, channels: int, least: int = 1) -> Value:
    sizes = [n for n in SIZES if n >= least]
    return s.float(
        dims + 2,
        shape=lambda _: (s.integer(1, 2), channels, *(s.pick(sizes) for _ in range(dims))),
    )


def _conv_parts(s: Sampler, dims: int, transposed: bool) -> tuple[Value, Value, Value | None, int]:
    groups = s.pick([1, 1, 1, 2, 4])
    inner = groups * s.pick([1, 3, 8, 16] if dims < 3 else [1, 3])
    outer = groups * s.pick([1, 2, 5, 16] if dims < 3 else [1, 3])
    if s.chance(15):
        groups, outer = inner, inner
    taps = tuple(_pair(s, 1, 3, dims))
    ends = (inner, outer // groups) if transposed else (outer, inner // groups)
    shape = (*ends, *taps)
    weight = s.weight(shape) if s.chance(85) else s.fresh(shape)
    bias = s.weight((outer,)) if s.chance(60) else None
    return _image(s, dims, inner), weight, bias, groups


def _dims_of(s: Sampler) -> int:
    name = s.record.op_type.split(".")[1]
    return next((d for d in (1, 2, 3) if f"{d}d" in name), 2)


@generator("conv1d.default", "conv2d.default", "conv3d.default")
def _conv(s: Sampler) -> Call:
    dims = _dims_of(s)
    x, weight, bias, groups = _conv_parts(s, dims, False)
    steps = [_pair(s, 1, 3, dims), _pair(s, 0, 2, dims), _pair(s, 1, 2, dims)]
    return [x, weight, bias, *steps, groups], {}


@generator("conv1d.padding", "conv2d.padding", "conv3d.padding")
def _conv_padding(s: Sampler) -> Call:
    dims = _dims_of(s)
    x, weight, bias, groups = _conv_parts(s, dims, False)
    how = s.pick(["same", "valid"])
    strides = [1] * dims if how == "same" else _pair(s, 1, 2, dims)
    return [x, weight, bias, strides, how, _pair(s, 1, 2, dims), groups], {}


@generator("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def _conv_transpose(s: Sampler) -> Call:
    dims = _dims_of(s)
    x, weight, bias, groups = _conv_parts(s, dims, True)
    stride = _pair(s, 1, 3, dims)
    extra = [s.integer(0, n - 1) for n in stride]
    return [
        x, weight, bias, stride, _pair(s, 0, 1, dims), extra, groups, _pair(s, 1, 2, dims)
    ], {}  # fmt: skip


@generator("convolution.default", "_convolution")
def _convolution(s: Sampler) -> Call:
    dims = s.pick([2, 2, 1])
    transposed = s.chance(30)
    x, weight, bias, groups = _conv_parts(s, dims, transposed)
    stride = _pair(s, 1, 3, dims)
    extra = [s.integer(0, n - 1) if transposed else 0 for n in stride]
    steps = [stride, _pair(s, 0, 1, dims), _pair(s, 1, 2, dims), transposed, extra, groups]
    own = "_convolution" in s.record.op_type
    flags = [False, False, True, *([] if "deprecated" in s.record.op_type else [True])]
    flags = flags if own else []
    return [x, weight, bias, *steps, *flags], {}


def _window(s: Sampler, x: Value, dims: int) -> tuple[list[int], list[int], list[int]]:
    kernel = [s.integer(1, min(4, n)) for n in x.shape[-dims:]]
    padding = [s.integer(0, k // 2) for k in kernel]
    return kernel, s.pick([_pair(s, 1, 3, dims), []]), padding


@generator(
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices"
)
def _max_pool(s: Sampler) -> Call:
    dims = _dims_of(s)
    x = _image(s, dims, s.pick(CHANNELS if dims < 3 else (1, 3)))
    kernel, stride, padding = _window(s, x, dims)
    return [x, kernel, stride, padding, _pair(s, 1, 2, dims), s.chance(30)], {}


@generator("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(s: Sampler) -> Call:
    dims = _dims_of(s)
    x = _image(s, dims, s.pick(CHANNELS if dims < 3 else (1, 3)))
    kernel, stride, padding = _window(s, x, dims)
    last = [s.pick([None, None, 3])] if dims > 1 else []
    return [x, kernel, stride, padding, s.chance(30), s.chance(), *last], {}


@generator(
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_avg_pool3d",
)  # fmt: skip
def _adaptive_pool(s: Sampler) -> Call:
    dims = _dims_of(s)
    return [_image(s, dims, s.pick(CHANNELS)), _pair(s, 1, 5, dims)], {}


def _channels(s: Sampler, ranks: tuple[int, int] = (2, 5)) -> Value:
    return s.float(
        ranks, shape=lambda rank: (s.integer(1, 3), s.pick(CHANNELS), *s.shape(rank)[2:])
    )


def _statistics(s: Sampler, channels: int, affine: bool) -> list[Value | None]:
    def maybe(kind: str) -> Value | None:
        return s.weight((channels,), kind) if affine and s.chance(80) else None

    weight, bias = maybe("positive"), maybe("normal")
    return [weight, bias, s.weight((channels,)), s.weight((channels,), "positive")]


@generator("batch_norm")
def _batch_norm(s: Sampler) -> Call:
    x = _channels(s)
    return [x, *_statistics(s, x.shape[1], True), False, 0.1, 1e-5, True], {}


@generator("native_batch_norm")
def _native_batch_norm(s: Sampler) -> Call:
    x = _channels(s)
    return [x, *_statistics(s, x.shape[1], True), False, 0.1, 1e-3], {}


@generator("_native_batch_norm_legit_no_training")
def _legit_batch_norm(s: Sampler) -> Call:
    x = _channels(s)
    return [x, *_statistics(s, x.shape[1], True), 0.1, 1e-3], {}


@generator("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
def _layer_norm(s: Sampler) -> Call:
    x = s.float((1, 4), shape=lambda rank: tuple(s.pick((2, 3, 5, 33)) for _ in range(rank)))
    over = x.shape[x.rank - s.integer(1, min(2, x.rank)) :]
    weight = s.weight(over, "positive") if s.chance(70) else None
    if "rms" in s.record.op_type:
        return [x, list(over), weight, s.pick([1e-5, 1e-3])], {}
    bias = s.weight(over) if s.chance(70) else None
    return [x, list(over), weight, bias, s.pick([1e-5, 1e-3])], {}


@generator("group_norm")
def _group_norm(s: Sampler) -> Call:
    groups = s.pick([1, 2, 4])
    channels = groups * s.pick([1, 2, 5, 16])
    x = s.float((2, 4), shape=lambda rank: (s.integer(1, 3), channels, *s.shape(rank)[2:]))
    affine = [s.weight((channels,), "positive"), s.weight((channels,))]
    return [x, groups, *(affine if s.chance(70) else [None, None]), 1e-3], {}


@generator("native_group_norm")
def _native_group_norm(s: Sampler) -> Call:
    (x, groups, weight, bias, eps), _ = _group_norm(s)
    n, c = x.shape[:2]
    return [x, weight, bias, n, c, x.tensor.numel() // max(1, n * c), groups, eps], {}


@generator("instance_norm")
def _instance_norm(s: Sampler) -> Call:
    x = _channels(s, (3, 4))
    c = x.shape[1]
    affine = [s.weight((c,), "positive"), s.weight((c,))] if s.chance() else [None, None]
    return [x, *affine, None, None, True, 0.1, 1e-3, True], {}


@generator("prelu", "_prelu_kernel")
def _prelu(s: Sampler) -> Call:
    x = _channels(s, (2, 4))
    return [x, s.weight((s.pick([1, x.shape[1]]),))], {}


@generator("glu")
def _glu(s: Sampler) -> Call:
    x = s.float((1, 4), shape=lambda rank: tuple(2 * n for n in s.shape(rank)))
    return [x, s.dim(x.rank)], {}


@generator("chain_matmul", "linalg_multi_dot")
def _chain(s: Sampler) -> Call:
    sizes = [s.pick((1, 2, 3, 5)) for _ in range(s.integer(3, 5))]
    return [[s.fresh(pair) for pair in pairwise(sizes)]], {}


@generator("tensordot")
def _tensordot(s: Sampler) -> Call:
    a = s.float((1, 3), shape=lambda rank: tuple(s.pick((2, 3, 5)) for _ in range(rank)))
    count = s.integer(0, min(2, a.rank))
    dims = s.dims(a.rank, least=a.rank)[:count]
    other = (*(a.shape[d] for d in dims), s.integer(1, 4))
    return [a, s.fresh(other), dims, list(range(count))], {}


@generator("addr")
def _addr(s: Sampler) -> Call:
    a, b = _column(s, (1, 1)), _column(s, (1, 1))
    return [s.fresh(s.broadcast_shape((*a.shape, *b.shape))), a, b], {}


@generator("bilinear")
def _bilinear(s: Sampler) -> Call:
    a = _column(s, (2, 3))
    b = s.fresh((*a.shape[:-1], s.integer(1, 5)))
    n = s.integer(1, 4)
    weight = s.weight((n, a.shape[-1], b.shape[-1]))
    return [a, b, weight, s.weight((n,)) if s.chance() else None], {}


@generator("_scaled_dot_product_flash_attention_for_cpu")
def _flash_attention(s: Sampler) -> Call:
    shape = (s.integer(1, 2), s.pick([1, 2]), s.pick(ROWS), s.pick([4, 8, 20]))
    keys = (*shape[:2], s.pick(ROWS), shape[3])
    # PyTorch's kernel takes the last dimension for contiguous.
    q, k, v = (s.leaf(s.values(n, s.float_dtype)) for n in (shape, keys, keys))
    return [q, k, v, 0.0, s.chance(30)], {}


@generator("scaled_dot_product_attention", "_scaled_dot_product_attention_math")
def _attention(s: Sampler) -> Call:
    batch, heads, head = s.integer(1, 2), s.pick([1, 2, 4]), s.pick([1, 4, 8, 20])
    rows, keys, value = s.pick(ROWS), s.pick(ROWS), s.pick([head, 6])
    groups = s.pick([1, 2]) if heads % 2 == 0 else 1
    kv = heads // groups
    q = s.fresh((batch, heads, rows, head))
    k, v = s.fresh((batch, kv, keys, head)), s.fresh((batch, kv, keys, value))
    words: dict[str, object] = {"enable_gqa": True} if groups > 1 else {}
    if s.chance(30):
        words["scale"] = 0.3
    mask = None
    if s.chance(40):
        shape = s.broadcast_shape((batch, heads, rows, keys))
        shape = (1,) * max(0, 2 - len(shape)) + shape
        mask = s.fresh(shape, s.float_dtype)
    causal = mask is None and s.chance(40)
    return [q, k, v, mask, 0.0, causal, *([None] if "_math" in s.record.op_type else [])], words


@generator(
    "_upsample_nearest_exact2d.vec",
    "upsample_nearest2d.vec",
    "upsample_bilinear2d.vec",
    "upsample_bicubic2d.vec",
)
def _upsample(s: Sampler) -> Call:
    x = _image(s, 2, s.pick(CHANNELS))
    align = [] if "nearest" in s.record.op_type else [s.chance()]
    if s.chance():
        return [x, _pair(s, 1, 9, 2), *align, None], {}
    return [x, None, *align, [s.pick([2.0, 1.5, 0.5]), 2.0]], {}


@generator(
    "_upsample_nearest_exact2d.default",
    "upsample_nearest2d.default",
    "upsample_bilinear2d.default",
    "upsample_bicubic2d.default",
)
def _upsample_sizes(s: Sampler) -> Call:
    x = _image(s, 2, s.pick(CHANNELS))
    align = [] if "nearest" in s.record.op_type else [s.chance()]
    return [x, _pair(s, 1, 9, 2), *align], {}


@generator("_upsample_nearest_exact1d", "upsample_nearest1d", "upsample_linear1d")
def _upsample_1d(s: Sampler) -> Call:
    x = _image(s, 1, s.pick(CHANNELS))
    align = [s.chance()] if "linear" in s.record.op_type else []
    last = [] if s.record.op_type.endswith("default") else [None]
    return [x, [s.integer(1, 9)], *align, *last], {}


@generator("_weight_norm", "_weight_norm_interface")
def _weight_norm(s: Sampler) -> Call:
    shape = s.pick([(5, 3), (4, 3, 2), (6, 2, 3, 3)])
    dim = s.pick([0, len(shape) - 1])
    sizes = tuple(n if d == dim else 1 for d, n in enumerate(shape))
    return [s.weight(shape), s.weight(sizes, "positive"), dim], {}


@generator("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def _refused(s: Sampler) -> Call:
    raise RejectedError("no generator draws grids")
