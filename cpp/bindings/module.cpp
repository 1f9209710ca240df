// npu_runtime._native: devices, programs and runs for Python.
#include "bindings/bindings.hpp"
#include "runtime/devices.hpp"

NB_MODULE(_native, m) {
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
