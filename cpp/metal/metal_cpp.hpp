// Apple's C++ interface to Metal (metal-cpp), and the two things that every caller of it needs.
#pragma once

#include <Foundation/Foundation.hpp>
#include <Metal/Metal.hpp>
#include <string>
#include <string_view>

namespace npu::metal {

// Objects that Metal hands out autoreleased live until the pool is left.
class AutoreleasePool {
 public:
  AutoreleasePool() : pool_(NS::AutoreleasePool::alloc()->init()) {}
  ~AutoreleasePool() { pool_->release(); }
  AutoreleasePool(const AutoreleasePool&) = delete;
  AutoreleasePool& operator=(const AutoreleasePool&) = delete;

 private:
  NS::AutoreleasePool* pool_;
};

// Autoreleased.
NS::String* ns_string(const std::string& text);

// What the system says of an error; of null, that it says nothing.
std::string message_of(const NS::Error* error);

}  // namespace npu::metal
