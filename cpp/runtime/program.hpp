// A .npubin file, verified and used in place: typed views of its sections.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "npubin_schema.hpp"  // generated

namespace npu {

// What verification learnt about a buffer.
struct BufferUse {
  // Bytes that views of the buffer reach; at most its size. Memory bound to it must hold this much.
  std::uint64_t extent = 0;
  // Buffers of kind weight: index of its weight record; else kNone.
  std::uint32_t weight = schema::kNone;
};

// Immutable, so any number of threads may share it. Every function of this class is safe on any
// file: what is not well-formed has been refused by the factory, with kInvalidProgram or
// kUnsupportedVersion.
class Program {
 public:
  // Maps the file. It must not be changed while the program lives. Throws kIo where it cannot be
  // read.
  static std::shared_ptr<const Program> from_file(const std::filesystem::path& path);
  // Copies `bytes` once, to aligned memory.
  static std::shared_ptr<const Program> from_bytes(std::span<const std::byte> bytes);

  std::span<const schema::Metadata> metadata() const {
    return records<schema::Metadata>(schema::SectionKind::kMetadata);
  }
  std::span<const schema::Buffer> buffers() const {
    return records<schema::Buffer>(schema::SectionKind::kBuffers);
  }
  std::span<const schema::Tensor> tensors() const {
    return records<schema::Tensor>(schema::SectionKind::kTensors);
  }
  std::span<const schema::Operand> operands() const {
    return records<schema::Operand>(schema::SectionKind::kOperands);
  }
  std::span<const schema::Dispatch> dispatches() const {
    return records<schema::Dispatch>(schema::SectionKind::kDispatches);
  }
  std::span<const schema::SourceTensor> source_tensors() const {
    return records<schema::SourceTensor>(schema::SectionKind::kSourceTensors);
  }
  std::span<const schema::Weight> weights() const {
    return records<schema::Weight>(schema::SectionKind::kWeights);
  }
  std::span<const schema::Recipe> recipes() const {
    return records<schema::Recipe>(schema::SectionKind::kRecipes);
  }
  std::span<const schema::EntryPoint> entry_points() const {
    return records<schema::EntryPoint>(schema::SectionKind::kEntryPoints);
  }
  std::span<const schema::Io> ios() const { return records<schema::Io>(schema::SectionKind::kIos); }
  std::span<const schema::Source> sources() const {
    return records<schema::Source>(schema::SectionKind::kSources);
  }
  std::span<const std::byte> strings() const { return section(schema::SectionKind::kStrings); }
  std::span<const std::byte> fields() const { return section(schema::SectionKind::kFields); }
  std::span<const std::byte> constants() const { return section(schema::SectionKind::kConstants); }

  std::string_view string(schema::StringRef ref) const;
  // The operands of a dispatch, in the kernel record's order.
  std::span<const schema::Operand> operands_of(const schema::Dispatch& dispatch) const;
  // The field block of a dispatch.
  std::span<const std::byte> fields_of(const schema::Dispatch& dispatch) const;
  std::span<const schema::Io> inputs_of(const schema::EntryPoint& entry) const;
  std::span<const schema::Io> outputs_of(const schema::EntryPoint& entry) const;
  // The content of a buffer of kind constant.
  std::span<const std::byte> constant(const schema::Buffer& buffer) const;

  // One per buffer record.
  std::span<const BufferUse> buffer_uses() const { return buffer_uses_; }
  std::uint64_t file_size() const { return bytes_.size(); }

 private:
  Program(std::span<const std::byte> bytes, std::shared_ptr<const void> owner);

  std::span<const std::byte> section(schema::SectionKind kind) const {
    return sections_[static_cast<std::size_t>(kind)];
  }
  template <class Record>
  std::span<const Record> records(schema::SectionKind kind) const {
    const std::span<const std::byte> data = section(kind);
    return {reinterpret_cast<const Record*>(data.data()), data.size() / sizeof(Record)};
  }

  std::shared_ptr<const void> owner_;
  std::span<const std::byte> bytes_;
  std::span<const std::byte> sections_[schema::kSectionKindCount];
  std::vector<BufferUse> buffer_uses_;
};

}  // namespace npu
