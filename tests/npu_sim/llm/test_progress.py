"""The bar that is shown while a model is loaded."""

from __future__ import annotations

import pytest

from npu_sim.llm.progress import shown


@pytest.mark.parametrize(("wanted", "terminal"), [(True, True), (True, False), (False, True)])
def test_a_bar_on_a_terminal(
    wanted: bool,
    terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.setenv(name, "1" if terminal else "")
    with shown(wanted) as report:
        report("loading weights", 1, 2)
    out, err = capsys.readouterr()
    assert out == "" and ("loading weights" in err) == (wanted and terminal)
