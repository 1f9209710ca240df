// Timing, statistics and output of the microbenchmarks.
#include "report.hpp"

#include <cmath>
#include <cstdio>

namespace npu::bench {
namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Result summarize(std::string name, std::string unit, const std::vector<double>& values,
                 double best) {
  const double center = median(values);
  std::vector<double> deviations;
  for (const double v : values) deviations.push_back(std::abs(v - center));
  return {std::move(name), std::move(unit), center, best, median(deviations), values.size()};
}

}  // namespace

std::vector<double> time_calls(std::size_t samples, const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  const std::size_t warmup = std::max<std::size_t>(3, samples / 10);
  for (std::size_t i = 0; i < warmup; ++i) work();
  std::vector<double> seconds;
  seconds.reserve(samples);
  for (std::size_t i = 0; i < samples; ++i) {
    const auto begin = Clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return seconds;
}

Result summarize_times(std::string name, std::string unit, std::vector<double> seconds,
                       double scale) {
  for (double& s : seconds) s *= scale;
  const double best = *std::min_element(seconds.begin(), seconds.end());
  return summarize(std::move(name), std::move(unit), seconds, best);
}

Result summarize_bandwidth(std::string name, std::vector<double> seconds, double bytes) {
  for (double& s : seconds) s = bytes / s / 1e9;
  const double best = *std::max_element(seconds.begin(), seconds.end());
  return summarize(std::move(name), "GB/s", seconds, best);
}

void Report::print_table() const {
  std::printf("%-44s %12s %12s %10s  %s\n", "benchmark", "median", "best", "MAD", "unit");
  for (const Result& r : results_) {
    std::printf("%-44s %12.3f %12.3f %10.3f  %s\n", r.name.c_str(), r.median, r.best, r.mad,
                r.unit.c_str());
  }
}

void Report::print_json() const {
  std::printf("[");
  const char* separator = "\n";
  for (const Result& r : results_) {
    std::printf(
        "%s  {\"name\": \"%s\", \"unit\": \"%s\", \"median\": %.9g, \"best\": %.9g, "
        "\"mad\": %.9g, \"samples\": %zu}",
        separator, r.name.c_str(), r.unit.c_str(), r.median, r.best, r.mad, r.samples);
    separator = ",\n";
  }
  std::printf("\n]\n");
}

}  // namespace npu::bench
