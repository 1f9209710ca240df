// Maximum and average pooling of images whose rows are contiguous and whose channels are not.
#pragma once

#include <memory>

#include "cpu/host_kernels.hpp"
#include "cpu/kernels/pool.hpp"

namespace npu::cpu {

// Whether x is better read row by row than channel by channel.
bool is_planar(const Strides4& x, const PoolShape& shape);

// The two kernels for such an x; `average` is null for a maximum.
std::unique_ptr<HostKernel> make_planar_pool(const DispatchInfo& dispatch,
                                             const CpuContext& context, const PoolShape& shape,
                                             const Strides4& x, const Strides4& y,
                                             const AvgPoolOptions* average);

}  // namespace npu::cpu
