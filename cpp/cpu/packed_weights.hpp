// Weights that a binding keeps in packed form, and pieces of scratch memory.
#pragma once

#include <cstddef>
#include <memory>

#include "runtime/host_buffer.hpp"
#include "runtime/host_device.hpp"

namespace npu::cpu {

constexpr std::size_t kScratchAlignment = 64;

// Zero-filled, 64-byte-aligned memory. The packed weights of a program lie side by side.
class PackedWeights final : public PreparedWeights {
 public:
  // Throws Error(kOutOfMemory).
  explicit PackedWeights(std::size_t bytes);
  std::size_t bytes() const override { return bytes_; }
  void* data() { return data_; }
  const void* data() const { return data_; }

 private:
  std::shared_ptr<HostBuffer> chunk_;
  std::byte* data_;
  std::size_t bytes_;
};

// Lays out the parts of a kernel's scratch memory, each on a 64-byte boundary.
class ScratchLayout {
 public:
  // The offset of a new part.
  std::size_t add(std::size_t bytes) {
    const std::size_t at = size_;
    size_ += (bytes + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
    return at;
  }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_ = 0;
};

// A float32 bias vector with any stride; the library wants it contiguous.
class BiasOperand {
 public:
  BiasOperand(std::int64_t n, std::int64_t stride, ScratchLayout& scratch)
      : n_(n), stride_(n > 1 ? stride : 1), at_(stride_ == 1 ? 0 : scratch.add(bytes(n))) {}

  // Null stays null; a strided vector is copied into `scratch`.
  const float* contiguous(const std::byte* bias, std::byte* scratch) const {
    const auto* from = reinterpret_cast<const float*>(bias);
    if (from == nullptr || stride_ == 1) return from;
    auto* to = reinterpret_cast<float*>(scratch + at_);
    for (std::int64_t i = 0; i < n_; ++i) to[i] = from[i * stride_];
    return to;
  }

 private:
  static std::size_t bytes(std::int64_t n) { return static_cast<std::size_t>(n) * sizeof(float); }
  std::int64_t n_, stride_;
  std::size_t at_;
};

}  // namespace npu::cpu
