// Maximum pooling that also tells where each maximum lies: channels side by side, as PyTorch breaks
// ties.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "cpu/host_kernels.hpp"

namespace npu::cpu {
namespace {

enum Operand : std::size_t { kX, kY, kIndex };

// Channels computed side by side; what a task keeps of them stays in the L1 cache.
constexpr std::int64_t kLanes = 256;

// Taps of a window along one axis that lie inside the image.
struct Taps {
  std::int64_t first, count, step;
};

Taps window_taps(std::int64_t index, std::int64_t stride, std::int64_t pad, std::int64_t size,
                 std::int64_t step, std::int64_t extent) {
  const std::int64_t start = index * stride - pad;
  const std::int64_t skipped = start < 0 ? ceil_div(-start, step) : 0;
  const std::int64_t first = start + skipped * step;
  const std::int64_t inside = first < extent ? ceil_div(extent - first, step) : 0;
  return {first, std::clamp<std::int64_t>(size - skipped, 0, inside), step};
}

Taps adaptive_taps(std::int64_t index, std::int64_t count, std::int64_t extent) {
  const std::int64_t first = index * extent / count;
  return {first, ceil_div((index + 1) * extent, count) - first, 1};
}

struct Windows {
  Taps rows, columns;
};

// The largest values so far and their places; NaN is larger than everything, the last one wins.
void take_larger(float* best, std::int32_t* place, const float* value, std::int32_t at,
                 std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const bool larger = value[i] > best[i] || value[i] != value[i];
    best[i] = larger ? value[i] : best[i];
    place[i] = larger ? at : place[i];
  }
}

// WindowsOf: (output row, output column) -> Windows.
template <class Params, class WindowsOf>
class PlacedMaxKernel final : public HostKernel {
 public:
  PlacedMaxKernel(const DispatchInfo& dispatch, const CpuContext& context, WindowsOf windows)
      : p_(dispatch.params_as<Params>()),
        pool_(context.pool),
        load_(context.tiles.load[dispatch.operands[kX].dtype]),
        store_(context.tiles.store[dispatch.operands[kX].dtype]),
        size_(static_cast<std::int64_t>(schema::dtype_size(dispatch.operands[kX].dtype))),
        windows_(windows) {}

  void run(std::span<std::byte* const> operands, const PreparedWeights* /*weights*/,
           std::byte* /*scratch*/) const override {
    const std::int64_t blocks = ceil_div(p_.y_c, kLanes);
    pool_.parallel_for(blocks * p_.y_h * p_.y_n, [&](std::int64_t task, int) {
      const std::int64_t channel = task % blocks * kLanes;
      const std::int64_t row = task / blocks % p_.y_h;
      const std::int64_t image = task / (blocks * p_.y_h);
      for (std::int64_t column = 0; column < p_.y_w; ++column) {
        run_pixel(operands, image, channel, row, column);
      }
    });
  }

 private:
  void run_pixel(std::span<std::byte* const> operands, std::int64_t image, std::int64_t channel,
                 std::int64_t row, std::int64_t column) const {
    alignas(64) float best[kLanes];
    alignas(64) float values[kLanes];
    alignas(64) std::int32_t place[kLanes];
    const std::int64_t n = std::min<std::int64_t>(kLanes, p_.y_c - channel);
    const Windows w = windows_(p_, row, column);
    const bool empty = w.rows.count == 0 || w.columns.count == 0;
    const auto place_of = [&](std::int64_t r, std::int64_t c) {
      return static_cast<std::int32_t>((w.rows.first + r * w.rows.step) * p_.x_w + w.columns.first +
                                       c * w.columns.step);
    };
    std::fill_n(best, n, -std::numeric_limits<float>::infinity());
    std::fill_n(place, n, empty ? 0 : place_of(0, 0));
    const std::int64_t x = image * p_.x_sn + channel * p_.x_sc;
    for (std::int64_t r = 0; r < w.rows.count; ++r) {
      for (std::int64_t c = 0; c < w.columns.count; ++c) {
        const std::int64_t at = x + (w.rows.first + r * w.rows.step) * p_.x_sh +
                                (w.columns.first + c * w.columns.step) * p_.x_sw;
        load_(reinterpret_cast<std::uint32_t*>(values), operands[kX] + at * size_, p_.x_sc, n);
        take_larger(best, place, values, place_of(r, c), n);
      }
    }
    const std::int64_t y = image * p_.y_sn + channel * p_.y_sc + row * p_.y_sh + column * p_.y_sw;
    store_(operands[kY] + y * size_, reinterpret_cast<const std::uint32_t*>(best), p_.y_sc, n);
    if (operands[kIndex] == nullptr) return;
    auto* index = reinterpret_cast<std::int64_t*>(operands[kIndex]) + image * p_.index_sn +
                  channel * p_.index_sc + row * p_.index_sh + column * p_.index_sw;
    for (std::int64_t i = 0; i < n; ++i) index[i * p_.index_sc] = place[i];
  }

  const Params p_;
  ThreadPool& pool_;
  const RunLoad load_;
  const RunStore store_;
  const std::int64_t size_;
  const WindowsOf windows_;
};

template <class Params, class WindowsOf>
std::unique_ptr<HostKernel> make_placed(const DispatchInfo& dispatch, const CpuContext& context,
                                        WindowsOf windows) {
  return std::make_unique<PlacedMaxKernel<Params, WindowsOf>>(dispatch, context, windows);
}

}  // namespace

std::unique_ptr<HostKernel> make_max_pool2d_with_indices(const DispatchInfo& dispatch,
                                                         const CpuContext& context) {
  using Params = MaxPool2dWithIndicesParams;
  return make_placed<Params>(
      dispatch, context, [](const Params& p, std::int64_t row, std::int64_t column) {
        return Windows{window_taps(row, p.stride_h, p.pad_h, p.kh, p.dilation_h, p.x_h),
                       window_taps(column, p.stride_w, p.pad_w, p.kw, p.dilation_w, p.x_w)};
      });
}

std::unique_ptr<HostKernel> make_adaptive_max_pool2d(const DispatchInfo& dispatch,
                                                     const CpuContext& context) {
  using Params = AdaptiveMaxPool2dParams;
  return make_placed<Params>(
      dispatch, context, [](const Params& p, std::int64_t row, std::int64_t column) {
        return Windows{adaptive_taps(row, p.y_h, p.x_h), adaptive_taps(column, p.y_w, p.x_w)};
      });
}

}  // namespace npu::cpu
