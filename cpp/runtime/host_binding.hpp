// Weights bound to a host executable, and what its kernels made of them.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/host_device.hpp"
#include "runtime/weight_binding.hpp"

namespace npu {

class HostBinding final : public WeightBinding {
 public:
  using WeightBinding::WeightBinding;

  // Per dispatch of the program.
  std::span<const std::unique_ptr<PreparedWeights>> prepared() const { return prepared_; }
  void add_prepared(std::unique_ptr<PreparedWeights> prepared) {
    prepared_.push_back(std::move(prepared));
  }

 private:
  std::vector<std::unique_ptr<PreparedWeights>> prepared_;
};

}  // namespace npu
