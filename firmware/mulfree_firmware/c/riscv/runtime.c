/* What the compiler calls for: products, which the core does not have, and memory functions. The names are its own. */

#include <stddef.h>
#include <stdint.h>

uint32_t __mulsi3(uint32_t a, uint32_t b);
void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memset(void *to, int byte, size_t count);

uint32_t __mulsi3(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (; b; a <<= 1, b >>= 1)
        if (b & 1) product += a;
    return product;
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
