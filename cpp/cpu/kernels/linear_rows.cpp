// Preparation of a linear layer's rows.
#include "linear_rows.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace npu::cpu {
namespace {

constexpr std::int64_t kLanes = 16;
// Float32 sums over so many squares are added in float64.
constexpr std::int64_t kChunk = 2048;

double sum_of_squares(const float* v, std::int64_t n) {
  double total = 0.0;
  for (std::int64_t from = 0; from < n; from += kChunk) {
    const std::int64_t end = std::min(n, from + kChunk);
    float lanes[kLanes] = {};
    std::int64_t i = from;
    for (; i + kLanes <= end; i += kLanes) {
      for (std::int64_t j = 0; j < kLanes; ++j) lanes[j] += v[i + j] * v[i + j];
    }
    for (std::int64_t j = 0; i < end; ++i, ++j) lanes[j] += v[i] * v[i];
    for (const float lane : lanes) total += static_cast<double>(lane);
  }
  return total;
}

}  // namespace

RowPreparation::RowPreparation(const KernelTable& table, DType dtype, WidenFn widen,
                               std::int64_t size, int planes, std::int64_t k, std::int64_t k_padded,
                               bool rms_norm, float eps)
    : to_float_(table.widen_f32[static_cast<std::size_t>(dtype)]),
      from_float_(table.narrow_f32[static_cast<std::size_t>(dtype)]),
      dtype_(dtype),
      widen_(widen),
      size_(size),
      planes_(planes),
      k_(k),
      k_padded_(k_padded),
      rms_norm_(rms_norm),
      eps_(eps) {}

// A row of floats and one of the storage type.
std::int64_t RowPreparation::scratch_bytes() const { return 2 * round_up(k_ * 4, 64); }

const std::byte* RowPreparation::gathered(const RowSource& source, std::int64_t row,
                                          std::byte* into) const {
  const std::byte* from = element(source.x, dtype_, row * source.row_stride);
  if (source.stride == 1) return from;
  const auto size = static_cast<std::int64_t>(dtype_size(dtype_));
  for (std::int64_t i = 0; i < k_; ++i) {
    std::memcpy(into + i * size, from + i * source.stride * size, dtype_size(dtype_));
  }
  return into;
}

void RowPreparation::normalize(float* v, const float* scale) const {
  const auto mean = static_cast<float>(sum_of_squares(v, k_) / static_cast<double>(k_));
  const float factor = 1.0f / std::sqrt(mean + eps_);
  if (scale == nullptr) {
    for (std::int64_t i = 0; i < k_; ++i) v[i] *= factor;
  } else {
    for (std::int64_t i = 0; i < k_; ++i) v[i] = v[i] * factor * scale[i];
  }
}

void RowPreparation::prepare(const RowSource& source, std::int64_t row, std::byte* to,
                             std::byte* scratch) const {
  std::byte* stored = scratch + round_up(k_ * 4, 64);
  const std::byte* from = gathered(source, row, stored);
  if (rms_norm_) {
    auto* v = reinterpret_cast<float*>(scratch);
    to_float_(from, k_, v, nullptr);
    normalize(v, source.scale);
    from_float_(v, k_, stored);
    from = stored;
  }
  const std::int64_t plane = k_padded_ * size_;
  widen_(from, k_, to, to + plane);
  for (int q = 0; q < planes_; ++q) {
    std::memset(to + q * plane + k_ * size_, 0, static_cast<std::size_t>((k_padded_ - k_) * size_));
  }
}

}  // namespace npu::cpu
