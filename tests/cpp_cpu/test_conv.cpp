// Convolution against a plain double-precision loop: shapes, strides, dtypes, every instruction
// set.
#include <cmath>
#include <limits>
#include <stdexcept>

#include "check.hpp"
#include "conv.hpp"

namespace npu::cpu::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Case {
  ConvShape shape;
  DType dtype = DType::f32;
  int x_layout = Tensor::kChannelsLast;
  int y_layout = Tensor::kChannelsLast;
  bool bias = true;
  bool residual = false;
  float lo = -kInf;
  float hi = kInf;
  bool bent = false;  // through an activation
  int specials = 0;   // how many inputs become NaN or infinite
  float scale = 1.0f;
};

std::int64_t output_size(std::int64_t in, std::int64_t kernel, std::int64_t stride,
                         std::int64_t pad, std::int64_t dilation) {
  return (in + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
}

void describe(const Case& c, const char* algorithm, char* text, std::size_t size) {
  const ConvShape& s = c.shape;
  std::snprintf(
      text, size,
      "%s %s n%d ic%d %dx%d oc%d %dx%d k%dx%d s%d,%d p%d,%d d%d,%d g%d layouts %d,%d bias %d "
      "residual %d activation %d",
      algorithm, dtype_name(c.dtype), int(s.n), int(s.ic), int(s.ih), int(s.iw), int(s.oc),
      int(s.oh), int(s.ow), int(s.kh), int(s.kw), int(s.stride_h), int(s.stride_w), int(s.pad_top),
      int(s.pad_left), int(s.dilation_h), int(s.dilation_w), int(s.groups), c.x_layout, c.y_layout,
      int(c.bias), int(c.residual), int(c.bent));
}

void run_case(const Case& c, ThreadPool& pool, Rng& rng) {
  const ConvShape& s = c.shape;
  const std::int64_t icg = s.ic / s.groups;
  const std::int64_t ocg = s.oc / s.groups;
  Tensor x(s.n, s.ic, s.ih, s.iw, c.dtype, c.x_layout, rng);
  Tensor y(s.n, s.oc, s.oh, s.ow, c.dtype, c.y_layout, rng);
  Tensor residual(s.n, s.oc, s.oh, s.ow, c.dtype, c.y_layout, rng);
  Tensor w(s.oc, icg, s.kh, s.kw, c.dtype, Tensor::kChannelsLast, rng);
  x.fill_normal(rng, c.scale);
  residual.fill_normal(rng, 1.0f);
  w.fill_normal(rng, 1.0f / std::sqrt(static_cast<float>(s.kh * s.kw * icg)));
  for (int i = 0; i < c.specials; ++i) {
    const float values[] = {kInf, -kInf, std::nanf("")};
    x.set(pick(rng, 0, s.n - 1), pick(rng, 0, s.ic - 1), pick(rng, 0, s.ih - 1),
          pick(rng, 0, s.iw - 1), values[i % 3]);
  }
  std::vector<float> bias(static_cast<std::size_t>(s.oc));
  for (float& b : bias) b = std::normal_distribution<float>()(rng);

  const ConvPlan plan(s, {x.strides(), y.strides(), residual.strides()}, c.dtype, pool);
  char text[256];
  describe(c, plan.algorithm(), text, sizeof(text));
  const Buffer packed(plan.packed_weights_bytes());
  const Buffer scratch(plan.scratch_bytes());
  std::memset(scratch.get(), 0xff,
              plan.scratch_bytes());  // NaNs: stale scratch must not leak into y
  plan.pack_weights(w.base(), packed.get());
  plan.run(x.base(), packed.get(), c.bias ? bias.data() : nullptr,
           c.residual ? residual.base() : nullptr, y.base(), c.lo, c.hi, scratch.get(),
           c.bent ? &bend_rows : nullptr);

  double worst = 0;
  int wrong = 0;
  for (std::int64_t n = 0; n < s.n; ++n) {
    for (std::int64_t o = 0; o < s.oc; ++o) {
      for (std::int64_t oy = 0; oy < s.oh; ++oy) {
        for (std::int64_t ox = 0; ox < s.ow; ++ox) {
          double sum = c.bias ? static_cast<double>(bias[static_cast<std::size_t>(o)]) : 0.0;
          if (c.residual) sum += static_cast<double>(residual.at(n, o, oy, ox));
          double magnitude = std::abs(sum);
          for (std::int64_t ky = 0; ky < s.kh; ++ky) {
            const std::int64_t iy = oy * s.stride_h - s.pad_top + ky * s.dilation_h;
            if (iy < 0 || iy >= s.ih) continue;
            for (std::int64_t kx = 0; kx < s.kw; ++kx) {
              const std::int64_t ix = ox * s.stride_w - s.pad_left + kx * s.dilation_w;
              if (ix < 0 || ix >= s.iw) continue;
              for (std::int64_t i = 0; i < icg; ++i) {
                const double v = static_cast<double>(x.at(n, o / ocg * icg + i, iy, ix)) *
                                 static_cast<double>(w.at(o, i, ky, kx));
                sum += v;
                magnitude += std::abs(v);
              }
            }
          }
          if (!std::isnan(sum)) {
            if (c.bent) sum = bend(sum);
            sum = std::min(std::max(sum, static_cast<double>(c.lo)), static_cast<double>(c.hi));
          }
          const float got = y.at(n, o, oy, ox);
          const double tol = tolerance(c.dtype, sum, std::isfinite(magnitude) ? magnitude : 0.0);
          if (!close(got, sum, tol, c.dtype)) {
            if (wrong++ == 0) {
              std::printf("n%d o%d y%d x%d: %g instead of %g (tolerance %g)\n", int(n), int(o),
                          int(oy), int(ox), static_cast<double>(got), sum, tol);
            }
            worst = std::max(worst, std::abs(static_cast<double>(got) - sum));
          }
        }
      }
    }
  }
  NPU_CHECK(wrong == 0, "%d wrong, worst %g: %s", wrong, worst, text);
  NPU_CHECK(y.guards_intact(), "wrote between elements: %s", text);
}

ConvShape shape(std::int64_t n, std::int64_t ic, std::int64_t size, std::int64_t oc,
                std::int64_t kernel, std::int64_t stride, std::int64_t pad, std::int64_t groups = 1,
                std::int64_t dilation = 1) {
  const std::int64_t out = output_size(size, kernel, stride, pad, dilation);
  return {n,      ic,     size,   size, oc,  out,      out,      kernel,
          kernel, stride, stride, pad,  pad, dilation, dilation, groups};
}

Case random_case(Rng& rng) {
  Case c;
  ConvShape& s = c.shape;
  s.groups = pick(rng, 0, 3) == 0 ? pick(rng, 2, 4) : 1;
  const std::int64_t icg = pick(rng, 0, 2) == 0 ? pick(rng, 1, 4) : pick(rng, 1, 40);
  s.ic = icg * s.groups;
  s.oc = pick(rng, 1, 70) * s.groups;
  if (pick(rng, 0, 5) == 0) {
    s.groups = s.oc = s.ic = pick(rng, 2, 70);
  }
  s.n = pick(rng, 1, 3);
  s.kh = pick(rng, 1, 4);
  s.kw = pick(rng, 0, 1) == 0 ? s.kh : pick(rng, 1, 7);
  s.stride_h = pick(rng, 1, 3);
  s.stride_w = pick(rng, 0, 1) == 0 ? s.stride_h : pick(rng, 1, 3);
  s.dilation_h = pick(rng, 0, 2) == 0 ? 2 : 1;
  s.dilation_w = pick(rng, 0, 2) == 0 ? 3 : 1;
  s.pad_top = pick(rng, 0, 3);
  s.pad_left = pick(rng, 0, 3);
  s.ih = pick(rng, 1, 12) + s.dilation_h * (s.kh - 1);
  s.iw = pick(rng, 1, 12) + s.dilation_w * (s.kw - 1);
  s.oh = output_size(s.ih, s.kh, s.stride_h, s.pad_top, s.dilation_h);
  s.ow = output_size(s.iw, s.kw, s.stride_w, s.pad_left, s.dilation_w);
  c.dtype = kDTypes[pick(rng, 0, 2)];
  c.x_layout = pick(rng, 0, 1) == 0 ? 0 : static_cast<int>(pick(rng, 0, Tensor::kLayouts - 1));
  c.y_layout = pick(rng, 0, 1) == 0 ? 0 : static_cast<int>(pick(rng, 0, Tensor::kLayouts - 1));
  c.bias = pick(rng, 0, 2) != 0;
  c.residual = pick(rng, 0, 2) == 0;
  if (pick(rng, 0, 1) == 0) c.lo = 0.0f;
  if (pick(rng, 0, 3) == 0) c.hi = 1.5f;
  c.bent = pick(rng, 0, 1) == 0;
  return c;
}

// The kinds of layer in a ResNet, at sizes where every blocking decision is taken.
std::vector<Case> network_cases() {
  std::vector<Case> cases;
  for (const DType dtype : kDTypes) {
    const auto add = [&](const ConvShape& s, int x_layout, bool residual) {
      Case c;
      c.shape = s;
      c.dtype = dtype;
      c.x_layout = x_layout;
      c.residual = residual;
      c.lo = residual ? 0.0f : -kInf;
      c.bent = cases.size() % 2 == 1;
      cases.push_back(c);
    };
    add(shape(1, 3, 56, 64, 7, 2, 3), Tensor::kPlanar, false);
    add(shape(2, 3, 40, 32, 7, 2, 3), Tensor::kChannelsLast, false);
    add(shape(1, 4, 30, 24, 3, 2, 1), Tensor::kPlanar, false);
    add(shape(1, 64, 28, 64, 1, 1, 0), Tensor::kChannelsLast, true);
    add(shape(1, 128, 14, 64, 1, 2, 0), Tensor::kChannelsLast, false);
    add(shape(2, 64, 14, 128, 1, 1, 0), Tensor::kChannelsLast, true);
    add(shape(1, 64, 21, 64, 3, 1, 1), Tensor::kChannelsLast, true);
    add(shape(2, 64, 14, 96, 3, 1, 1), Tensor::kChannelsLast, false);
    add(shape(3, 128, 7, 64, 3, 1, 1), Tensor::kChannelsLast, true);
    add(shape(1, 65, 9, 33, 3, 1, 1), Tensor::kChannelSlice, true);
    add(shape(1, 64, 15, 64, 3, 2, 1), Tensor::kChannelsLast, false);
    add(shape(1, 64, 14, 64, 3, 1, 2, 1, 2), Tensor::kChannelsLast, false);
    add(shape(1, 64, 14, 64, 3, 1, 1, 2), Tensor::kChannelsLast, false);
    add(shape(1, 96, 14, 96, 3, 1, 1, 96), Tensor::kChannelsLast, true);
    add(shape(1, 2048, 4, 40, 1, 1, 0), Tensor::kChannelsLast, false);
  }
  return cases;
}

void test_specials(ThreadPool& pool, Rng& rng) {
  for (const DType dtype : kDTypes) {
    for (const std::int64_t kernel : {1, 3}) {
      Case c;
      c.shape = shape(1, 48, 13, 64, kernel, 1, kernel / 2);
      c.dtype = dtype;
      c.specials = 4;
      run_case(c, pool, rng);
      c.lo = 0.0f;
      c.residual = true;
      c.bent = true;
      run_case(c, pool, rng);
    }
  }
}

// An in-place residual, as an arena with buffer reuse makes it.
void test_residual_in_place(ThreadPool& pool, Rng& rng) {
  const ConvShape s = shape(1, 64, 10, 64, 3, 1, 1);
  for (const DType dtype : kDTypes) {
    Tensor x(1, 64, 10, 10, dtype, Tensor::kChannelsLast, rng);
    Tensor a(1, 64, 10, 10, dtype, Tensor::kChannelsLast, rng);
    Tensor y(1, 64, 10, 10, dtype, Tensor::kChannelsLast, rng);
    Tensor w(64, 64, 3, 3, dtype, Tensor::kChannelsLast, rng);
    x.fill_normal(rng, 1.0f);
    a.fill_normal(rng, 1.0f);
    w.fill_normal(rng, 0.05f);
    const ConvPlan plan(s, {x.strides(), y.strides(), a.strides()}, dtype, pool);
    const Buffer packed(plan.packed_weights_bytes());
    const Buffer scratch(plan.scratch_bytes());
    plan.pack_weights(w.base(), packed.get());
    plan.run(x.base(), packed.get(), nullptr, a.base(), y.base(), 0.0f, kInf, scratch.get());
    plan.run(x.base(), packed.get(), nullptr, a.base(), a.base(), 0.0f, kInf, scratch.get());
    int differences = 0;
    for (std::int64_t c = 0; c < 64; ++c) {
      for (std::int64_t i = 0; i < 100; ++i)
        differences += a.at(0, c, i / 10, i % 10) != y.at(0, c, i / 10, i % 10);
    }
    NPU_CHECK(differences == 0, "%d differences, %s", differences, dtype_name(dtype));
  }
}

void test_rejects_bad_shapes(ThreadPool& pool) {
  const auto rejected = [&](const ConvShape& s) {
    try {
      const ConvPlan plan(s, {}, DType::f32, pool);
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  ConvShape s = shape(1, 6, 8, 6, 3, 1, 1);
  NPU_CHECK(!rejected(s), "a good shape");
  s.groups = 4;
  NPU_CHECK(rejected(s), "groups that do not divide");
  s = shape(1, 6, 8, 6, 3, 1, 1);
  s.stride_w = 0;
  NPU_CHECK(rejected(s), "stride 0");
}

}  // namespace

void test_conv() {
  ThreadPool pool2(2);
  test_rejects_bad_shapes(pool2);
  for (const Isa isa : available_isas()) {
    const IsaScope scope(isa);
    Rng rng(7);
    for (int i = 0; i < 240; ++i) {
      ThreadPool pool(i % 4 + 1);
      run_case(random_case(rng), pool, rng);
    }
    for (const Case& c : network_cases()) run_case(c, pool2, rng);
    test_specials(pool2, rng);
    test_residual_in_place(pool2, rng);
  }
}

}  // namespace npu::cpu::test
