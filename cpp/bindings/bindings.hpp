// What the files of the Python module share.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <memory>
#include <span>

#include "runtime/device.hpp"
#include "runtime/program.hpp"

namespace npu::bindings {

namespace nb = nanobind;

// A device and the buffers and executables made by it, each of which keeps it alive.
struct PyDevice {
  std::shared_ptr<Device> device;
};

struct PyBuffer {
  std::shared_ptr<Device> device;
  BufferPtr buffer;
};

// The contiguous bytes of a Python object that has the buffer protocol (bytes, numpy array,
// memoryview...). Must be made and destroyed with the GIL held.
class BytesView {
 public:
  // Throws ArgumentError naming `what` where the object has no such bytes, or none that may be
  // written.
  BytesView(nb::handle object, bool writable, const char* what);
  ~BytesView();
  BytesView(const BytesView&) = delete;
  BytesView& operator=(const BytesView&) = delete;

  std::span<std::byte> bytes() const {
    return {static_cast<std::byte*>(view_.buf), static_cast<std::size_t>(view_.len)};
  }
  bool readonly() const { return view_.readonly != 0; }

 private:
  Py_buffer view_{};
};

void bind_errors(nb::module_& m);
void bind_program(nb::module_& m);
void bind_buffer(nb::module_& m);
void bind_buffer_protocol(nb::module_& m);
void bind_convert(nb::module_& m);
void bind_device(nb::module_& m);

}  // namespace npu::bindings
