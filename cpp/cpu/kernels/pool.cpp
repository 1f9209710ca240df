// Pooling: each output pixel accumulates its window's pixels, channels across vector lanes where
// they are contiguous.
#include "pool.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "cpu_features.hpp"
#include "kernel_table.hpp"
#include "panel_product.hpp"

namespace npu::cpu {
namespace {

struct Span {
  std::int64_t first, count, step;
};

// One window: the taps that lie inside the input, and what the sum of them is divided by.
struct Window {
  Span rows, columns;
  float divisor;
};

Span clip(std::int64_t start, std::int64_t taps, std::int64_t step, std::int64_t size) {
  const std::int64_t skipped = start < 0 ? ceil_div(-start, step) : 0;
  const std::int64_t first = start + skipped * step;
  const std::int64_t inside = first < size ? ceil_div(size - first, step) : 0;
  return {first, std::clamp<std::int64_t>(taps - skipped, 0, inside), step};
}

struct PoolProblem {
  const PoolShape& s;
  DType dtype;
  const Strides4& xs;
  const Strides4& ys;
  const void* x;
  void* y;
};

// Channels [c0, c0 + channels) of one output pixel.
void pool_pixel(const PoolProblem& p, const KernelTable& t, bool is_max, const Window& w,
                std::int64_t n, std::int64_t oy, std::int64_t ox, std::int64_t c0,
                std::int64_t channels) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  alignas(64) float acc[256];
  const auto d = static_cast<std::size_t>(p.dtype);
  const AccumulateFn accumulate = is_max ? t.accumulate_max[d] : t.accumulate_sum[d];
  std::fill(acc, acc + channels, is_max ? -kInf : 0.0f);
  for (std::int64_t i = 0; i < w.rows.count; ++i) {
    for (std::int64_t j = 0; j < w.columns.count; ++j) {
      const std::int64_t at = n * p.xs.n + (w.rows.first + i * w.rows.step) * p.xs.h +
                              (w.columns.first + j * w.columns.step) * p.xs.w + c0 * p.xs.c;
      if (p.xs.c == 1) {
        accumulate(acc, element(p.x, p.dtype, at), channels);
        continue;
      }
      for (std::int64_t c = 0; c < channels; ++c) {
        const float v = load_scalar(p.dtype, p.x, at + c * p.xs.c);
        acc[c] = is_max ? (acc[c] > v || acc[c] != acc[c] ? acc[c] : v) : acc[c] + v;
      }
    }
  }
  if (!is_max) {
    for (std::int64_t c = 0; c < channels; ++c) acc[c] /= w.divisor;
  }
  Output out{p.dtype, nullptr, nullptr, p.y, {}, {}, -kInf, kInf};
  out.y_map.channel_stride = p.ys.c;
  const std::int64_t y = n * p.ys.n + oy * p.ys.h + ox * p.ys.w + c0 * p.ys.c;
  store_sums(t, acc, channels, 1, {&y, &y}, 0, channels, out);
}

template <class GetWindow>
void pool_all(const PoolProblem& p, bool is_max, ThreadPool& pool, GetWindow window) {
  const KernelTable& t = kernel_table(active_isa());
  const PoolShape& s = p.s;
  constexpr std::int64_t kBlock = 256;
  const std::int64_t blocks = ceil_div(s.c, kBlock);
  pool.parallel_for(s.n * s.oh * blocks, [&](std::int64_t task, int) {
    const std::int64_t c0 = task % blocks * kBlock;
    const std::int64_t oy = task / blocks % s.oh;
    const std::int64_t n = task / (blocks * s.oh);
    for (std::int64_t ox = 0; ox < s.ow; ++ox) {
      pool_pixel(p, t, is_max, window(oy, ox), n, oy, ox, c0, std::min(kBlock, s.c - c0));
    }
  });
}

void check(const PoolShape& s) {
  const bool ok = s.n >= 0 && s.c >= 0 && s.ih >= 0 && s.iw >= 0 && s.oh >= 0 && s.ow >= 0 &&
                  s.kh > 0 && s.kw > 0 && s.stride_h > 0 && s.stride_w > 0 && s.dilation_h > 0 &&
                  s.dilation_w > 0;
  if (!ok)
    throw std::invalid_argument("pooling: negative size, or window, stride or dilation below 1");
}

}  // namespace

void max_pool2d(const PoolShape& s, DType dtype, const Strides4& xs, const Strides4& ys,
                const void* x, void* y, ThreadPool& pool) {
  check(s);
  pool_all({s, dtype, xs, ys, x, y}, true, pool, [&](std::int64_t oy, std::int64_t ox) {
    return Window{clip(oy * s.stride_h - s.pad_top, s.kh, s.dilation_h, s.ih),
                  clip(ox * s.stride_w - s.pad_left, s.kw, s.dilation_w, s.iw), 1.0f};
  });
}

void avg_pool2d(const PoolShape& s, const AvgPoolOptions& options, DType dtype, const Strides4& xs,
                const Strides4& ys, const void* x, void* y, ThreadPool& pool) {
  check(s);
  pool_all({s, dtype, xs, ys, x, y}, false, pool, [&](std::int64_t oy, std::int64_t ox) {
    const std::int64_t top = oy * s.stride_h - s.pad_top;
    const std::int64_t left = ox * s.stride_w - s.pad_left;
    const Span rows = clip(top, s.kh, 1, s.ih);
    const Span columns = clip(left, s.kw, 1, s.iw);
    std::int64_t divisor = rows.count * columns.count;
    if (options.divisor_override != 0) {
      divisor = options.divisor_override;
    } else if (options.count_include_pad) {
      divisor = (std::min(top + s.kh, s.ih + options.pad_bottom) - top) *
                (std::min(left + s.kw, s.iw + options.pad_right) - left);
    }
    // A window without any input element gives 0, not 0 / 0.
    const bool empty = rows.count * columns.count == 0;
    return Window{rows, columns, empty ? 1.0f : static_cast<float>(divisor)};
  });
}

void adaptive_avg_pool2d(const PoolShape& s, DType dtype, const Strides4& xs, const Strides4& ys,
                         const void* x, void* y, ThreadPool& pool) {
  check(s);
  const auto span = [](std::int64_t i, std::int64_t in, std::int64_t out) {
    const std::int64_t first = i * in / out;
    return Span{first, ceil_div((i + 1) * in, out) - first, 1};
  };
  pool_all({s, dtype, xs, ys, x, y}, false, pool, [&](std::int64_t oy, std::int64_t ox) {
    const Span rows = span(oy, s.ih, s.oh);
    const Span columns = span(ox, s.iw, s.ow);
    return Window{rows, columns, static_cast<float>(rows.count * columns.count)};
  });
}

}  // namespace npu::cpu
