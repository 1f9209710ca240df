"""What the stand-in's suite is worth, in the source: everything here is taken out of cpp/metal in
turn, and a test must fail (``make mutate-metal``, mutate.py).

The guards come from the source itself (guards.py). Listed here is what no pattern finds: parts of
conditions, sizes, what is kept for how long; and the guards that no test can notice, with the
reason.

Not on the list: checks in front of what cannot come from a verified program or a complete build (a
buffer of no known kind, a shader that is not there), and comparisons with null in front of
messages, which nil takes.
"""

from __future__ import annotations

from tests.metal_standin.guards import Mutation, guards

# By file and description.
UNNOTICED = {
    ("pipeline_archive.cpp", "check: !archive (2)"): "nil takes the messages that follow: the next "
    "check gives up for the same reason",
    **{
        ("pipelines.cpp", f"lock: const std::lock_guard lock(mutex_);{number}"): "a race of "
        "nanoseconds over a map or a list, which no test can force"
        for number in ("", " (2)", " (3)", " (4)", " (5)")
    },
    ("pipelines.cpp", "lock: const std::lock_guard lock(building_); (2)"): "a race of nanoseconds "
    "over a path, which no test can force",
}

WRITTEN = (
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
        "barriers: very many accesses are not compared",
        "barriers.cpp",
        "since_.size() + dispatch.size() > kMaxAccesses",
        "false",
    ),
    Mutation(
        "barriers: outputs that take over an input's memory",
        "entry_plan.cpp",
        "if (donor == schema::kNone) return buffer;",
        "return buffer;",
    ),
    Mutation(
        "barriers: scratch arrays",
        "entry_plan.cpp",
        "accesses.push_back({&view, 0, begin, begin + layout.sizes[k], true});",
        "static_cast<void>(accesses);",
    ),
    Mutation(
        "failures: a GPU that is lost runs nothing again",
        "submission.cpp",
        "of_a_kernel && i < plan.steps().size()",
        "(static_cast<void>(of_a_kernel), i < plan.steps().size())",
    ),
    Mutation(
        "references: command buffers with MPS keep theirs",
        "submission.cpp",
        "products ? queue.commandBuffer() : queue.commandBufferWithUnretainedReferences()",
        "queue.commandBufferWithUnretainedReferences()",
    ),
    Mutation(
        "references: autorelease pools are drained",
        "metal_cpp.hpp",
        "pool_->release();",
        "",
    ),
    Mutation(
        "references: the owner of wrapped memory",
        "metal_buffer.cpp",
        "owner_(std::move(owner))",
        "owner_({mutant} ? std::shared_ptr<void>() : std::move(owner))",
    ),
    Mutation(
        "references: wrapped memory outlives the buffer over it",
        "metal_buffer.hpp",
        "NS::SharedPtr<MTL::Buffer> buffer_;",
        "NS::SharedPtr<MTL::Buffer> buffer_; std::shared_ptr<void> sooner_ = {mutant} ? "
        "std::move(owner_) : std::shared_ptr<void>();",
    ),
    Mutation(
        "references: a prepared run's inputs",
        "metal_executable.cpp",
        "buffers_(inputs.begin(), inputs.end())",
        "buffers_(inputs.begin(), {mutant} ? inputs.begin() : inputs.end())",
    ),
    Mutation(
        "references: a prepared run's outputs",
        "metal_executable.cpp",
        "buffers_.insert(buffers_.end(), outputs.begin(), outputs.end());",
        "",
    ),
    Mutation(
        "references: a prepared run's weights",
        "metal_executable.cpp",
        "point(frame_, plan_, bound, inputs, outputs);",
        "point(frame_, plan_, bound, inputs, outputs); binding_.reset();",
    ),
    Mutation(
        "references: pipelines let go of archives",
        "pipelines.cpp",
        "pipeline.descriptor_->setBinaryArchives(nullptr);",
        "",
    ),
    Mutation(
        "pipelines: encoded",
        "submission.cpp",
        "if (step.new_pipeline) encoder->setComputePipelineState(step.pipeline);",
        "",
    ),
    Mutation(
        "pipelines: set anew after a product",
        "entry_plan.cpp",
        "last_pipeline_ = pipeline;",
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
        "pipelines: constants only where there are values",
        "pipelines.cpp",
        "!key.words.empty()",
        "true",
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
        "pipelines: no more sets of parameters than can be compiled",
        "pipelines.cpp",
        "known.size() >= kMostParameterSets && !known.contains(key.words)",
        "false",
    ),
    Mutation(
        "pipelines: an archive has all of a program's",
        "pipelines.cpp",
        "for (const Pipeline* pipeline : all)",
        "for (const Pipeline* pipeline : {mutant} ? missing : all)",
    ),
    Mutation(
        "pipelines: what an archive lacks is compiled",
        "pipelines.cpp",
        "if (!found) state = make(MTL::PipelineOptionNone);",
        "",
    ),
    Mutation(
        "archives: none without a folder",
        "pipelines.cpp",
        "!folder_.empty()",
        "true",
    ),
    Mutation(
        "archives: none is written where there is none",
        "pipelines.cpp",
        "!archive || !compiled",
        "!compiled",
    ),
    Mutation(
        "archives: none before macOS 15",
        "pipelines.cpp",
        "if (!NS::ProcessInfo::processInfo()->isOperatingSystemAtLeastVersion(kOldestArchives)) "
        "return;",
        "",
    ),
    Mutation(
        "archives: another system has one of its own",
        "pipelines.cpp",
        "name.add(NS::ProcessInfo::processInfo()->operatingSystemVersionString()->utf8String());",
        "",
    ),
    Mutation(
        "archives: a file that is not there is no fault",
        "pipeline_archive.cpp",
        "if (!fs::exists(file_, missing)) return;",
        "",
    ),
    Mutation(
        "archives: what could not be written is noted",
        "pipeline_archive.cpp",
        "!written || problem",
        "false",
    ),
    Mutation(
        "archives: no draft is left behind",
        "pipeline_archive.cpp",
        "fs::remove(draft, ignored);",
        "",
    ),
    Mutation(
        "archives: no other files are removed",
        "pipeline_archive.cpp",
        "at->path().extension() != kSuffix",
        "false",
    ),
    Mutation(
        "archives: the newest is not removed",
        "pipeline_archive.cpp",
        "file.path != file_",
        "true",
    ),
    Mutation(
        "archives: no more are removed than must be",
        "pipeline_archive.cpp",
        "total <= kMostBytes",
        "false",
    ),
    Mutation(
        "elementwise kernels: one for each program",
        "elementwise_kernels.cpp",
        "elementwise_source(kSomeName, operands, fields, lanes)",
        "std::string(kSomeName)",
    ),
    Mutation(
        "elementwise kernels: no more than can be compiled",
        "elementwise_kernels.cpp",
        "number >= kMostKernels",
        "false",
    ),
    Mutation(
        "elementwise kernels: a thread for four elements",
        "entry_plan.cpp",
        "grid[0] /= generated->lanes;",
        "",
    ),
    Mutation(
        "arguments: alignment of parameters",
        "entry_plan.cpp",
        "(end + kParameterAlignment - 1) / kParameterAlignment * kParameterAlignment",
        "end",
    ),
    Mutation(
        "arguments: absent operands",
        "entry_plan.cpp",
        "view.buffer == schema::kNone",
        "false",
    ),
    Mutation(
        "arguments: views of nothing",
        "entry_plan.cpp",
        "size == 0",
        "false",
    ),
    Mutation(
        "arguments: weights of another binding",
        "metal_executable.cpp",
        "frame.binding != binding.serial()",
        "frame.binding == 0",
    ),
    Mutation(
        "arguments: intermediates of another run",
        "metal_executable.cpp",
        "frame.arena != (*arena).serial",
        "frame.arena == 0",
    ),
    Mutation(
        "bounds: where bytes begin",
        "metal_buffer.cpp",
        "offset > size() || bytes > size() - offset",
        "bytes > size() - offset",
    ),
    Mutation(
        "bounds: where bytes end",
        "metal_buffer.cpp",
        "offset > size() || bytes > size() - offset",
        "offset > size() || bytes > size()",
    ),
    Mutation(
        "bounds: buffers of no bytes",
        "metal_buffer.cpp",
        "std::max<NS::UInteger>(bytes, kSmallestBuffer)",
        "NS::UInteger{bytes}",
    ),
    Mutation(
        "bounds: whole pages",
        "metal_buffer.cpp",
        "(skip + memory.size() + page_bytes() - 1) / page_bytes() * page_bytes()",
        "skip + memory.size()",
    ),
    Mutation(
        "bounds: memory in place that is too large",
        "metal_buffer.cpp",
        "length <= device.maxBufferLength()",
        "true",
    ),
    Mutation(
        "bounds: alignment of memory in place",
        "metal_buffer.cpp",
        "address % kWrapAlignment == 0",
        "true",
    ),
    Mutation(
        "bounds: memory that Metal does not take in place",
        "metal_buffer.cpp",
        "if (pages)",
        "if ({mutant} || pages)",
    ),
    Mutation(
        "bounds: where a wrapped buffer begins in its page",
        "metal_buffer.cpp",
        "std::move(pages), skip, memory.size()",
        "std::move(pages), {mutant} ? 0 : skip, memory.size()",
    ),
    Mutation(
        "bounds: entry points",
        "metal_executable.cpp",
        "index < entries_.size()",
        "true",
    ),
    Mutation(
        "bounds: bindings of another executable",
        "metal_executable.cpp",
        "bound != nullptr && bound->belongs_to(serial_)",
        "bound != nullptr",
    ),
    Mutation(
        "bounds: weights of another device",
        "metal_executable.cpp",
        "for (const BufferPtr& weight : weights) metal_buffer(weight);",
        "",
    ),
    Mutation(
        "MPS: small products",
        "mps_product.cpp",
        "std::uint64_t{p.y_m} * p.y_n * p.x_k < kSmallestProduct",
        "false",
    ),
    *(
        Mutation(f"MPS: products with {what}", "mps_product.cpp", text, "true")
        for what, text in (
            ("a bias", "p.bias_n == 0"),
            ("a residual", "p.residual_b == 0"),
            ("an activation", "p.activation == NPU_ACTIVATION_NONE"),
            ("a lower clamp", "p.clamp_lo == -kInfinity"),
            ("an upper clamp", "p.clamp_hi == kInfinity"),
        )
    ),
    Mutation("MPS: batches", "mps_product.cpp", "operand.shape[0] != 1", "false"),
    Mutation(
        "MPS: columns that lie apart",
        "mps_product.cpp",
        "operand.strides[2] != 1",
        "false",
    ),
    Mutation(
        "MPS: rows that overlap",
        "mps_product.cpp",
        "operand.strides[1] < static_cast<std::int64_t>(operand.shape[2])",
        "false",
    ),
    Mutation(
        "MPS: rows with a gap between them",
        "mps_ndarray.cpp",
        "operand.strides[1] == static_cast<std::int64_t>(operand.shape[2])",
        "true",
    ),
    Mutation(
        "MPS: rows that arrays would pad",
        "mps_ndarray.cpp",
        "operand.shape[2] * kItem % kRowAlignment == 0",
        "true",
    ),
    Mutation(
        "MPS: arrays before macOS 15",
        "mps_ndarray.cpp",
        "!NS::ProcessInfo::processInfo()->isOperatingSystemAtLeastVersion(kOldestSystem)",
        "false",
    ),
    *(
        Mutation(
            f"MPS: {what} that a system lacks",
            file,
            "kernel_ && descriptors_[0] && descriptors_[1] && descriptors_[2]",
            "true",
        )
        for what, file in (("matrices", "mps_matrix.cpp"), ("arrays", "mps_ndarray.cpp"))
    ),
)

MUTATIONS = (
    *(guard for guard in guards() if (guard.file, guard.what) not in UNNOTICED),
    *WRITTEN,
)
