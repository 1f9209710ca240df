"""The table of shaders in docs/metal.md is what the kernel records say."""

from __future__ import annotations

from tests.docs import ladder


def test_the_table_is_up_to_date() -> None:
    assert ladder.page() == ladder.PAGE.read_text(encoding="utf-8"), "run make pages"


def test_the_table_has_every_shader() -> None:
    shaders = {path.name for path in (ladder.PAGE.parents[1] / "shaders").glob("*.metal")}
    assert set(ladder.launches()) == shaders
    assert {
        name for all_of in ladder.launches().values() for name in all_of
    } >= ladder.NOT_RUN_ON_A_GPU
