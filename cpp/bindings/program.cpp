// Programs as Python sees them.
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "bindings/bindings.hpp"
#include "runtime/kernels.hpp"

namespace npu::bindings {
namespace {

// An entry point; `program` keeps its records alive.
struct PyEntryPoint {
  std::shared_ptr<const Program> program;
  const schema::EntryPoint* record;

  std::vector<std::string> names(std::span<const schema::Io> ios) const {
    std::vector<std::string> out;
    for (const schema::Io& io : ios) out.emplace_back(program->string(io.name));
    return out;
  }
  std::vector<std::uint64_t> sizes(std::span<const schema::Io> ios) const {
    std::vector<std::uint64_t> out;
    for (const schema::Io& io : ios) {
      out.push_back(program->buffers()[program->tensors()[io.tensor].buffer].size);
    }
    return out;
  }
  std::vector<std::uint32_t> output_donors() const {
    std::vector<std::uint32_t> out;
    for (const schema::Io& io : program->outputs_of(*record)) out.push_back(io.donor);
    return out;
  }
};

using ProgramPtr = std::shared_ptr<const Program>;

// Programs are immutable; nanobind holds them without const.
std::shared_ptr<Program> shared(const ProgramPtr& program) {
  return std::const_pointer_cast<Program>(program);
}

std::shared_ptr<Program> from_file(nb::handle path) {
  const nb::object bytes = nb::steal(PyOS_FSPath(path.ptr()));
  if (!bytes.is_valid()) throw nb::python_error();
  PyObject* encoded = nullptr;
  if (PyUnicode_FSConverter(bytes.ptr(), &encoded) == 0) throw nb::python_error();
  const nb::bytes owner = nb::steal<nb::bytes>(encoded);
  const std::filesystem::path native(std::string(owner.c_str(), owner.size()));
  const nb::gil_scoped_release release;
  return shared(Program::from_file(native));
}

std::shared_ptr<Program> from_bytes(nb::handle data) {
  const BytesView view(data, false, "from_bytes");
  const nb::gil_scoped_release release;
  return shared(Program::from_bytes(view.bytes()));
}

nb::dict metadata(const Program& program) {
  nb::dict out;
  for (const schema::Metadata& m : program.metadata()) {
    const auto key = program.string(m.key);
    const auto value = program.string(m.value);
    out[nb::str(key.data(), key.size())] = nb::str(value.data(), value.size());
  }
  return out;
}

nb::dict counts(const Program& program) {
  nb::dict out;
  out["buffers"] = program.buffers().size();
  out["tensors"] = program.tensors().size();
  out["operands"] = program.operands().size();
  out["dispatches"] = program.dispatches().size();
  out["weights"] = program.weights().size();
  out["recipes"] = program.recipes().size();
  out["source_tensors"] = program.source_tensors().size();
  out["entry_points"] = program.entry_points().size();
  return out;
}

std::vector<PyEntryPoint> entry_points(const std::shared_ptr<Program>& program) {
  std::vector<PyEntryPoint> out;
  for (const schema::EntryPoint& record : program->entry_points())
    out.push_back({program, &record});
  return out;
}

std::uint64_t arena_size(const Program& program) {
  std::uint64_t size = 0;
  for (const schema::EntryPoint& entry : program.entry_points())
    size = std::max(size, entry.arena_size);
  return size;
}

std::vector<std::uint64_t> weight_sizes(const Program& program) {
  std::vector<std::uint64_t> out;
  for (const schema::Weight& w : program.weights()) {
    out.push_back(program.buffers()[program.tensors()[w.tensor].buffer].size);
  }
  return out;
}

nb::list dispatches(const Program& program) {
  nb::list out;
  for (const schema::Dispatch& d : program.dispatches()) {
    const auto name = program.string(d.name);
    const auto kernel = find_kernel(d.kernel)->name;
    out.append(
        nb::make_tuple(nb::str(name.data(), name.size()), nb::str(kernel.data(), kernel.size())));
  }
  return out;
}

}  // namespace

void bind_program(nb::module_& m) {
  nb::class_<PyEntryPoint>(m, "EntryPoint", "A function of a program.")
      .def_prop_ro(
          "name",
          [](const PyEntryPoint& e) { return std::string(e.program->string(e.record->name)); })
      .def_prop_ro(
          "dispatch_first", [](const PyEntryPoint& e) { return e.record->dispatch_first; },
          "Index of its first dispatch in the program.")
      .def_prop_ro("dispatch_count", [](const PyEntryPoint& e) { return e.record->dispatch_count; })
      .def_prop_ro(
          "arena_size", [](const PyEntryPoint& e) { return e.record->arena_size; },
          "Bytes of scratch memory of one run.")
      .def_prop_ro("input_names",
                   [](const PyEntryPoint& e) { return e.names(e.program->inputs_of(*e.record)); })
      .def_prop_ro("output_names",
                   [](const PyEntryPoint& e) { return e.names(e.program->outputs_of(*e.record)); })
      .def_prop_ro(
          "input_sizes",
          [](const PyEntryPoint& e) { return e.sizes(e.program->inputs_of(*e.record)); },
          "Bytes of each input's buffer.")
      .def_prop_ro(
          "output_sizes",
          [](const PyEntryPoint& e) { return e.sizes(e.program->outputs_of(*e.record)); },
          "Bytes of each output's buffer.")
      .def_prop_ro("output_donors", &PyEntryPoint::output_donors,
                   "Per output, the input whose buffer it must be given, or 0xFFFFFFFF.");

  nb::class_<Program>(m, "Program", "A verified .npubin file. Immutable.")
      .def_static("from_file", &from_file, nb::arg("path"),
                  nb::sig("def from_file(path: str | os.PathLike[str]) -> Program"),
                  "Maps and verifies a file, which must not change while the program lives. Raises "
                  "FileError,\n"
                  "ProgramError or ProgramVersionError.")
      .def_static("from_bytes", &from_bytes, nb::arg("data"),
                  "Copies and verifies the bytes of a bytes-like object.")
      .def_prop_ro("entry_points", &entry_points)
      .def_prop_ro("metadata", &metadata, nb::sig("def metadata(self) -> dict[str, str]"))
      .def_prop_ro("counts", &counts, nb::sig("def counts(self) -> dict[str, int]"),
                   "Number of records of each section.")
      .def_prop_ro("dispatches", &dispatches,
                   nb::sig("def dispatches(self) -> list[tuple[str, str]]"),
                   "Name and kernel of each dispatch.")
      .def_prop_ro("weight_sizes", &weight_sizes,
                   "Bytes of each weight's buffer, in binding order.")
      .def_prop_ro("arena_size", &arena_size,
                   "Bytes of scratch memory of one run, the largest of all entry points.")
      .def_prop_ro("file_size", &Program::file_size, "Bytes of the file.");
}

}  // namespace npu::bindings
