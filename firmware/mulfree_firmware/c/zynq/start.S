/* Where the boot loader jumps to: the stack, zeros for what has no initial value, then main. One core; the others
   stay where the boot loader left them. Caches and MMU are as they were. */

    .section .text.start, "ax"
    .globl _start
_start:
#ifdef __aarch64__
    ldr x0, =stack_top
    mov sp, x0
    ldr x0, =zeroed_start
    ldr x1, =zeroed_end
1:  cmp x0, x1
    b.hs 2f
    str wzr, [x0], #4
    b 1b
2:  bl main
3:  wfi
    b 3b
#else
    ldr sp, =stack_top
    ldr r0, =zeroed_start
    ldr r1, =zeroed_end
    mov r2, #0
1:  cmp r0, r1
    strlo r2, [r0], #4
    blo 1b
    bl main
2:  wfi
    b 2b
#endif
