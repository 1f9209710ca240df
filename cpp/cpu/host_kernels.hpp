// The cpu device's kernels: one factory, make_<kernel>, per kernel record.
#pragma once

#include <memory>

#include "cpu/kernels/dtype.hpp"
#include "cpu/kernels/thread_pool.hpp"
#include "cpu/row_kernels.hpp"
#include "cpu/tile_kernels.hpp"
#include "runtime/host_device.hpp"
#include "runtime/kernel_params.hpp"

namespace npu::cpu {

// What the kernels of one device share.
struct CpuContext {
  ThreadPool& pool;
  const TileKernels& tiles;
  const RowKernels& rows;
};

// Each makes a verified dispatch of its kernel ready. The dispatch's views need not outlive the
// call. Throws Error(kInvalidProgram) for what only looking into the fields shows to be wrong.
#define NPU_DECLARE_FACTORY(id, name) \
  std::unique_ptr<HostKernel> make_##name(const DispatchInfo& dispatch, const CpuContext& context);
NPU_KERNELS(NPU_DECLARE_FACTORY)
#undef NPU_DECLARE_FACTORY

// The storage type of a type variable's operand, for the convolution, GEMM and pooling library.
// Throws Error(kInvalidProgram) for another dtype than f32, f16 and bf16.
DType library_dtype(const DispatchInfo& dispatch, std::size_t operand);

}  // namespace npu::cpu
