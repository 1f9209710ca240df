// A valid program made from the schema's records, as long as wanted.
#include <array>
#include <cstring>

#include "benchmarks.hpp"
#include "runtime/kernel_params.hpp"
#include "runtime/kernels.hpp"
#include "runtime/verify.hpp"

namespace npu::bench {
namespace {

constexpr std::uint32_t kRow = 16;  // floats: one aligned unit
constexpr std::uint32_t kBytes = kRow * sizeof(float);

template <class Record>
void append(std::vector<std::byte>& out, const Record& record) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&record);
  out.insert(out.end(), bytes, bytes + sizeof record);
}

void pad(std::vector<std::byte>& out) {
  out.resize((out.size() + schema::kAlignment - 1) / schema::kAlignment * schema::kAlignment);
}

// A row of floats in buffer `buffer`: what tensors and operands of this program all are.
template <class Record>
Record row_of(std::uint32_t buffer) {
  Record r{};
  r.buffer = buffer;
  r.dtype = NPU_DTYPE_F32;
  r.rank = 4;
  const std::uint32_t shape[] = {1, 1, 1, kRow};
  const std::int64_t strides[] = {kRow, kRow, kRow, 1};
  std::copy(std::begin(shape), std::end(shape), r.shape);
  std::copy(std::begin(strides), std::end(strides), r.strides);
  return r;
}

schema::Buffer buffer_of(schema::BufferKind kind, std::uint32_t offset, std::uint32_t last_use) {
  schema::Buffer b{};
  b.kind = static_cast<std::uint32_t>(kind);
  b.alias_of = schema::kNone;
  b.size = kBytes;
  b.offset = offset;
  b.last_use = last_use;
  return b;
}

}  // namespace

std::vector<std::byte> synthetic_program(std::uint32_t dispatches) {
  enum Buffers : std::uint32_t { kInput, kOutput, kEven, kOdd };
  using Kind = schema::SectionKind;
  std::array<std::vector<std::byte>, schema::kSectionKindCount> sections;
  const auto at = [&](Kind kind) -> std::vector<std::byte>& {
    return sections[static_cast<std::size_t>(kind)];
  };
  append(at(Kind::kBuffers), buffer_of(schema::BufferKind::kInput, 0, 0));
  append(at(Kind::kBuffers), buffer_of(schema::BufferKind::kOutput, 0, 0));
  append(at(Kind::kBuffers), buffer_of(schema::BufferKind::kArena, 0, dispatches - 1));
  append(at(Kind::kBuffers), buffer_of(schema::BufferKind::kArena, kBytes, dispatches - 1));
  for (std::uint32_t b = 0; b < 4; ++b) {
    auto tensor = row_of<schema::Tensor>(b);
    tensor.ir_dtype = tensor.dtype;
    std::copy(std::begin(tensor.shape), std::end(tensor.shape), tensor.alloc_shape);
    append(at(Kind::kTensors), tensor);
  }
  const KernelInfo& kernel = *find_kernel(NPU_KERNEL_SOFTMAX);
  append(at(Kind::kFields), std::uint32_t{0});
  for (std::uint32_t d = 0; d < dispatches; ++d) {
    std::array<schema::Operand, 2> operands{row_of<schema::Operand>(d == 0       ? kInput
                                                                    : d % 2 == 1 ? kEven
                                                                                 : kOdd),
                                            row_of<schema::Operand>(d + 1 == dispatches ? kOutput
                                                                    : d % 2 == 0        ? kEven
                                                                                        : kOdd)};
    operands[1].access = static_cast<std::uint8_t>(schema::Access::kWrite);
    schema::Dispatch dispatch{};
    dispatch.kernel = kernel.id;
    dispatch.operand_first = 2 * d;
    dispatch.operand_count = 2;
    dispatch.field_size = kernel.field_bytes;
    dispatch.source = schema::kNone;
    std::uint64_t grid[3];
    kernel.grid(operands, at(Kind::kFields).data(), grid);
    for (int axis = 0; axis < 3; ++axis) {
      dispatch.grid[axis] = static_cast<std::uint32_t>(grid[axis]);
      dispatch.threadgroup[axis] = kernel.threadgroup[axis];
    }
    dispatch.flops = kernel.flops(operands, at(Kind::kFields).data());
    for (schema::Operand& o : operands) {
      o.tensor = o.buffer;
      append(at(Kind::kOperands), o);
    }
    append(at(Kind::kDispatches), dispatch);
  }
  append(at(Kind::kIos), schema::Io{{}, kInput, schema::kNone});
  append(at(Kind::kIos), schema::Io{{}, kOutput, schema::kNone});
  append(at(Kind::kEntryPoints),
         schema::EntryPoint{{}, 0, dispatches, 0, 1, 1, 1, std::uint64_t{2} * kBytes});

  schema::Header header{};
  std::memcpy(header.magic, schema::kMagic, sizeof header.magic);
  header.version_major = schema::kVersionMajor;
  header.version_minor = schema::kVersionMinor;
  header.section_count = schema::kSectionKindCount;
  std::vector<std::byte> file(sizeof header + sections.size() * sizeof(schema::Section));
  pad(file);
  for (std::uint32_t k = 0; k < sections.size(); ++k) {
    const std::uint32_t size = schema::kSectionRecordSize[k];
    const schema::Section section{k, size, file.size(), sections[k].size() / size};
    std::memcpy(&file[sizeof header + k * sizeof section], &section, sizeof section);
    file.insert(file.end(), sections[k].begin(), sections[k].end());
    pad(file);
  }
  header.file_size = file.size();
  std::memcpy(file.data(), &header, sizeof header);
  header.checksum = file_checksum(file);
  std::memcpy(file.data(), &header, sizeof header);
  return file;
}

}  // namespace npu::bench
