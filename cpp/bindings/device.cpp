// Devices, executables and runs as Python sees them.
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "bindings/bindings.hpp"
#include "runtime/devices.hpp"
#include "runtime/text.hpp"

namespace npu::bindings {
namespace {

struct PyExecutable {
  std::shared_ptr<Device> device;
  std::shared_ptr<Executable> executable;
};

// Holds its executable, which it is of no use without.
struct PyBinding {
  std::shared_ptr<Executable> executable;
  std::shared_ptr<const Binding> binding;
};

// The call itself keeps its binding and buffers alive.
struct PyCall {
  std::shared_ptr<Device> device;
  std::shared_ptr<Executable> executable;
  std::unique_ptr<Call> call;
};

PyDevice open_device(std::string_view kind) {
  const nb::gil_scoped_release release;
  return {make_device(kind)};
}

PyBuffer allocate(const PyDevice& self, std::size_t bytes) {
  const nb::gil_scoped_release release;
  return {self.device, self.device->allocate(bytes)};
}

// Keeps a Python buffer export alive from any thread. At interpreter exit it is left to the system.
std::shared_ptr<void> keep_alive(std::unique_ptr<BytesView> view) {
  return {view.release(), [](void* memory) {
            if (!nb::is_alive()) return;
            const nb::gil_scoped_acquire acquire;
            const std::unique_ptr<BytesView> last(static_cast<BytesView*>(memory));
          }};
}

PyBuffer wrap(const PyDevice& self, nb::handle array) {
  auto view = std::make_unique<BytesView>(array, false, "wrap");
  const std::span<std::byte> bytes = view->bytes();
  const bool writable = !view->readonly();
  return {self.device, self.device->wrap(bytes, keep_alive(std::move(view)), writable)};
}

PyExecutable load(const PyDevice& self, const std::shared_ptr<Program>& program) {
  const nb::gil_scoped_release release;
  return {self.device, self.device->load(program)};
}

std::vector<BufferPtr> pointers(const PyExecutable& executable,
                                const std::vector<const PyBuffer*>& buffers,
                                std::string_view what) {
  std::vector<BufferPtr> out;
  out.reserve(buffers.size());
  for (const PyBuffer* buffer : buffers) {
    if (buffer->device != executable.device) {
      throw Error(ErrorCode::kInvalidArgument,
                  text(what, " ", out.size(), " lies on a device object of kind '",
                       buffer->device->kind(), "' that is not the executable's"));
    }
    out.push_back(buffer->buffer);
  }
  return out;
}

PyBinding bind(const PyExecutable& self, const std::vector<const PyBuffer*>& weights) {
  const auto buffers = pointers(self, weights, "weight");
  const nb::gil_scoped_release release;
  return {self.executable, self.executable->bind(buffers)};
}

// None, or (dispatch, begin, end) of each dispatch.
nb::object result_of(bool profile, const std::vector<DispatchTime>& times) {
  if (!profile) return nb::none();
  nb::list result;
  for (const DispatchTime& t : times)
    result.append(nb::make_tuple(t.dispatch, t.begin_ns, t.end_ns));
  return result;
}

nb::object run(const PyExecutable& self, const PyBinding& binding, std::uint32_t entry,
               const std::vector<const PyBuffer*>& inputs,
               const std::vector<const PyBuffer*>& outputs, bool profile) {
  const auto in = pointers(self, inputs, "input");
  const auto out = pointers(self, outputs, "output");
  std::vector<DispatchTime> times;
  {
    const nb::gil_scoped_release release;
    self.executable->run(*binding.binding, entry, in, out, profile ? &times : nullptr);
  }
  return result_of(profile, times);
}

PyCall prepare(const PyExecutable& self, const PyBinding& binding, std::uint32_t entry,
               const std::vector<const PyBuffer*>& inputs,
               const std::vector<const PyBuffer*>& outputs) {
  const auto in = pointers(self, inputs, "input");
  const auto out = pointers(self, outputs, "output");
  return {self.device, self.executable, self.executable->prepare(binding.binding, entry, in, out)};
}

nb::object run_call(const PyCall& self, bool profile) {
  std::vector<DispatchTime> times;
  {
    const nb::gil_scoped_release release;
    self.call->run(profile ? &times : nullptr);
  }
  return result_of(profile, times);
}

}  // namespace

void bind_device(nb::module_& m) {
  nb::class_<PyBinding>(m, "Binding", nb::is_weak_referenceable(),
                        "Weights made ready for one executable. Immutable.")
      .def_prop_ro(
          "packed_bytes", [](const PyBinding& b) { return b.binding->packed_bytes(); },
          "Memory that it takes besides that of the weights.");

  nb::class_<PyCall>(m, "Call", nb::is_weak_referenceable(),
                     "An entry point with its buffers, checked and resolved once.")
      .def("run", &run_call, nb::arg("profile") = false,
           nb::sig("def run(self, profile: bool = False) -> list[tuple[int, int, int]] | None"),
           "As Executable.run. Threads that run one call at once wait for each other.");

  nb::class_<PyExecutable>(
      m, "Executable", nb::is_weak_referenceable(),
      "A program made ready for a device. Its methods may be called from several threads.")
      .def("bind", &bind, nb::arg("weights"),
           "Prepares weights, one buffer per weight of the program, in its order.")
      .def("run", &run, nb::arg("binding"), nb::arg("entry"), nb::arg("inputs"), nb::arg("outputs"),
           nb::arg("profile") = false,
           nb::sig("def run(self, binding: Binding, entry: int, inputs: "
                   "collections.abc.Sequence[Buffer], "
                   "outputs: collections.abc.Sequence[Buffer], profile: bool = False) -> "
                   "list[tuple[int, int, int]] | None"),
           "Runs an entry point (by index) and waits for it. With `profile`, returns (dispatch, "
           "begin, end) in\n"
           "nanoseconds of a steady clock. Raises ArgumentError before anything is written.")
      .def("prepare", &prepare, nb::arg("binding"), nb::arg("entry"), nb::arg("inputs"),
           nb::arg("outputs"),
           nb::sig("def prepare(self, binding: Binding, entry: int, inputs: "
                   "collections.abc.Sequence[Buffer], "
                   "outputs: collections.abc.Sequence[Buffer]) -> Call"),
           "What `run` would do with these buffers, made ready to be done many times.");

  nb::class_<PyDevice>(m, "Device", nb::is_weak_referenceable(), "A device that runs programs.")
      .def(
          "__init__",
          [](PyDevice* self, std::string_view kind) { new (self) PyDevice(open_device(kind)); },
          nb::arg("kind"), "Raises DeviceUnavailableError for a kind that this machine lacks.")
      .def_prop_ro("kind", [](const PyDevice& d) { return d.device->kind(); })
      .def_prop_ro(
          "name", [](const PyDevice& d) { return d.device->name(); },
          "What a person would call it.")
      .def_prop_ro(
          "notes", [](const PyDevice& d) { return d.device->notes(); },
          "What did not go as it should, without harm to any result.")
      .def(
          "set_cache_folder",
          [](const PyDevice& d, const std::string& path) { d.device->set_cache_folder(path); },
          nb::arg("path"),
          "Where the device may keep what it compiles, for the next start; it need not be there.")
      .def("allocate", &allocate, nb::arg("size"), "Zero-filled memory of `size` bytes.")
      .def("wrap", &wrap, nb::arg("array"),
           "A buffer over the memory of a bytes-like object, in place where the device can; keeps "
           "it alive.")
      .def("load", &load, nb::arg("program"), "Makes a program ready to run.")
      .def(
          "__eq__", [](const PyDevice& a, const PyDevice& b) { return a.device == b.device; },
          nb::is_operator(), nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__", [](const PyDevice& d) { return std::hash<const void*>()(d.device.get()); });

  m.def("available_devices", &device_kinds,
        "Kinds of the devices in this build, in order of preference.");
}

}  // namespace npu::bindings
