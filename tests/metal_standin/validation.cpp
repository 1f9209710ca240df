// The list of findings.
#include "metal_standin/validation.hpp"

#include <mutex>
#include <utility>

#include "runtime/error.hpp"

namespace npu::standin {
namespace {

struct Findings {
  std::mutex mutex;
  std::vector<std::string> list;
};

Findings& findings() {
  static auto* const instance = new Findings;  // outlives every static object
  return *instance;
}

}  // namespace

void report(const std::string& finding) {
  const std::lock_guard lock(findings().mutex);
  findings().list.push_back(finding);
}

void fail(const std::string& finding) {
  report(finding);
  throw Error(ErrorCode::kInternal, "Metal stand-in: " + finding);
}

std::vector<std::string> take_findings() {
  const std::lock_guard lock(findings().mutex);
  return std::exchange(findings().list, {});
}

}  // namespace npu::standin
