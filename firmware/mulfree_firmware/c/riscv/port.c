/* The soft core: hw/mulfree/soc/riscv.py says what is where. */

#include "port.h"

#include "system.h"

#define CONSOLE ((volatile uint32_t *)MULFREE_SOFT_CONSOLE_BASE)

volatile uint32_t *port_engine(void) {
    return (volatile uint32_t *)MULFREE_ENGINE_BASE;
}

void port_barrier(void) {
    /* One access after the other, in order. */
}

void port_put(uint8_t byte) {
    *CONSOLE = byte;
}

void port_wait(void) {
    (void)*CONSOLE;
    while (*CONSOLE > 255) {
    }
}
