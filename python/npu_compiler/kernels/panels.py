"""Schedules of matrix products by tiles (shaders/panel.h): what linear, gemm and conv2d share."""

from npu_compiler.kernels.schedule import Launch, Schedule, Scratch, SharedArray, Stage

THREADS = (256, 1, 1)
# Threadgroups from which on a GPU is full, about.
ENOUGH_GROUPS = 256
# Positions of the common axis that a threadgroup sums where several share a tile.
CHUNK = 256
CONSTANTS = {"PANEL_CHUNK": CHUNK}


def panel_arrays(rows: int, columns: int, depth: int) -> tuple[SharedArray, ...]:
    """Threadgroup arrays for tiles of so many rows and columns."""
    return (("x_tile", "f32", rows * depth), ("w_tile", "f32", columns * depth))


def split(
    shader: str,
    needs: tuple[str, ...],
    tiles: tuple[str, str],
    batch: str,
    common: str,
    finish: tuple[str, str, str],
    shared: tuple[SharedArray, ...] = (),
) -> Schedule:
    """Tiles of 64 x 64 that several threadgroups share, each with a chunk of the common axis: for
    products that have too few tiles to fill a GPU. ``tiles``: columns and rows of a product;
    ``batch``: products; ``finish``: threads that add the chunks up, as many as there are results.
    """
    columns, rows = (f"ceil_div({size}, 64)" for size in tiles)
    chunks = f"ceil_div({common}, {CHUNK})"
    return Schedule(
        "split",
        shader,
        needs,
        (
            f"{columns} * {rows} * ({batch}) < {ENOUGH_GROUPS // 2}",
            f"{common} >= {2 * CHUNK}",
        ),
        (
            Stage(
                Launch((columns, rows, f"{chunks} * ({batch})"), THREADS, unit="threadgroups"),
                (*panel_arrays(64, 64, 32), *shared),
                "sums",
            ),
            Stage(Launch(finish, THREADS), name="finish"),
        ),
        (Scratch("sums", "f32", f"{chunks} * ({' * '.join(f'({f})' for f in finish)})"),),
    )


def whole(
    name: str,
    shader: str,
    needs: tuple[str, ...],
    size: tuple[str, str, str],
    tile: tuple[int, int, int],
    shared: tuple[SharedArray, ...] = (),
    when: tuple[str, ...] = (),
) -> Schedule:
    """A threadgroup per tile; ``size`` is the grid, ``tile`` rows, columns and depth."""
    stage = Stage(Launch(size, THREADS, unit="threadgroups"), (*panel_arrays(*tile), *shared))
    return Schedule(name, shader, needs, when, (stage,))


def large(
    shader: str,
    needs: tuple[str, ...],
    size: tuple[str, str, str],
    shared: tuple[SharedArray, ...] = (),
) -> Schedule:
    """Schedule tiles_large: tiles of 128 x 128, where they fill a GPU."""
    when = (f"{' * '.join(size)} >= {ENOUGH_GROUPS}",)
    return whole("tiles_large", shader, needs, size, (128, 128, 16), shared, when)
