"""What the commands share: errors in one line, JSON, tables, progress on stderr, arguments."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from npu_compiler.errors import NpuError
from npu_sim.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else to stdout.")]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        "-d",
        metavar="KIND",
        help="Device to use: see `npu-sim devices`. Default: the fastest there is.",
    ),
]
ModeOption = Annotated[
    str,
    typer.Option(
        "--mode",
        metavar="MODE",
        help="How nodes are grouped into segments: cost (cheapest), consecutive (the IR's order).",
    ),
]
ProgramArgument = Annotated[
    Path,
    typer.Argument(metavar="PROGRAM", help="A compiled program (.npubin).", show_default=False),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="FILE",
        help="Weights: a .safetensors file or a directory of shards.",
        show_default=False,
    ),
]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=FILE",
        help="An input array (.npy); repeat for more. `input=` names a sole input.",
        show_default=False,
    ),
]


class Group(TyperGroup):
    """Commands whose expected errors become one line on stderr and status 1 (2: usage)."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if not isinstance(error, expected_errors()):
                raise
            if not isinstance(error, BrokenPipeError):
                message = " ".join(describe(error).split())
                typer.echo(f"npu-sim: error: {message}", err=True)
            raise typer.Exit(2 if isinstance(error, UsageError) else 1) from None


def expected_errors() -> tuple[type[Exception], ...]:
    """Classes of errors that a user can do something about."""
    # torch_ir brings torch with it: its errors matter only where it has been imported already.
    torch_ir = sys.modules.get("torch_ir.errors")
    extracting = () if torch_ir is None else (torch_ir.TorchIRError,)
    return (NpuError, OSError, *extracting)


def describe(error: Exception) -> str:
    """The message of an error; of an operating system's, the file and what is wrong with it."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def print_json(data: Any) -> None:
    """JSON on stdout."""
    typer.echo(json.dumps(data, indent=2))


def stdout() -> Console:
    """Where results go."""
    from rich.console import Console

    console = Console(highlight=False)
    # Piped into a file or another program, a table is not cut to the width of a terminal that is
    # not there.
    if not console.is_terminal:
        console.width = 160
    return console


def notice(message: str) -> None:
    """A remark on stderr."""
    typer.echo(f"npu-sim: {message}", err=True)


@contextmanager
def progress(*, enabled: bool = True) -> Iterator[Progress]:
    """A progress display on stderr, there only while it works and only on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
    with Progress(
        *columns, console=console, transient=True, disable=not (enabled and console.is_terminal)
    ) as display:
        yield display


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for work that reports (done, in all)."""
    with progress() as display:
        task = display.add_task(what, total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


def facts(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values, aligned, on stdout."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        typer.echo(f"{name:<{width}}  {value}")


def split_list(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def bytes_text(count: float) -> str:
    """A number of bytes for people: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
