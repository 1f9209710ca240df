// Linear layers with weights read where they are, at the shapes of Qwen2.5-1.5B: few rows beside
// the read bandwidth of the same minute, many rows beside GemmPlan with weights packed beforehand.
#include <cstdio>
#include <limits>

#include "bench.hpp"
#include "gemm.hpp"
#include "linear.hpp"

namespace npu::cpu::bench {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr std::int64_t kRows[] = {1, 2, 4, 8, 16, 128, 512};
// Weights of a shape are repeated until a run finds nothing of them in any cache.
constexpr std::int64_t kCold = 200'000'000;

struct LinearLayer {
  const char* name;
  LinearShape shape;  // but for m
  bool norm, residual;
};
constexpr LinearLayer kLinearLayers[] = {
    {"qkv 1536 -> 2048", {1, 0, 2048, 1536}, true, false},
    {"o 1536 -> 1536", {1, 0, 1536, 1536}, false, true},
    {"gate up 1536 -> 2 x 8960", {2, 0, 8960, 1536}, true, false},
    {"down 8960 -> 1536", {1, 0, 1536, 8960}, false, true},
    {"head 1536 -> 151936", {1, 0, 151936, 1536}, true, false},
};

// Reads all of it, every thread a stretch at a time; the sum keeps the loads.
void read_all(const std::byte* data, std::int64_t bytes, ThreadPool& pool) {
  constexpr std::int64_t kStretch = 1 << 20;
  pool.parallel_for(bytes / kStretch, [&](std::int64_t task, int) {
    const auto* p = reinterpret_cast<const std::uint64_t*>(data + task * kStretch);
    std::uint64_t sums[8] = {};
    for (std::int64_t i = 0; i < kStretch / 8; i += 8) {
      __builtin_prefetch(p + i + 512);
      for (int j = 0; j < 8; ++j) sums[j] ^= p[i + j];
    }
    for (const std::uint64_t s : sums) __asm__ volatile("" : : "r"(s));
  });
}

// Everything that runs of one layer need.
class Case {
 public:
  Case(const LinearLayer& layer, std::int64_t m, DType dtype, bool int8, ThreadPool& pool)
      : shape_{layer.shape.parts, m, layer.shape.n, layer.shape.k},
        layer_(layer),
        plan_(shape_, {shape_.k, 1, shape_.n * shape_.k, shape_.k, 1, shape_.n, 1, shape_.n, 1},
              dtype, {int8, layer.norm, 1e-6f}, pool),
        x_(bytes(m * shape_.k * 4)),
        y_(bytes(m * shape_.n * 4)),
        residual_(bytes(m * shape_.n * 4)),
        vectors_(bytes((2 * shape_.n + shape_.k) * 4)),
        scratch_(plan_.scratch_bytes()) {
    fill_random(x_.get(), m * shape_.k, dtype, 1);
    fill_random(vectors_.get(), 2 * shape_.n + shape_.k, DType::f32, 3);
  }

  void run(const std::byte* weights, bool int8) const {
    const auto* vectors = reinterpret_cast<const float*>(vectors_.get());
    const float* scales[2] = {vectors, vectors + shape_.n};
    plan_.run({x_.get(),
               layer_.norm ? vectors + 2 * shape_.n : nullptr,
               weights,
               {int8 ? scales[0] : nullptr, int8 && shape_.parts == 2 ? scales[1] : nullptr},
               {nullptr, nullptr},
               layer_.residual ? residual_.get() : nullptr,
               y_.get(),
               -kInf,
               kInf,
               nullptr,
               scratch_.get()});
  }

  const char* algorithm() const { return plan_.algorithm(); }

 private:
  static std::size_t bytes(std::int64_t n) { return static_cast<std::size_t>(n); }

  LinearShape shape_;
  const LinearLayer& layer_;
  LinearPlan plan_;
  Aligned x_, y_, residual_, vectors_, scratch_;
};

void bench_layer(const Options& o, const Peak& peak, ThreadPool& pool, const LinearLayer& layer,
                 std::int64_t m, DType dtype, const Aligned& memory, std::int64_t memory_bytes) {
  const LinearShape& s = layer.shape;
  const std::int64_t weights = s.parts * s.n * s.k;
  const std::int64_t weight_bytes = weights * static_cast<std::int64_t>(dtype_size(dtype));
  const std::int64_t copies = std::max<std::int64_t>(1, kCold / weight_bytes);
  const Case plain(layer, m, dtype, false, pool);
  const Case int8(layer, m, dtype, true, pool);

  const GemmShape g{1, m, s.parts * s.n, s.k};
  const GemmLayout gl{0, g.k, 1, 0, g.k, 1, 0, g.n, 1, 0, 0, 1};
  const GemmPlan gemm(g, gl, dtype, WeightMode::constant, pool);
  const bool packs = gemm.packed_weights_bytes() > 0;
  const Aligned packed(gemm.packed_weights_bytes() * static_cast<std::size_t>(packs ? copies : 0));
  const Aligned x(static_cast<std::size_t>(m * g.k * 4));
  const Aligned y(static_cast<std::size_t>(m * g.n * 4));
  const Aligned scratch(gemm.scratch_bytes());
  for (std::int64_t i = 0; packs && i < copies; ++i) {
    gemm.pack_weights(memory.get() + i * weight_bytes,
                      packed.get() + i * static_cast<std::int64_t>(gemm.packed_weights_bytes()));
  }
  const std::int64_t step =
      packs ? static_cast<std::int64_t>(gemm.packed_weights_bytes()) : weight_bytes;
  const std::byte* gemm_weights = packs ? packed.get() : memory.get();
  const auto times = time_interleaved({[&] {
                                         for (std::int64_t i = 0; i < copies; ++i) {
                                           plain.run(memory.get() + i * weight_bytes, false);
                                         }
                                       },
                                       [&] {
                                         for (std::int64_t i = 0; i < copies; ++i)
                                           int8.run(memory.get() + i * weights, true);
                                       },
                                       [&] {
                                         for (std::int64_t i = 0; i < copies; ++i) {
                                           gemm.run(x.get(), gemm_weights + i * step, nullptr,
                                                    nullptr, y.get(), -kInf, kInf, scratch.get());
                                         }
                                       },
                                       [&] { read_all(memory.get(), memory_bytes, pool); }},
                                      o.rounds);
  const double ms = times[0].median_ms / static_cast<double>(copies);
  const double read_gb_s = static_cast<double>(memory_bytes) / times[3].median_ms / 1e6;
  const double gb_s = static_cast<double>(weight_bytes) / ms / 1e6;
  const double gflops = 2.0 * static_cast<double>(weights * m) / ms / 1e6;
  std::printf(
      o.json
          ? "{\"bench\": \"linear\", \"layer\": \"%s\", \"rows\": %lld, \"dtype\": \"%s\", "
            "\"algorithm\": \"%s\", \"ms\": %.4f, \"low_ms\": %.4f, \"high_ms\": %.4f, "
            "\"weights_gb_s\": %.2f, \"share_of_read_bandwidth\": %.3f, \"share_of_peak\": %.3f, "
            "\"int8_time\": %.3f, \"packed_gemm_time\": %.3f}\n"
          : "%-26s %3lld rows %-4s %-19s %8.3f ms (%.3f-%.3f) weights %5.1f GB/s (%.2f of read), "
            "%.2f of peak; int8 %.2f, packed gemm %.2f of the time\n",
      layer.name, static_cast<long long>(m), dtype_name(dtype), plain.algorithm(), ms,
      times[0].low_ms / static_cast<double>(copies), times[0].high_ms / static_cast<double>(copies),
      gb_s, gb_s / read_gb_s, gflops / (dtype == DType::bf16 ? peak.bf16 : peak.f32),
      times[1].median_ms / times[0].median_ms, times[2].median_ms / times[0].median_ms);
  std::fflush(stdout);
}

}  // namespace

void bench_linear(const Options& o, const Peak& peak, ThreadPool& pool) {
  for (const DType dtype : o.dtypes) {
    const auto size = static_cast<std::int64_t>(dtype_size(dtype));
    std::int64_t memory_bytes = kCold;
    for (const LinearLayer& layer : kLinearLayers) {
      memory_bytes =
          std::max(memory_bytes, layer.shape.parts * layer.shape.n * layer.shape.k * size);
    }
    const Aligned memory(static_cast<std::size_t>(memory_bytes));
    fill_random(memory.get(), memory_bytes / size, dtype, 2);
    for (const std::int64_t m : kRows) {
      for (const LinearLayer& layer : kLinearLayers) {
        // Only a few rows' logits are ever wanted.
        if (layer.shape.n > 100'000 && m > 8) continue;
        const std::string name = std::string(layer.name) + " " + std::to_string(m) + " rows";
        if (name.find(o.filter) == std::string::npos) continue;
        bench_layer(o, peak, pool, layer, m, dtype, memory, memory_bytes);
      }
    }
  }
}

}  // namespace npu::cpu::bench
