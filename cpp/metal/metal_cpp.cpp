// The one place where metal-cpp's selectors and classes are defined.
#define NS_PRIVATE_IMPLEMENTATION
#define MTL_PRIVATE_IMPLEMENTATION
#include "metal/metal_cpp.hpp"

namespace npu::metal {

NS::String* ns_string(const std::string& text) {
  return NS::String::string(text.c_str(), NS::UTF8StringEncoding);
}

std::string message_of(const NS::Error* error) {
  if (error == nullptr) return "the system gives no reason";
  const NS::String* const description = error->localizedDescription();
  const char* const text = description != nullptr ? description->utf8String() : nullptr;
  return text != nullptr ? text : "the system gives no reason";
}

}  // namespace npu::metal
