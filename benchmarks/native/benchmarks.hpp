// The benchmarks; each adds its results to the report.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "report.hpp"
#include "runtime/program.hpp"

namespace npu::bench {

// The bytes of a program of `dispatches` softmax launches in a chain, between two arena buffers.
std::vector<std::byte> synthetic_program(std::uint32_t dispatches);

// Load and verify, from memory and, where `path` is given, from that file.
void bench_program(Report& report, const std::string& path);
// What a run costs the host per dispatch when kernels do nothing.
void bench_dispatch(Report& report, const std::string& path);
// Upload and download beside memcpy.
void bench_memory(Report& report);

}  // namespace npu::bench
