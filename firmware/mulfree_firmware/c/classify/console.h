/* Text on a console. */

#ifndef MULFREE_CONSOLE_H
#define MULFREE_CONSOLE_H

#include <stdint.h>

void console_text(const char *text);
void console_decimal(uint32_t value);
void console_hexadecimal(uint8_t value);

/* part / whole in percent with two places, the nearest. */
void console_percent(uint32_t part, uint32_t whole);

#endif
