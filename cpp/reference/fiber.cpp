// The context switch in assembly, stack set-up and sanitizer annotations.
#include "reference/fiber.hpp"

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define NPU_FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NPU_FIBER_ASAN 1
#endif
#endif

#ifdef NPU_FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// The labels name the symbols exactly, whatever prefix the platform gives C functions.
extern "C" {
// Pushes the callee-saved registers, stores the stack pointer in *save, loads `load` and pops.
void npu_fiber_switch(void** save, void* load) __asm__("npu_fiber_switch");
// Where a fresh stack's first switch returns to: calls the entry function with its argument.
void npu_fiber_begin() __asm__("npu_fiber_begin");
}

#if defined(__APPLE__)
#define NPU_FIBER_HIDDEN ".private_extern "
#else
#define NPU_FIBER_HIDDEN ".hidden "
#endif
#define NPU_FIBER_FUNCTION(name) \
  ".p2align 4\n.globl " name "\n" NPU_FIBER_HIDDEN name "\n" name ":\n"

#if defined(__x86_64__)
__asm__(".text\n" NPU_FIBER_FUNCTION("npu_fiber_switch")
        "  pushq %rbp\n"
        "  pushq %rbx\n"
        "  pushq %r12\n"
        "  pushq %r13\n"
        "  pushq %r14\n"
        "  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n"
        "  popq %r14\n"
        "  popq %r13\n"
        "  popq %r12\n"
        "  popq %rbx\n"
        "  popq %rbp\n"
        "  ret\n"
        NPU_FIBER_FUNCTION("npu_fiber_begin")
        "  movq %r12, %rdi\n"
        "  callq *%r13\n"
        "  ud2\n");
#elif defined(__aarch64__)
__asm__(".text\n" NPU_FIBER_FUNCTION("npu_fiber_switch")
        "  sub sp, sp, #160\n"
        "  stp x19, x20, [sp, #0]\n"
        "  stp x21, x22, [sp, #16]\n"
        "  stp x23, x24, [sp, #32]\n"
        "  stp x25, x26, [sp, #48]\n"
        "  stp x27, x28, [sp, #64]\n"
        "  stp x29, x30, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n"
        "  stp d10, d11, [sp, #112]\n"
        "  stp d12, d13, [sp, #128]\n"
        "  stp d14, d15, [sp, #144]\n"
        "  mov x9, sp\n"
        "  str x9, [x0]\n"
        "  mov sp, x1\n"
        "  ldp x19, x20, [sp, #0]\n"
        "  ldp x21, x22, [sp, #16]\n"
        "  ldp x23, x24, [sp, #32]\n"
        "  ldp x25, x26, [sp, #48]\n"
        "  ldp x27, x28, [sp, #64]\n"
        "  ldp x29, x30, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n"
        "  ldp d10, d11, [sp, #112]\n"
        "  ldp d12, d13, [sp, #128]\n"
        "  ldp d14, d15, [sp, #144]\n"
        "  add sp, sp, #160\n"
        "  ret\n"
        NPU_FIBER_FUNCTION("npu_fiber_begin")
        "  mov x0, x19\n"
        "  blr x20\n"
        "  brk #1\n");
#else
#error "the reference device's context switch is written for x86-64 and aarch64"
#endif

namespace npu::reference {
namespace {

// Kernels keep little on the stack, but an exception is thrown and caught there too. The odd
// remainder keeps the tops of a threadgroup's stacks from sharing cache sets.
#ifdef NPU_FIBER_ASAN
constexpr std::size_t kStackBytes = 256 * 1024;
#else
constexpr std::size_t kStackBytes = 64 * 1024 + 576;
#endif

// Lays the registers of a first switch below `top` (aligned to 16) and returns the stack pointer to
// load.
void** first_frame(std::uintptr_t top, Fiber::Entry entry, void* argument) {
  auto** frame = reinterpret_cast<void**>(top);
  auto* begin = reinterpret_cast<void*>(npu_fiber_begin);
  auto* function = reinterpret_cast<void*>(entry);
#if defined(__x86_64__)
  *--frame = nullptr;  // keeps the stack aligned at npu_fiber_begin's call
  *--frame = nullptr;
  *--frame = begin;     // return address
  *--frame = nullptr;   // rbp
  *--frame = nullptr;   // rbx
  *--frame = argument;  // r12
  *--frame = function;  // r13
  *--frame = nullptr;   // r14
  *--frame = nullptr;   // r15
#else
  frame -= 20;
  for (int i = 0; i < 20; ++i) frame[i] = nullptr;
  frame[0] = argument;  // x19
  frame[1] = function;  // x20
  frame[11] = begin;    // x30
#endif
  return frame;
}

}  // namespace

void Fiber::start(Entry entry, void* argument) {
  if (!stack_) stack_ = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
#ifdef NPU_FIBER_ASAN
  ASAN_UNPOISON_MEMORY_REGION(stack_.get(), kStackBytes);
  sanitizer_bottom_ = stack_.get();
  sanitizer_size_ = kStackBytes;
  sanitizer_fake_stack_ = nullptr;
#endif
  const auto end = reinterpret_cast<std::uintptr_t>(stack_.get()) + kStackBytes;
  stack_pointer_ = first_frame(end & ~std::uintptr_t{15}, entry, argument);
}

void Fiber::switch_from(Fiber& from, [[maybe_unused]] bool from_is_finished) {
#ifdef NPU_FIBER_ASAN
  __sanitizer_start_switch_fiber(from_is_finished ? nullptr : &from.sanitizer_fake_stack_,
                                 sanitizer_bottom_, sanitizer_size_);
#endif
  npu_fiber_switch(&from.stack_pointer_, stack_pointer_);
#ifdef NPU_FIBER_ASAN
  __sanitizer_finish_switch_fiber(from.sanitizer_fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::resume_from(Fiber& from) { switch_from(from, false); }

void Fiber::resume_from_finished(Fiber& from) { switch_from(from, true); }

void Fiber::entered([[maybe_unused]] Fiber& self, [[maybe_unused]] Fiber& from) {
#ifdef NPU_FIBER_ASAN
  const void* bottom = nullptr;
  std::size_t size = 0;
  __sanitizer_finish_switch_fiber(self.sanitizer_fake_stack_, &bottom, &size);
  from.sanitizer_bottom_ = bottom;
  from.sanitizer_size_ = size;
#endif
}

}  // namespace npu::reference
