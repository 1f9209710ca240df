// Checks of the buffers that a caller binds: weights once, inputs and outputs at each run.
#include "runtime/weight_binding.hpp"

#include <algorithm>
#include <atomic>
#include <functional>

#include "runtime/text.hpp"

namespace npu {
namespace {

// Memory for the buffer that a tensor lies in. Throws kInvalidArgument, `what` naming the caller's
// argument.
template <class Name>
std::byte* checked_memory(const Program& program, const BufferPtr& buffer,
                          const schema::Tensor& tensor, const Name& what) {
  const auto fail = [&](const auto&... reason) {
    throw Error(ErrorCode::kInvalidArgument,
                text(what(), " ", quoted(program.string(tensor.name)), ": ", reason...));
  };
  if (buffer == nullptr) fail("no buffer is given");
  const std::uint64_t extent = program.buffer_uses()[tensor.buffer].extent;
  if (buffer->size() < extent) {
    fail("the buffer has ", buffer->size(), " bytes, the program uses ", extent);
  }
  std::byte* const memory = buffer->host_data();
  if (memory == nullptr && extent > 0)
    fail("the buffer belongs to a device whose memory the host cannot see");
  if (reinterpret_cast<std::uintptr_t>(memory) % schema::dtype_size(tensor.dtype) != 0) {
    fail("the buffer's memory is not aligned to ", schema::find_dtype(tensor.dtype)->name);
  }
  return memory;
}

struct Span {
  const std::byte* begin;
  const std::byte* end;
};

bool intersect(const Span& a, const Span& b) {
  return std::less<>()(a.begin, b.end) && std::less<>()(b.begin, a.end);
}

}  // namespace

std::uint64_t next_serial() noexcept {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

WeightBinding::WeightBinding(std::uint64_t owner, const Program& program,
                             std::span<const BufferPtr> weights)
    : owner_(owner), serial_(next_serial()), buffers_(weights.begin(), weights.end()) {
  const auto records = program.weights();
  if (weights.size() != records.size()) {
    throw Error(ErrorCode::kInvalidArgument, text("the program has ", records.size(), " weights, ",
                                                  weights.size(), " buffers are given"));
  }
  std::vector<Range> ranges;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const schema::Tensor& tensor = program.tensors()[records[i].tensor];
    std::byte* const memory =
        checked_memory(program, weights[i], tensor, [&] { return text("weight ", i); });
    pointers_.push_back(memory);
    const auto begin = reinterpret_cast<std::uintptr_t>(memory);
    if (weights[i]->size() > 0) ranges.push_back({begin, begin + weights[i]->size()});
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  for (const Range& range : ranges) {
    if (!ranges_.empty() && range.begin <= ranges_.back().end) {
      ranges_.back().end = std::max(ranges_.back().end, range.end);
    } else {
      ranges_.push_back(range);
    }
  }
}

bool WeightBinding::overlaps(std::span<const std::byte> memory) const {
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data());
  const auto after = std::partition_point(ranges_.begin(), ranges_.end(),
                                          [&](const Range& r) { return r.end <= begin; });
  return after != ranges_.end() && after->begin < begin + memory.size();
}

void check_run_buffers(const Program& program, const schema::EntryPoint& entry,
                       const WeightBinding& binding, std::span<const BufferPtr> inputs,
                       std::span<const BufferPtr> outputs) {
  const auto check_count = [&](std::size_t given, std::uint32_t wanted, std::string_view what) {
    if (given == wanted) return;
    throw Error(ErrorCode::kInvalidArgument,
                text("entry point ", quoted(program.string(entry.name)), " has ", wanted, " ", what,
                     ", ", given, " are given"));
  };
  check_count(inputs.size(), entry.input_count, "inputs");
  check_count(outputs.size(), entry.output_count, "outputs");

  const auto span_of = [&](const BufferPtr& buffer, const schema::Io& io, std::string_view what) {
    const schema::Tensor& tensor = program.tensors()[io.tensor];
    const std::byte* const memory = checked_memory(program, buffer, tensor, [&] { return what; });
    return Span{memory, memory + program.buffer_uses()[tensor.buffer].extent};
  };
  const auto input_ios = program.inputs_of(entry);
  const auto output_ios = program.outputs_of(entry);
  // Of the thread, so that a run allocates nothing.
  thread_local std::vector<Span> read;
  thread_local std::vector<Span> written;
  read.clear();
  written.clear();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    read.push_back(span_of(inputs[i], input_ios[i], "input"));
  }
  for (std::size_t o = 0; o < outputs.size(); ++o) {
    const schema::Io& io = output_ios[o];
    const Span span = span_of(outputs[o], io, "output");
    const auto refuse = [&](const auto&... reason) {
      throw Error(ErrorCode::kInvalidArgument,
                  text("output ", quoted(program.string(io.name)), ": its buffer ", reason...));
    };
    if (!outputs[o]->writable()) refuse("wraps memory that may only be read");
    if (binding.overlaps({span.begin, span.end})) refuse("shares memory with a weight");
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (i == io.donor) {
        if (outputs[o]->host_data() != inputs[i]->host_data() ||
            outputs[o]->size() > inputs[i]->size()) {
          refuse("must be that of input ", quoted(program.string(input_ios[i].name)),
                 ", which is donated to it");
        }
        continue;
      }
      if (intersect(span, read[i])) {
        refuse("shares memory with input ", quoted(program.string(input_ios[i].name)));
      }
    }
    for (std::size_t other = 0; other < o; ++other) {
      if (intersect(span, written[other])) {
        refuse("shares memory with output ", quoted(program.string(output_ios[other].name)));
      }
    }
    written.push_back(span);
  }
}

}  // namespace npu
