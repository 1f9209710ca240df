"""Writes docs/operators.md from the op and kernel records.

    python tools/generate_operator_docs.py [--out docs/operators.md] [--check]

``--check`` writes nothing and ends with status 1 where the file is out of date.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "python")]

from npu_compiler import ops  # noqa: E402
from npu_compiler.dtypes import DTYPES  # noqa: E402
from npu_compiler.kernels import KERNELS  # noqa: E402
from npu_compiler.kernels.record import Kernel  # noqa: E402
from npu_compiler.kernels.scalar_ops import SCALAR_OPS  # noqa: E402
from npu_compiler.ops.record import OpRecord  # noqa: E402
from npu_compiler.ops.signature import REQUIRED  # noqa: E402

HEAD = """\
# Operators

Generated from the records in `npu_compiler/ops/` and `npu_compiler/kernels/` by
`python tools/generate_operator_docs.py`; do not edit by hand.

The NPU has **{operators} ATen overloads**. In-place forms (`aten.add_.Tensor`) count with their
functional form. How each is computed:

* *elementwise*: a formula over broadcast operands; chains of them become one dispatch.
* *view*: other strides on the same memory; costs nothing, unless its reader cannot take the strides
  (then one copy).
* *kernel*: lowered to the kernels below; *fuses* marks those that take in a bias, a residual or an
  activation that follows.
* *identity*: removed where it changes nothing (a cast that converts is elementwise).

An operator that is listed may still refuse a node, for its attributes, shapes or dtypes:
`npu-sim explain model_ir.json` says which, why, and what to do about it. Everything that the NPU
lacks or refuses runs on the CPU through graph partitioning.
"""


def _escaped(cell: str) -> str:
    """Text for a cell of a Markdown table."""
    return cell.replace("|", "\\|")


def _kind(record: OpRecord) -> str:
    if record.identity is not None:
        return "identity"
    if record.view is not None:
        return "view"
    return "elementwise" if record.emit is not None else "kernel"


def _arguments(record: OpRecord) -> str:
    parts = []
    for p in record.parameters:
        kind = "" if p.kind == "attr" else f": {p.kind}".replace("T", "tensor")
        default = repr(p.default) if p.kind == "attr" and p.default is not REQUIRED else ""
        parts.append(f"{p.name}{kind}" + (f"={default}" if default else ""))
    return ", ".join(parts)


def _dtypes(record: OpRecord) -> str:
    """Dtypes in the order of the dtype table; the usual sets by name."""
    found = [name for name in DTYPES if name in record.dtypes]
    floats = [name for name in found if "float" in name]
    integers = [name for name in found if "int" in name]
    names = []
    if floats == ["float32", "float16", "bfloat16"]:
        names.append("floats")
    else:
        names += floats
    if integers == ["int64", "int32", "int16", "int8", "uint8"]:
        names.append("integers")
    else:
        names += integers
    return ", ".join([*names, *(["bool"] if "bool" in found else [])])


def _operators() -> list[str]:
    lines: list[str] = []
    for info in iter_modules(ops.__path__):
        module = import_module(f"{ops.__name__}.{info.name}")
        records = [r for r in getattr(module, "RECORDS", ()) if r.op_type.startswith("aten.")]
        if not records:
            continue
        purpose = (module.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
        lines += ["", f"## {info.name.replace('_', ' ').capitalize()}", "", purpose, ""]
        lines += ["| operator | arguments | computed as | dtypes |", "|---|---|---|---|"]
        for r in sorted(records, key=lambda r: r.op_type):
            kind = _kind(r) + (", fuses" if r.epilogue is not None else "")
            cells = (f"`{r.op_type}`", f"`{_escaped(_arguments(r))}`", kind, _dtypes(r))
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _kernel_row(kernel: Kernel) -> str:
    doc = _escaped(" ".join(kernel.doc.split()))
    operands = ", ".join(o.name + ("?" if o.optional else "") for o in kernel.operands)
    if kernel.name == "elementwise":
        operands = "up to 8 inputs, up to 4 outputs"
    return f"| {kernel.id} | `{kernel.name}` | {operands} | {doc} |"


def _kernels() -> list[str]:
    return [
        "",
        "## Kernels",
        "",
        "The NPU's instructions. The same records give the shaders' parameter structs and the",
        "rules that a program is verified by.",
        "",
        "| id | kernel | operands | what it computes |",
        "|---|---|---|---|",
        *(_kernel_row(kernel) for kernel in KERNELS.values()),
        "",
        "## Scalar operations of elementwise programs",
        "",
        "Registers are float32 (`f`), int32 (`i`, also for bools) or int64 (`l`).",
        "",
        "| operation | operands | result | formula |",
        "|---|---|---|---|",
        *(
            f"| `{op.name}` | {op.args} | {op.result} | `{_escaped(op.formula)}` |"
            for op in SCALAR_OPS
        ),
    ]


def operator_page() -> str:
    """The text of docs/operators.md."""
    by_kind: dict[str, int] = defaultdict(int)
    for name in ops.get_supported_ops():
        record = ops.find_op(name)
        if record is not None:
            by_kind[_kind(record)] += 1
    head = HEAD.format(operators=len(ops.get_supported_ops()))
    counts = "| computed as | overloads |\n|---|---|\n" + "\n".join(
        f"| {kind} | {count} |" for kind, count in sorted(by_kind.items())
    )
    return "\n".join([head, counts, *_operators(), *_kernels()]) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "operators.md")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    options = parser.parse_args()
    page = operator_page()
    current = options.out.read_text(encoding="utf-8") if options.out.exists() else ""
    if options.check:
        if page != current:
            sys.exit(f"{options.out} is out of date: run python tools/generate_operator_docs.py")
        return
    options.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
