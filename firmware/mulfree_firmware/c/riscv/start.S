/* Where the core starts: the stack, zeros for what has no initial value, then main. The image is loaded whole, so
   nothing is copied. */

    .section .text.start
    .globl _start
_start:
    la sp, stack_top
    la t0, zeroed_start
    la t1, zeroed_end
1:  bgeu t0, t1, 2f
    sw zero, 0(t0)
    addi t0, t0, 4
    j 1b
2:  call main
    ebreak /* stops the core: main does not return */
