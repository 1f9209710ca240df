// Generated kernels of elementwise programs: their texts, and running what became of one.
#include <vector>

#include "reference/worker_pool.hpp"
#include "reference_test.hpp"
#include "runtime/elementwise_source.hpp"
#include "runtime/error.hpp"
#include "runtime/kernel_params.hpp"
#include "runtime/kernels.hpp"

namespace npu::reference::test {
namespace {

using Run = void (*)(const Launch& launch, const NpuThread& self);

const KernelInfo& elementwise() { return *find_kernel(NPU_KERNEL_ELEMENTWISE); }

std::vector<schema::Operand> operands_of(const View* views) {
  std::vector<schema::Operand> operands(elementwise().operands.size());
  for (std::size_t k = 0; k < operands.size(); ++k) {
    operands[k].buffer = views[k].data == nullptr ? schema::kNone : 0;
    operands[k].dtype = static_cast<std::uint8_t>(views[k].dtype);
    operands[k].rank = static_cast<std::uint8_t>(views[k].rank);
    std::memcpy(operands[k].shape, views[k].shape, sizeof views[k].shape);
    std::memcpy(operands[k].strides, views[k].strides, sizeof views[k].strides);
  }
  return operands;
}

// Runs `function` once per `lanes` elements, as kernel elementwise is run.
void run_function(Run function, const View* views, const std::byte* fields, std::uint32_t lanes) {
  const auto operands = operands_of(views);
  const auto params = build_params(elementwise(), operands, {fields, elementwise().field_bytes});
  Launch launch;
  launch.params = params.data();
  std::uint32_t elements = 1;
  for (std::size_t k = 0; k < operands.size(); ++k) {
    if (operands[k].buffer == schema::kNone) continue;
    std::uint64_t last = 0;
    elements = 1;
    for (std::uint32_t axis = 0; axis < operands[k].rank; ++axis) {
      elements *= operands[k].shape[axis];
      last += (operands[k].shape[axis] - std::uint64_t{1}) *
              static_cast<std::uint64_t>(operands[k].strides[axis]);
    }
    launch.operands[k] = {static_cast<std::byte*>(views[k].data), 0,
                          (last + 1) * schema::dtype_size(operands[k].dtype), "generated",
                          elementwise().operands[k].name.data()};
  }
  const Size3 threads{elementwise().threadgroup[0], 1, 1};
  EntryPoint entry{};
  entry.kernel = NPU_KERNEL_ELEMENTWISE;
  entry.name = "generated";
  entry.run = function;
  WorkerPool(1).run(entry, launch, {(elements / lanes + threads[0] - 1) / threads[0], 1, 1},
                    threads, ThreadOrder::kForward);
}

}  // namespace

// The text of the body under this name, and the elements that a thread does.
NPU_TEST_API int npu_test_elementwise_source(const char* name, const View* views,
                                             const std::byte* fields, char* out, std::size_t size,
                                             std::uint32_t* lanes, const Message* message) {
  return guarded(message, [&] {
    const auto operands = operands_of(views);
    const std::span<const std::byte> block(fields, elementwise().field_bytes);
    *lanes = elementwise_lanes(operands, block);
    const std::string text = elementwise_source(name, operands, block, *lanes);
    if (text.size() >= size) throw Error(ErrorCode::kInvalidArgument, "the text is too long");
    std::memcpy(out, text.c_str(), text.size() + 1);
  });
}

NPU_TEST_API int npu_test_run_function(Run function, const View* views, const std::byte* fields,
                                       std::uint32_t lanes, const Message* message) {
  return guarded(message, [&] { run_function(function, views, fields, lanes); });
}

}  // namespace npu::reference::test
