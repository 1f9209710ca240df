// The kernels that a program's elementwise dispatches become: straight-line code in place of the
// interpreter.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "metal/pipelines.hpp"
#include "runtime/program.hpp"

namespace npu::metal {

class ElementwiseKernels {
 public:
  struct Kernel {
    std::string shader;  // a text that the pipelines have been given
    std::string function;
    std::uint32_t lanes;  // elements of a thread
  };

  // Writes the kernels of a program. Nothing is compiled yet.
  ElementwiseKernels(const Program& program, Pipelines& pipelines);

  // The kernel of a dispatch by its number in the program. Null for other kernels, and where a
  // program has so many different ones that compiling them would take minutes.
  const Kernel* find(std::uint32_t dispatch) const;

 private:
  std::map<std::uint32_t, Kernel> kernels_;
};

}  // namespace npu::metal
