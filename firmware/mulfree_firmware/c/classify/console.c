#include "console.h"

#include "port.h"

/* Not all cores can divide, and nothing is linked that could. */
static uint32_t divide(uint32_t dividend, uint32_t divisor, uint32_t *rest) {
    uint32_t left = 0, quotient = 0;
    for (int bit = 31; bit >= 0; --bit) {
        left = left << 1 | ((dividend >> bit) & 1);
        quotient <<= 1;
        if (left >= divisor) {
            left -= divisor;
            quotient |= 1;
        }
    }
    *rest = left;
    return quotient;
}

void console_text(const char *text) {
    for (; *text; ++text) port_put((uint8_t)*text);
}

void console_decimal(uint32_t value) {
    char digits[11];
    unsigned at = sizeof digits - 1;
    digits[at] = 0;
    do {
        uint32_t digit;
        value = divide(value, 10, &digit);
        digits[--at] = (char)('0' + digit);
    } while (value);
    console_text(digits + at);
}

void console_hexadecimal(uint8_t value) {
    static const char digits[] = "0123456789abcdef";
    port_put((uint8_t)digits[value >> 4]);
    port_put((uint8_t)digits[value & 15]);
}

void console_percent(uint32_t part, uint32_t whole) {
    uint32_t rest;
    const uint32_t hundredths = divide(20000 * part + whole, 2 * whole, &rest);
    console_decimal(divide(hundredths, 100, &rest));
    console_text(rest < 10 ? ".0" : ".");
    console_decimal(rest);
    console_text(" %");
}
