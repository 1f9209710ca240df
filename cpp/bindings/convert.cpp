// Conversion of host arrays to a storage type, where numpy's own goes element by element.
#include "bindings/bindings.hpp"
#include "cpu/kernels/cpu_features.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "runtime/error.hpp"

namespace npu::bindings {
namespace {

void round_to_float16(nb::handle source, nb::handle target) {
  const BytesView from(source, false, "round_to_float16");
  const BytesView to(target, true, "round_to_float16");
  const std::size_t elements = to.bytes().size() / 2;
  if (from.bytes().size() != elements * sizeof(float) || to.bytes().size() % 2 != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "round_to_float16: " + std::to_string(from.bytes().size()) +
                    " bytes of float32 do not fill " + std::to_string(to.bytes().size()) +
                    " bytes of float16; give arrays of one shape");
  }
  const cpu::KernelTable& kernels = cpu::kernel_table(cpu::active_isa());
  kernels.narrow_f32[static_cast<std::size_t>(cpu::DType::f16)](
      reinterpret_cast<const float*>(from.bytes().data()), static_cast<std::int64_t>(elements),
      to.bytes().data());
}

}  // namespace

void bind_convert(nb::module_& m) {
  m.def("round_to_float16", &round_to_float16, nb::arg("source").sig("collections.abc.Buffer"),
        nb::arg("target").sig("collections.abc.Buffer"),
        "Rounds the float32 values of a contiguous array to nearest even into a contiguous, "
        "writable one of as many float16 values; beyond its range they become infinite.");
}

}  // namespace npu::bindings
