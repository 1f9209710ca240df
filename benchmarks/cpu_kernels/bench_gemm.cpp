// Matrix products: a decode step's matrix-vector products, and prefill- and attention-like shapes.
#include <cstdio>
#include <limits>

#include "bench.hpp"
#include "gemm.hpp"

namespace npu::cpu::bench {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Shape {
  const char* name;
  GemmShape shape;
  WeightMode mode;
};

constexpr Shape kShapes[] = {
    {"decode 1536 -> 8960", {1, 1, 8960, 1536}, WeightMode::constant},
    {"decode 8960 -> 1536", {1, 1, 1536, 8960}, WeightMode::constant},
    {"fc 2048 -> 1000", {1, 1, 1000, 2048}, WeightMode::constant},
    {"prefill 128 x 1536 -> 8960", {1, 128, 8960, 1536}, WeightMode::constant},
    {"square 1024", {1, 1024, 1024, 1024}, WeightMode::constant},
    {"square 1024, both operands new", {1, 1024, 1024, 1024}, WeightMode::activation},
    {"12 heads 256 x 256 x 64", {12, 256, 256, 64}, WeightMode::activation},
};

}  // namespace

void bench_gemm(const Options& o, const Peak& peak, ThreadPool& pool) {
  for (const DType dtype : o.dtypes) {
    for (const Shape& s : kShapes) {
      const GemmShape& g = s.shape;
      const GemmLayout l{g.m * g.k, g.k, 1, g.batch > 1 ? g.n * g.k : 0, g.k, 1, g.m * g.n, g.n, 1,
                         0,         0,   1};
      const GemmPlan plan(g, l, dtype, s.mode, pool);
      const auto size = static_cast<std::int64_t>(dtype_size(dtype));
      // Several copies of the weights, so that a run finds its own neither in L2 nor in L3.
      const std::int64_t weight_bytes = g.batch * g.n * g.k * size;
      const std::int64_t copies =
          g.m == 1 ? std::clamp<std::int64_t>(128'000'000 / weight_bytes, 1, 16) : 1;
      const Aligned x(static_cast<std::size_t>(g.batch * g.m * g.k * size));
      const Aligned y(static_cast<std::size_t>(g.batch * g.m * g.n * size));
      const Aligned scratch(plan.scratch_bytes());
      fill_random(x.get(), g.batch * g.m * g.k, dtype, 1);
      std::vector<Aligned> weights;
      for (std::int64_t i = 0; i < copies; ++i) {
        Aligned w(static_cast<std::size_t>(weight_bytes));
        fill_random(w.get(), g.batch * g.n * g.k, dtype, 2);
        if (plan.packed_weights_bytes() > 0) {
          Aligned packed(plan.packed_weights_bytes());
          plan.pack_weights(w.get(), packed.get());
          w = std::move(packed);
        }
        weights.push_back(std::move(w));
      }
      const auto t = time_interleaved({[&] {
                                        for (const Aligned& w : weights) {
                                          plan.run(x.get(), w.get(), nullptr, nullptr, y.get(),
                                                   -kInf, kInf, scratch.get());
                                        }
                                      }},
                                      o.rounds)[0];
      const double ms = t.median_ms / static_cast<double>(copies);
      const double gflops = 2.0 * static_cast<double>(g.batch * g.m * g.n * g.k) / ms / 1e6;
      const double gbytes = static_cast<double>(weight_bytes) / ms / 1e6;
      const double p = dtype == DType::bf16 ? peak.bf16 : peak.f32;
      std::printf(
          o.json ? "{\"bench\": \"gemm\", \"shape\": \"%s\", \"dtype\": \"%s\", \"algorithm\": "
                   "\"%s\", \"ms\": %.4f, "
                   "\"gflops\": %.1f, \"share_of_peak\": %.3f, \"weights_gb_s\": %.2f}\n"
                 : "%-32s %-4s %-18s %8.3f ms %7.1f GFLOP/s (%.2f of peak), weights %6.2f GB/s\n",
          s.name, dtype_name(dtype), plan.algorithm(), ms, gflops, p > 0 ? gflops / p : 0.0,
          gbytes);
      std::fflush(stdout);
    }
  }
}

}  // namespace npu::cpu::bench
