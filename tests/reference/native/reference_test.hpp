// The C interface of the test library; tests/reference/native_library.py is its other side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>

#define NPU_TEST_API extern "C" __attribute__((visibility("default")))

namespace npu::reference::test {

// An operand as a program holds it; `data` is its first element, null where the operand is absent.
struct View {
  void* data;
  std::uint32_t dtype;
  std::uint32_t rank;
  std::uint32_t shape[8];
  std::int64_t strides[8];
};

struct Message {
  char* text;
  std::size_t size;
};

// 0, or 1 with what an exception says in `message`.
template <class Function>
int guarded(const Message* message, Function&& function) {
  try {
    function();
    return 0;
  } catch (const std::exception& error) {
    std::strncpy(message->text, error.what(), message->size - 1);
    message->text[message->size - 1] = '\0';
    return 1;
  }
}

}  // namespace npu::reference::test
