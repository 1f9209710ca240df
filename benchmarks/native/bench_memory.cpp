// Upload and download bandwidth, beside plain memcpy over the same memory.
#include <cstring>

#include "benchmarks.hpp"
#include "runtime/host_buffer.hpp"
#include "runtime/text.hpp"

namespace npu::bench {

void bench_memory(Report& report) {
  for (const std::size_t kib : {64u, 1024u, 65536u}) {
    const std::size_t bytes = kib * 1024;
    const std::size_t samples = bytes > (std::size_t{1} << 24) ? 30 : 300;
    const auto buffer = HostBuffer::allocate(bytes);
    std::vector<std::byte> host(bytes, std::byte{1});
    const auto add = [&](const char* what, const std::function<void()>& work) {
      report.add(summarize_bandwidth(text(what, ", ", kib, " KiB"), time_calls(samples, work),
                                     static_cast<double>(bytes)));
    };
    add("memcpy", [&] { std::memcpy(buffer->host_data(), host.data(), bytes); });
    add("upload", [&] { buffer->upload(0, host); });
    add("download", [&] { buffer->download(0, host); });
  }
  constexpr std::size_t kLarge = std::size_t{256} << 20;
  report.add(summarize_times("allocate 256 MiB (pages untouched)", "us",
                             time_calls(100, [] { HostBuffer::allocate(kLarge); }), 1e6));
}

}  // namespace npu::bench
