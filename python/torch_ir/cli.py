"""The ``torch-ir`` command: looks into IR files from the terminal."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from .drawing import op_distribution
from .errors import TorchIRError
from .ir import FORMAT_VERSION, IR
from .render import ir_to_svg, save_png
from .serializer import load_ir
from .visualize import ir_to_mermaid

__all__ = ["main", "summarize"]


def summarize(ir: IR) -> dict[str, Any]:
    """Return the figures that ``torch-ir info`` shows."""
    return {
        "model_name": ir.model_name,
        "num_nodes": len(ir.nodes),
        "num_inputs": len(ir.graph_inputs),
        "num_outputs": len(ir.graph_outputs),
        "num_weights": len(ir.weights),
        "total_parameters": ir.total_parameters,
        "input_shapes": {tensor.name: list(tensor.shape) for tensor in ir.graph_inputs},
        "output_shapes": {tensor.name: list(tensor.shape) for tensor in ir.graph_outputs},
        "op_distribution": op_distribution(ir),
    }


def _as_text(summary: dict[str, Any]) -> str:
    lines = [
        f"Model: {summary['model_name']}",
        f"Nodes: {summary['num_nodes']}",
        f"Inputs: {summary['num_inputs']}",
        f"Outputs: {summary['num_outputs']}",
        f"Weights: {summary['num_weights']}",
        f"Total parameters: {summary['total_parameters']:,}",
    ]
    sections = (("Input shapes", "input_shapes"), ("Output shapes", "output_shapes"))
    for title, key in (*sections, ("Op distribution", "op_distribution")):
        lines += ["", f"{title}:"]
        lines += [f"  {name}: {value}" for name, value in summary[key].items()]
    return "\n".join(lines)


def _write(text: str, output: str | None) -> None:
    if output is None:
        sys.stdout.write(text + "\n")
    else:
        Path(output).write_text(text + "\n", encoding="utf-8")


def _info(args: argparse.Namespace) -> None:
    summary = summarize(load_ir(args.file))
    _write(json.dumps(summary, indent=2) if args.json else _as_text(summary), args.output)


def _visualize(args: argparse.Namespace) -> None:
    ir = load_ir(args.file)
    suffix = Path(args.output).suffix.lower() if args.output else ".mmd"
    if suffix not in (".mmd", ".png", ".svg"):
        raise TorchIRError(f"cannot draw a {suffix or 'nameless'} file; use .mmd, .svg or .png")
    if suffix == ".mmd":
        _write(ir_to_mermaid(ir, args.max_nodes, not args.no_weights), args.output)
        return
    if suffix == ".svg":
        _write(ir_to_svg(ir, args.max_nodes, not args.no_weights), args.output)
    else:
        save_png(ir, args.output, args.max_nodes, not args.no_weights)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _version() -> str:
    try:
        return metadata.version("npu-sim")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="torch-ir", description="Look into IR files.")
    version = f"torch-ir {_version()}, IR format {FORMAT_VERSION}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="print a summary of an IR file")
    info.add_argument("file", metavar="FILE", help="IR file (JSON)")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.add_argument("-o", "--output", metavar="FILE", help="write to a file")
    info.set_defaults(run=_info)

    visualize = commands.add_parser("visualize", help="draw the graph of an IR file")
    visualize.add_argument("file", metavar="FILE", help="IR file (JSON)")
    visualize.add_argument(
        "--max-nodes", type=_count, default=30, metavar="N", help="nodes to draw"
    )
    visualize.add_argument("--no-weights", action="store_true", help="leave out the weights")
    visualize.add_argument("-o", "--output", metavar="FILE", help="write a .mmd, .svg or .png file")
    visualize.set_defaults(run=_visualize)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0, or 1 after one line on stderr where a file is missing or bad. Wrong usage exits with 2.
    """
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except FileNotFoundError as error:
        print(f"torch-ir: file not found: {error.filename or args.file}", file=sys.stderr)
        return 1
    except (TorchIRError, OSError, UnicodeError) as error:
        print(f"torch-ir: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0
