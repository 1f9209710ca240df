// Kernel records as the native code sees them; the tables behind it are generated from
// npu_compiler/kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "npubin_schema.hpp"  // generated

namespace npu {

struct OperandInfo {
  std::string_view name;
  std::uint32_t rank;
  std::string_view dtype;  // short dtype, "T" or "any"
  bool write;
  bool optional;
  // Where the parameter struct holds this operand: u32 shape[rank], i64 strides[rank], and (dtype
  // "any") u32 dtype.
  std::uint32_t shape_offset;
  std::uint32_t stride_offset;
  std::uint32_t dtype_offset;  // 0xFFFFFFFF: none
  std::span<const std::string_view> axes;
};

struct FieldInfo {
  std::string_view name;
  std::string_view type;  // "u32", "i32" or "f32"
  std::uint32_t count;
};

// One launch of a schedule; its kernels are called `name`_<dtype>.
struct StageInfo {
  std::string_view name;
  std::string_view shader;
  bool unit_threads;  // grid counts threads, not threadgroups
  std::uint32_t threadgroup[3];
  void (*grid)(std::span<const schema::Operand> operands, const std::byte* fields,
               std::uint64_t out[]);
};

// Another way to run a kernel on a GPU than its own launch: stages in order, each of which sees all
// that the one before wrote. Behind the kernel's operands they take the scratch arrays.
struct ScheduleInfo {
  std::string_view name;
  std::uint32_t number;  // from 1
  // Whether it may be taken for a dispatch.
  bool (*when)(std::span<const schema::Operand> operands, const std::byte* fields);
  std::span<const StageInfo> stages;
  std::uint32_t scratch_count;
  // Bytes of each scratch array; null where there are none.
  void (*scratch)(std::span<const schema::Operand> operands, const std::byte* fields,
                  std::uint64_t out[]);
};

struct KernelInfo {
  std::uint32_t id;
  std::string_view name;
  std::string_view shader;
  std::span<const OperandInfo> operands;
  std::span<const std::uint8_t> types;  // dtype ids that T may be; empty: no type variable
  std::uint32_t param_bytes;            // of the parameter struct
  std::uint32_t field_offset;           // of the field block inside the parameter struct
  std::uint32_t field_bytes;
  std::span<const std::uint8_t> inplace;  // pairs of operand indices that may be the very same view
  bool unit_threads;                      // grid counts threads, not threadgroups
  std::uint32_t threadgroup[3];
  // The first rule of the record that does not hold, or null; and the launch grid that the record's
  // rule gives.
  const char* (*check)(std::span<const schema::Operand> operands, const std::byte* fields);
  void (*grid)(std::span<const schema::Operand> operands, const std::byte* fields,
               std::uint64_t out[]);
  std::span<const FieldInfo> fields;  // of the field block, in order
  // Floating-point operations of a dispatch.
  std::uint64_t (*flops)(std::span<const schema::Operand> operands, const std::byte* fields);
  std::span<const ScheduleInfo> schedules;  // the best first
};

// Scratch arrays of a schedule.
constexpr std::uint32_t kMaxScratchArrays = 4;

// An instruction of elementwise programs; `args` and `result` are register types: 'f', 'i'
// or 'l'.
struct ScalarOpInfo {
  std::uint32_t id;
  std::string_view name;
  std::string_view args;
  char result;
};

// Null where the id is unknown.
const KernelInfo* find_kernel(std::uint32_t id) noexcept;
std::span<const KernelInfo> all_kernels() noexcept;
// Without LOAD, STORE, CONSTANT and CONSTANT_L, which are no formulas.
std::span<const ScalarOpInfo> all_scalar_ops() noexcept;
const ScalarOpInfo* find_scalar_op(std::uint32_t id) noexcept;

// The schedule that GPUs take for a verified dispatch: the first that fits, or null for the
// kernel's own launch.
const ScheduleInfo* choose_schedule(const KernelInfo& kernel,
                                    std::span<const schema::Operand> operands,
                                    std::span<const std::byte> fields) noexcept;

// Where a schedule's scratch arrays lie in one block of memory.
struct ScratchLayout {
  std::uint64_t offsets[kMaxScratchArrays];  // multiples of kScratchAlignment
  std::uint64_t sizes[kMaxScratchArrays];
  std::uint64_t bytes;  // of the block
};
constexpr std::uint64_t kScratchAlignment = 256;
ScratchLayout scratch_layout(const ScheduleInfo& schedule,
                             std::span<const schema::Operand> operands,
                             std::span<const std::byte> fields) noexcept;

// The parameter struct of a dispatch: operand shapes and strides in binding order, then the field
// block.
std::vector<std::byte> build_params(const KernelInfo& kernel,
                                    std::span<const schema::Operand> operands,
                                    std::span<const std::byte> fields);

}  // namespace npu
