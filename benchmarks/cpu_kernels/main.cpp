// Benchmarks of the CPU kernels: bench_cpu_kernels [conv|network|gemm|linear|pool ...] [options].
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "bench.hpp"
#include "cpu_features.hpp"

namespace {

constexpr const char* kUsage =
    "usage: bench_cpu_kernels [conv] [network] [gemm] [linear] [pool]\n"
    "  --dtype f16,bf16,f32  --batch 1,8  --rounds N  --filter TEXT  --no-peer  --json\n"
    "Without a name, all five run. Threads: NPU_SIM_NUM_THREADS; instruction set: "
    "NPU_SIM_CPU_ISA.\n";

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

bool parse_dtypes(const std::string& text, std::vector<npu::cpu::DType>& out) {
  using npu::cpu::DType;
  out.clear();
  for (const std::string& part : split(text)) {
    bool known = false;
    for (const DType t : {DType::f32, DType::f16, DType::bf16}) {
      if (part == npu::cpu::dtype_name(t)) {
        out.push_back(t);
        known = true;
      }
    }
    if (!known) return false;
  }
  return !out.empty();
}

}  // namespace

int main(int argc, char** argv) {
  using namespace npu::cpu;
  bench::Options options;
  std::vector<std::string> names;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const bool has_value = i + 1 < argc;
    if (arg == "--json") {
      options.json = true;
    } else if (arg == "--no-peer") {
      options.peer = false;
    } else if (arg == "--rounds" && has_value) {
      options.rounds = std::max(1, std::atoi(argv[++i]));
    } else if (arg == "--filter" && has_value) {
      options.filter = argv[++i];
    } else if (arg == "--batch" && has_value) {
      options.batches.clear();
      for (const std::string& part : split(argv[++i]))
        options.batches.push_back(std::max(1, std::atoi(part.c_str())));
    } else if (arg == "--dtype" && has_value && parse_dtypes(argv[i + 1], options.dtypes)) {
      ++i;
    } else if (arg == "conv" || arg == "network" || arg == "gemm" || arg == "linear" ||
               arg == "pool") {
      names.push_back(arg);
    } else {
      std::fputs(kUsage, stderr);
      return 2;
    }
  }
  if (names.empty()) names = {"pool", "network", "gemm", "linear", "conv"};

  ThreadPool& pool = ThreadPool::shared();
  const bench::Peak peak = bench::measure_peak(pool);
  std::printf(
      options.json
          ? "{\"bench\": \"machine\", \"isa\": \"%s\", \"threads\": %d, \"peak_f32_gflops\": %.1f, "
            "\"peak_bf16_gflops\": %.1f, \"onednn\": \"%s\"}\n"
          : "%s, %d threads, measured peak %.0f GFLOP/s float32, %.0f bfloat16; oneDNN %s\n",
      isa_name(active_isa()), pool.threads(), peak.f32, peak.bf16, bench::onednn_version());
  for (const std::string& name : names) {
    if (name == "conv") bench::bench_conv(options, peak, pool);
    if (name == "network") bench::bench_networks(options, peak, pool);
    if (name == "gemm") bench::bench_gemm(options, peak, pool);
    if (name == "linear") bench::bench_linear(options, peak, pool);
    if (name == "pool") bench::bench_thread_pool(options, pool);
  }
  return 0;
}
