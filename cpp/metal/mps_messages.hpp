// Messages to Metal Performance Shaders through the Objective-C runtime: metal-cpp does not cover
// them.
#pragma once

#include <objc/message.h>
#include <objc/runtime.h>

#include "metal/metal_cpp.hpp"

namespace npu::metal {

// Sends a message that takes these arguments.
template <class R, class... A>
R send(const void* object, const char* selector, A... arguments) {
  using Function = R (*)(const void*, SEL, A...);
  return reinterpret_cast<Function>(&objc_msgSend)(object, sel_registerName(selector),
                                                   arguments...);
}

// A new object of the class, to be initialised by the next message.
inline void* allocate(const char* name) { return send<void*>(objc_lookUpClass(name), "alloc"); }

// Values of MPSDataType.
inline constexpr std::uint32_t kMpsFloat16 = 0x10000000u | 16u;
inline constexpr std::uint32_t kMpsBFloat16 = 0x80000000u | kMpsFloat16;

}  // namespace npu::metal
