// npu_runtime._native: devices, programs and runs for Python.
#include "bindings/bindings.hpp"
#include "runtime/devices.hpp"

NB_MODULE(_native, m) {
  // At exit an exception's traceback may still hold objects: nothing that a user could do about.
  nanobind::set_leak_warnings(false);
  m.doc() = "Native part of npu_runtime: programs, devices, buffers, runs.";
  npu::register_metal_device();
  npu::register_cpu_device();
  npu::register_reference_device();
  npu::bindings::bind_errors(m);
  npu::bindings::bind_program(m);
  npu::bindings::bind_buffer(m);
  npu::bindings::bind_buffer_protocol(m);
  npu::bindings::bind_convert(m);
  npu::bindings::bind_device(m);
}
