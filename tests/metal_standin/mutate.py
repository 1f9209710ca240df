"""``python -m tests.metal_standin.mutate`` (``make mutate-metal``): builds cpp/metal with all
mutations in it, of which the environment chooses one, and runs the stand-in's suite with each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from tests.metal_standin.guards import METAL, ROOT, Mutation, sources
from tests.metal_standin.mutations import MUTATIONS
from tests.metal_standin.standin import VARIABLE

COPY = ROOT / "build" / "metal-mutants"
CHOICE = "NPU_SIM_MUTANT"
# The number of no mutant.
NONE = -1
# Long enough for the whole suite on a busy machine: a mutant may wait for ever.
SECONDS = 1200
# In the order in which they find most in least time. All cases of all operators would take as long
# as everything else.
SUITE = (
    *("guards", "run", "use_of_metal", "errors", "pipelines", "mps", "pipeline_archive"),
    *("language_models", "seeds", "ops"),
)
LEFT_OUT = "not test_op_records"
# Processes that begin with what takes long to import: the models' libraries, the operators' cases.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "transformers",
        "tests.npu_compiler.conftest",
        *(f"tests.metal_standin.test_{n}" for n in SUITE),
    ]
)
HEADER = f"""// Which mutant this process is.
#pragma once

#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>

inline bool npu_mutant(int number) {{
  static const char* const chosen = std::getenv("{CHOICE}");
  return chosen != nullptr && std::atoi(chosen) == number;
}}

// An object with a reference more, or less, than its owner knows of.
template <class Pointer>
Pointer npu_retained(bool mutant, Pointer object) {{
  if (mutant && object) object->retain();
  return object;
}}
template <class Pointer>
Pointer npu_released(bool mutant, Pointer object) {{
  if (mutant && object) object->release();
  return object;
}}
"""


def layers(mutations: Sequence[Mutation]) -> list[list[int]]:
    """Numbers of mutations that can stand in one source: their texts do not overlap.

    Raises ValueError where a text does not stand once in its file.
    """
    texts = sources()
    found: list[list[int]] = []
    taken: list[list[tuple[str, int, int]]] = []
    for number, mutation in enumerate(mutations):
        begin, end = mutation.span(texts[mutation.file])
        span = (mutation.file, begin, end)
        for layer, spans in zip(found, taken, strict=True):
            if all(f != mutation.file or e <= begin or end <= b for f, b, e in spans):
                layer.append(number)
                spans.append(span)
                break
        else:
            found.append([number])
            taken.append([span])
    return found


def instrumented(mutations: Sequence[Mutation], numbers: Sequence[int]) -> dict[str, str]:
    """The files of cpp/metal with these mutations, by name."""
    texts = sources()
    spans = [(*mutations[n].span(texts[mutations[n].file]), n) for n in numbers]
    for begin, end, number in sorted(spans, reverse=True):
        file = mutations[number].file
        code = mutations[number].switched(f"npu_mutant({number})")
        texts[file] = texts[file][:begin] + code + texts[file][end:]
    changed = {mutations[n].file for n in numbers}
    return {
        name: f'#include "metal/mutant.hpp"\n{text}' if name in changed else text
        for name, text in texts.items()
    }


def _copy() -> None:
    """The tracked files as they are now; build folders stay."""
    for part in ("cpp", "tests", "shaders", "python"):
        shutil.rmtree(COPY / part, ignore_errors=True)
    for path in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        target = COPY / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_file():
            shutil.copy2(ROOT / path, target)


def _built(mutations: Sequence[Mutation], numbers: Sequence[int]) -> Path:
    """The stand-in with these mutations. Raises RuntimeError where it does not compile."""
    folder = COPY / METAL.relative_to(ROOT)
    for name, text in instrumented(mutations, numbers).items():
        if (folder / name).read_text() != text:
            (folder / name).write_text(text)
    (folder / "mutant.hpp").write_text(HEADER)
    build = "from tests.metal_standin.standin import built; print(built('npu_metal_standin'))"
    command = [sys.executable, "-c", build]
    made = subprocess.run(command, cwd=COPY, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise RuntimeError(made.stderr)
    return Path(made.stdout.strip())


def _suite(standin: Path, number: int, log: Path) -> None:
    """Ends the process with pytest's status."""
    os.environ.update({VARIABLE: str(standin), CHOICE: str(number)})
    os.chdir(ROOT)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    suite = [f"tests/metal_standin/test_{name}.py" for name in SUITE]
    sys.exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-k", LEFT_OUT, *suite])))


def _tested(standin: Path, number: int) -> tuple[bool, str]:
    """Whether all tests pass with a mutant, and what they say."""
    log = COPY / f"mutant{number}.log"
    process = FORKS.Process(target=_suite, args=(standin, number, log))
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        return False, "the tests do not end"
    said = log.read_text(errors="replace")[-2000:]
    # 1: a test failed; a crash has a status of its own. 2 to 5: pytest could not do its work.
    if process.exitcode in (2, 3, 4, 5):
        raise RuntimeError(said)
    return process.exitcode == 0, said


def main() -> int:
    """Command line: the exit status is the number of mutations that no test notices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutations whose description contains this")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    arguments = parser.parse_args()
    # Threads of torch do not survive a fork.
    os.environ["OMP_NUM_THREADS"] = "1"
    _copy()
    wanted = [m for m in MUTATIONS if arguments.only in f"{m.file} {m.what}"]
    table = Table("file", "guard", "without it")
    lived = 0
    with Progress() as progress, ThreadPoolExecutor(arguments.jobs) as pool:
        task = progress.add_task("mutations", total=len(wanted))
        for numbers in layers(wanted):
            standin = _built(wanted, numbers)
            without = pool.submit(_tested, standin, NONE)
            results = pool.map(partial(_tested, standin), numbers)
            for number, (survived, _) in zip(numbers, results, strict=True):
                mutation = wanted[number]
                lived += survived
                verdict = "[red]nothing fails[/red]" if survived else "a test fails"
                what = escape(mutation.what)
                table.add_row(mutation.file, what, verdict)
                progress.advance(task)
                progress.console.print(f"{mutation.file}: {what}: {verdict}")
            passed, said = without.result()
            if not passed:
                raise RuntimeError(f"a test fails without any mutation: {said}")
    progress.console.print(table)
    return lived


if __name__ == "__main__":
    sys.exit(main())
