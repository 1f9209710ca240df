// Host cost per dispatch: a device whose kernels do nothing.
#include <stdexcept>

#include "benchmarks.hpp"
#include "runtime/host_device.hpp"
#include "runtime/text.hpp"

namespace npu::bench {
namespace {

class EmptyKernel final : public HostKernel {
 public:
  void run(std::span<std::byte* const> operands, const PreparedWeights*,
           std::byte*) const override {
    // Reads the pointers, as every kernel does, so that resolving them is part of what is measured.
    for (const std::byte* pointer : operands) seen_ = pointer;
  }

 private:
  mutable const volatile std::byte* volatile seen_ = nullptr;
};

class EmptyDevice final : public HostDevice {
 public:
  std::string_view kind() const noexcept override { return "empty"; }
  std::string name() const override { return "kernels that do nothing"; }
  std::unique_ptr<HostKernel> prepare(const DispatchInfo&) override {
    return std::make_unique<EmptyKernel>();
  }
};

void bench(Report& report, const std::string& name, const std::shared_ptr<const Program>& program) {
  EmptyDevice device;
  const auto size_of = [&](std::uint32_t tensor) {
    return program->buffers()[program->tensors()[tensor].buffer].size;
  };
  const auto executable = device.load(program);
  std::vector<BufferPtr> weights;
  for (const schema::Weight& w : program->weights())
    weights.push_back(device.allocate(size_of(w.tensor)));
  const auto binding = executable->bind(weights);

  const schema::EntryPoint& entry = program->entry_points()[0];
  if (entry.dispatch_count == 0) throw std::runtime_error("the program has no dispatches");
  std::vector<BufferPtr> inputs;
  std::vector<BufferPtr> outputs;
  for (const schema::Io& io : program->inputs_of(entry))
    inputs.push_back(device.allocate(size_of(io.tensor)));
  for (const schema::Io& io : program->outputs_of(entry)) {
    outputs.push_back(io.donor == schema::kNone ? device.allocate(size_of(io.tensor))
                                                : inputs[io.donor]);
  }
  constexpr std::size_t kSamples = 300;
  const double per_dispatch = 1e9 / entry.dispatch_count;
  const std::string what = text(name, ", ", entry.dispatch_count, " dispatches");
  report.add(summarize_times(
      text("run, ", what), "ns per dispatch",
      time_calls(kSamples, [&] { executable->run(*binding, 0, inputs, outputs, nullptr); }),
      per_dispatch));
  std::vector<DispatchTime> times;
  report.add(summarize_times(text("run with profile, ", what), "ns per dispatch",
                             time_calls(kSamples,
                                        [&] {
                                          times.clear();
                                          executable->run(*binding, 0, inputs, outputs, &times);
                                        }),
                             per_dispatch));
  report.add(summarize_times(text("load (prepare all), ", what), "ns per dispatch",
                             time_calls(kSamples, [&] { device.load(program); }), per_dispatch));
}

}  // namespace

void bench_dispatch(Report& report, const std::string& path) {
  bench(report, "synthetic", Program::from_bytes(synthetic_program(1)));
  bench(report, "synthetic", Program::from_bytes(synthetic_program(2000)));
  if (!path.empty()) bench(report, "given program", Program::from_file(path));
}

}  // namespace npu::bench
