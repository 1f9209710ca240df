"""The command line ``npu-sim``: one module per command, imported light, working heavy."""

from __future__ import annotations

from typing import Annotated

import typer

from npu_sim.cli.bench import bench_command
from npu_sim.cli.cache import cache_app
from npu_sim.cli.chat import chat_command
from npu_sim.cli.common import Group
from npu_sim.cli.compile import compile_command
from npu_sim.cli.demo import demo_command
from npu_sim.cli.devices import devices_command
from npu_sim.cli.explain import explain_command
from npu_sim.cli.generate import generate_command
from npu_sim.cli.info import info_command
from npu_sim.cli.profile import profile_command
from npu_sim.cli.run import run_command
from npu_sim.cli.verify import verify_command

app = typer.Typer(
    name="npu-sim",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("devices")(devices_command)
app.command("compile")(compile_command)
app.command("explain")(explain_command)
app.command("info")(info_command)
app.command("run")(run_command)
app.command("profile")(profile_command)
app.command("verify")(verify_command)
app.command("bench")(bench_command)
app.command("demo")(demo_command)
app.command("generate")(generate_command)
app.command("chat")(chat_command)
app.add_typer(cache_app, name="cache")


def _print_version(wanted: bool) -> None:
    if wanted:
        import npu_sim

        typer.echo(f"npu-sim {npu_sim.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Compile PyTorch models for an NPU and run them on the GPU or CPU at hand.

    \b
    The way of a model:
      torch_ir.extract_ir(model, example).save("model_ir.json")     in Python
      npu-sim explain model_ir.json                                 what runs where, and why
      npu-sim compile model_ir.json -o model.npubin
      npu-sim run model.npubin -w model.safetensors -i input=x.npy -o out.npz

    `npu-sim demo` shows all of it at once. Every command prints JSON with --json.
    """


def main() -> None:
    """Entry point of ``npu-sim``: exit status 0, 1 (an error, one line on stderr) or 2 (usage)."""
    app()
