// Fibers: flows of control with a stack of their own that take turns on one OS thread. A switch is
// a function call that saves the callee-saved registers (x86-64 and aarch64); AddressSanitizer is
// told of each one.
#pragma once

#include <cstddef>
#include <memory>

namespace npu::reference {

class Fiber {
 public:
  using Entry = void (*)(void* argument);

  // A fiber that stands for the OS thread's own stack.
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes the next switch here call entry(argument) on a fresh stack. `entry` must never return and
  // let no exception out. What was on the stack before is forgotten, destructors and all.
  void start(Entry entry, void* argument);

  // Suspends `from`, which is running, and resumes this fiber. Returns when something switches
  // back.
  void resume_from(Fiber& from);

  // As resume_from, for a fiber that will not be resumed until it is started again.
  void resume_from_finished(Fiber& from);

  // Must be the first thing that an entry function does.
  static void entered(Fiber& self, Fiber& from);

 private:
  void switch_from(Fiber& from, bool from_is_finished);

  std::unique_ptr<std::byte[]> stack_;
  void* stack_pointer_ = nullptr;
  // Used in builds with AddressSanitizer.
  [[maybe_unused]] const void* sanitizer_bottom_ = nullptr;
  [[maybe_unused]] std::size_t sanitizer_size_ = 0;
  [[maybe_unused]] void* sanitizer_fake_stack_ = nullptr;
};

}  // namespace npu::reference
