/* The console of the soft core, and numbers as text. */

#ifndef MULFREE_CONSOLE_H
#define MULFREE_CONSOLE_H

#include <stdint.h>

void console_text(const char *text);
void console_decimal(uint32_t value);
void console_hexadecimal(uint8_t value);

/* Wait for a byte; those that came before are forgotten. */
uint8_t console_wait(void);

#endif
