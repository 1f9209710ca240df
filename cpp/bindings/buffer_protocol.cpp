// A base class through which Python classes export the buffer protocol before Python 3.12.
#include "bindings/bindings.hpp"

namespace npu::bindings {
namespace {

struct BufferExporter {};

// What Python 3.12 does for every class: calls __buffer__ and exports the memoryview it returns.
int get_buffer(PyObject* self, Py_buffer* view, int flags) noexcept {
  PyObject* const exported = PyObject_CallMethod(self, "__buffer__", "i", flags);
  if (exported == nullptr) {
    view->obj = nullptr;
    return -1;
  }
  const int status = PyObject_GetBuffer(exported, view, flags);
  Py_DECREF(exported);
  return status;
}

PyType_Slot exporter_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
                                {0, nullptr}};

}  // namespace

void bind_buffer_protocol(nb::module_& m) {
  nb::class_<BufferExporter>(m, "BufferExporter", nb::type_slots(exporter_slots),
                             "A base of classes that define __buffer__(flags) -> memoryview.")
      .def(nb::init<>());
}

}  // namespace npu::bindings
