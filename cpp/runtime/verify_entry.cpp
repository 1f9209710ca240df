// Verification of entry points: their ranges, inputs and outputs, and how their dispatches use
// buffers.
#include <algorithm>
#include <set>

#include "runtime/verify.hpp"

namespace npu {

void Verifier::check_entry_points() {
  const auto entries = program_.entry_points();
  if (entries.empty()) {
    throw Error(ErrorCode::kInvalidProgram,
                "ENTRY_POINTS: a program has at least one entry point, this one has none; compile "
                "the model again");
  }
  const auto buffers = program_.buffers();
  for (std::uint32_t b = 0; b < buffers.size(); ++b) {
    if (buffers[b].kind == static_cast<std::uint32_t>(schema::BufferKind::kArena)) {
      arena_order_.push_back(b);
    }
  }
  std::stable_sort(arena_order_.begin(), arena_order_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return buffers[a].first_use < buffers[b].first_use;
  });

  std::set<std::string_view> names;
  std::uint64_t next_dispatch = 0;
  std::uint64_t next_io = 0;
  for (std::uint32_t e = 0; e < entries.size(); ++e) {
    const schema::EntryPoint& entry = entries[e];
    check_string(Kind::kEntryPoints, e, entry.name, "name");
    if (!names.insert(program_.string(entry.name)).second) {
      fail(Kind::kEntryPoints, e, "two entry points have this name");
    }
    check_range(Kind::kEntryPoints, e, entry.dispatch_first, entry.dispatch_count,
                program_.dispatches().size(), "dispatches");
    check_range(Kind::kEntryPoints, e, entry.input_first, entry.input_count, program_.ios().size(),
                "inputs");
    check_range(Kind::kEntryPoints, e, entry.output_first, entry.output_count,
                program_.ios().size(), "outputs");
    // Every dispatch, input and output belongs to exactly one entry point, in order.
    if (entry.dispatch_first != next_dispatch) {
      fail(Kind::kEntryPoints, e, "dispatch_first is ", entry.dispatch_first, " and must be ",
           next_dispatch);
    }
    next_dispatch += entry.dispatch_count;
    if (entry.input_first != next_io || entry.output_first != next_io + entry.input_count) {
      fail(Kind::kEntryPoints, e, "input_first and output_first are ", entry.input_first, " and ",
           entry.output_first, " and must be ", next_io, " and ", next_io + entry.input_count);
    }
    next_io += std::uint64_t{entry.input_count} + entry.output_count;

    check_ios(e, false);
    check_ios(e, true);
    for (std::uint32_t k = 0; k < entry.dispatch_count; ++k) {
      check_dispatch(e, entry.dispatch_first + k);
    }
    for (std::uint32_t k = 0; k < entry.output_count; ++k) {
      const std::uint32_t io = entry.output_first + k;
      const std::uint32_t buffer = program_.tensors()[program_.ios()[io].tensor].buffer;
      // An output without elements has nothing to write.
      if (program_.buffers()[buffer].size != 0 && written_in_[buffer] != e) {
        fail(Kind::kIos, io, "no dispatch writes this output");
      }
    }
    check_arena(e);
  }
  if (next_dispatch != program_.dispatches().size() || next_io != program_.ios().size()) {
    const auto last = entries.size() - 1;
    fail(Kind::kEntryPoints, last, "entry points cover ", next_dispatch, " of ",
         program_.dispatches().size(), " dispatches and ", next_io, " of ", program_.ios().size(),
         " inputs and outputs");
  }
}

void Verifier::check_ios(std::uint32_t entry, bool outputs) {
  const schema::EntryPoint& e = program_.entry_points()[entry];
  const std::uint32_t first = outputs ? e.output_first : e.input_first;
  const std::uint32_t count = outputs ? e.output_count : e.input_count;
  const auto kind = outputs ? schema::BufferKind::kOutput : schema::BufferKind::kInput;
  for (std::uint32_t io = first; io < first + count; ++io) {
    const schema::Io& record = program_.ios()[io];
    check_string(Kind::kIos, io, record.name, "name");
    if (record.tensor >= program_.tensors().size()) {
      fail(Kind::kIos, io, "tensor is ", record.tensor, ", there are ", program_.tensors().size());
    }
    const schema::Tensor& tensor = program_.tensors()[record.tensor];
    const schema::Buffer& buffer = program_.buffers()[tensor.buffer];
    if (buffer.kind != static_cast<std::uint32_t>(kind)) {
      fail(Kind::kIos, io, "its buffer is of kind ", schema::kBufferKindNames[buffer.kind],
           ", not ", schema::kBufferKindNames[static_cast<std::size_t>(kind)]);
    }
    if (tensor.offset != 0) {
      fail(Kind::kIos, io, "its tensor starts at offset ", tensor.offset,
           " of its buffer, not at 0");
    }
    if (bound_in_[tensor.buffer] == entry) {
      fail(Kind::kIos, io, "its buffer is also that of another input or output of the entry point");
    }
    bound_in_[tensor.buffer] = entry;
    memory_of_[tensor.buffer] = tensor.buffer;
    if (record.donor != schema::kNone) {
      if (!outputs) fail(Kind::kIos, io, "donor is ", record.donor, ", only an output has a donor");
      check_donor(entry, io);
    }
  }
}

void Verifier::check_donor(std::uint32_t entry, std::uint32_t io) {
  const schema::EntryPoint& e = program_.entry_points()[entry];
  const schema::Io& record = program_.ios()[io];
  if (record.donor >= e.input_count) {
    fail(Kind::kIos, io, "donor is ", record.donor, ", the entry point has ", e.input_count,
         " inputs");
  }
  const std::uint32_t input =
      program_.tensors()[program_.ios()[e.input_first + record.donor].tensor].buffer;
  const std::uint32_t output = program_.tensors()[record.tensor].buffer;
  if (donated_in_[input] == entry) {
    fail(Kind::kIos, io, "input ", record.donor, " is donated to two outputs");
  }
  if (program_.buffers()[input].size != program_.buffers()[output].size) {
    fail(Kind::kIos, io, "its buffer has ", program_.buffers()[output].size,
         " bytes, that of its donor ", program_.buffers()[input].size);
  }
  donated_in_[input] = entry;
  memory_of_[output] = input;
  written_in_[output] = entry;
}

void Verifier::check_dispatch(std::uint32_t entry, std::uint32_t index) {
  const schema::Dispatch& dispatch = program_.dispatches()[index];
  check_string(Kind::kDispatches, index, dispatch.name, "name");
  const KernelInfo* kernel = find_kernel(dispatch.kernel);
  if (kernel == nullptr) fail(Kind::kDispatches, index, "kernel ", dispatch.kernel, " is unknown");
  check_kernel(index, *kernel);
  const std::uint32_t count = dispatch.operand_count;
  // Reads come before writes: what a dispatch reads must have been written by an earlier one.
  for (const bool write : {false, true}) {
    for (std::uint32_t k = 0; k < count; ++k) {
      if (kernel->operands[k].write == write) check_usage(entry, index, k, write);
    }
  }
  check_overlap(index, *kernel);
}

void Verifier::check_usage(std::uint32_t entry, std::uint32_t index, std::uint32_t operand,
                           bool write) {
  const schema::Dispatch& dispatch = program_.dispatches()[index];
  const std::uint32_t b = program_.operands_of(dispatch)[operand].buffer;
  if (b == schema::kNone) return;
  const schema::Buffer& buffer = program_.buffers()[b];
  const auto refuse = [&](const auto&... reason) {
    fail(Kind::kDispatches, index, "operand ", operand, " ", write ? "writes" : "reads", " buffer ",
         b, " (", buffer_name(b), "), ", reason...);
  };
  switch (static_cast<schema::BufferKind>(buffer.kind)) {
    case schema::BufferKind::kArena:
      if (index < buffer.first_use || index > buffer.last_use) {
        refuse("which lives from dispatch ", buffer.first_use, " to ", buffer.last_use);
      }
      break;
    case schema::BufferKind::kInput:
      if (bound_in_[b] != entry) refuse("which is no input of the entry point");
      if (write && donated_in_[b] != entry) refuse("an input that is not donated");
      return;
    case schema::BufferKind::kOutput:
      if (bound_in_[b] != entry) refuse("which is no output of the entry point");
      break;
    case schema::BufferKind::kWeight:
      if (write) refuse("a weight");
      if (uses_[b].weight == schema::kNone) refuse("which no weight record makes");
      return;
    case schema::BufferKind::kConstant:
      if (write) refuse("a constant");
      return;
  }
  if (write) {
    written_in_[b] = entry;
  } else if (buffer.size != 0 && written_in_[b] != entry) {
    refuse("which no earlier dispatch writes");
  }
}

}  // namespace npu
