// Opening a .npubin: map or copy, verify, then hand out views.
#include "runtime/program.hpp"

#include <cstring>
#include <new>

#include "runtime/file_map.hpp"
#include "runtime/text.hpp"
#include "runtime/verify.hpp"

namespace npu {

Program::Program(std::span<const std::byte> bytes, std::shared_ptr<const void> owner)
    : owner_(std::move(owner)), bytes_(bytes) {
  verify_container(bytes_, sections_);
  buffer_uses_ = Verifier(*this).run();
}

std::shared_ptr<const Program> Program::from_file(const std::filesystem::path& path) {
  try {
    auto map = std::make_shared<const FileMap>(path);
    return std::shared_ptr<const Program>(new Program(map->bytes(), map));
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kIo) throw;
    throw Error(error.code(), text(path.string(), ": ", error.what()));
  }
}

std::shared_ptr<const Program> Program::from_bytes(std::span<const std::byte> bytes) {
  struct alignas(schema::kAlignment) Line {
    std::byte bytes[schema::kAlignment];
  };
  const std::size_t lines = (bytes.size() + sizeof(Line) - 1) / sizeof(Line);
  auto copy = std::make_shared<std::vector<Line>>(lines);
  if (!bytes.empty()) std::memcpy(copy->data(), bytes.data(), bytes.size());
  const auto* data = reinterpret_cast<const std::byte*>(copy->data());
  return std::shared_ptr<const Program>(new Program({data, bytes.size()}, std::move(copy)));
}

std::string_view Program::string(schema::StringRef ref) const {
  return {reinterpret_cast<const char*>(strings().data()) + ref.offset, ref.length};
}

std::span<const schema::Operand> Program::operands_of(const schema::Dispatch& dispatch) const {
  return operands().subspan(dispatch.operand_first, dispatch.operand_count);
}

std::span<const std::byte> Program::fields_of(const schema::Dispatch& dispatch) const {
  return fields().subspan(dispatch.field_offset, dispatch.field_size);
}

std::span<const schema::Io> Program::inputs_of(const schema::EntryPoint& entry) const {
  return ios().subspan(entry.input_first, entry.input_count);
}

std::span<const schema::Io> Program::outputs_of(const schema::EntryPoint& entry) const {
  return ios().subspan(entry.output_first, entry.output_count);
}

std::span<const std::byte> Program::constant(const schema::Buffer& buffer) const {
  return constants().subspan(buffer.offset, buffer.size);
}

}  // namespace npu
