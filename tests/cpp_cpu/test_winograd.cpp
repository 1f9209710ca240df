// The rounding error of Winograd's float32 arithmetic, without the rounding of a half-precision
// result.
#include <cmath>
#include <limits>

#include "check.hpp"
#include "conv_impl.hpp"

namespace npu::cpu::test {
namespace {

constexpr std::int64_t kSize = 14;
constexpr std::int64_t kOut = 32;

double exact_sum(const Tensor& x, const Tensor& w, std::int64_t ic, std::int64_t o, std::int64_t y,
                 std::int64_t x0) {
  double sum = 0;
  for (std::int64_t ky = 0; ky < 3; ++ky) {
    for (std::int64_t kx = 0; kx < 3; ++kx) {
      const std::int64_t iy = y + ky - 1;
      const std::int64_t ix = x0 + kx - 1;
      if (iy < 0 || iy >= kSize || ix < 0 || ix >= kSize) continue;
      for (std::int64_t i = 0; i < ic; ++i) {
        sum += static_cast<double>(x.at(0, i, iy, ix)) * static_cast<double>(w.at(o, i, ky, kx));
      }
    }
  }
  return sum;
}

// Largest error relative to the results' root mean square.
double worst_error(int tile, std::int64_t ic, ThreadPool& pool, Rng& rng) {
  Tensor x(1, ic, kSize, kSize, DType::f32, Tensor::kChannelsLast, rng);
  Tensor y(1, kOut, kSize, kSize, DType::f32, Tensor::kChannelsLast, rng);
  Tensor w(kOut, ic, 3, 3, DType::f32, Tensor::kChannelsLast, rng);
  x.fill_normal(rng, 1.0f);
  w.fill_normal(rng, 1.0f);
  const ConvShape shape{1, ic, kSize, kSize, kOut, kSize, kSize, 3, 3, 1, 1, 1, 1, 1, 1, 1};
  const ConvProblem problem{shape,
                            {x.strides(), y.strides(), y.strides()},
                            DType::f32,
                            &pool,
                            &kernel_table(active_isa())};
  const auto conv = make_winograd_conv(problem, tile);
  const Buffer packed(conv->packed_weights_bytes());
  const Buffer scratch(conv->scratch_bytes());
  conv->pack_weights(w.base(), packed.get());
  constexpr float kInf = std::numeric_limits<float>::infinity();
  conv->run({x.base(), packed.get(), nullptr, nullptr, y.base(), -kInf, kInf, scratch.get()});
  double worst = 0;
  double squares = 0;
  for (std::int64_t o = 0; o < kOut; ++o) {
    for (std::int64_t p = 0; p < kSize * kSize; ++p) {
      const double exact = exact_sum(x, w, ic, o, p / kSize, p % kSize);
      worst =
          std::max(worst, std::abs(static_cast<double>(y.at(0, o, p / kSize, p % kSize)) - exact));
      squares += exact * exact;
    }
  }
  return worst / std::sqrt(squares / static_cast<double>(kOut * kSize * kSize));
}

}  // namespace

void test_winograd() {
  // Rounding to float16 errs by up to 2^-11 of a value (bfloat16: 2^-8). The worst error of
  // thousands of sums must stay below a quarter of that on a typical value; F(2x2) does far better.
  constexpr double kLimit = 0x1p-13;
  ThreadPool pool(2);
  for (const Isa isa : available_isas()) {
    const IsaScope scope(isa);
    Rng rng(5);
    for (const int tile : {2, 4}) {
      for (const std::int64_t ic : {16, 64, 512}) {
        const double error = worst_error(tile, ic, pool, rng);
        NPU_CHECK(error < kLimit, "%g: F(%d), %d channels, %s", error, tile, static_cast<int>(ic),
                  isa_name(isa));
      }
    }
  }
}

}  // namespace npu::cpu::test
