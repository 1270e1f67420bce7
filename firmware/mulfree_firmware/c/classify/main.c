/* Classifies the images that it carries on the engine, and says so on the console: once after it has started, and again
   for each byte that comes in. No operating system, no library. */

#include "console.h"
#include "mulfree.h"
#include "mulfree_registers.h"
#include "network.h"
#include "port.h"

static int read32(void *context, uint32_t offset, uint32_t *value) {
    (void)context;
    *value = port_engine()[offset >> 2];
    return 0; /* the engine remembers what failed */
}

static int write32(void *context, uint32_t offset, uint32_t value) {
    (void)context;
    port_engine()[offset >> 2] = value;
    port_barrier();
    return 0;
}

static int look_again(void *context) {
    (void)context;
    return 0;
}

/* The first of the largest outputs. */
static uint32_t largest(const uint8_t *outputs, int is_signed) {
    const uint8_t flip = is_signed ? 0x80 : 0; /* orders two's complement like unsigned numbers */
    uint32_t found = 0;
    for (uint32_t i = 1; i < NETWORK_OUTPUTS; ++i)
        if ((outputs[i] ^ flip) > (outputs[found] ^ flip)) found = i;
    return found;
}

static enum mulfree_result classify(struct mulfree *device) {
    static const struct mulfree_bus bus = {read32, write32, look_again, NULL};
    static uint8_t outputs[NETWORK_BATCH * NETWORK_OUTPUTS];
    struct mulfree_program program;
    enum mulfree_result result = mulfree_discover(device, &bus);
    if (result) return result;
    const int is_signed = (device->engine & MULFREE__ENGINE__ACT_SIGNED_bm) != 0;
    result = mulfree_open(&program, network_program, NETWORK_WORDS);
    if (result) return result;
    result = mulfree_load(device, &program);
    if (result) return result;

    uint32_t right = 0, cycles = 0;
    const uint8_t *inputs = network_inputs;
    for (uint32_t done = 0; done < NETWORK_IMAGES;) {
        const uint32_t left = NETWORK_IMAGES - done;
        const uint32_t images = left < NETWORK_BATCH ? left : NETWORK_BATCH;
        uint32_t clocks;
        result = mulfree_run(device, &program, inputs, images, outputs, &clocks);
        if (result) return result;
        cycles += clocks;
        const uint8_t *next = outputs;
        for (uint32_t i = 0; i < images; ++i, ++done, next += NETWORK_OUTPUTS, inputs += NETWORK_INPUTS) {
            const uint32_t found = largest(next, is_signed);
            console_text("image ");
            console_decimal(done);
            console_text(": ");
            console_decimal(found);
            if (NETWORK_LABELLED) {
                right += found == network_labels[done];
                console_text(" of ");
                console_decimal(network_labels[done]);
            }
            console_text(" outputs ");
            for (uint32_t j = 0; j < NETWORK_OUTPUTS; ++j) console_hexadecimal(next[j]);
            console_text("\r\n");
        }
    }
    if (NETWORK_LABELLED) {
        console_text("accuracy ");
        console_percent(right, NETWORK_IMAGES);
        console_text("\r\n");
    }
    console_decimal(NETWORK_IMAGES);
    console_text(" images, ");
    console_decimal(cycles);
    console_text(" clocks in the engine\r\n");
    return MULFREE_OK;
}

int main(void) {
    for (;;) {
        struct mulfree device;
        const enum mulfree_result result = classify(&device);
        if (result == MULFREE_OK) {
            console_text("done\r\n");
        } else {
            console_text("failed: ");
            console_text(mulfree_text(result));
            if (result == MULFREE_E_REPORTED) {
                console_text(": ");
                console_text(mulfree_code_text(device.code));
            }
            console_text("\r\n");
        }
        port_wait();
    }
}
