// Program load and verification.
#include <filesystem>

#include "benchmarks.hpp"
#include "runtime/crc32.hpp"
#include "runtime/text.hpp"

namespace npu::bench {

void bench_program(Report& report, const std::string& path) {
  constexpr std::size_t kSamples = 200;
  for (const std::uint32_t dispatches : {100u, 2000u}) {
    const std::vector<std::byte> bytes = synthetic_program(dispatches);
    report.add(summarize_times(
        text("load + verify, ", dispatches, " dispatches, ", bytes.size() / 1024, " KiB"), "us",
        time_calls(kSamples, [&] { Program::from_bytes(bytes); }), 1e6));
  }
  if (!path.empty()) {
    const auto program = Program::from_file(path);
    report.add(summarize_times(
        text("load + verify ", std::filesystem::path(path).filename().string(), ", ",
             program->dispatches().size(), " dispatches, ", program->file_size() / 1024, " KiB"),
        "us", time_calls(kSamples, [&] { Program::from_file(path); }), 1e6));
  }
  const std::vector<std::byte> block(std::size_t{16} << 20, std::byte{0x5A});
  volatile std::uint32_t sum = 0;  // keeps the work
  auto seconds = time_calls(20, [&] { sum = crc32(block); });
  report.add(
      summarize_bandwidth("crc32, 16 MiB", std::move(seconds), static_cast<double>(block.size())));
}

}  // namespace npu::bench
