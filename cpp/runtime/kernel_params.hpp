// The kernels' parameter structs for host code.
#pragma once

#include <cstddef>
#include <cstdint>

using npu_u32 = std::uint32_t;
using npu_i32 = std::int32_t;
using npu_i64 = std::int64_t;
using npu_f32 = float;

#include "npu_kernel_params.h"  // generated
