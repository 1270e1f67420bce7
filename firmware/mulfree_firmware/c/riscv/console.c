#include "console.h"

#include "system.h"

static volatile uint32_t *line(void) {
    return (volatile uint32_t *)MULFREE_CONSOLE_BASE;
}

void console_text(const char *text) {
    for (; *text; ++text) *line() = (uint8_t)*text;
}

void console_decimal(uint32_t value) {
    char digits[11];
    unsigned at = sizeof digits - 1;
    digits[at] = 0;
    do digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    console_text(digits + at);
}

void console_hexadecimal(uint8_t value) {
    static const char digits[] = "0123456789abcdef";
    *line() = (uint8_t)digits[value >> 4];
    *line() = (uint8_t)digits[value & 15];
}

uint8_t console_wait(void) {
    uint32_t value;
    (void)*line();
    do value = *line();
    while (value > 255);
    return (uint8_t)value;
}
