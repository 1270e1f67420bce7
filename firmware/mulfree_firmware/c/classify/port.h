/* What the program asks of the machine that it runs on. */

#ifndef MULFREE_PORT_H
#define MULFREE_PORT_H

#include <stdint.h>

/* Where the engine's registers are. */
volatile uint32_t *port_engine(void);

/* Called after each write to the engine. */
void port_barrier(void);

/* Send a byte to the console, as soon as the line takes it. */
void port_put(uint8_t byte);

/* Wait for a byte from the console; those that came before are forgotten. */
void port_wait(void);

#endif
