// Kernels with a fault each, to show that the reference device finds it; and one without.
#include "reference/dialect.hpp"
#include "reference/worker_pool.hpp"
#include "reference_test.hpp"
#include "runtime/error.hpp"

namespace npu::reference::test {
namespace {

constexpr std::uint32_t kThreads = 64;
constexpr SharedArray kTile[] = {{"tile", kThreads * sizeof(float)}};

struct Operands {
  CheckedPtr<float> y;
  CheckedPtr<float> tile;
};

Operands operands_of(const Launch& launch) {
  return {CheckedPtr<float>(launch.operands[0]), CheckedPtr<float>(launch.shared[0])};
}

// Mirrors the thread indices through threadgroup memory.
void mirror(const Launch& launch, const NpuThread& self) {
  const Operands at = operands_of(launch);
  at.tile[self.index] = static_cast<float>(self.index);
  npu_barrier();
  at.y[self.x] = at.tile[kThreads - 1 - self.index];
}

void missing_barrier(const Launch& launch, const NpuThread& self) {
  const Operands at = operands_of(launch);
  at.tile[self.index] = static_cast<float>(self.index);
  at.y[self.x] = at.tile[kThreads - 1 - self.index];
}

void divergent_barriers(const Launch&, const NpuThread& self) {
  if (self.index < 40) {
    npu_barrier();
  } else {
    npu_barrier();
  }
}

void early_exit(const Launch&, const NpuThread& self) {
  if (self.index == 3) return;
  npu_barrier();
}

void barrier_beside_shuffle(const Launch&, const NpuThread& self) {
  if (self.lane == 0) {
    npu_barrier();
  } else {
    npu_simd_shuffle_xor(1.0f, 1);
  }
}

void divergent_shuffles(const Launch&, const NpuThread& self) {
  if (self.lane < 16) {
    npu_simd_shuffle_xor(1.0f, 1);
  } else {
    npu_simd_shuffle_xor(1.0f, 1);
  }
}

void store_out_of_bounds(const Launch& launch, const NpuThread& self) {
  const Operands at = operands_of(launch);
  npu_barrier();
  at.y[self.x + (self.index == 5 ? 1000 : 0)] = 0.0f;
}

void tile_out_of_bounds(const Launch& launch, const NpuThread& self) {
  operands_of(launch).tile[self.index + 1] = 0.0f;
  npu_barrier();
}

void reads_poison(const Launch& launch, const NpuThread& self) {
  const Operands at = operands_of(launch);
  at.y[self.x] = at.tile[self.index];
}

void barrier_without_arrays(const Launch&, const NpuThread&) { npu_barrier(); }

struct Case {
  const char* name;
  std::span<const SharedArray> shared;
  void (*run)(const Launch&, const NpuThread&);
};
constexpr Case kCases[] = {
    {"mirror", kTile, mirror},
    {"missing_barrier", kTile, missing_barrier},
    {"divergent_barriers", kTile, divergent_barriers},
    {"early_exit", kTile, early_exit},
    {"barrier_beside_shuffle", kTile, barrier_beside_shuffle},
    {"divergent_shuffles", kTile, divergent_shuffles},
    {"store_out_of_bounds", kTile, store_out_of_bounds},
    {"tile_out_of_bounds", kTile, tile_out_of_bounds},
    {"reads_poison", kTile, reads_poison},
    {"barrier_without_arrays", {}, barrier_without_arrays},
};

}  // namespace

// Runs `groups` threadgroups of 64 threads of the kernel called `name`; y holds 64 * groups values.
NPU_TEST_API int npu_test_faulty(const char* name, float* y, std::uint32_t groups,
                                 std::uint32_t reverse, const Message* message) {
  return guarded(message, [&] {
    for (const Case& c : kCases) {
      if (std::strcmp(c.name, name) != 0) continue;
      const EntryPoint entry{0, 0, 0, 0, c.name, c.shared, {}, c.run};
      Launch launch;
      launch.operands[0] = {reinterpret_cast<std::byte*>(y), 0,
                            std::uint64_t{groups} * kThreads * sizeof(float), c.name, "y"};
      WorkerPool pool(2);
      pool.run(entry, launch, {groups, 1, 1}, {kThreads, 1, 1},
               reverse != 0 ? ThreadOrder::kReverse : ThreadOrder::kForward);
      return;
    }
    throw Error(ErrorCode::kInvalidArgument, std::string("no test kernel ") + name);
  });
}

}  // namespace npu::reference::test
