// Program verification: what a file must fulfil before anything of it is used. Always on.
//
// verify_container() establishes the sections; Verifier then checks every record. Both take time
// linear in the file (n log n for the arena), whatever the file says.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/error.hpp"
#include "runtime/kernels.hpp"
#include "runtime/program.hpp"
#include "runtime/text.hpp"

namespace npu {

// Checks header, checksum and section table, and fills `sections`. Throws kInvalidProgram or
// kUnsupportedVersion.
void verify_container(std::span<const std::byte> bytes,
                      std::span<const std::byte> (&sections)[schema::kSectionKindCount]);

// The checksum that the header of a file, one header long at least, should hold.
std::uint32_t file_checksum(std::span<const std::byte> bytes) noexcept;

// The piece of memory that a view touches: equal `space` means the same address space.
struct MemoryRange {
  std::uint64_t space;
  std::uint64_t begin;  // bytes
  std::uint64_t end;
};

class Verifier {
 public:
  explicit Verifier(const Program& program);
  // Throws kInvalidProgram for the first rule that does not hold; one element per buffer record.
  std::vector<BufferUse> run();

 private:
  using Kind = schema::SectionKind;

  // verify_records.cpp: sections whose records stand alone.
  void check_strings();
  void check_metadata();
  void check_sources();
  void check_buffers();
  void check_tensors();
  void check_buffer_sizes();
  // verify_weights.cpp
  void check_source_tensors();
  void check_recipes();
  void check_weights();
  // verify_entry.cpp
  void check_entry_points();
  void check_ios(std::uint32_t entry, bool outputs);
  void check_donor(std::uint32_t entry, std::uint32_t io);
  void check_dispatch(std::uint32_t entry, std::uint32_t index);
  void check_usage(std::uint32_t entry, std::uint32_t index, std::uint32_t operand, bool write);
  // verify_dispatch.cpp: one dispatch against its kernel record.
  void check_operand_records();
  void check_kernel(std::uint32_t index, const KernelInfo& kernel);
  void check_operand(std::uint32_t index, const KernelInfo& kernel, std::uint32_t operand);
  void check_rules(std::uint32_t index, const KernelInfo& kernel);
  void check_overlap(std::uint32_t index, const KernelInfo& kernel);
  MemoryRange memory_range(const schema::Operand& operand) const;
  // verify_elementwise.cpp
  void check_instructions(std::uint32_t index, const KernelInfo& kernel);
  // verify_arena.cpp
  void check_arena(std::uint32_t entry);

  // The end of a view in its buffer (0 where it is empty), or an error where it leaves the buffer.
  template <class Record>
  std::uint64_t view_end(Kind section, std::uint64_t index, const Record& record,
                         const std::uint32_t (&shape)[schema::kMaxRank]) const;
  // Shape, rank, dtype, strides: what tensors and operands have in common.
  template <class Record>
  void check_view(Kind section, std::uint64_t index, const Record& record,
                  const std::uint32_t (&shape)[schema::kMaxRank]);
  void check_string(Kind section, std::uint64_t index, schema::StringRef ref,
                    std::string_view field) const;
  void check_range(Kind section, std::uint64_t index, std::uint64_t first, std::uint64_t count,
                   std::uint64_t limit, std::string_view what) const;

  enum class StringFault { kNone, kRange, kSplit };
  StringFault string_fault(schema::StringRef ref) const noexcept;
  std::string describe(Kind section, std::uint64_t index) const;
  std::string_view safe_string(schema::StringRef ref) const noexcept;
  template <class... Parts>
  [[noreturn]] void fail(Kind section, std::uint64_t index, const Parts&... parts) const {
    throw Error(ErrorCode::kInvalidProgram, text(describe(section, index), ": ", parts...,
                                                 "; the file is damaged, compile the model again"));
  }
  std::string_view buffer_name(std::uint32_t buffer) const {
    return safe_string(program_.buffers()[buffer].name);
  }

  const Program& program_;
  std::vector<BufferUse> uses_;
  // Per buffer, the entry point that has it as an input or output / has donated it / has written
  // it, or kNone.
  std::vector<std::uint32_t> bound_in_;
  std::vector<std::uint32_t> donated_in_;
  std::vector<std::uint32_t> written_in_;
  // Per buffer, the buffer whose memory it is: itself, or the input donated to it.
  std::vector<std::uint32_t> memory_of_;
  // Arena buffers by first use; the next one that no entry point has claimed.
  std::vector<std::uint32_t> arena_order_;
  std::size_t arena_next_ = 0;
};

}  // namespace npu
