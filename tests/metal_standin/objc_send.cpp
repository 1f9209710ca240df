// objc_msgSend for x86-64 System V: looks the implementation up, keeps every argument register and
// jumps, so that arguments on the stack and the return value are between caller and callee.

#if !defined(__x86_64__)
#error "the stand-in sends messages on x86-64 only"
#endif

// `self` and `selector` name the registers that hold them: with a structure returned in memory they
// come behind its address. A message to nil returns zero.
#define NPU_STANDIN_SEND(name, self, selector)                                                     \
  __asm__(".text\n.p2align 4\n.globl " name "\n.hidden " name "\n.type " name ", @function\n" name \
          ":\n"                                                                                    \
          "  testq %" self ", %" self                                                              \
          "\n"                                                                                     \
          "  je 1f\n"                                                                              \
          "  pushq %rbp\n"                                                                         \
          "  movq %rsp, %rbp\n"                                                                    \
          "  subq $192, %rsp\n"                                                                    \
          "  movq %rdi, 0(%rsp)\n"                                                                 \
          "  movq %rsi, 8(%rsp)\n"                                                                 \
          "  movq %rdx, 16(%rsp)\n"                                                                \
          "  movq %rcx, 24(%rsp)\n"                                                                \
          "  movq %r8, 32(%rsp)\n"                                                                 \
          "  movq %r9, 40(%rsp)\n"                                                                 \
          "  movq %rax, 48(%rsp)\n"                                                                \
          "  movups %xmm0, 64(%rsp)\n"                                                             \
          "  movups %xmm1, 80(%rsp)\n"                                                             \
          "  movups %xmm2, 96(%rsp)\n"                                                             \
          "  movups %xmm3, 112(%rsp)\n"                                                            \
          "  movups %xmm4, 128(%rsp)\n"                                                            \
          "  movups %xmm5, 144(%rsp)\n"                                                            \
          "  movups %xmm6, 160(%rsp)\n"                                                            \
          "  movups %xmm7, 176(%rsp)\n"                                                            \
          "  movq %" self                                                                          \
          ", %rdi\n"                                                                               \
          "  movq %" selector                                                                      \
          ", %rsi\n"                                                                               \
          "  call npu_standin_lookup\n"                                                            \
          "  movq %rax, %r11\n"                                                                    \
          "  movups 64(%rsp), %xmm0\n"                                                             \
          "  movups 80(%rsp), %xmm1\n"                                                             \
          "  movups 96(%rsp), %xmm2\n"                                                             \
          "  movups 112(%rsp), %xmm3\n"                                                            \
          "  movups 128(%rsp), %xmm4\n"                                                            \
          "  movups 144(%rsp), %xmm5\n"                                                            \
          "  movups 160(%rsp), %xmm6\n"                                                            \
          "  movups 176(%rsp), %xmm7\n"                                                            \
          "  movq 0(%rsp), %rdi\n"                                                                 \
          "  movq 8(%rsp), %rsi\n"                                                                 \
          "  movq 16(%rsp), %rdx\n"                                                                \
          "  movq 24(%rsp), %rcx\n"                                                                \
          "  movq 32(%rsp), %r8\n"                                                                 \
          "  movq 40(%rsp), %r9\n"                                                                 \
          "  movq 48(%rsp), %rax\n"                                                                \
          "  leave\n"                                                                              \
          "  jmpq *%r11\n"                                                                         \
          "1:\n"                                                                                   \
          "  xorl %eax, %eax\n"                                                                    \
          "  xorl %edx, %edx\n"                                                                    \
          "  xorps %xmm0, %xmm0\n"                                                                 \
          "  xorps %xmm1, %xmm1\n"                                                                 \
          "  ret\n")

NPU_STANDIN_SEND("objc_msgSend", "rdi", "rsi");
NPU_STANDIN_SEND("objc_msgSend_fpret", "rdi", "rsi");
NPU_STANDIN_SEND("objc_msgSend_stret", "rsi", "rdx");
