// npu_bench [--json] [program.npubin]: microbenchmarks of the runtime core.
#include <cstdio>
#include <cstring>
#include <exception>

#include "benchmarks.hpp"

int main(int argc, char** argv) {
  bool json = false;
  std::string path;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
    } else if (argv[i][0] == '-' || !path.empty()) {
      std::fprintf(stderr, "usage: npu_bench [--json] [program.npubin]\n");
      return 2;
    } else {
      path = argv[i];
    }
  }
  try {
    npu::bench::Report report;
    npu::bench::bench_program(report, path);
    npu::bench::bench_dispatch(report, path);
    npu::bench::bench_memory(report);
    json ? report.print_json() : report.print_table();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "npu_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
