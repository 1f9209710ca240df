// A small benchmark harness: repeated samples, their median, minimum and spread, as a table or
// JSON.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace npu::bench {

struct Result {
  std::string name;
  std::string unit;  // "us", "ns per dispatch", "GB/s"
  double median;
  double best;  // the smallest time, or the largest bandwidth
  double mad;   // median absolute deviation
  std::size_t samples;
};

class Report {
 public:
  void add(Result result) { results_.push_back(std::move(result)); }
  void print_table() const;
  void print_json() const;

 private:
  std::vector<Result> results_;
};

// Seconds of each of `samples` calls of `work`, after a few that are not counted.
std::vector<double> time_calls(std::size_t samples, const std::function<void()>& work);
// Median, minimum and spread of times given in seconds, multiplied by `scale`.
Result summarize_times(std::string name, std::string unit, std::vector<double> seconds,
                       double scale);
// The same for `bytes` moved per call, in GB/s.
Result summarize_bandwidth(std::string name, std::vector<double> seconds, double bytes);

}  // namespace npu::bench
