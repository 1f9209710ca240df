// Device memory as Python sees it.
#include <nanobind/ndarray.h>

#include <string>

#include "bindings/bindings.hpp"
#include "runtime/text.hpp"

namespace npu::bindings {

BytesView::BytesView(nb::handle object, bool writable, const char* what) {
  if (PyObject_GetBuffer(object.ptr(), &view_, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) == 0)
    return;
  nb::python_error reason;
  throw Error(ErrorCode::kInvalidArgument,
              text(what, ": a C-contiguous ", writable ? "writable " : "",
                   "object with the buffer protocol is needed: ", reason.what()));
}

BytesView::~BytesView() { PyBuffer_Release(&view_); }

namespace {

using HostView = nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<1>, nb::c_contig>;
using ReadOnlyHostView = nb::ndarray<nb::numpy, const std::uint8_t, nb::ndim<1>, nb::c_contig>;

void upload(const PyBuffer& self, std::size_t offset, nb::handle data) {
  const BytesView view(data, false, "upload");
  const nb::gil_scoped_release release;
  self.buffer->upload(offset, view.bytes());
}

void download(const PyBuffer& self, std::size_t offset, nb::handle data) {
  const BytesView view(data, true, "download");
  const nb::gil_scoped_release release;
  self.buffer->download(offset, view.bytes());
}

nb::object host_view(nb::handle_t<PyBuffer> self) {
  Buffer& buffer = *nb::inst_ptr<PyBuffer>(self)->buffer;
  std::byte* const data = buffer.host_data();
  if (data == nullptr) return nb::none();
  const std::size_t shape[] = {buffer.size()};
  if (!buffer.writable()) return nb::cast(ReadOnlyHostView(data, 1, shape, self));
  return nb::cast(HostView(data, 1, shape, self));
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) noexcept {
  Buffer& buffer = *nb::inst_ptr<PyBuffer>(nb::handle(self))->buffer;
  std::byte* const data = buffer.host_data();
  if (data == nullptr) {
    view->obj = nullptr;
    PyErr_SetString(PyExc_BufferError,
                    "this device's memory is not visible to the host, use download()");
    return -1;
  }
  return PyBuffer_FillInfo(view, self, data, static_cast<Py_ssize_t>(buffer.size()),
                           buffer.writable() ? 0 : 1, flags);
}

PyType_Slot buffer_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)}, {0, nullptr}};

}  // namespace

void bind_buffer(nb::module_& m) {
  nb::class_<PyBuffer>(m, "Buffer", nb::type_slots(buffer_slots), nb::is_weak_referenceable(),
                       "A piece of device memory. Has the buffer protocol where the host sees it.")
      .def_prop_ro(
          "size", [](const PyBuffer& b) { return b.buffer->size(); }, "Bytes.")
      .def_prop_ro(
          "writable", [](const PyBuffer& b) { return b.buffer->writable(); },
          "False for wrapped memory that may only be read.")
      .def_prop_ro(
          "device", [](const PyBuffer& b) { return PyDevice{b.device}; }, "Where it lies.")
      .def("upload", &upload, nb::arg("offset"), nb::arg("data").sig("collections.abc.Buffer"),
           "Copies the bytes of a bytes-like object to `offset`.")
      .def("download", &download, nb::arg("offset"), nb::arg("data"),
           "Copies bytes from `offset` into a writable bytes-like object, as many as it holds.")
      .def("host_view", &host_view,
           nb::sig("def host_view(self) -> numpy.typing.NDArray[numpy.uint8] | None"),
           "The memory in place as a uint8 array that keeps it alive; None where the host cannot "
           "see it.");
}

}  // namespace npu::bindings
