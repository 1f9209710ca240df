// The kernels' texts in the Metal Shading Language, compiled into the library.
#pragma once

#include <span>
#include <string_view>

namespace npu::metal {

struct ShaderSource {
  std::string_view shader;  // as kernel records name it, e.g. conv2d.metal
  std::string_view text;    // wants the prelude in front of it
};

// Generated: what every shader begins with, and the shaders.
std::string_view shader_prelude() noexcept;
std::span<const ShaderSource> shader_sources() noexcept;
// What texts with generated kernels of elementwise programs begin with, behind the prelude; and the
// entry point of such a kernel, with @ for its name.
std::string_view elementwise_head() noexcept;
std::string_view elementwise_entry() noexcept;

}  // namespace npu::metal
