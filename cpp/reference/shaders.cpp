// The shaders compiled for the host: bodies, generated entry points and their table.
#include "npu_scalar_ops.h"  // generated
#include "reference/dialect.hpp"
#include "reference/shader_table.hpp"

namespace npu::reference {
namespace {

#include "reference_shaders.inc"  // generated

}  // namespace

std::span<const EntryPoint> entry_points() noexcept { return kEntryPoints; }

const EntryPoint* find_entry_point(std::uint32_t kernel, std::uint32_t dtype,
                                   std::uint32_t schedule, std::uint32_t stage) noexcept {
  for (const EntryPoint& entry : kEntryPoints) {
    if (entry.kernel == kernel && entry.dtype == dtype && entry.schedule == schedule &&
        entry.stage == stage) {
      return &entry;
    }
  }
  return nullptr;
}

}  // namespace npu::reference
