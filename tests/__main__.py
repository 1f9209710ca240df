"""``python -m tests``: the comprehensive test of torch_ir without pytest, with reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import tests.models  # noqa: F401  (registers the models)
from tests.models.base import all_categories, all_models, find_models
from tests.reports import CheckResult, check_model, write_reports

__all__ = ["main"]


def _tolerance(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests",
        description="Extract, write, read and verify every test model, and report on each.",
    )
    parser.add_argument("--output", default="reports", metavar="DIR", help="where reports go")
    parser.add_argument("--category", metavar="C", help="test the models of one category")
    parser.add_argument("--model", metavar="M", help="test one model")
    parser.add_argument("--rtol", type=_tolerance, default=1e-4, metavar="R")
    parser.add_argument("--atol", type=_tolerance, default=1e-4, metavar="A")
    parser.add_argument("--list-models", action="store_true", help="list the models and end")
    parser.add_argument("--list-categories", action="store_true", help="list categories and end")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every verification")
    return parser


def _print_result(result: CheckResult, verbose: bool) -> None:
    status = "PASSED" if result.passed else "FAILED"
    print(f"{status}  {result.spec.name}  max_diff={result.max_diff:.2e}", flush=True)
    if result.problem is not None:
        print(f"        {' '.join(result.problem.split())}", flush=True)
    if verbose:
        for found in result.verifications:
            print(f"  batch {found.batch}, seed {found.seed}: {found.report}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0, or 1 if a model failed, a name is unknown, or the reports cannot be written.
    """
    args = _parser().parse_args(argv)
    try:
        specs = find_models(args.category, args.model)
    except LookupError as error:
        print(f"tests: {error.args[0]}", file=sys.stderr)
        return 1
    if args.list_categories:
        for category in all_categories():
            print(f"{category}: {sum(category in s.categories for s in all_models())} models")
    if args.list_models:
        for spec in specs:
            print(f"{spec.name} ({', '.join(spec.categories)}): {spec.description}")
    if args.list_categories or args.list_models:
        return 0
    results = []
    for spec in specs:
        results.append(check_model(spec, args.rtol, args.atol))
        _print_result(results[-1], args.verbose)
    try:
        summary = write_reports(results, Path(args.output))[0]
    except OSError as error:
        print(f"tests: cannot write the reports: {error}", file=sys.stderr)
        return 1
    passed = sum(result.passed for result in results)
    print(f"{passed} of {len(results)} models passed; see {summary}")
    return 0 if passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
