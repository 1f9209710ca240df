// The resize kernel: rows of the image are blended into one, whose pixels are blended along it.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/host_kernels.hpp"

namespace npu::cpu {
namespace {

enum Operand : std::size_t { kX, kY };

// Pixels of the original that one of the result is made of, along one axis.
struct Taps {
  std::array<std::int64_t, 4> at;
  std::array<float, 4> weight;
};

// The cubic convolution with a = -0.75 at distances up to 1, and between 1 and 2.
float cubic_near(float x) { return (1.25f * x - 2.25f) * x * x + 1.0f; }
float cubic_far(float x) { return ((-0.75f * x + 3.75f) * x - 6.0f) * x + 3.0f; }

std::vector<Taps> taps_along(const ResizeParams& p, float scale, std::uint32_t count,
                             std::uint32_t extent) {
  const bool nearest = p.mode == NPU_RESIZE_NEAREST || p.mode == NPU_RESIZE_NEAREST_EXACT;
  const bool cubic = p.mode == NPU_RESIZE_BICUBIC;
  const auto last = static_cast<float>(extent - 1);
  std::vector<Taps> found(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto index = static_cast<float>(i);
    float place = index * scale;
    if (p.mode == NPU_RESIZE_NEAREST_EXACT) place = (index + 0.5f) * scale;
    if (!nearest && p.align_corners == 0) place = (index + 0.5f) * scale - 0.5f;
    if (!(place > -1.0f)) place = -1.0f;
    place = std::clamp(place, cubic ? -1.0f : 0.0f, nearest ? last : last + 1.0f);
    const std::int64_t base =
        std::min<std::int64_t>(static_cast<std::int64_t>(std::floor(place)), extent - 1);
    for (std::int64_t t = 0; t < 4; ++t) {
      const std::int64_t at = base + t - (cubic ? 1 : 0);
      found[i].at[static_cast<std::size_t>(t)] = std::clamp<std::int64_t>(at, 0, extent - 1);
    }
    const float beyond = std::clamp(place - static_cast<float>(base), 0.0f, 1.0f);
    found[i].weight = {1.0f, 0.0f, 0.0f, 0.0f};
    if (cubic) {
      found[i].weight = {cubic_far(beyond + 1.0f), cubic_near(beyond), cubic_near(1.0f - beyond),
                         cubic_far(2.0f - beyond)};
    } else if (!nearest) {
      found[i].weight = {1.0f - beyond, beyond, 0.0f, 0.0f};
    }
  }
  return found;
}

// sum[i] (+)= weight * x[i].
void blend(float* sum, const float* x, float weight, std::int64_t n, bool first) {
  if (first) {
    for (std::int64_t i = 0; i < n; ++i) sum[i] = weight * x[i];
  } else {
    for (std::int64_t i = 0; i < n; ++i) sum[i] += weight * x[i];
  }
}

class ResizeKernel final : public HostKernel {
 public:
  ResizeKernel(const DispatchInfo& dispatch, const CpuContext& context)
      : pool_(context.pool),
        p_(dispatch.params_as<ResizeParams>()),
        load_(context.tiles.load[dispatch.operands[kX].dtype]),
        store_(context.tiles.store[dispatch.operands[kY].dtype]),
        size_(schema::dtype_size(dispatch.operands[kX].dtype)),
        rows_(taps_along(p_, p_.scale_h, p_.y_h, p_.x_h)),
        columns_(taps_along(p_, p_.scale_w, p_.y_w, p_.x_w)) {
    nearest_ = p_.mode == NPU_RESIZE_NEAREST || p_.mode == NPU_RESIZE_NEAREST_EXACT;
    count_ = p_.mode == NPU_RESIZE_BILINEAR ? 2 : 4;
    // A pixel's channels are handled together where they lie together, else plane by plane.
    together_ = p_.x_sc == 1 && p_.y_sc == 1;
    lanes_ = together_ ? p_.y_c : 1;
    planes_ = together_ ? 1 : p_.y_c;
  }

  std::size_t scratch_bytes() const override {
    return nearest_ ? 0 : static_cast<std::size_t>(worker_floats() * pool_.threads()) * 4;
  }

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* scratch) const override {
    const auto task = [&](std::int64_t index, int worker) {
      const std::int64_t row = index % p_.y_h;
      const std::int64_t plane = index / p_.y_h % planes_;
      const std::int64_t image = index / p_.y_h / planes_;
      const std::byte* x = operands[kX] + (image * p_.x_sn + plane * p_.x_sc) * size_;
      std::byte* y = operands[kY] + (image * p_.y_sn + plane * p_.y_sc + row * p_.y_sh) * size_;
      const Taps& taps = rows_[static_cast<std::size_t>(row)];
      if (nearest_) {
        copy_row(x + taps.at[0] * p_.x_sh * size_, y);
      } else {
        blend_row(x, taps, y, reinterpret_cast<float*>(scratch) + worker * worker_floats());
      }
    };
    pool_.parallel_for(std::int64_t{p_.y_n} * planes_ * p_.y_h, task);
  }

 private:
  std::int64_t row_floats() const { return lanes_ * p_.x_w; }
  // The blended row, a row as it is read, and the result.
  std::int64_t worker_floats() const { return 2 * row_floats() + lanes_ * p_.y_w; }

  void copy_row(const std::byte* x, std::byte* y) const {
    const std::size_t bytes = static_cast<std::size_t>(lanes_ * size_);
    for (std::int64_t j = 0; j < p_.y_w; ++j) {
      const std::byte* from = x + columns_[static_cast<std::size_t>(j)].at[0] * p_.x_sw * size_;
      std::byte* to = y + j * p_.y_sw * size_;
      if (bytes == 4) {
        std::memcpy(to, from, 4);
      } else if (bytes == 2) {
        std::memcpy(to, from, 2);
      } else {
        std::memcpy(to, from, bytes);
      }
    }
  }

  void load_row(const std::byte* x, float* row) const {
    auto* bits = reinterpret_cast<std::uint32_t*>(row);
    if (lanes_ == 1) {
      load_(bits, x, p_.x_sw, p_.x_w);
    } else if (p_.x_sw == lanes_) {
      load_(bits, x, 1, row_floats());
    } else {
      for (std::int64_t j = 0; j < p_.x_w; ++j) {
        load_(bits + j * lanes_, x + j * p_.x_sw * size_, 1, lanes_);
      }
    }
  }

  void store_row(const float* row, std::byte* y) const {
    const auto* bits = reinterpret_cast<const std::uint32_t*>(row);
    if (lanes_ == 1) {
      store_(y, bits, p_.y_sw, p_.y_w);
    } else if (p_.y_sw == lanes_) {
      store_(y, bits, 1, lanes_ * p_.y_w);
    } else {
      for (std::int64_t j = 0; j < p_.y_w; ++j) {
        store_(y + j * p_.y_sw * size_, bits + j * lanes_, 1, lanes_);
      }
    }
  }

  void blend_row(const std::byte* x, const Taps& taps, std::byte* y, float* blended) const {
    float* row = blended + row_floats();
    float* result = row + row_floats();
    for (std::size_t t = 0; t < count_; ++t) {
      load_row(x + taps.at[t] * p_.x_sh * size_, row);
      blend(blended, row, taps.weight[t], row_floats(), t == 0);
    }
    for (std::int64_t j = 0; j < p_.y_w; ++j) {
      const Taps& c = columns_[static_cast<std::size_t>(j)];
      float* to = result + j * lanes_;
      if (lanes_ == 1) {
        float sum = c.weight[0] * blended[c.at[0]] + c.weight[1] * blended[c.at[1]];
        if (count_ == 4) sum += c.weight[2] * blended[c.at[2]] + c.weight[3] * blended[c.at[3]];
        *to = sum;
        continue;
      }
      for (std::size_t t = 0; t < count_; ++t) {
        blend(to, blended + c.at[t] * lanes_, c.weight[t], lanes_, t == 0);
      }
    }
    store_row(result, y);
  }

  ThreadPool& pool_;
  const ResizeParams p_;
  RunLoad load_;
  RunStore store_;
  std::int64_t size_;
  std::vector<Taps> rows_, columns_;
  std::size_t count_ = 0;
  bool nearest_ = false;
  bool together_ = false;
  std::int64_t lanes_ = 1;
  std::int64_t planes_ = 1;
};

}  // namespace

std::unique_ptr<HostKernel> make_resize(const DispatchInfo& dispatch, const CpuContext& context) {
  return std::make_unique<ResizeKernel>(dispatch, context);
}

}  // namespace npu::cpu
