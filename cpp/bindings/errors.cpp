// npu::Error becomes the exception class of npu_runtime.errors that stands for its code.
#include <array>

#include "bindings/bindings.hpp"
#include "runtime/error.hpp"

namespace npu::bindings {
namespace {

// In the order of ErrorCode.
constexpr std::array kClassNames = {
    "ProgramError",           "ProgramVersionError", "ArgumentError", "OutOfMemoryError",
    "DeviceUnavailableError", "DeviceError",         "FileError",     "InternalError",
};
static_assert(kClassNames.size() == static_cast<std::size_t>(ErrorCode::kInternal) + 1);

void translate(const std::exception_ptr& pointer, void*) {
  try {
    std::rethrow_exception(pointer);
  } catch (const Error& error) {
    try {
      const nb::object type = nb::module_::import_("npu_runtime.errors")
                                  .attr(kClassNames[static_cast<std::size_t>(error.code())]);
      PyErr_SetString(type.ptr(), error.what());
    } catch (nb::python_error& failed) {
      failed.restore();
    }
  }
}

}  // namespace

void bind_errors(nb::module_&) { nb::register_exception_translator(translate, nullptr); }

}  // namespace npu::bindings
