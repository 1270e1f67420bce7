/* Drives a mulfree engine: discover, check, load, run, read back.

   C11, no allocation, no global state, no multiplication or division. Everything goes through the three
   functions of a `struct mulfree_bus`. Offsets and fields come from mulfree_registers.h, which
   `mulfree registers --c-header` writes.

   The board forms CRC-32s of the program that it ran, of the inputs that it used and of the outputs that it made;
   a run is MULFREE_OK only when all three are what they must be. */

#ifndef MULFREE_H
#define MULFREE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How to reach the registers. Offsets are bytes from the engine's base; a function returns 0, or something else where
   the access failed. */
struct mulfree_bus {
    int (*read32)(void *context, uint32_t offset, uint32_t *value);
    int (*write32)(void *context, uint32_t offset, uint32_t value);
    /* Called between two looks at a run that is not over: sleep, wait for the interrupt, or return at once.
       Anything but 0 gives the run up. */
    int (*wait)(void *context);
    void *context;
};

enum mulfree_result {
    MULFREE_OK = 0,
    MULFREE_E_BUS,         /* an access failed, or met no register or memory */
    MULFREE_E_IDENTITY,    /* something else answers */
    MULFREE_E_VERSION,     /* another register map */
    MULFREE_E_MAGIC,       /* the words given are not a program */
    MULFREE_E_FORMAT,      /* a program of another format */
    MULFREE_E_LENGTH,      /* a program that was cut, or has something behind it */
    MULFREE_E_CRC,         /* a damaged program */
    MULFREE_E_ENGINE,      /* made for another kind of engine */
    MULFREE_E_LIMITS,      /* needs more slots, channels or left shift */
    MULFREE_E_ROOM,        /* needs more program or data memory */
    MULFREE_E_BUSY,        /* a run is under way */
    MULFREE_E_LOAD,        /* the program memory does not hold what was written */
    MULFREE_E_START,       /* the run did not start */
    MULFREE_E_TIMEOUT,     /* the run did not end in time; it was aborted */
    MULFREE_E_REPORTED,    /* the board reports an error; device->code says which */
    MULFREE_E_PROGRAM_CRC, /* the board ran another program */
    MULFREE_E_INPUT_CRC,   /* the board used other inputs */
    MULFREE_E_OUTPUT_CRC,  /* the outputs that were read are not those that were made */
    MULFREE_RESULTS        /* how many there are */
};

/* A board. Set by mulfree_discover, but for `patience`, which may be changed afterwards. */
struct mulfree {
    struct mulfree_bus bus;
    uint32_t version, engine, shape, limits; /* as the registers of these names read */
    uint32_t program_words, data_words;
    uint32_t patience; /* looks at a run before it is given up */
    uint32_t code;     /* what the board reported last: MULFREE_ERROR_CODE_... */
};

/* A program that was found whole. Set by mulfree_open. */
struct mulfree_program {
    const uint32_t *words;
    uint32_t count, crc;
    uint32_t engine, shape, limits, data_words; /* what it needs */
    uint32_t batch;                             /* images of one run at the most */
    uint32_t inputs, outputs;                   /* activations of an image, a byte each */
    uint32_t input_base, input_stride, output_base, output_stride;
};

/* Find out what the board is, and clear what a former user left. */
enum mulfree_result mulfree_discover(struct mulfree *device, const struct mulfree_bus *bus);

/* Look at the words of a .mfp file. They must stay where they are while `program` is used. */
enum mulfree_result mulfree_open(struct mulfree_program *program, const uint32_t *words, size_t count);

/* Check that the board is what the program was made for, and has room for it. */
enum mulfree_result mulfree_check(const struct mulfree *device, const struct mulfree_program *program);

/* Check, write the program, and read it back. */
enum mulfree_result mulfree_load(struct mulfree *device, const struct mulfree_program *program);

/* Run the loaded program on any number of images.

   inputs: images * program->inputs bytes, activations in two's complement or unsigned as the engine says.
   outputs: room for images * program->outputs bytes; they are right only where the result is MULFREE_OK.
   cycles: the board's clocks, all batches together; or NULL. */
enum mulfree_result mulfree_run(struct mulfree *device, const struct mulfree_program *program, const uint8_t *inputs,
                                size_t images, uint8_t *outputs, uint32_t *cycles);

/* Clocks of the last run so far. */
enum mulfree_result mulfree_cycles(struct mulfree *device, uint32_t *cycles);

/* Stop a run at once. */
enum mulfree_result mulfree_abort(struct mulfree *device);

/* Raise the interrupt line when a run ends, or no more. The line falls with the start of the next run, and by
   mulfree_acknowledge. */
enum mulfree_result mulfree_interrupt(struct mulfree *device, int enable);
enum mulfree_result mulfree_acknowledge(struct mulfree *device);

/* A result, and a code that the board reported, in words. */
const char *mulfree_text(enum mulfree_result result);
const char *mulfree_code_text(uint32_t code);

/* CRC-32 (IEEE 802.3) of little-endian words; begin with 0, go on with what was returned. */
uint32_t mulfree_crc(uint32_t crc, const uint32_t *words, size_t count);

#ifdef __cplusplus
}
#endif

#endif
