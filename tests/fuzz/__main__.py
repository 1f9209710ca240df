"""Fuzzing by hand and by night:

    python -m tests.fuzz graphs --seed 0 --count 2000      random graphs, every failure made small
    python -m tests.fuzz ops --count 1000                  every operator, or --op aten.add.Tensor

Both take --minutes to stop after a time and print a command for each failure that repeats it. Exit
status 1 where there was one.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from npu_compiler import get_supported_ops
from npu_compiler.errors import ConstraintError
from npu_compiler.ops import find_op
from tests.fuzz.builder import Case, RejectedError
from tests.fuzz.check import check
from tests.fuzz.draw import RandomDraw
from tests.fuzz.graphs import make_graph
from tests.fuzz.minimize import minimize, pruned
from tests.fuzz.ops import draw_sample
from tests.npu_compiler.harness import DEVICES

# Every so many graphs one runs on all devices; the others on the first.
SHARE = 8


def devices_of(seed: int) -> list[str]:
    """Where the graph of a seed runs."""
    return list(DEVICES) if seed % SHARE == 0 else [DEVICES[0]]


def failure(case: Case, compute_dtype: str, devices: list[str]) -> Exception | None:
    """What goes wrong with a case."""
    try:
        check(case, compute_dtype, devices)
    except Exception as error:
        return error
    return None


def report(
    case: Case, compute_dtype: str, devices: list[str], error: Exception, command: str
) -> None:
    """Print a failure, made small, and how to repeat it."""
    kind = type(error)

    def fails(candidate: Case) -> bool:
        return type(failure(candidate, compute_dtype, devices)) is kind

    small = minimize(case, fails) if fails(pruned(case)) else case
    again = failure(small, compute_dtype, devices) or error
    print(f"\n{kind.__name__}: {again}\n{small.ir}\n  compute dtype {compute_dtype}\n  {command}")
    sys.stdout.flush()


def fuzz_graphs(seed: int, count: int, until: float, largest: int) -> tuple[int, int, int]:
    """Graphs of the seeds from ``seed`` on; how many there were, failed, and were refused."""
    done = failed = refused = 0
    for number in range(seed, seed + count):
        if time.monotonic() > until:
            break
        case, compute_dtype = make_graph(number, largest)
        error = failure(case, compute_dtype, devices_of(number))
        done += 1
        if isinstance(error, ConstraintError):
            refused += 1
        elif error is not None:
            failed += 1
            command = f"python -m tests.fuzz graphs --seed {number} --count 1 --largest {largest}"
            report(case, compute_dtype, devices_of(number), error, command)
    return done, failed, refused


def fuzz_ops(names: list[str], seed: int, count: int, until: float) -> tuple[int, int, int]:
    """``count`` samples of each operator; how many passed, failed, and were rejected."""
    done = failed = rejected = 0
    for number in range(seed, seed + count):
        for name in names:
            if time.monotonic() > until:
                return done, failed, rejected
            record = find_op(name)
            if record is None:
                raise SystemExit(f"no operator {name!r}; see npu_compiler.get_supported_ops()")
            try:
                case, compute_dtype = draw_sample(record, RandomDraw(number))
            except RejectedError:
                rejected += 1
                continue
            done += 1
            error = failure(case, compute_dtype, list(DEVICES))
            if error is not None:
                failed += 1
                command = f"python -m tests.fuzz ops --op {name} --seed {number} --count 1"
                report(case, compute_dtype, list(DEVICES), error, command)
    return done, failed, rejected


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("what", choices=["graphs", "ops"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--largest", type=int, default=60, help="nodes of a graph")
    parser.add_argument("--op", action="append", help="only this operator; may be repeated")
    args = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.monotonic()
    until = begin + args.minutes * 60
    if args.what == "graphs":
        done, failed, refused = fuzz_graphs(args.seed, args.count, until, args.largest)
    else:
        names = args.op or sorted(get_supported_ops())
        done, failed, refused = fuzz_ops(names, args.seed, args.count, until)
    seconds = time.monotonic() - begin
    print(
        f"{done} {args.what}, {failed} failed, {refused} refused, "
        f"{seconds:.0f} s ({done / max(seconds, 1e-9):.1f}/s)"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
