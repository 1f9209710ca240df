// Pooling against plain loops written from PyTorch's definitions.
#include <cmath>
#include <limits>

#include "check.hpp"
#include "pool.hpp"

namespace npu::cpu::test {
namespace {

enum Kind { kMax, kAverage, kAdaptive };

double reference(Kind kind, const PoolShape& s, const AvgPoolOptions& o, const Tensor& x,
                 std::int64_t n, std::int64_t c, std::int64_t oy, std::int64_t ox) {
  std::int64_t y0 = oy * s.stride_h - s.pad_top;
  std::int64_t x0 = ox * s.stride_w - s.pad_left;
  std::int64_t y1 = y0 + (s.kh - 1) * s.dilation_h + 1;
  std::int64_t x1 = x0 + (s.kw - 1) * s.dilation_w + 1;
  std::int64_t step_y = s.dilation_h;
  std::int64_t step_x = s.dilation_w;
  double divisor = static_cast<double>((std::min(y1, s.ih + o.pad_bottom) - y0) *
                                       (std::min(x1, s.iw + o.pad_right) - x0));
  if (kind == kAdaptive) {
    y0 = static_cast<std::int64_t>(std::floor(double(oy) * double(s.ih) / double(s.oh)));
    y1 = static_cast<std::int64_t>(std::ceil(double(oy + 1) * double(s.ih) / double(s.oh)));
    x0 = static_cast<std::int64_t>(std::floor(double(ox) * double(s.iw) / double(s.ow)));
    x1 = static_cast<std::int64_t>(std::ceil(double(ox + 1) * double(s.iw) / double(s.ow)));
    step_y = step_x = 1;
  }
  double best = -std::numeric_limits<double>::infinity();
  double sum = 0;
  int count = 0;
  for (std::int64_t y = y0; y < y1; y += step_y) {
    for (std::int64_t xx = x0; xx < x1; xx += step_x) {
      if (y < 0 || y >= s.ih || xx < 0 || xx >= s.iw) continue;
      const double v = static_cast<double>(x.at(n, c, y, xx));
      if (!std::isnan(best) && (v > best || std::isnan(v))) best = v;
      sum += v;
      ++count;
    }
  }
  if (kind == kMax) return best;
  if (count == 0) return 0.0;
  if (kind == kAverage && o.divisor_override != 0)
    divisor = static_cast<double>(o.divisor_override);
  if (kind == kAdaptive || (o.divisor_override == 0 && !o.count_include_pad)) divisor = count;
  return sum / divisor;
}

void run_case(Kind kind, Rng& rng, ThreadPool& pool) {
  PoolShape s;
  s.n = pick(rng, 1, 2);
  s.c = pick(rng, 0, 4) == 0 ? pick(rng, 256, 300) : pick(rng, 1, 40);
  s.ih = pick(rng, 3, 14);
  s.iw = pick(rng, 3, 14);
  AvgPoolOptions o;
  if (kind == kAdaptive) {
    s.oh = pick(rng, 1, 9);
    s.ow = pick(rng, 1, 9);
  } else {
    s.kh = pick(rng, 1, 3);
    s.kw = pick(rng, 1, 3);
    s.stride_h = pick(rng, 1, 3);
    s.stride_w = pick(rng, 1, 3);
    s.pad_top = o.pad_bottom = pick(rng, 0, s.kh / 2);
    s.pad_left = o.pad_right = pick(rng, 0, s.kw / 2);
    if (kind == kMax && pick(rng, 0, 2) == 0 && s.ih > 5 && s.iw > 5)
      s.dilation_h = s.dilation_w = 2;
    const bool ceil_mode = pick(rng, 0, 1) == 0;
    const auto size = [&](std::int64_t in, std::int64_t k, std::int64_t stride, std::int64_t pad,
                          std::int64_t d) {
      const std::int64_t span = in + 2 * pad - d * (k - 1) - 1;
      std::int64_t out = (ceil_mode ? ceil_div(span, stride) : span / stride) + 1;
      if (ceil_mode && (out - 1) * stride >= in + pad) --out;
      return out;
    };
    s.oh = size(s.ih, s.kh, s.stride_h, s.pad_top, s.dilation_h);
    s.ow = size(s.iw, s.kw, s.stride_w, s.pad_left, s.dilation_w);
    o.count_include_pad = pick(rng, 0, 1) == 0;
    if (pick(rng, 0, 3) == 0) o.divisor_override = pick(rng, 1, 7);
  }
  const DType dtype = kDTypes[pick(rng, 0, 2)];
  Tensor x(s.n, s.c, s.ih, s.iw, dtype, static_cast<int>(pick(rng, 0, Tensor::kLayouts - 1)), rng);
  Tensor y(s.n, s.c, s.oh, s.ow, dtype, static_cast<int>(pick(rng, 0, Tensor::kLayouts - 1)), rng);
  x.fill_normal(rng, 1.0f);
  x.set(0, 0, 1, 1, std::nanf(""));
  x.set(0, s.c - 1, 2, 2, -std::numeric_limits<float>::infinity());
  if (kind == kMax) max_pool2d(s, dtype, x.strides(), y.strides(), x.base(), y.base(), pool);
  if (kind == kAverage) avg_pool2d(s, o, dtype, x.strides(), y.strides(), x.base(), y.base(), pool);
  if (kind == kAdaptive)
    adaptive_avg_pool2d(s, dtype, x.strides(), y.strides(), x.base(), y.base(), pool);

  int wrong = 0;
  for (std::int64_t n = 0; n < s.n; ++n)
    for (std::int64_t c = 0; c < s.c; ++c)
      for (std::int64_t oy = 0; oy < s.oh; ++oy)
        for (std::int64_t ox = 0; ox < s.ow; ++ox) {
          const double want = reference(kind, s, o, x, n, c, oy, ox);
          wrong += !close(y.at(n, c, oy, ox), want, tolerance(dtype, want, 10.0 * (kind != kMax)),
                          dtype);
        }
  NPU_CHECK(wrong == 0 && y.guards_intact(), "%d wrong: kind %d %s c%d %dx%d -> %dx%d k%dx%d",
            wrong, int(kind), dtype_name(dtype), int(s.c), int(s.ih), int(s.iw), int(s.oh),
            int(s.ow), int(s.kh), int(s.kw));
}

}  // namespace

void test_pool() {
  for (const Isa isa : available_isas()) {
    const IsaScope scope(isa);
    Rng rng(3);
    for (int i = 0; i < 240; ++i) {
      ThreadPool pool(i % 4 + 1);
      run_case(static_cast<Kind>(i % 3), rng, pool);
    }
  }
}

}  // namespace npu::cpu::test
