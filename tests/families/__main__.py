"""python -m tests.families [--json] [--write docs/torch-ir/models.md] [--only NAME] [--fast]"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from .check import BLOCKED, FAILED, Result, run_family
from .records import FAMILIES
from .table import markdown


def main() -> int:
    """Check the families and report; status 1 if one failed, 2 if the arguments name none."""
    parser = argparse.ArgumentParser(prog="python -m tests.families", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON list instead of the table")
    parser.add_argument("--write", type=Path, help="write the table to this Markdown file")
    parser.add_argument("--only", action="append", help="a family by name; may be repeated")
    parser.add_argument("--fast", action="store_true", help="the subset of `make test`")
    options = parser.parse_args()
    chosen = [
        family
        for family in FAMILIES
        if (not options.only or family.name in options.only) and (family.fast or not options.fast)
    ]
    if not chosen:
        print("no such family; their names are: " + ", ".join(f.name for f in FAMILIES))
        return 2
    # The models are too small for several threads, which only wait for each other.
    torch.set_num_threads(1)
    results: list[Result] = []
    for family in chosen:
        result = run_family(family)
        results.append(result)
        if result.status in (FAILED, BLOCKED) or not options.json:
            note = f": {result.detail}" if result.detail else ""
            print(f"{result.name} {result.status} {result.seconds:.1f}s{note}", file=sys.stderr)
    if options.write is not None:
        options.write.write_text(markdown(results), encoding="utf-8")
    if options.json:
        print(json.dumps([result.to_dict() for result in results], indent=1))
    elif options.write is None:
        print(markdown(results))
    return int(any(result.status == FAILED for result in results))


if __name__ == "__main__":
    sys.exit(main())
