// Matrix products against a plain double-precision loop: strides, batches, few rows, both weight
// modes.
#include <cmath>
#include <limits>

#include "check.hpp"
#include "gemm.hpp"

namespace npu::cpu::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Operands are Tensors with dimensions (batch, column, row, 1) so that their layouts can be reused.
void run_case(const GemmShape& s, DType dtype, WeightMode mode, bool shared_weight, int layout,
              bool extras, ThreadPool& pool, Rng& rng) {
  const std::int64_t w_batch = shared_weight ? 1 : s.batch;
  Tensor x(s.batch, s.k, s.m, 1, dtype, layout, rng);
  Tensor w(w_batch, s.k, s.n, 1, dtype, layout == Tensor::kPlanar ? Tensor::kChannelsLast : layout,
           rng);
  Tensor y(s.batch, s.n, s.m, 1, dtype, layout, rng);
  Tensor r(s.batch, s.n, s.m, 1, dtype, layout, rng);
  x.fill_normal(rng, 1.0f);
  w.fill_normal(rng, 1.0f / std::sqrt(static_cast<float>(s.k)));
  r.fill_normal(rng, 1.0f);
  std::vector<float> bias(static_cast<std::size_t>(s.n));
  for (float& b : bias) b = std::normal_distribution<float>()(rng);

  const GemmLayout l{x.strides().n, x.strides().h, x.strides().c, shared_weight ? 0 : w.strides().n,
                     w.strides().h, w.strides().c, y.strides().n, y.strides().h,
                     y.strides().c, r.strides().n, r.strides().h, r.strides().c};
  const bool bent = extras && s.n % 2 == 0;
  const GemmPlan plan(s, l, dtype, mode, pool);
  const Buffer packed(plan.packed_weights_bytes());
  const Buffer scratch(plan.scratch_bytes());
  std::memset(scratch.get(), 0xff, plan.scratch_bytes());
  plan.pack_weights(w.base(), packed.get());
  plan.run(x.base(), plan.packed_weights_bytes() > 0 ? packed.get() : w.base(),
           extras ? bias.data() : nullptr, extras ? r.base() : nullptr, y.base(),
           extras ? -0.5f : -kInf, kInf, scratch.get(), bent ? &bend_rows : nullptr);

  int wrong = 0;
  double worst = 0;
  for (std::int64_t b = 0; b < s.batch; ++b) {
    for (std::int64_t m = 0; m < s.m; ++m) {
      for (std::int64_t n = 0; n < s.n; ++n) {
        double sum = extras ? static_cast<double>(bias[static_cast<std::size_t>(n)]) +
                                  static_cast<double>(r.at(b, n, m, 0))
                            : 0.0;
        double magnitude = std::abs(sum);
        for (std::int64_t k = 0; k < s.k; ++k) {
          const double v = static_cast<double>(x.at(b, k, m, 0)) *
                           static_cast<double>(w.at(shared_weight ? 0 : b, k, n, 0));
          sum += v;
          magnitude += std::abs(v);
        }
        if (extras) sum = std::max(bent ? bend(sum) : sum, -0.5);
        const float got = y.at(b, n, m, 0);
        if (!close(got, sum, tolerance(dtype, sum, magnitude), dtype)) {
          ++wrong;
          worst = std::max(worst, std::abs(static_cast<double>(got) - sum));
        }
      }
    }
  }
  NPU_CHECK(wrong == 0 && y.guards_intact(),
            "%d wrong, worst %g: %s %s b%d m%d n%d k%d layout %d mode %d shared %d", wrong, worst,
            plan.algorithm(), dtype_name(dtype), int(s.batch), int(s.m), int(s.n), int(s.k), layout,
            int(mode), int(shared_weight));
}

}  // namespace

void test_gemm() {
  for (const Isa isa : available_isas()) {
    const IsaScope scope(isa);
    Rng rng(11);
    for (int i = 0; i < 200; ++i) {
      ThreadPool pool(i % 4 + 1);
      const GemmShape s{pick(rng, 1, 3), pick(rng, 0, 1) == 0 ? pick(rng, 1, 5) : pick(rng, 1, 80),
                        pick(rng, 1, 130), pick(rng, 1, 150)};
      run_case(s, kDTypes[i % 3], i % 2 == 0 ? WeightMode::constant : WeightMode::activation,
               pick(rng, 0, 1) == 0, static_cast<int>(pick(rng, 0, Tensor::kLayouts - 1)),
               i % 5 != 0, pool, rng);
    }
    ThreadPool pool(2);
    for (const DType dtype : kDTypes) {
      run_case({1, 1, 1000, 2048}, dtype, WeightMode::constant, true, 0, true, pool, rng);
      run_case({1, 1, 515, 333}, dtype, WeightMode::constant, true, 0, true, pool, rng);
      run_case({1, 200, 300, 520}, dtype, WeightMode::constant, true, 0, true, pool, rng);
      run_case({2, 0, 16, 16}, dtype, WeightMode::constant, true, 0, true, pool, rng);
      run_case({1, 6, 16, 0}, dtype, WeightMode::activation, true, 0, true, pool, rng);
    }
  }
}

}  // namespace npu::cpu::test
