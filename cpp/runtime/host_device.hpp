// Devices whose memory is the host's (cpu, reference) share buffers, arenas and the run loop; each
// brings its kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/device.hpp"
#include "runtime/kernels.hpp"
#include "runtime/program.hpp"

namespace npu {

// Everything known of a dispatch when a program is loaded. Views stay valid as long as the
// executable.
struct DispatchInfo {
  std::uint32_t index;       // in the program
  std::string_view name;     // for messages
  const KernelInfo& kernel;  // generated from the kernel record
  std::span<const schema::Operand>
      operands;  // kernel.operands.size() of them, absent ones with buffer == kNone
  std::span<const std::byte> params;  // the kernel's parameter struct (e.g. Conv2dParams), complete
  std::span<const std::uint32_t, 3> grid;
  std::span<const std::uint32_t, 3> threadgroup;
  std::uint32_t
      is_weight;  // bit k: operand k is a weight or a constant, the same in every run of a binding

  template <class Params>
  const Params& params_as() const {
    return *reinterpret_cast<const Params*>(params.data());
  }
};

// What a kernel keeps of its weights in one binding (e.g. repacked for the instruction set).
class PreparedWeights {
 public:
  virtual ~PreparedWeights() = default;
  virtual std::size_t bytes() const = 0;
};

// One dispatch made ready. Immutable: run() may be called from several threads at once.
class HostKernel {
 public:
  virtual ~HostKernel() = default;
  // Bytes of 64-byte-aligned scratch memory that run() wants.
  virtual std::size_t scratch_bytes() const { return 0; }
  // Called once per binding; `operands` is as in run(), null where the operand is neither weight
  // nor constant.
  virtual std::unique_ptr<PreparedWeights> prepare(std::span<std::byte* const> operands) const {
    static_cast<void>(operands);
    return nullptr;
  }
  // What prepare() makes depends on this and on the operands alone: dispatches that have both in
  // common (a layer that two entry points use) share it. Empty: it is shared with none.
  virtual std::vector<std::int64_t> packing() const { return {}; }
  // `operands[k]` points at operand k's first element (its offset added), null where absent.
  // Allocates nothing.
  virtual void run(std::span<std::byte* const> operands, const PreparedWeights* weights,
                   std::byte* scratch) const = 0;
};

class HostDevice : public Device {
 public:
  BufferPtr allocate(std::size_t bytes) override;
  BufferPtr wrap(std::span<std::byte> memory, std::shared_ptr<void> owner,
                 bool writable = true) override;
  std::unique_ptr<Executable> load(std::shared_ptr<const Program> program) override;

  // Makes one dispatch ready; the program has been verified. Throws where this device lacks the
  // kernel.
  virtual std::unique_ptr<HostKernel> prepare(const DispatchInfo& dispatch) = 0;

  // Before a run: fills an arena (the reference device poisons it with NaN patterns; others leave
  // it).
  virtual void prepare_arena(std::span<std::byte> arena) { static_cast<void>(arena); }
};

}  // namespace npu
