/* What the compiler calls for: arithmetic that the core does not have, and memory functions. The names are its own. */

#include <stddef.h>
#include <stdint.h>

uint32_t __mulsi3(uint32_t a, uint32_t b);
uint32_t __udivsi3(uint32_t dividend, uint32_t divisor);
uint32_t __umodsi3(uint32_t dividend, uint32_t divisor);
void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memset(void *to, int byte, size_t count);

uint32_t __mulsi3(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (; b; a <<= 1, b >>= 1)
        if (b & 1) product += a;
    return product;
}

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

uint32_t __udivsi3(uint32_t dividend, uint32_t divisor) {
    uint32_t rest;
    return divide(dividend, divisor, &rest);
}

uint32_t __umodsi3(uint32_t dividend, uint32_t divisor) {
    uint32_t rest;
    (void)divide(dividend, divisor, &rest);
    return rest;
}

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    uint8_t *next = to;
    for (const uint8_t *source = from; count > 0; --count) *next++ = *source++;
    return to;
}

void *memset(void *to, int byte, size_t count) {
    for (uint8_t *next = to; count > 0; --count) *next++ = (uint8_t)byte;
    return to;
}
