// Weights bound to a host executable, and what its kernels made of them.
#pragma once

#include <cstddef>
#include <memory>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "runtime/host_device.hpp"
#include "runtime/weight_binding.hpp"

namespace npu {

class HostBinding final : public WeightBinding {
 public:
  using WeightBinding::WeightBinding;

  // Per dispatch of the program.
  std::span<const std::shared_ptr<const PreparedWeights>> prepared() const { return prepared_; }
  void add_prepared(std::shared_ptr<const PreparedWeights> prepared) {
    prepared_.push_back(std::move(prepared));
  }
  // What several dispatches share counts once.
  std::size_t packed_bytes() const override {
    std::set<const PreparedWeights*> every;
    for (const auto& prepared : prepared_) every.insert(prepared.get());
    every.erase(nullptr);
    std::size_t bytes = 0;
    for (const PreparedWeights* one : every) bytes += one->bytes();
    return bytes;
  }

 private:
  std::vector<std::shared_ptr<const PreparedWeights>> prepared_;
};

}  // namespace npu
