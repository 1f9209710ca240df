// The GPU of an Apple Silicon Mac.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metal/metal_cpp.hpp"
#include "metal/pipelines.hpp"
#include "runtime/device.hpp"

namespace npu::metal {

class MetalDevice final : public Device {
 public:
  // Throws kDeviceUnavailable saying what this machine lacks.
  static std::unique_ptr<MetalDevice> make();
  // Whether make() finds what it needs.
  static bool present();

  std::string_view kind() const noexcept override { return "metal"; }
  std::string name() const override;
  BufferPtr allocate(std::size_t bytes) override;
  BufferPtr wrap(std::span<std::byte> memory, std::shared_ptr<void> owner, bool writable) override;
  void set_cache_folder(const std::string& path) override { pipelines_.set_folder(path); }
  std::vector<std::string> notes() const override { return pipelines_.notes(); }
  std::unique_ptr<Executable> load(std::shared_ptr<const Program> program) override;

 private:
  MetalDevice(NS::SharedPtr<MTL::Device> device, NS::SharedPtr<MTL::CommandQueue> queue);

  NS::SharedPtr<MTL::Device> device_;
  NS::SharedPtr<MTL::CommandQueue> queue_;
  Pipelines pipelines_;
};

}  // namespace npu::metal
