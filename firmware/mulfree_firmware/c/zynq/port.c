/* Zynq-7000 and Zynq UltraScale+ without an operating system: the engine behind AXI4-Lite, and the UART that the
   first-stage boot loader has set up. */

#include "port.h"

#include "system.h"

/* The console of the boards here: UART 1 of the Zynq-7000 (Zybo, ZedBoard) is at 0xE0001000, UART 0 (Arty Z7, Cora Z7)
   at 0xE0000000; UART 0 of the UltraScale+ (ZCU104) at 0xFF000000. */
#ifndef MULFREE_UART_BASE
#ifdef __aarch64__
#define MULFREE_UART_BASE 0xFF000000U
#else
#define MULFREE_UART_BASE 0xE0000000U
#endif
#endif

/* Words of the Cadence UART: channel status, and the two ends of its FIFOs. */
enum { STATUS = 0x2c / 4, FIFO = 0x30 / 4 };
#define RECEIVED_NOTHING (1U << 1)
#define SENDER_FULL (1U << 4)

static volatile uint32_t *uart(void) {
    return (volatile uint32_t *)(uintptr_t)MULFREE_UART_BASE;
}

volatile uint32_t *port_engine(void) {
    return (volatile uint32_t *)(uintptr_t)MULFREE_ENGINE_BASE;
}

void port_barrier(void) {
    __asm__ volatile("dsb sy" ::: "memory");
}

void port_put(uint8_t byte) {
    while (uart()[STATUS] & SENDER_FULL) {
    }
    uart()[FIFO] = byte;
}

void port_wait(void) {
    while (!(uart()[STATUS] & RECEIVED_NOTHING)) (void)uart()[FIFO];
    while (uart()[STATUS] & RECEIVED_NOTHING) {
    }
}
