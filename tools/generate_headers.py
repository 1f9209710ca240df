"""Writes the C++ views of what Python declares: program schema, parameter structs, kernel table.

Run by the build: ``python tools/generate_headers.py --out DIR`` writes ``npubin_schema.hpp``,
``npu_kernel_params.h`` and ``kernel_table.cpp``. Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "python"), str(Path(__file__).resolve().parent)]

from generators.kernel_params import kernel_params_header  # noqa: E402
from generators.kernel_table import kernel_table_source  # noqa: E402
from generators.npubin_schema import schema_header  # noqa: E402


def write_if_changed(path: Path, text: str) -> bool:
    """Write ``text`` unless the file already holds it, so that nothing is rebuilt in vain."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return True


def generate(out: Path) -> list[Path]:
    """Generate every file into ``out``; returns the paths that changed."""
    files = {
        "npubin_schema.hpp": schema_header(),
        "npu_kernel_params.h": kernel_params_header(),
        "kernel_table.cpp": kernel_table_source(),
    }
    return [out / name for name, text in files.items() if write_if_changed(out / name, text)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder for the generated files")
    for path in generate(parser.parse_args().out):
        print(f"generated {path.name}")


if __name__ == "__main__":
    main()
