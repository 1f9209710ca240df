// The kernels of shaders/ compiled for the host, as the generated table lists them.
#pragma once

#include <cstdint>
#include <span>

#include "reference/checked_ptr.hpp"

namespace npu::reference {

// Where a thread stands in its launch; shaders/common.h defines it.
struct NpuThread;

constexpr std::uint32_t kMaxOperands = 16;
constexpr std::uint32_t kMaxSharedArrays = 4;

// What the threads of a launch see.
struct Launch {
  Region operands[kMaxOperands];
  Region shared[kMaxSharedArrays];
  const void* params = nullptr;
};

struct SharedArray {
  const char* name;
  std::uint32_t bytes;
};

// Memory that a schedule's stages share; such arrays follow a kernel's operands.
struct ScratchArray {
  const char* name;
  std::uint32_t item;  // bytes of an element
};

struct EntryPoint {
  std::uint32_t kernel;    // id of the kernel record
  std::uint32_t dtype;     // id of the dtype that T stands for; 0: the kernel has no type variable
  std::uint32_t schedule;  // number of the kernel's schedule; 0: its own launch
  std::uint32_t stage;     // of the schedule
  const char* name;        // e.g. conv2d_f16
  // Kernels with threadgroup arrays use barriers or SIMD-group operations: their threads run as
  // fibers.
  std::span<const SharedArray> shared;
  std::span<const ScratchArray> scratch;
  void (*run)(const Launch& launch, const NpuThread& thread);
};

std::span<const EntryPoint> entry_points() noexcept;

// Null where the table has no such kernel.
const EntryPoint* find_entry_point(std::uint32_t kernel, std::uint32_t dtype,
                                   std::uint32_t schedule, std::uint32_t stage) noexcept;

}  // namespace npu::reference
