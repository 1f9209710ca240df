// Runs one kernel on the reference device, and the dialect's scalar functions over arrays.
#include "reference_test.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "reference/dialect.hpp"
#include "reference/reference_device.hpp"
#include "runtime/kernels.hpp"

namespace npu::reference::test {
namespace {

ThreadOrder order_of(std::uint32_t reverse) {
  return reverse != 0 ? ThreadOrder::kReverse : ThreadOrder::kForward;
}

schema::Operand operand_of(const View& view, bool write) {
  schema::Operand operand{};
  operand.buffer = view.data == nullptr ? schema::kNone : 0;
  operand.tensor = schema::kNone;
  operand.access =
      static_cast<std::uint8_t>(write ? schema::Access::kWrite : schema::Access::kRead);
  if (view.data == nullptr) return operand;
  // As if its buffer began at the last multiple of 256.
  operand.offset = reinterpret_cast<std::uintptr_t>(view.data) % 256;
  operand.dtype = static_cast<std::uint8_t>(view.dtype);
  operand.rank = static_cast<std::uint8_t>(view.rank);
  std::copy_n(view.shape, 8, operand.shape);
  std::copy_n(view.strides, 8, operand.strides);
  return operand;
}

// Without the record's rules, so that tests can break them. `schedule` is the name of the one that
// a GPU must choose, which is then run; empty runs the kernel's own launch.
void run_kernel(std::uint32_t id, const View* views, const std::byte* fields, bool reverse,
                std::uint32_t threads, std::string_view schedule) {
  const KernelInfo* kernel = find_kernel(id);
  if (kernel == nullptr)
    throw Error(ErrorCode::kInvalidArgument, "no kernel " + std::to_string(id));
  std::vector<schema::Operand> operands;
  std::vector<std::byte*> data;
  for (std::size_t k = 0; k < kernel->operands.size(); ++k) {
    operands.push_back(operand_of(views[k], kernel->operands[k].write));
    data.push_back(static_cast<std::byte*>(views[k].data));
  }
  const std::vector<std::byte> params =
      build_params(*kernel, operands, {fields, kernel->field_bytes});
  std::uint64_t wide_grid[3];
  kernel->grid(operands, fields, wide_grid);
  std::uint32_t grid[3];
  for (int axis = 0; axis < 3; ++axis) grid[axis] = static_cast<std::uint32_t>(wide_grid[axis]);

  const ScheduleInfo* const chosen =
      choose_schedule(*kernel, operands, {fields, kernel->field_bytes});
  const std::string_view found = chosen == nullptr ? "" : chosen->name;
  if (!schedule.empty() && found != schedule) {
    throw Error(ErrorCode::kInvalidArgument, "schedule '" + std::string(schedule) +
                                                 "' is expected, chosen is '" + std::string(found) +
                                                 "'");
  }
  ReferenceDevice device(ReferenceOptions{order_of(reverse), threads, !schedule.empty()});
  const DispatchInfo dispatch{0, "test", *kernel, operands, params, grid, kernel->threadgroup, 0};
  const auto ready = device.prepare(dispatch);
  std::vector<std::byte> scratch(ready->scratch_bytes() + kScratchAlignment);
  const auto skip =
      kScratchAlignment - reinterpret_cast<std::uintptr_t>(scratch.data()) % kScratchAlignment;
  ready->run(data, nullptr, scratch.data() + skip);
}

template <class Function>
void map(const float* in, float* out, std::size_t count, Function&& function) {
  for (std::size_t i = 0; i < count; ++i) out[i] = function(in[i]);
}

}  // namespace

NPU_TEST_API int npu_test_run(std::uint32_t kernel, const View* views, const std::byte* fields,
                              std::uint32_t reverse, std::uint32_t threads, const char* schedule,
                              const Message* message) {
  return guarded(message,
                 [&] { run_kernel(kernel, views, fields, reverse != 0, threads, schedule); });
}

NPU_TEST_API void npu_test_erf(const float* in, float* out, std::size_t count) {
  map(in, out, count, [](float v) { return npu_erf(v); });
}

NPU_TEST_API void npu_test_widen(const std::uint16_t* in, float* out, std::size_t count,
                                 std::uint32_t bfloat) {
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = bfloat != 0 ? npu_widen(npu_bf16{in[i]}) : npu_widen(npu_f16{in[i]});
  }
}

NPU_TEST_API void npu_test_narrow(const float* in, std::uint16_t* out, std::size_t count,
                                  std::uint32_t bfloat) {
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = bfloat != 0 ? npu_narrow<npu_bf16>(in[i]).bits : npu_narrow<npu_f16>(in[i]).bits;
  }
}

NPU_TEST_API int npu_test_device(char* name, std::size_t size, std::byte* arena,
                                 std::size_t arena_size, const Message* message) {
  return guarded(message, [&] {
    ReferenceDevice device;
    std::strncpy(name, device.name().c_str(), size - 1);
    name[size - 1] = '\0';
    device.prepare_arena({arena, arena_size});
  });
}

}  // namespace npu::reference::test
