/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A bank of NOR flash ("cfi-flash"): two 16-bit chips side by side that speak Intel's command set. */
/*
 * Theory of operation
 *
 * The bank is what QEMU's `virt` machines have: 32 MiB in sectors of 256 KiB, 32 bits wide, each half of the
 * width a chip of 16 MiB. Drivers send each command to both chips at once; the low byte of what is written
 * counts, and an access wider than the bank is two. Commands are those of Intel's application note 646 and
 * the StrataFlash data sheets; the table a driver asks with 0x98 is laid out by JEDEC's JESD68.01.
 *
 *     step            is waiting for                       then
 *     COMMAND         a command, see command()             by command
 *     PROGRAM         a datum, whose zeros are programmed  COMMAND
 *     ERASE           0xd0 in the sector to erase          COMMAND
 *     LOCK            0x01 lock, 0xd0 unlock a sector      COMMAND
 *     COUNT           how many data follow, less one       DATA
 *     DATA            the data, inside one buffer's extent CONFIRM after the last
 *     CONFIRM         0xd0, which programs the buffer      COMMAND
 *
 * Operations take no time, so the status is always "ready". 0xff instead of what is awaited goes back to
 * the contents; anything else that is wrong is a command sequence error.
 *
 * Contents are a readonly block of guest memory, hidden (mem.h) whenever reads are to give something else;
 * thus code runs from flash, and reading it is as fast as RAM. Erased flash reads as ones, untouched memory
 * as zeros: a bank without a file is *blank*, hidden and not touched, until something is programmed, so it
 * costs nothing.
 *
 * Durability. What was programmed is in the file's storage before the guest can learn that it is ready: by
 * reading the status or by going back to the contents. When the host fails, the status says so.
 */
#include "device/pflash.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "os/fd.h"

#define PFLASH_SECTOR (256 * KiB)

enum {
    BANK_WIDTH = 4, /* bytes */
    CHIP_WIDTH = 2,
    CHIPS = BANK_WIDTH / CHIP_WIDTH,
    SECTORS = PFLASH_SIZE / PFLASH_SECTOR,
    BUFFER_BITS = 11, /* of one chip */
    BUFFER = CHIPS << BUFFER_BITS,
    MAKER = 0x89,
    MODEL = 0x18,
};

enum pflash_show { SHOW_CONTENTS, SHOW_STATUS, SHOW_IDENTITY, SHOW_QUERY };
enum pflash_step { STEP_COMMAND, STEP_PROGRAM, STEP_ERASE, STEP_LOCK, STEP_COUNT, STEP_DATA, STEP_CONFIRM };

enum {
    STATUS_READY = 0x80,
    STATUS_ERASE_FAILED = 0x20,
    STATUS_PROGRAM_FAILED = 0x10,
    STATUS_LOCKED = 0x02,
    STATUS_SEQUENCE = STATUS_ERASE_FAILED | STATUS_PROGRAM_FAILED,
};

enum {
    CMD_PROGRAM_OLD = 0x10,
    CMD_ERASE = 0x20,
    CMD_PROGRAM = 0x40,
    CMD_CLEAR_STATUS = 0x50,
    CMD_LOCK = 0x60,
    CMD_LOCK_SET = 0x01, /* after CMD_LOCK */
    CMD_STATUS = 0x70,
    CMD_IDENTITY = 0x90,
    CMD_QUERY = 0x98,
    CMD_CONFIRM = 0xd0,
    CMD_BUFFER = 0xe8,
    CMD_CONTENTS = 0xff,
};

struct pflash {
    struct device dev;
    uint8_t *contents; /* PFLASH_SIZE bytes; nothing when blank */
    bool blank;        /* erased as a whole, since the beginning */
    struct mem *mem;   /* NULL: contents are not in guest memory */
    struct gpa base;
    int fd; /* -1: volatile */
    bool readonly;
    uint64_t file_size;
    bool unsynced, host_failed;

    uint8_t show, step, status;
    uint8_t locked[SECTORS];
    uint32_t left;      /* data to come */
    uint32_t buffer_at; /* offset of the buffer's extent; BUFFER_NOWHERE before the first datum */
    uint8_t buffer[BUFFER];
};

#define BUFFER_NOWHERE UINT32_MAX

/* The answer to CMD_QUERY, one byte per word of a chip. */
static const uint8_t query[] = {
    [0x10] = 'Q',
    [0x11] = 'R',
    [0x12] = 'Y',
    [0x13] = 1,    /* Intel's extended command set */
    [0x15] = 0x31, /* where its table is */
    /* Supply voltages: 4.5 to 5.5 V. */
    [0x1b] = 0x45,
    [0x1c] = 0x55,
    /* Usual times for a word (2^n us), a buffer (2^n us), a sector (2^n ms); the longest are 2^n as long. */
    [0x1f] = 7,
    [0x20] = 7,
    [0x21] = 10,
    [0x23] = 4,
    [0x24] = 4,
    [0x25] = 4,
    [0x27] = 24, /* 2^n bytes a chip */
    [0x28] = 2,  /* 8 and 16 bits wide */
    [0x2a] = BUFFER_BITS,
    [0x2c] = 1, /* region of equal sectors: their number less one, their size in a chip / 256 */
    [0x2d] = (SECTORS - 1) & 0xff,
    [0x2e] = (SECTORS - 1) >> 8,
    [0x2f] = PFLASH_SECTOR / CHIPS / 256 & 0xff,
    [0x30] = PFLASH_SECTOR / CHIPS / 256 >> 8,
    /* Of the extended features there are none. */
    [0x31] = 'P',
    [0x32] = 'R',
    [0x33] = 'I',
    [0x34] = '1',
    [0x35] = '0',
    [0x3f] = 1, /* protection field, of no use */
    [0x51] = 0,
};
static_assert(PFLASH_SIZE / CHIPS == 1 << 24, "the query says how large a chip is");

static struct pflash *pflash(struct device *d)
{
    return (struct pflash *)(void *)d;
}

/* --- the file --- */

static bool host_failed(struct pflash *p, int status)
{
    if (!p->host_failed)
        log_warn(LOG_DEVICE, "%s: its file cannot be written: %s; the guest is told", p->dev.wires.name,
                 g_strerror(-status));
    p->host_failed = true;
    return false;
}

/* Contents at [offset, offset + size) changed. A file that is shorter grows, with what was erased before it.
 */
static bool file_update(struct pflash *p, uint64_t offset, uint64_t size)
{
    if (p->fd < 0)
        return true;
    uint64_t from = MIN(offset, p->file_size), end = offset + size;
    int status = fd_write_at(p->fd, p->contents + from, end - from, from);
    if (status)
        return host_failed(p, status);
    p->file_size = MAX(p->file_size, end);
    p->unsynced = true;
    return true;
}

static void file_sync(struct pflash *p)
{
    if (!p->unsynced)
        return;
    p->unsynced = false;
    if (!fdatasync(p->fd))
        return;
    host_failed(p, -errno);
    p->status |= STATUS_SEQUENCE;
}

/* --- the contents --- */

static uint64_t contents_get(const struct pflash *p, uint64_t offset, unsigned size)
{
    uint64_t value = 0;
    if (p->blank)
        return bits_mask(8 * size);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)p->contents[offset + i] << 8 * i;
    return value;
}

/* The bytes have changed: those who run code from them hear of it, and the file gets them. */
static bool contents_changed(struct pflash *p, uint64_t offset, uint64_t size)
{
    if (p->mem)
        mem_wrote(p->mem, mem_find(p->mem, p->base), GPA(p->base.v + offset), size);
    return file_update(p, offset, size);
}

static bool protected_at(struct pflash *p, uint64_t offset)
{
    return p->readonly || p->locked[offset / PFLASH_SECTOR];
}

/* Programming makes ones zeros and never the other way round. */
static void program(struct pflash *p, uint64_t offset, const uint8_t *bytes, size_t size)
{
    if (protected_at(p, offset)) {
        p->status |= STATUS_PROGRAM_FAILED | STATUS_LOCKED;
        return;
    }
    if (p->blank) {
        memset(p->contents, 0xff, PFLASH_SIZE);
        p->blank = false;
        contents_changed(p, 0, PFLASH_SIZE);
    }
    for (size_t i = 0; i < size; i++)
        p->contents[offset + i] &= bytes[i];
    if (!contents_changed(p, offset, size))
        p->status |= STATUS_PROGRAM_FAILED;
}

static void erase(struct pflash *p, uint64_t offset)
{
    offset = align_down(offset, PFLASH_SECTOR);
    if (protected_at(p, offset)) {
        p->status |= STATUS_ERASE_FAILED | STATUS_LOCKED;
        return;
    }
    if (p->blank)
        return;
    memset(p->contents + offset, 0xff, PFLASH_SECTOR);
    if (!contents_changed(p, offset, PFLASH_SECTOR))
        p->status |= STATUS_ERASE_FAILED;
}

/* --- what reads give --- */

/* A word of one chip, as both give it. */
static uint64_t both(uint64_t word)
{
    return word | word << 8 * CHIP_WIDTH;
}

static uint64_t identity_word(const struct pflash *p, uint64_t offset)
{
    switch (offset / BANK_WIDTH & 0xff) {
    case 0: return MAKER;
    case 1: return MODEL;
    case 2: return p->locked[offset / PFLASH_SECTOR];
    default: return 0;
    }
}

/* Up to BANK_WIDTH bytes. */
static uint64_t read_bus(struct pflash *p, uint64_t offset, unsigned size)
{
    uint64_t word = offset / BANK_WIDTH;
    switch ((enum pflash_show)p->show) {
    case SHOW_CONTENTS: return contents_get(p, offset, size);
    case SHOW_STATUS: file_sync(p); return both(p->status);
    case SHOW_IDENTITY: return both(identity_word(p, offset));
    case SHOW_QUERY: return both(word < sizeof(query) ? query[word] : 0);
    }
    g_assert_not_reached();
}

static uint64_t pflash_read(void *chip, uint64_t offset, unsigned size)
{
    struct pflash *p = chip;
    uint64_t value = 0;
    device_lock(&p->dev);
    for (unsigned i = 0; i < size; i += BANK_WIDTH)
        value |= (read_bus(p, offset + i, MIN(size, BANK_WIDTH)) & bits_mask(8 * MIN(size, BANK_WIDTH)))
                 << 8 * i;
    device_release(&p->dev);
    return value;
}

static void show(struct pflash *p, enum pflash_show what)
{
    p->show = (uint8_t)what;
    if (what == SHOW_CONTENTS)
        file_sync(p);
    if (p->mem)
        mem_hide(p->mem, p->base, p->blank || what != SHOW_CONTENTS);
}

/* --- what writes do --- */

static void await(struct pflash *p, enum pflash_step step)
{
    p->step = (uint8_t)step;
    show(p, SHOW_STATUS);
}

static void back_to_contents(struct pflash *p)
{
    p->step = STEP_COMMAND;
    show(p, SHOW_CONTENTS);
}

/* What came instead of what was awaited. */
static void wrong(struct pflash *p, uint8_t command)
{
    if (command == CMD_CONTENTS) {
        back_to_contents(p);
        return;
    }
    p->status |= STATUS_SEQUENCE;
    await(p, STEP_COMMAND);
}

static void command(struct pflash *p, uint8_t c)
{
    switch (c) {
    case CMD_PROGRAM_OLD:
    case CMD_PROGRAM: await(p, STEP_PROGRAM); break;
    case CMD_ERASE: await(p, STEP_ERASE); break;
    case CMD_LOCK: await(p, STEP_LOCK); break;
    case CMD_BUFFER: await(p, STEP_COUNT); break;
    case CMD_STATUS: show(p, SHOW_STATUS); break;
    case CMD_IDENTITY: show(p, SHOW_IDENTITY); break;
    case CMD_QUERY: show(p, SHOW_QUERY); break;
    case CMD_CLEAR_STATUS:
        p->status = STATUS_READY;
        back_to_contents(p);
        break;
    default: back_to_contents(p); break; /* among them the reset commands of other makers */
    }
}

static void lock_sector(struct pflash *p, uint64_t offset, uint8_t how)
{
    if (how != CMD_LOCK_SET && how != CMD_CONFIRM) {
        wrong(p, how);
        return;
    }
    p->locked[offset / PFLASH_SECTOR] = how == CMD_LOCK_SET;
    p->step = STEP_COMMAND;
}

/* The data may come in any order, but all for one extent of the buffer's size. */
static void fill_buffer(struct pflash *p, uint64_t offset, const uint8_t *bytes, unsigned size)
{
    uint32_t extent = (uint32_t)align_down(offset, BUFFER);
    if (p->buffer_at == BUFFER_NOWHERE)
        p->buffer_at = extent;
    if (extent != p->buffer_at) {
        wrong(p, 0);
        return;
    }
    memcpy(p->buffer + (offset - extent), bytes, size);
    if (p->left)
        p->left--;
    else
        p->step = STEP_CONFIRM;
}

static void start_buffer(struct pflash *p, uint32_t count)
{
    count &= 0xffff; /* what one chip is told */
    if (count >= BUFFER / BANK_WIDTH) {
        wrong(p, 0);
        return;
    }
    p->left = count;
    p->buffer_at = BUFFER_NOWHERE;
    memset(p->buffer, 0xff, sizeof(p->buffer)); /* programs nothing */
    p->step = STEP_DATA;
}

/* One write of up to BANK_WIDTH bytes. */
static void write_bus(struct pflash *p, uint64_t offset, unsigned size, uint32_t value)
{
    uint8_t bytes[4], c = (uint8_t)value;
    st32le(bytes, value);
    switch ((enum pflash_step)p->step) {
    case STEP_COMMAND: command(p, c); return;
    case STEP_PROGRAM:
        program(p, offset, bytes, size);
        p->step = STEP_COMMAND;
        return;
    case STEP_LOCK: lock_sector(p, offset, c); return;
    case STEP_COUNT: start_buffer(p, value); return;
    case STEP_DATA: fill_buffer(p, offset, bytes, size); return;
    case STEP_ERASE:
    case STEP_CONFIRM: break;
    }
    if (c != CMD_CONFIRM) {
        wrong(p, c);
        return;
    }
    if (p->step == STEP_ERASE)
        erase(p, offset);
    else
        program(p, p->buffer_at, p->buffer, BUFFER);
    p->step = STEP_COMMAND;
}

static void pflash_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    struct pflash *p = chip;
    device_lock(&p->dev);
    for (unsigned i = 0; i < size; i += BANK_WIDTH)
        write_bus(p, offset + i, MIN(size, BANK_WIDTH), (uint32_t)(value >> 8 * i));
    device_release(&p->dev);
}

static const struct bus_ops pflash_ops = {pflash_read, pflash_write, .min_size = 1, .max_size = 8};

/* --- life --- */

static uint64_t pflash_extent(const struct device *d)
{
    (void)d;
    return PFLASH_SIZE;
}

static bool pflash_init(struct device *d, GError **error)
{
    struct pflash *p = pflash(d);
    p->fd = -1;
    p->blank = true;
    p->contents =
        mmap(NULL, PFLASH_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->contents != MAP_FAILED)
        return true;
    p->contents = NULL;
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: no host memory for it: %s", d->wires.name,
                       g_strerror(errno));
}

static void drop_contents(struct pflash *p)
{
    if (!p->mem && p->contents)
        munmap(p->contents, PFLASH_SIZE);
    p->contents = NULL;
}

static void pflash_destroy(struct device *d)
{
    struct pflash *p = pflash(d);
    file_sync(p);
    fd_close(&p->fd);
    drop_contents(p);
}

static bool load(struct pflash *p, GError **error)
{
    const char *name = p->dev.wires.name;
    struct stat status;
    if (fstat(p->fd, &status))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: its file cannot be examined: %s", name,
                           g_strerror(errno));
    if (!S_ISREG(status.st_mode) || status.st_size < 0 || (uint64_t)status.st_size > PFLASH_SIZE)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its file has %" PRIi64 " bytes; a bank holds %" PRIu64 " (32 MiB) at most",
                           name, (int64_t)status.st_size, (uint64_t)PFLASH_SIZE);
    p->file_size = (uint64_t)status.st_size;
    for (uint64_t done = 0; done < p->file_size;) {
        ssize_t n = pread(p->fd, p->contents + done, p->file_size - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: its file cannot be read: %s", name,
                               n ? g_strerror(errno) : "it became shorter");
        done += (uint64_t)n;
    }
    memset(p->contents + p->file_size, 0xff, PFLASH_SIZE - p->file_size);
    return true;
}

bool pflash_place(struct device *d, struct mem *m, struct gpa base, GError **error)
{
    struct pflash *p = pflash(d);
    const struct mem_block *block = mem_add(m, d->wires.name, base, PFLASH_SIZE, true, error);
    if (!block)
        return false;
    drop_contents(p);
    p->mem = m;
    p->base = base;
    p->contents = block->host;
    show(p, SHOW_CONTENTS);
    return true;
}

bool pflash_load(struct device *d, int fd, bool readonly, GError **error)
{
    struct pflash *p = pflash(d);
    fd_close(&p->fd);
    p->fd = fd;
    p->readonly = readonly;
    p->blank = false;
    if (!load(p, error))
        return false;
    show(p, SHOW_CONTENTS);
    return true;
}

/* The contents stay. Locks go with the power. */
static void pflash_reset(struct device *d)
{
    struct pflash *p = pflash(d);
    p->status = STATUS_READY;
    p->left = 0;
    p->buffer_at = BUFFER_NOWHERE;
    memset(p->buffer, 0xff, sizeof(p->buffer));
    memset(p->locked, 0, sizeof(p->locked));
    back_to_contents(p);
}

/* The file holds what was loaded: whatever differs is written. */
static void file_follow(struct pflash *p)
{
    static const uint64_t piece = PFLASH_SECTOR;
    g_autofree uint8_t *bytes = g_malloc(piece);
    for (uint64_t at = 0; at < PFLASH_SIZE; at += piece) {
        const ssize_t n = at < p->file_size ? pread(p->fd, bytes, piece, (off_t)at) : 0;
        memset(bytes + MAX(n, 0), 0xff, piece - (uint64_t)MAX(n, 0)); /* as behind a short file */
        if (memcmp(bytes, p->contents + at, piece) != 0 && !file_update(p, at, piece))
            return;
    }
    file_sync(p);
}

static bool pflash_post_load(struct device *d)
{
    struct pflash *p = pflash(d);
    bool nowhere = p->buffer_at == BUFFER_NOWHERE;
    if (p->show > SHOW_QUERY || p->step > STEP_CONFIRM || p->left >= BUFFER / BANK_WIDTH ||
        (!nowhere && (p->buffer_at >= PFLASH_SIZE || p->buffer_at % BUFFER)) ||
        (nowhere && p->step == STEP_CONFIRM) || (p->blank && p->fd >= 0))
        return false;
    if (p->fd >= 0 && !p->readonly)
        file_follow(p);
    show(p, p->show);
    return true;
}

static const struct state_field pflash_state[] = {
    STATE_FIELD(pflash, blank, STATE_BOOL, 1),
    STATE_FIELD(pflash, show, STATE_U8, 1),
    STATE_FIELD(pflash, step, STATE_U8, 1),
    STATE_FIELD(pflash, status, STATE_U8, 1),
    STATE_FIELD(pflash, locked, STATE_U8, 1),
    STATE_FIELD(pflash, left, STATE_U32, 1),
    STATE_FIELD(pflash, buffer_at, STATE_U32, 1),
    STATE_FIELD(pflash, buffer, STATE_U8, 1),
    {0},
};

const struct device_type device_pflash = {
    .name = "pflash",
    .help = "bank of NOR flash, 32 MiB, Intel's command set",
    .size = sizeof(struct pflash),
    .state = pflash_state,
    .version = 1,
    .ops = &pflash_ops,
    .init = pflash_init,
    .extent = pflash_extent,
    .reset = pflash_reset,
    .post_load = pflash_post_load,
    .destroy = pflash_destroy,
};
