"""What the stand-in's suite is worth, in the source: each guard of cpp/metal is taken out in turn,
and a test must fail. ``python -m tests.metal_standin.mutations`` (``make mutate-metal``), minutes.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / "build" / "metal-mutants"
# In the order in which they find most in least time.
SUITE = (
    *("use_of_metal", "errors", "mps", "buffers", "pipelines", "pipeline_archive", "ops"),
    *("language_models", "seeds"),
)


@dataclass(frozen=True)
class Mutation:
    """``text`` of a file in cpp/metal, where it stands once, becomes ``instead``."""

    what: str
    file: str
    text: str
    instead: str = ""


MUTATIONS = (
    Mutation(
        "barriers: a read after a write",
        "barriers.cpp",
        "(access.write || earlier.write)",
        "access.write",
    ),
    Mutation(
        "barriers: a write after a read",
        "barriers.cpp",
        "(access.write || earlier.write)",
        "earlier.write",
    ),
    Mutation(
        "barriers: views that overlap in part",
        "barriers.cpp",
        "access.begin < earlier.end && earlier.begin < access.end",
        "access.begin == earlier.begin",
    ),
    Mutation(
        "barriers: encoded",
        "submission.cpp",
        "if (step.barrier) encoder->memoryBarrier(MTL::BarrierScopeBuffers);",
    ),
    Mutation(
        "waits: a run's",
        "submission.cpp",
        "commands.waitUntilCompleted();\n  if (!completed(commands)) throw_failed_run",
        "if (!completed(commands)) throw_failed_run",
    ),
    Mutation(
        "waits: a profiled run's",
        "submission.cpp",
        "if (last != nullptr) last->waitUntilCompleted();",
    ),
    Mutation(
        "failures: a run's status",
        "submission.cpp",
        "if (!completed(commands)) throw_failed_run(commands, queue, program, plan, arguments);",
        "if (false) throw_failed_run(commands, queue, program, plan, arguments);",
    ),
    Mutation(
        "encoders: ended before a product",
        "submission.cpp",
        "if (encoder != nullptr) encoder->endEncoding();\n      encoder = nullptr;",
    ),
    Mutation(
        "references: command buffers with MPS keep theirs",
        "submission.cpp",
        "products ? queue.commandBuffer()",
        "products ? queue.commandBufferWithUnretainedReferences()",
    ),
    Mutation(
        "pipelines: set anew after a product",
        "entry_plan.cpp",
        "if (!empty) last_pipeline_ = pipeline;",
        "if (pipeline != nullptr) last_pipeline_ = pipeline;",
    ),
    Mutation(
        "pipelines: the values of parameters",
        "pipelines.cpp",
        "std::memcpy(key.words.data(), parameters.data(), key.words.size() * "
        "sizeof(std::uint32_t));",
        "static_cast<void>(parameters);",
    ),
    Mutation(
        "pipelines: one for each set of parameters",
        "pipelines.hpp",
        "std::tie(shader, function, threads, words) <\n"
        "           std::tie(other.shader, other.function, other.threads, other.words)",
        "std::tie(shader, function, threads) <\n"
        "           std::tie(other.shader, other.function, other.threads)",
    ),
    Mutation(
        "pipelines: an archive has all of a program's",
        "pipelines.cpp",
        "for (const Pipeline* pipeline : all) descriptors.push_back(",
        "for (const Pipeline* pipeline : missing) descriptors.push_back(",
    ),
    Mutation(
        "pipelines: what an archive lacks is compiled",
        "pipelines.cpp",
        "if (!found) state = make(MTL::PipelineOptionNone);",
    ),
    Mutation(
        "pipelines: another system has an archive of its own",
        "pipelines.cpp",
        "name.add(NS::ProcessInfo::processInfo()->operatingSystemVersionString()->utf8String());",
    ),
    Mutation(
        "elementwise kernels: one for each program",
        "elementwise_kernels.cpp",
        "const std::string body = elementwise_source(kSomeName, operands, fields, lanes);",
        "const std::string body(kSomeName);",
    ),
    Mutation(
        "elementwise kernels: a thread for four elements",
        "entry_plan.cpp",
        "grid[0] /= generated->lanes;",
    ),
    Mutation(
        "arguments: alignment of parameters",
        "entry_plan.cpp",
        "bytes_.resize((end + kParameterAlignment - 1) / kParameterAlignment * "
        "kParameterAlignment);",
        "bytes_.resize(end + 0 * kParameterAlignment);",
    ),
    Mutation(
        "arguments: views of nothing",
        "entry_plan.cpp",
        "operand.buffer == schema::kNone || view_bytes(operand) == 0",
        "operand.buffer == schema::kNone",
    ),
    Mutation(
        "arguments: weights of another binding",
        "metal_executable.cpp",
        "if (frame.binding != binding.serial())",
        "if (frame.binding == 0)",
    ),
    Mutation(
        "bounds: a download's",
        "metal_buffer.cpp",
        "if (offset > size() || bytes > size() - offset)",
        "if (bytes > size())",
    ),
    Mutation(
        "bounds: memory that may only be read",
        "metal_buffer.cpp",
        "if (!writable())",
        "if (false)",
    ),
    Mutation(
        "bounds: the largest buffer",
        "metal_buffer.cpp",
        "if (bytes > limit)",
        "if (false)",
    ),
    Mutation(
        "bounds: memory that is used up",
        "metal_buffer.cpp",
        "if (!buffer)",
        "if (false)",
    ),
    Mutation(
        "bounds: buffers of no bytes",
        "metal_buffer.cpp",
        "std::max<NS::UInteger>(bytes, kSmallestBuffer)",
        "std::max<NS::UInteger>(bytes, kSmallestBuffer * 0)",
    ),
    Mutation(
        "bounds: whole pages",
        "metal_buffer.cpp",
        "(skip + memory.size() + page_bytes() - 1) / page_bytes() * page_bytes()",
        "skip + memory.size()",
    ),
    Mutation(
        "bounds: alignment of memory in place",
        "metal_buffer.cpp",
        " && address % kWrapAlignment == 0",
    ),
    Mutation(
        "bounds: where a wrapped buffer begins in its page",
        "metal_buffer.cpp",
        "std::move(pages), skip, memory.size()",
        "std::move(pages), 0, memory.size()",
    ),
    Mutation(
        "bounds: a run's buffers",
        "metal_executable.cpp",
        "  check_run_buffers(*program_, entry.plan.record(), bound, inputs, outputs);\n",
    ),
    Mutation(
        "bounds: a prepared run's buffers",
        "metal_executable.cpp",
        "    check_run_buffers(*executable_.program_, plan_.record(), bound, inputs, outputs);\n",
    ),
    Mutation(
        "bounds: threads beyond 2**32",
        "entry_plan.cpp",
        "groups[axis] > std::numeric_limits<std::uint32_t>::max() / threads",
        "groups[axis] > std::numeric_limits<std::uint64_t>::max() / threads",
    ),
    Mutation(
        "retains: the owner of wrapped memory",
        "metal_buffer.cpp",
        "return std::make_shared<MetalBuffer>(std::move(pages), skip, memory.size(),\n"
        "                                             std::move(owner), writable);",
        "return std::make_shared<MetalBuffer>(std::move(pages), skip, memory.size(),\n"
        "(static_cast<void>(owner), nullptr), writable);",
    ),
    Mutation(
        "retains: a prepared run's inputs",
        "metal_executable.cpp",
        "buffers_(inputs.begin(), inputs.end())",
        "buffers_()",
    ),
    Mutation(
        "retains: a prepared run's outputs",
        "metal_executable.cpp",
        "    buffers_.insert(buffers_.end(), outputs.begin(), outputs.end());\n",
    ),
    Mutation(
        "retains: an MPS descriptor",
        "mps_matrix.cpp",
        "return NS::RetainPtr(",
        "return NS::TransferPtr(",
    ),
    Mutation(
        "retains: an array's descriptor",
        "mps_ndarray.cpp",
        "auto made = NS::RetainPtr(",
        "auto made = NS::TransferPtr(",
    ),
    Mutation(
        "MPS: rows that arrays would pad",
        "mps_ndarray.cpp",
        "kItem % kRowAlignment == 0",
        "kItem % kRowAlignment != 1",
    ),
    Mutation(
        "MPS: products with a bias",
        "mps_product.cpp",
        "p.bias_n == 0 && ",
    ),
    Mutation(
        "MPS: columns that lie apart",
        "mps_product.cpp",
        "operand.strides[2] != 1 ||",
    ),
)


def mutated(mutation: Mutation, source: str) -> str:
    """The file's text with the mutation. Raises ValueError where its text does not stand once."""
    if source.count(mutation.text) != 1:
        raise ValueError(
            f"{mutation.what}: stands {source.count(mutation.text)} times in {mutation.file}: "
            f"{mutation.text!r}"
        )
    return source.replace(mutation.text, mutation.instead)


def _suite() -> list[str]:
    found = [COPY / "tests" / "metal_standin" / f"test_{name}.py" for name in SUITE]
    return [str(path.relative_to(COPY)) for path in found if path.is_file()]


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=COPY, capture_output=True, text=True, check=False)


def survives(mutation: Mutation) -> str | None:
    """None where a test fails with the mutation, else what the tests say.

    Raises RuntimeError where it does not compile.
    """
    file = COPY / "cpp" / "metal" / mutation.file
    original = file.read_text()
    file.write_text(mutated(mutation, original))
    build = "from tests.metal_standin.standin import built; built('npu_metal_standin')"
    try:
        made = _python("-c", build)
        if made.returncode != 0:
            raise RuntimeError(f"{mutation.what}: {made.stderr}")
        done = _python("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *_suite())
    finally:
        file.write_text(original)
    # 1: a test failed; a crash has a status of its own.
    return None if done.returncode not in (0, 5) else done.stdout[-500:]


def main() -> int:
    """Command line: the exit status is the number of mutations that no test notices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutations whose description contains this")
    chosen = parser.parse_args().only
    if COPY.exists():
        for part in ("cpp", "tests", "shaders", "python"):
            shutil.rmtree(COPY / part, ignore_errors=True)
    for path in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        target = COPY / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target)
    wanted = [m for m in MUTATIONS if chosen in m.what]
    table = Table("guard", "file", "without it")
    lived = 0
    with Progress() as progress:
        for mutation in progress.track(wanted, description="mutations"):
            said = survives(mutation)
            lived += said is not None
            verdict = "a test fails" if said is None else f"[red]nothing fails[/red] {said}"
            table.add_row(mutation.what, mutation.file, verdict)
            progress.console.print(f"{mutation.what}: {verdict}")
    progress.console.print(table)
    return lived


if __name__ == "__main__":
    sys.exit(main())
