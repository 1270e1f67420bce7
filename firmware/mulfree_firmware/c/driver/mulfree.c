#include "mulfree.h"

#include "mulfree_registers.h"

/* A field of a register's word. */
#define FIELD(word, name) (((word) & MULFREE__##name##_bm) >> MULFREE__##name##_bp)

/* Words of a program's header, as hw/mulfree/soc/program.py describes it. */
enum {
    AT_MAGIC,
    AT_FORMAT,
    AT_WORDS,
    AT_ENGINE,
    AT_SHAPE,
    AT_LIMITS,
    AT_DATA_WORDS,
    AT_LAYERS,
    AT_WIDTHS,
    AT_INPUT,
    AT_OUTPUT,
    HEADER_WORDS = 16
};
#define MAGIC 0x3150464dU /* MFP1 */
#define FORMAT 1U

#define TRY(call)                                        \
    do {                                                 \
        const enum mulfree_result tried = (call);        \
        if (tried != MULFREE_OK) return tried;           \
    } while (0)

static enum mulfree_result get(const struct mulfree *device, uint32_t offset, uint32_t *value) {
    return device->bus.read32(device->bus.context, offset, value) ? MULFREE_E_BUS : MULFREE_OK;
}

static enum mulfree_result put(const struct mulfree *device, uint32_t offset, uint32_t value) {
    return device->bus.write32(device->bus.context, offset, value) ? MULFREE_E_BUS : MULFREE_OK;
}

/* Four bits at a time: a byte's table would be 1 KiB of a small memory. */
static uint32_t crc_word(uint32_t crc, uint32_t word) {
    static const uint32_t table[16] = {
        0x00000000U, 0x1db71064U, 0x3b6e20c8U, 0x26d930acU, 0x76dc4190U, 0x6b6b51f4U, 0x4db26158U, 0x5005713cU,
        0xedb88320U, 0xf00f9344U, 0xd6d6a3e8U, 0xcb61b38cU, 0x9b64c2b0U, 0x86d3d2d4U, 0xa00ae278U, 0xbdbdf21cU,
    };
    crc ^= word;
    for (unsigned i = 0; i < 8; ++i) crc = (crc >> 4) ^ table[crc & 15U];
    return crc;
}

uint32_t mulfree_crc(uint32_t crc, const uint32_t *words, size_t count) {
    crc = ~crc;
    for (size_t i = 0; i < count; ++i) crc = crc_word(crc, words[i]);
    return ~crc;
}

/* The bus error that the board remembers: reported once, then cleared. */
static enum mulfree_result check_accesses(const struct mulfree *device) {
    uint32_t status;
    TRY(get(device, MULFREE_STATUS_OFFSET, &status));
    if (!FIELD(status, STATUS__BUS_ERROR)) return MULFREE_OK;
    TRY(put(device, MULFREE_STATUS_OFFSET, MULFREE__STATUS__BUS_ERROR_bm));
    return MULFREE_E_BUS;
}

static enum mulfree_result check_idle(const struct mulfree *device) {
    uint32_t status;
    TRY(get(device, MULFREE_STATUS_OFFSET, &status));
    return FIELD(status, STATUS__BUSY) ? MULFREE_E_BUSY : MULFREE_OK;
}

enum mulfree_result mulfree_discover(struct mulfree *device, const struct mulfree_bus *bus) {
    uint32_t id;
    device->bus = *bus;
    device->code = 0;
    device->patience = 10000000;
    TRY(get(device, MULFREE_ID_OFFSET, &id));
    if (id != MULFREE__ID__VALUE_reset) return MULFREE_E_IDENTITY;
    TRY(get(device, MULFREE_VERSION_OFFSET, &device->version));
    if (FIELD(device->version, VERSION__MAJOR) != MULFREE__VERSION__MAJOR_reset) return MULFREE_E_VERSION;
    TRY(put(device, MULFREE_STATUS_OFFSET, MULFREE__STATUS__BUS_ERROR_bm));
    TRY(get(device, MULFREE_ENGINE_OFFSET, &device->engine));
    TRY(get(device, MULFREE_SHAPE_OFFSET, &device->shape));
    TRY(get(device, MULFREE_LIMITS_OFFSET, &device->limits));
    TRY(get(device, MULFREE_PROGRAM_SIZE_OFFSET, &device->program_words));
    TRY(get(device, MULFREE_DATA_SIZE_OFFSET, &device->data_words));
    return check_accesses(device);
}

enum mulfree_result mulfree_open(struct mulfree_program *program, const uint32_t *words, size_t count) {
    if (count <= HEADER_WORDS || words[AT_MAGIC] != MAGIC) return MULFREE_E_MAGIC;
    if (words[AT_FORMAT] != FORMAT) return MULFREE_E_FORMAT;
    if (words[AT_WORDS] != count) return MULFREE_E_LENGTH;
    program->words = words;
    program->count = words[AT_WORDS];
    program->crc = mulfree_crc(0, words, count - 1);
    if (program->crc != words[count - 1]) return MULFREE_E_CRC;
    program->engine = words[AT_ENGINE];
    program->shape = words[AT_SHAPE];
    program->limits = words[AT_LIMITS];
    program->data_words = words[AT_DATA_WORDS];
    program->batch = FIELD(program->limits, LIMITS__SLOTS);
    program->inputs = words[AT_WIDTHS] & 0xffffU;
    program->outputs = words[AT_WIDTHS] >> 16;
    program->input_base = words[AT_INPUT] & 0xffffU;
    program->input_stride = words[AT_INPUT] >> 16;
    program->output_base = words[AT_OUTPUT] & 0xffffU;
    program->output_stride = words[AT_OUTPUT] >> 16;
    /* Nothing that a right CRC vouches for, but a loop over batches of 0 images would not end. */
    return program->batch ? MULFREE_OK : MULFREE_E_FORMAT;
}

enum mulfree_result mulfree_check(const struct mulfree *device, const struct mulfree_program *program) {
    const uint32_t needed = program->limits, there = device->limits;
    /* Any kind that computes the same will do. */
    if (program->engine != (device->engine & ~(uint32_t)MULFREE__ENGINE__KIND_bm)) return MULFREE_E_ENGINE;
    if (program->shape != device->shape) return MULFREE_E_ENGINE;
    if (FIELD(needed, LIMITS__SLOTS) > FIELD(there, LIMITS__SLOTS) ||
        FIELD(needed, LIMITS__CHANNELS) > FIELD(there, LIMITS__CHANNELS) ||
        FIELD(needed, LIMITS__LEFT_SHIFT) > FIELD(there, LIMITS__LEFT_SHIFT))
        return MULFREE_E_LIMITS;
    if (program->count > device->program_words || program->data_words > device->data_words) return MULFREE_E_ROOM;
    return MULFREE_OK;
}

enum mulfree_result mulfree_load(struct mulfree *device, const struct mulfree_program *program) {
    uint32_t offset = MULFREE_PROGRAM_OFFSET, crc = ~0U;
    TRY(mulfree_check(device, program));
    TRY(check_idle(device));
    for (uint32_t i = 0; i < program->count; ++i, offset += 4) TRY(put(device, offset, program->words[i]));
    offset = MULFREE_PROGRAM_OFFSET;
    for (uint32_t i = 0; i < program->count - 1; ++i, offset += 4) {
        uint32_t word;
        TRY(get(device, offset, &word));
        crc = crc_word(crc, word);
    }
    TRY(check_accesses(device));
    return ~crc == program->crc ? MULFREE_OK : MULFREE_E_LOAD;
}

/* Write the activations of some images, four a word, form their CRC, and go on to the next images. */
static enum mulfree_result write_inputs(const struct mulfree *device, const struct mulfree_program *program,
                                        const uint8_t **inputs, uint32_t images, uint32_t *crc) {
    const uint8_t *next = *inputs;
    uint32_t offset = MULFREE_DATA_OFFSET + (program->input_base << 2), formed = ~0U;
    for (; images > 0; --images) {
        uint32_t left = program->inputs;
        for (uint32_t word = 0; word < program->input_stride; ++word, offset += 4) {
            uint32_t value = 0;
            for (unsigned shift = 0; shift < 32 && left > 0; shift += 8, --left) value |= (uint32_t)*next++ << shift;
            formed = crc_word(formed, value);
            TRY(put(device, offset, value));
        }
    }
    *inputs = next;
    *crc = ~formed;
    return MULFREE_OK;
}

static enum mulfree_result read_outputs(const struct mulfree *device, const struct mulfree_program *program,
                                        uint8_t **outputs, uint32_t images, uint32_t *crc) {
    uint8_t *next = *outputs;
    uint32_t offset = MULFREE_DATA_OFFSET + (program->output_base << 2), formed = ~0U;
    for (; images > 0; --images) {
        uint32_t left = program->outputs;
        for (uint32_t word = 0; word < program->output_stride; ++word, offset += 4) {
            uint32_t value;
            TRY(get(device, offset, &value));
            formed = crc_word(formed, value);
            for (unsigned byte = 0; byte < 4 && left > 0; ++byte, --left, value >>= 8) *next++ = value & 0xffU;
        }
    }
    *outputs = next;
    *crc = ~formed;
    return MULFREE_OK;
}

static enum mulfree_result start_and_wait(struct mulfree *device) {
    uint32_t status;
    TRY(put(device, MULFREE_CONTROL_OFFSET, MULFREE__CONTROL__START_bm));
    TRY(get(device, MULFREE_STATUS_OFFSET, &status));
    for (uint32_t looks = 0; FIELD(status, STATUS__BUSY); ++looks) {
        if (looks >= device->patience || device->bus.wait(device->bus.context)) {
            TRY(mulfree_abort(device));
            return MULFREE_E_TIMEOUT;
        }
        TRY(get(device, MULFREE_STATUS_OFFSET, &status));
    }
    if (!FIELD(status, STATUS__DONE)) return MULFREE_E_START;
    if (!FIELD(status, STATUS__ERROR)) return MULFREE_OK;
    TRY(get(device, MULFREE_ERROR_OFFSET, &device->code));
    return MULFREE_E_REPORTED;
}

static enum mulfree_result run_batch(struct mulfree *device, const struct mulfree_program *program,
                                     const uint8_t **inputs, uint32_t images, uint8_t **outputs,
                                     uint32_t *cycles) {
    uint32_t sent, program_crc, input_crc, output_crc, received;
    TRY(check_idle(device));
    TRY(write_inputs(device, program, inputs, images, &sent));
    TRY(put(device, MULFREE_IMAGES_OFFSET, images));
    TRY(mulfree_acknowledge(device));
    TRY(check_accesses(device));
    TRY(start_and_wait(device));
    TRY(mulfree_cycles(device, cycles));
    TRY(get(device, MULFREE_PROGRAM_CRC_OFFSET, &program_crc));
    TRY(get(device, MULFREE_INPUT_CRC_OFFSET, &input_crc));
    TRY(get(device, MULFREE_OUTPUT_CRC_OFFSET, &output_crc));
    if (program_crc != program->crc) return MULFREE_E_PROGRAM_CRC;
    if (input_crc != sent) return MULFREE_E_INPUT_CRC;
    TRY(read_outputs(device, program, outputs, images, &received));
    TRY(check_accesses(device));
    return output_crc == received ? MULFREE_OK : MULFREE_E_OUTPUT_CRC;
}

enum mulfree_result mulfree_run(struct mulfree *device, const struct mulfree_program *program, const uint8_t *inputs,
                                size_t images, uint8_t *outputs, uint32_t *cycles) {
    uint32_t all = 0;
    TRY(mulfree_check(device, program));
    while (images > 0) {
        const uint32_t batch = images < program->batch ? (uint32_t)images : program->batch;
        uint32_t clocks;
        TRY(run_batch(device, program, &inputs, batch, &outputs, &clocks));
        all += clocks;
        images -= batch;
    }
    if (cycles != NULL) *cycles = all;
    return MULFREE_OK;
}

enum mulfree_result mulfree_cycles(struct mulfree *device, uint32_t *cycles) {
    return get(device, MULFREE_CYCLES_OFFSET, cycles);
}

enum mulfree_result mulfree_abort(struct mulfree *device) {
    return put(device, MULFREE_CONTROL_OFFSET, MULFREE__CONTROL__ABORT_bm);
}

enum mulfree_result mulfree_interrupt(struct mulfree *device, int enable) {
    return put(device, MULFREE_INTERRUPT_ENABLE_OFFSET, enable ? MULFREE__INTERRUPT_ENABLE__DONE_bm : 0);
}

enum mulfree_result mulfree_acknowledge(struct mulfree *device) {
    return put(device, MULFREE_INTERRUPT_PENDING_OFFSET, MULFREE__INTERRUPT_PENDING__DONE_bm);
}

const char *mulfree_text(enum mulfree_result result) {
    switch (result) {
    case MULFREE_OK: return "done";
    case MULFREE_E_BUS: return "an access failed, or met no register or memory";
    case MULFREE_E_IDENTITY: return "what answers is not a mulfree engine";
    case MULFREE_E_VERSION: return "the board has another version of the register map";
    case MULFREE_E_MAGIC: return "the words given are not a program";
    case MULFREE_E_FORMAT: return "the program's format is not supported";
    case MULFREE_E_LENGTH: return "the program is shorter or longer than it states";
    case MULFREE_E_CRC: return "the program is damaged";
    case MULFREE_E_ENGINE: return "the program was made for another engine";
    case MULFREE_E_LIMITS: return "the program needs more slots, channels or left shift";
    case MULFREE_E_ROOM: return "the program needs more memory";
    case MULFREE_E_BUSY: return "a run is under way";
    case MULFREE_E_LOAD: return "the program memory does not hold what was written";
    case MULFREE_E_START: return "the run did not start";
    case MULFREE_E_TIMEOUT: return "the run did not end in time";
    case MULFREE_E_REPORTED: return "the board reports an error";
    case MULFREE_E_PROGRAM_CRC: return "the board ran another program";
    case MULFREE_E_INPUT_CRC: return "the board used other inputs";
    case MULFREE_E_OUTPUT_CRC: return "the outputs changed on their way";
    case MULFREE_RESULTS: break;
    }
    return "unknown result";
}

const char *mulfree_code_text(uint32_t code) {
    switch (code) {
    case MULFREE_ERROR_CODE_NONE: return "no error";
    case MULFREE_ERROR_CODE_MAGIC: return "the program memory does not begin with a program";
    case MULFREE_ERROR_CODE_FORMAT: return "the program's format version is not supported";
    case MULFREE_ERROR_CODE_LENGTH: return "the program is longer than the memory, or too short to be one";
    case MULFREE_ERROR_CODE_CRC: return "the program's CRC-32 is wrong";
    case MULFREE_ERROR_CODE_ENGINE: return "the program was made for another engine";
    case MULFREE_ERROR_CODE_LIMITS: return "the program needs more slots, channels, left shift or data memory";
    case MULFREE_ERROR_CODE_IMAGES: return "images is 0 or above the program's batch";
    case MULFREE_ERROR_CODE_LAYER: return "a layer's type is not supported";
    default: return "unknown code";
    }
}
