// Convolution layers one by one, and all the convolutions of a network in sequence.
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <thread>

#include "bench.hpp"

namespace npu::cpu::bench {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct OwnConv {
  OwnConv(const Layer& l, std::int64_t batch, DType dtype, ThreadPool& pool)
      : layer(l),
        plan(
            conv_shape(l, batch),
            {Strides4::channels_last(l.ic, l.in, l.in), Strides4::channels_last(l.oc, l.out, l.out),
             Strides4::channels_last(l.oc, l.out, l.out)},
            dtype, pool),
        packed(plan.packed_weights_bytes()),
        bias(static_cast<std::size_t>(l.oc), 0.1f) {
    const std::int64_t weights = l.oc * l.kernel * l.kernel * l.ic;
    const Aligned w(static_cast<std::size_t>(weights) * dtype_size(dtype));
    fill_random(w.get(), weights, dtype, 1);
    plan.pack_weights(w.get(), packed.get());
  }

  void run(const std::byte* x, const std::byte* residual, std::byte* y, std::byte* scratch) const {
    plan.run(x, packed.get(), bias.data(), layer.residual ? residual : nullptr, y,
             layer.relu ? 0.0f : -kInf, kInf, scratch);
  }

  Layer layer;
  ConvPlan plan;
  Aligned packed;
  std::vector<float> bias;
};

std::int64_t input_elements(const Layer& l, std::int64_t batch) {
  return batch * l.ic * l.in * l.in;
}
std::int64_t output_elements(const Layer& l, std::int64_t batch) {
  return batch * l.oc * l.out * l.out;
}

// Activations and scratch large enough for every layer.
struct Arena {
  Arena(std::int64_t batch, DType dtype, std::size_t scratch_bytes)
      : x(bytes(batch, dtype)),
        residual(bytes(batch, dtype)),
        y(bytes(batch, dtype)),
        scratch(scratch_bytes) {
    fill_random(x.get(), elements(batch), dtype, 2);
    fill_random(residual.get(), elements(batch), dtype, 3);
  }
  static std::int64_t elements(std::int64_t batch) {
    std::int64_t n = 0;
    for (const Layer& l : kLayers)
      n = std::max({n, input_elements(l, batch), output_elements(l, batch)});
    return n;
  }
  static std::size_t bytes(std::int64_t batch, DType dtype) {
    return static_cast<std::size_t>(elements(batch)) * dtype_size(dtype);
  }
  Aligned x, residual, y, scratch;
};

void print_layer(const Options& o, const Layer& l, std::int64_t batch, DType dtype,
                 const char* algorithm, const Timing& own, const Timing* peer, double peak) {
  const double gflops = flops(l, batch) / own.median_ms / 1e6;
  const double share = peak > 0 ? gflops / peak : 0;
  if (o.json) {
    std::printf(
        "{\"bench\": \"conv\", \"layer\": \"%s\", \"dtype\": \"%s\", \"batch\": %d, \"algorithm\": "
        "\"%s\", "
        "\"ms\": %.4f, \"ms_q1\": %.4f, \"ms_q3\": %.4f, \"gflops\": %.1f, \"share_of_peak\": %.3f",
        l.name, dtype_name(dtype), int(batch), algorithm, own.median_ms, own.low_ms, own.high_ms,
        gflops, share);
    if (peer != nullptr) {
      std::printf(", \"onednn_ms\": %.4f, \"onednn_ms_q1\": %.4f, \"onednn_ms_q3\": %.4f",
                  peer->median_ms, peer->low_ms, peer->high_ms);
    }
    std::printf("}\n");
    return;
  }
  std::printf("| %-22s | %-4s | %d | %-20s | %7.3f (%.3f-%.3f) | %6.1f | %3.0f%% |", l.name,
              dtype_name(dtype), int(batch), algorithm, own.median_ms, own.low_ms, own.high_ms,
              gflops, 100 * share);
  if (peer != nullptr) {
    std::printf(" %7.3f (%.3f-%.3f) | %.2f |", peer->median_ms, peer->low_ms, peer->high_ms,
                peer->median_ms / own.median_ms);
  }
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

void fill_random(std::byte* data, std::int64_t elements, DType dtype, unsigned seed) {
  std::minstd_rand rng(seed);
  std::uniform_real_distribution<float> uniform(-0.5f, 0.5f);
  for (std::int64_t i = 0; i < elements; ++i) store_scalar(dtype, data, i, uniform(rng));
}

std::vector<Timing> time_interleaved(const std::vector<std::function<void()>>& candidates,
                                     int rounds) {
  std::vector<std::vector<double>> ms(candidates.size());
  std::vector<int> repeats(candidates.size());
  for (int round = -1; round < rounds; ++round) {
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      const double once = std::min(time_ms(candidates[i], 1), time_ms(candidates[i], 1));
      if (round < 0) {
        repeats[i] = static_cast<int>(std::clamp(20.0 / once, 1.0, 1000.0));
      } else {
        ms[i].push_back(time_ms(candidates[i], repeats[i]));
      }
    }
  }
  std::vector<Timing> timings;
  for (auto& samples : ms) timings.push_back(summarise(std::move(samples)));
  return timings;
}

void bench_conv(const Options& o, const Peak& peak, ThreadPool& pool) {
  if (!o.json) {
    std::printf(
        "| layer | dtype | batch | algorithm | ms (quartiles) | GFLOP/s | of peak | oneDNN %s ms | "
        "oneDNN / own |\n",
        onednn_version());
    std::printf("|---|---|---|---|---|---|---|---|---|\n");
  }
  for (const std::int64_t batch : o.batches) {
    for (const DType dtype : o.dtypes) {
      for (const Layer& l : kLayers) {
        if (!o.filter.empty() && std::string(l.name).find(o.filter) == std::string::npos) continue;
        const OwnConv own(l, batch, dtype, pool);
        const Arena arena(batch, dtype, own.plan.scratch_bytes());
        std::vector<std::function<void()>> candidates;
        candidates.emplace_back([&] {
          own.run(arena.x.get(), arena.residual.get(), arena.y.get(), arena.scratch.get());
        });
        if (auto peer = o.peer ? onednn_conv(l, batch, dtype) : nullptr)
          candidates.push_back(std::move(peer));
        const auto t = time_interleaved(candidates, o.rounds);
        print_layer(o, l, batch, dtype, own.plan.algorithm(), t[0], t.size() > 1 ? &t[1] : nullptr,
                    dtype == DType::bf16 ? peak.bf16 : peak.f32);
      }
    }
  }
}

void bench_networks(const Options& o, const Peak& peak, ThreadPool& pool) {
  for (const std::int64_t batch : o.batches) {
    for (const DType dtype : o.dtypes) {
      for (const bool deep : {false, true}) {
        const char* name = deep ? "ResNet-50" : "ResNet-18";
        if (!o.filter.empty() && std::string(name).find(o.filter) == std::string::npos) continue;
        std::vector<std::unique_ptr<OwnConv>> convs;
        std::vector<std::function<void()>> peers;
        std::size_t scratch = 0;
        double total = 0;
        for (const Layer& l : kLayers) {
          for (int i = 0; i < (deep ? l.in_resnet50 : l.in_resnet18); ++i) {
            convs.push_back(std::make_unique<OwnConv>(l, batch, dtype, pool));
            scratch = std::max(scratch, convs.back()->plan.scratch_bytes());
            total += flops(l, batch);
            if (auto peer = o.peer ? onednn_conv(l, batch, dtype) : nullptr)
              peers.push_back(std::move(peer));
          }
        }
        const Arena arena(batch, dtype, scratch);
        std::vector<std::function<void()>> candidates;
        candidates.emplace_back([&] {
          for (const auto& c : convs)
            c->run(arena.x.get(), arena.residual.get(), arena.y.get(), arena.scratch.get());
        });
        if (peers.size() == convs.size()) {
          candidates.emplace_back([&] {
            for (const auto& run : peers) run();
          });
        }
        const auto t = time_interleaved(candidates, o.rounds);
        const double gflops = total / t[0].median_ms / 1e6;
        const double p = dtype == DType::bf16 ? peak.bf16 : peak.f32;
        if (o.json) {
          std::printf(
              "{\"bench\": \"network\", \"network\": \"%s\", \"dtype\": \"%s\", \"batch\": %d, "
              "\"ms\": %.3f, "
              "\"ms_q1\": %.3f, \"ms_q3\": %.3f, \"gflops\": %.1f",
              name, dtype_name(dtype), int(batch), t[0].median_ms, t[0].low_ms, t[0].high_ms,
              gflops);
          if (t.size() > 1) std::printf(", \"onednn_ms\": %.3f", t[1].median_ms);
          std::printf("}\n");
        } else {
          std::printf(
              "%s, all convolutions, %s, batch %d: %.2f ms (%.2f-%.2f), %.0f GFLOP/s, %.0f%% of "
              "peak",
              name, dtype_name(dtype), int(batch), t[0].median_ms, t[0].low_ms, t[0].high_ms,
              gflops, p > 0 ? 100 * gflops / p : 0.0);
          if (t.size() > 1) {
            std::printf("; oneDNN %s: %.2f ms (%.2f-%.2f), %.2f times", onednn_version(),
                        t[1].median_ms, t[1].low_ms, t[1].high_ms, t[1].median_ms / t[0].median_ms);
          }
          std::printf("\n");
          std::fflush(stdout);
        }
      }
    }
  }
}

}  // namespace npu::cpu::bench
