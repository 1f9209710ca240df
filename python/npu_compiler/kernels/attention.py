"""The attention kernel: softmax(scale * q k^T + mask) v without storing the scores."""

from npu_compiler.kernels.conv import FLOAT_TYPES
from npu_compiler.kernels.record import Field, Kernel, Launch, Operand
from npu_compiler.kernels.schedule import Schedule, Scratch, Stage

# Rows of queries, keys, and columns of v that a threadgroup of the shader handles at a time.
ATTENTION_ROWS = 32
ATTENTION_COLUMNS = 64

_OUTER_AXES = {"q": "bhm", "k": "bhn", "v": "bhn"}
# Rows of queries, keys and values can be loaded 16 bytes at a time, and are at most 256 wide.
WIDE = (
    *(f"{o}.sd == 1 and {o}.offset % 16 == 0" for o in "qkv"),
    *(
        f"{o}.s{a} * {o}.item % 16 == 0"
        for o, m in zip("qkv", "mnn", strict=True)
        for a in f"bh{m}"
    ),
    "q.d * q.item % 16 == 0 and v.d * v.item % 16 == 0",
    "q.d <= 256 and v.d <= 256",
)
# Queries of all the heads that share keys, for which reading keys and values is all that counts.
FEW_QUERIES = 96
# Of schedule split: keys and queries of a part, columns that are joined at a time.
SPLIT_KEYS = 64
SPLIT_ROWS = 8
JOIN_COLUMNS = 32
# Of schedule group: queries of a threadgroup, which takes so many parts of keys at a time, and the
# most turns of them. A cache of 1024 tokens (with its row for what is not kept) fits.
GROUP_ROWS = 1
GROUP_PARTS = 2
GROUP_KEYS = 1280
GROUP_TURNS = GROUP_KEYS // (GROUP_PARTS * SPLIT_KEYS)
# Keys times queries of a head of keys up to which it is chosen.
GROUP_MOST = 1 << 13
# Queries and columns of a threadgroup of schedule tiles.
TILE_ROWS = 32
TILE_COLUMNS = 128
# Keys of a part of schedule tiles_split.
TILES_SPLIT_KEYS = 512


def _scratch(keys: int) -> tuple[Scratch, ...]:
    """Of each query and part of ``keys`` keys: sums of values; the largest score and the sum of
    exponentials.
    """
    parts = f"y.b * y.h * y.m * ceil_div(k.n, {keys})"
    return Scratch("sums", "f32", f"{parts} * v.d"), Scratch("stats", "f32", f"{parts} * 2")


def _groups(threads: int, x: str, y: str, z: str) -> Launch:
    return Launch((x, y, z), (threads, 1, 1), unit="threadgroups")


_TILE_SHARED = (("room", "f32", 2048), ("scores", "f32", TILE_ROWS * 68))
_TILES = (f"ceil_div(y.m, {TILE_ROWS})", f"ceil_div(y.d, {TILE_COLUMNS})", "y.b * y.h")

# Queries of all heads that share keys.
_ROWS = "q.m * (q.h // k.h)"

# A second launch costs about as much as a GPU core takes for a few hundred keys (docs/metal.md), so
# that over all positions of a cache of 1024 tokens one takes about as long as two.
GROUP = Schedule(
    "group",
    "attention_group.metal",
    (f"k.n <= {GROUP_KEYS}", *WIDE),
    (f"{_ROWS} <= {FEW_QUERIES}", f"{_ROWS} * k.n <= {GROUP_MOST}"),
    (
        Stage(
            _groups(256 * GROUP_PARTS, f"ceil_div({_ROWS}, {GROUP_ROWS})", "1", "y.b * k.h"),
            (
                ("queries", "f32", GROUP_ROWS * 256),
                ("scores", "f32", GROUP_PARTS * GROUP_ROWS * SPLIT_KEYS),
                # Of each SIMD group: sums of as many columns as a half has elements of 16 bytes.
                ("room", "f32", GROUP_PARTS * 8 * GROUP_ROWS * 128),
                ("stats", "f32", GROUP_TURNS * GROUP_PARTS * GROUP_ROWS * 2),
            ),
        ),
    ),
)
SPLIT = Schedule(
    "split",
    "attention_split.metal",
    WIDE,
    (f"{_ROWS} <= {FEW_QUERIES}",),
    (
        Stage(
            _groups(
                256,
                f"ceil_div(k.n, {SPLIT_KEYS})",
                f"ceil_div({_ROWS}, {SPLIT_ROWS})",
                "y.b * k.h",
            ),
            (("room", "f32", 2048), ("scores", "f32", SPLIT_ROWS * SPLIT_KEYS)),
            "part",
        ),
        Stage(
            _groups(256, "y.b * y.h * y.m", f"ceil_div(v.d, {JOIN_COLUMNS})", "1"),
            (("partial", "f32", 32 * (JOIN_COLUMNS + 1)),),
            "join",
        ),
    ),
    _scratch(SPLIT_KEYS),
)
# Where there are too few tiles to fill a GPU, each with many keys.
TILES_SPLIT = Schedule(
    "tiles_split",
    "attention_tiles.metal",
    WIDE,
    (f"k.n > {2 * TILES_SPLIT_KEYS}", f"{_TILES[0]} * {_TILES[1]} * {_TILES[2]} <= 256"),
    (
        Stage(
            _groups(128, f"{_TILES[0]} * ceil_div(k.n, {TILES_SPLIT_KEYS})", *_TILES[1:]),
            _TILE_SHARED,
            "part",
        ),
        Stage(_groups(256, "ceil_div(y.b * y.h * y.m, 8)", _TILES[1], "1"), name="join"),
    ),
    _scratch(TILES_SPLIT_KEYS),
)
TILES = Schedule(
    "tiles", "attention_tiles.metal", WIDE, (), (Stage(_groups(128, *_TILES), _TILE_SHARED),)
)

ATTENTION = Kernel(
    id=15,
    name="attention",
    shader="attention.metal",
    doc="""y[b, h, m] = softmax over n of (scale * q[b, h, m] . k[b, h / groups, n] + mask[b, h, m,
    n]) times v[b, h / groups, n], groups = q.h / k.h; scores, softmax and sums are float32 and
    scores are never stored as a matrix. With ``softcap`` c > 0 a score s becomes c tanh(s / c)
    before the mask is added.

    A floating-point mask is added; a bool mask keeps a key where it is true; the mask is of no
    other dtype. Query m stands at position m among the keys, or at positions[b, m] (int64 or int32)
    where these are given. With positions or ``causal`` it sees no key behind its own position, with
    ``window`` w > 0 none at or before its position minus w. Keys and values that no query of a
    batch element can see are not read; the order of a query's sums depends on its position alone,
    not on how many keys, queries or batch elements there are. On a GPU this holds for up to 96
    queries of the heads that share keys, whose schedules add in the same order however many keys
    there are, and for more queries among those that run by the same schedule. A query that sees no
    key (all its scores are -inf) gives zeros, as PyTorch's scaled_dot_product_attention does, or
    NaN (``empty_is_nan``), as a softmax does.""",
    operands=(
        Operand("q", ("b", "h", "m", "d")),
        Operand("k", ("b", "h", "n", "d")),
        Operand("v", ("b", "h", "n", "d")),
        Operand("mask", ("b", "h", "m", "n"), dtype="any", optional=True),
        Operand("positions", ("b", "m"), dtype="any", optional=True),
        Operand("y", ("b", "h", "m", "d"), access="write"),
    ),
    fields=(
        Field("scale", "f32", "factor of the products of queries and keys"),
        Field("causal", "u32", "1: query m sees only keys 0 to m"),
        Field("empty_is_nan", "u32", "1: a query without keys gives NaN, 0: zeros"),
        Field("window", "u32", "keys that a query sees up to its position; 0: all"),
        Field("softcap", "f32", "limit that scores approach by tanh; 0: none"),
    ),
    launch=Launch(
        (
            f"ceil_div(y.m, {ATTENTION_ROWS})",
            f"ceil_div(y.d, {ATTENTION_COLUMNS})",
            "y.b * y.h",
        ),
        (64, 1, 1),
        unit="threadgroups",
    ),
    types={"T": FLOAT_TYPES},
    requires=(
        "k.h >= 1",
        "q.b == y.b",
        "q.h == y.h",
        "q.m == y.m",
        "k.b == y.b",
        "k.d == q.d",
        "q.h % k.h == 0",
        "v.b == y.b",
        "v.h == k.h",
        "v.n == k.n",
        "v.d == y.d",
        "mask.b == y.b",
        "mask.h == y.h",
        "mask.m == y.m",
        "mask.n == k.n",
        "positions.b == y.b",
        "positions.m == y.m",
        "causal <= 1",
        "empty_is_nan <= 1",
    ),
    shared=(
        ("q_tile", "f32", 16 * 34),
        ("k_tile", "f32", 16 * 34),
        ("p_tile", "f32", ATTENTION_ROWS * 33),
        ("rows", "f32", 3 * ATTENTION_ROWS),
    ),
    flops="2 * y.b * y.h * y.m * k.n * (q.d + v.d)",
    schedules=(GROUP, SPLIT, TILES_SPLIT, TILES),
    constants={
        "SPLIT_KEYS": SPLIT_KEYS,
        "SPLIT_ROWS": SPLIT_ROWS,
        "JOIN_COLUMNS": JOIN_COLUMNS,
        "GROUP_ROWS": GROUP_ROWS,
        "GROUP_PARTS": GROUP_PARTS,
        "GROUP_TURNS": GROUP_TURNS,
        "TILES_ROWS": TILE_ROWS,
        "TILES_COLUMNS": TILE_COLUMNS,
        "TILES_SPLIT_KEYS": TILES_SPLIT_KEYS,
    },
)
