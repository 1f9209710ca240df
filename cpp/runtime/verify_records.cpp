// Verification of the sections whose records stand alone: strings, metadata, sources, buffers,
// tensors.
#include "runtime/utf8.hpp"
#include "runtime/verify_view.hpp"

namespace npu {

Verifier::Verifier(const Program& program)
    : program_(program),
      uses_(program.buffers().size()),
      bound_in_(program.buffers().size(), schema::kNone),
      donated_in_(program.buffers().size(), schema::kNone),
      written_in_(program.buffers().size(), schema::kNone),
      memory_of_(program.buffers().size()) {}

std::vector<BufferUse> Verifier::run() {
  check_strings();
  check_metadata();
  check_sources();
  check_buffers();
  check_tensors();
  check_source_tensors();
  check_recipes();
  check_weights();
  check_operand_records();
  check_buffer_sizes();
  check_entry_points();
  return std::move(uses_);
}

Verifier::StringFault Verifier::string_fault(schema::StringRef ref) const noexcept {
  const std::span<const std::byte> strings = program_.strings();
  if (ref.offset > strings.size() || ref.length > strings.size() - ref.offset) {
    return StringFault::kRange;
  }
  // The table as a whole is well-formed, so a piece of it is if it ends where characters begin.
  const std::size_t end = std::size_t{ref.offset} + ref.length;
  const auto splits = [&](std::size_t at) {
    return at < strings.size() && !begins_character(strings[at]);
  };
  return splits(ref.offset) || splits(end) ? StringFault::kSplit : StringFault::kNone;
}

std::string_view Verifier::safe_string(schema::StringRef ref) const noexcept {
  return string_fault(ref) == StringFault::kNone ? program_.string(ref) : std::string_view();
}

std::string Verifier::describe(Kind section, std::uint64_t index) const {
  std::string_view name;
  switch (section) {
    case Kind::kMetadata:
      name = safe_string(program_.metadata()[index].key);
      break;
    case Kind::kBuffers:
      name = safe_string(program_.buffers()[index].name);
      break;
    case Kind::kTensors:
      name = safe_string(program_.tensors()[index].name);
      break;
    case Kind::kDispatches:
      name = safe_string(program_.dispatches()[index].name);
      break;
    case Kind::kSourceTensors:
      name = safe_string(program_.source_tensors()[index].name);
      break;
    case Kind::kEntryPoints:
      name = safe_string(program_.entry_points()[index].name);
      break;
    case Kind::kIos:
      name = safe_string(program_.ios()[index].name);
      break;
    case Kind::kSources:
      name = safe_string(program_.sources()[index].node);
      break;
    default:
      break;
  }
  const std::string record =
      text(schema::kSectionKindNames[static_cast<std::size_t>(section)], "[", index, "]");
  return name.empty() ? record : text(record, " ", quoted(name));
}

void Verifier::check_string(Kind section, std::uint64_t index, schema::StringRef ref,
                            std::string_view field) const {
  switch (string_fault(ref)) {
    case StringFault::kNone:
      return;
    case StringFault::kRange:
      fail(section, index, field, " (offset ", ref.offset, ", ", ref.length,
           " bytes) leaves the string table of ", program_.strings().size(), " bytes");
    case StringFault::kSplit:
      fail(section, index, field, " (offset ", ref.offset, ", ", ref.length,
           " bytes) splits a UTF-8 character");
  }
}

void Verifier::check_range(Kind section, std::uint64_t index, std::uint64_t first,
                           std::uint64_t count, std::uint64_t limit, std::string_view what) const {
  if (first > limit || count > limit - first) {
    fail(section, index, what, " ", first, " to ", first + count, " are out of range, there are ",
         limit);
  }
}

void Verifier::check_strings() {
  const std::size_t invalid = find_invalid_utf8(program_.strings());
  if (invalid < program_.strings().size()) {
    throw Error(ErrorCode::kInvalidProgram,
                text("STRINGS: byte ", invalid,
                     " is not UTF-8; the file is damaged, compile the model again"));
  }
}

void Verifier::check_metadata() {
  const auto records = program_.metadata();
  for (std::size_t i = 0; i < records.size(); ++i) {
    check_string(Kind::kMetadata, i, records[i].key, "key");
    check_string(Kind::kMetadata, i, records[i].value, "value");
  }
}

void Verifier::check_sources() {
  const auto records = program_.sources();
  for (std::size_t i = 0; i < records.size(); ++i) {
    check_string(Kind::kSources, i, records[i].node, "node");
    check_string(Kind::kSources, i, records[i].op_type, "op_type");
    check_string(Kind::kSources, i, records[i].module, "module");
    check_string(Kind::kSources, i, records[i].file, "file");
    if (records[i].reserved != 0) fail(Kind::kSources, i, "reserved is not 0");
  }
}

void Verifier::check_buffers() {
  const auto buffers = program_.buffers();
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const schema::Buffer& b = buffers[i];
    memory_of_[i] = static_cast<std::uint32_t>(i);
    check_string(Kind::kBuffers, i, b.name, "name");
    if (b.kind >= schema::kBufferKindCount) fail(Kind::kBuffers, i, "kind ", b.kind, " is unknown");
    if (b.size % schema::kAlignment != 0 || b.size > schema::kMaxArenaBytes) {
      fail(Kind::kBuffers, i, "size is ", b.size, ", it must be a multiple of ", schema::kAlignment,
           " and at most ", schema::kMaxArenaBytes);
    }
    if (b.offset % schema::kAlignment != 0) {
      fail(Kind::kBuffers, i, "offset ", b.offset, " is not a multiple of ", schema::kAlignment);
    }
    const auto kind = static_cast<schema::BufferKind>(b.kind);
    if (kind == schema::BufferKind::kArena) {
      const std::size_t dispatches = program_.dispatches().size();
      if (b.first_use > b.last_use || b.last_use >= dispatches) {
        fail(Kind::kBuffers, i, "live range ", b.first_use, " to ", b.last_use,
             " is not within the ", dispatches, " dispatches");
      }
      continue;
    }
    if (b.alias_of != schema::kNone) {
      fail(Kind::kBuffers, i, "alias_of is ", b.alias_of, ", only arena buffers take over memory");
    }
    if (kind == schema::BufferKind::kConstant) {
      const std::size_t size = program_.constants().size();
      if (b.offset > size || b.size > size - b.offset) {
        fail(Kind::kBuffers, i, "offset ", b.offset, " and ", b.size, " bytes leave CONSTANTS of ",
             size, " bytes");
      }
    } else if (b.offset != 0) {
      fail(Kind::kBuffers, i, "offset is ", b.offset, ", it must be 0 for kind ",
           schema::kBufferKindNames[b.kind]);
    }
  }
}

// What a caller allocates for a program is what its views reach, whatever the file says.
void Verifier::check_buffer_sizes() {
  const auto buffers = program_.buffers();
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const auto kind = static_cast<schema::BufferKind>(buffers[i].kind);
    if (kind == schema::BufferKind::kArena || kind == schema::BufferKind::kConstant) continue;
    const std::uint64_t size =
        (uses_[i].extent + schema::kAlignment - 1) / schema::kAlignment * schema::kAlignment;
    if (buffers[i].size != size) {
      fail(Kind::kBuffers, i, "size is ", buffers[i].size, ", its tensors and operands take ",
           size);
    }
  }
}

void Verifier::check_tensors() {
  const auto tensors = program_.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const schema::Tensor& t = tensors[i];
    check_string(Kind::kTensors, i, t.name, "name");
    if (schema::find_dtype(t.ir_dtype) == nullptr) {
      fail(Kind::kTensors, i, "ir_dtype ", +t.ir_dtype, " is unknown");
    }
    if (t.layout >= schema::kLayoutCount)
      fail(Kind::kTensors, i, "layout ", +t.layout, " is unknown");
    check_view(Kind::kTensors, i, t, t.alloc_shape);
    for (std::uint32_t axis = 0; axis < schema::kMaxRank; ++axis) {
      if (t.shape[axis] > t.alloc_shape[axis]) {
        fail(Kind::kTensors, i, "axis ", axis, " has ", t.shape[axis],
             " elements in an allocation of ", t.alloc_shape[axis]);
      }
    }
  }
}

}  // namespace npu
