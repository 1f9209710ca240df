"""The progress bar of loading a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str, int, int], None]


@contextmanager
def shown(progress: Report | bool) -> Iterator[Report]:
    """A function to report (what, done, in all) to: the given one, or one that draws a bar on
    stderr where that is a terminal.
    """
    if callable(progress):
        yield progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    disable = not (progress and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=disable) as display:
        task = display.add_task("", total=None)
        yield lambda what, done, total: display.update(
            task, description=what, completed=done, total=total
        )
