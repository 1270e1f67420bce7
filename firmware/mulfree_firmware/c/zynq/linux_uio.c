/* Runs a program on an engine behind AXI4-Lite under Linux, through UIO: no driver in the kernel, interrupts included.

   The device tree node of the engine has compatible = "generic-uio", and the kernel's command line
   uio_pdrv_genirq.of_id=generic-uio; then

       linux_uio /dev/uio0 network.mfp images.bin outputs.bin

   where images.bin holds the codes of the images, a byte each, and outputs.bin will hold the outputs in the same way. */

#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mulfree.h"
#include "mulfree_registers.h"

enum { WAIT_MILLISECONDS = 1000 };

struct uio {
    volatile uint32_t *registers;
    int descriptor;
};

static int read32(void *context, uint32_t offset, uint32_t *value) {
    const struct uio *uio = context;
    *value = uio->registers[offset >> 2];
    return 0;
}

static int write32(void *context, uint32_t offset, uint32_t value) {
    const struct uio *uio = context;
    uio->registers[offset >> 2] = value;
    return 0;
}

/* Sleep until the interrupt. The kernel masks it when it comes; writing 1 unmasks it. */
static int wait_for_interrupt(void *context) {
    const struct uio *uio = context;
    const uint32_t unmask = 1;
    uint32_t count;
    struct pollfd ready = {uio->descriptor, POLLIN, 0};
    if (write(uio->descriptor, &unmask, sizeof unmask) != (ssize_t)sizeof unmask) return -1;
    if (poll(&ready, 1, WAIT_MILLISECONDS) != 1) return -1;
    return read(uio->descriptor, &count, sizeof count) == (ssize_t)sizeof count ? 0 : -1;
}

static int fail(const char *what, const char *why) {
    fprintf(stderr, "linux_uio: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

/* The whole of a file, to be freed by the caller; NULL and errno where it cannot be read. */
static void *contents(const char *path, size_t *size) {
    struct stat about;
    void *found = NULL;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return NULL;
    if (fstat(fileno(file), &about) == 0 && (found = malloc((size_t)about.st_size + 1)) != NULL) {
        *size = fread(found, 1, (size_t)about.st_size, file);
        if (*size != (size_t)about.st_size) {
            free(found);
            found = NULL;
        }
    }
    fclose(file);
    return found;
}

static int save(const char *path, const uint8_t *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    if (file == NULL) return -1;
    const size_t written = fwrite(bytes, 1, size, file);
    return fclose(file) == 0 && written == size ? 0 : -1;
}

int main(int count, char **words) {
    if (count != 5) return fail("usage", "linux_uio DEVICE PROGRAM IMAGES OUTPUTS");
    size_t program_size, inputs_size;
    uint32_t *program_words = contents(words[2], &program_size);
    if (program_words == NULL) return fail(words[2], strerror(errno));
    uint8_t *inputs = contents(words[3], &inputs_size);
    if (inputs == NULL) return fail(words[3], strerror(errno));

    struct uio uio;
    uio.descriptor = open(words[1], O_RDWR | O_SYNC);
    if (uio.descriptor < 0) return fail(words[1], strerror(errno));
    void *mapped = mmap(NULL, sizeof(mulfree_t), PROT_READ | PROT_WRITE, MAP_SHARED, uio.descriptor, 0);
    if (mapped == MAP_FAILED) return fail(words[1], strerror(errno));
    uio.registers = mapped;

    const struct mulfree_bus bus = {read32, write32, wait_for_interrupt, &uio};
    struct mulfree device;
    struct mulfree_program program;
    enum mulfree_result result = mulfree_discover(&device, &bus);
    if (result == MULFREE_OK) result = mulfree_open(&program, program_words, program_size / 4);
    if (result == MULFREE_OK) result = mulfree_load(&device, &program);
    if (result == MULFREE_OK) result = mulfree_interrupt(&device, 1);
    if (result != MULFREE_OK) return fail(words[2], mulfree_text(result));

    if (inputs_size % program.inputs != 0) return fail(words[3], "must hold whole images");
    const size_t images = inputs_size / program.inputs, outputs_size = images * program.outputs;
    uint8_t *outputs = malloc(outputs_size + 1);
    if (outputs == NULL) return fail(words[3], strerror(errno));
    uint32_t cycles;
    result = mulfree_run(&device, &program, inputs, images, outputs, &cycles);
    if (result == MULFREE_E_REPORTED) return fail("board", mulfree_code_text(device.code));
    if (result != MULFREE_OK) return fail("board", mulfree_text(result));
    if (save(words[4], outputs, outputs_size)) return fail(words[4], strerror(errno));
    printf("%zu images, %lu clocks\n", images, (unsigned long)cycles);
    free(outputs);
    free(inputs);
    free(program_words);
    return EXIT_SUCCESS;
}
