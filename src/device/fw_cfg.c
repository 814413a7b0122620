/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* QEMU's firmware configuration device in memory ("qemu,fw-cfg-mmio"): items of bytes under 16-bit keys, and
 * a directory of named ones. */
/*
 * Theory of operation
 *
 * docs/specs/fw_cfg of QEMU is the specification. Everything is big-endian except the numbers inside items.
 *
 *     0x00  data      each byte read is the next of the selected item; an access of several bytes gives them
 *                     in memory order; zeros come behind the end and from items that are not there
 *     0x08  selector  16 bits, write only: the key; from the item's beginning
 *     0x10  DMA       read: "QEMU CFG"; written (the high half first, the low half starts it): the address of
 *                     { control, length, address }, 32, 32 and 64 bits
 *
 * A DMA request is done when the write returns; its control word is then 0 or has the error bit. The request
 * is copied once; data goes from and to RAM only, never to flash or ROM. The guest can write no item.
 *
 * Items are made before the guest runs and never change, so reading them needs no care; only the position
 * does.
 */
#include "device/fw_cfg.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/error.h"
#include "mem/dma.h"

enum { REG_DATA = 0x00, REG_SELECTOR = 0x08, REG_DMA = 0x10, EXTENT = 0x18 };

/* Of a key: the item is to be written, which makes no other item of it. */
enum { KEY_WRITE = 0x4000, KEYS = FW_CFG_FILE_FIRST + FW_CFG_FILES_MAX };

enum {
    DMA_ERROR = 1 << 0,
    DMA_READ = 1 << 1,
    DMA_SKIP = 1 << 2,
    DMA_SELECT = 1 << 3, /* the key is the upper half */
    DMA_WRITE = 1 << 4,
    DMA_REQUEST = 16, /* bytes */
    DMA_CHUNK = 4096,
};
#define DMA_SIGNATURE UINT64_C(0x51454d5520434647) /* "QEMU CFG" */

enum { ID_TRADITIONAL = 1, ID_DMA = 2 };

enum { DIR_COUNT = 4, DIR_ENTRY = 64, DIR_SELECT = 4, DIR_NAME = 8 };

struct item {
    uint8_t *bytes; /* NULL: in fd, or nothing */
    int fd;
    uint64_t size;
};

struct fw_cfg {
    struct device dev;
    struct item items[KEYS];
    char names[FW_CFG_FILES_MAX][FW_CFG_NAME_MAX + 1];
    unsigned files;

    uint16_t key; /* without KEY_WRITE; from KEYS on: no item */
    uint64_t position;
    uint32_t dma_high;
};

static struct fw_cfg *fw_cfg(struct device *d)
{
    return (struct fw_cfg *)(void *)d;
}

/* --- reading items --- */

static const struct item *selected(const struct fw_cfg *f)
{
    static const struct item none = {.fd = -1};
    return f->key < KEYS ? &f->items[f->key] : &none;
}

static void select_key(struct fw_cfg *f, uint16_t key)
{
    f->key = key & (uint16_t)~KEY_WRITE;
    f->position = 0;
}

/* The bytes at position as far as a file has them; false when the host cannot read it. */
static bool read_fd(const struct item *i, uint64_t position, uint8_t *out, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(i->fd, out + done, size - done, (off_t)(position + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0; /* it became shorter */
        done += (size_t)n;
    }
    return true;
}

/* The next size bytes of the selected item, zeros behind its end. */
static bool next_bytes(struct fw_cfg *f, uint8_t *out, size_t size)
{
    const struct item *i = selected(f);
    uint64_t left = f->position < i->size ? i->size - f->position : 0;
    size_t n = MIN(left, size);
    bool ok = true;
    memset(out, 0, size);
    if (n && i->bytes)
        memcpy(out, i->bytes + f->position, n);
    else if (n)
        ok = read_fd(i, f->position, out, n);
    f->position += n;
    return ok;
}

/* --- DMA --- */

/* length is at least 1. */
static bool dma_read(struct fw_cfg *f, uint64_t address, uint64_t length)
{
    struct mem *m = f->dev.wires.mem;
    uint8_t chunk[DMA_CHUNK];
    uint8_t *to = mem_dma(m, GPA(address), length, true);
    if (!to)
        return false;
    while (length) {
        size_t n = MIN(length, sizeof(chunk));
        if (!next_bytes(f, chunk, n))
            return false;
        mem_dma_write(m, to, chunk, n);
        to += n;
        length -= n;
    }
    return true;
}

/* The request's outcome. */
static uint32_t dma_perform(struct fw_cfg *f, uint32_t control, uint32_t length, uint64_t address)
{
    if (control & DMA_SELECT)
        select_key(f, (uint16_t)(control >> 16));
    const uint64_t size = selected(f)->size;
    if (!length)
        return 0;
    if (control & DMA_READ)
        return dma_read(f, address, length) ? 0 : DMA_ERROR;
    if (control & DMA_WRITE)
        return DMA_ERROR; /* there is nothing that may be written */
    if (control & DMA_SKIP && f->position < size)
        f->position += MIN(length, size - f->position);
    return 0;
}

static void dma(struct fw_cfg *f, uint64_t at)
{
    struct mem *m = f->dev.wires.mem;
    uint8_t request[DMA_REQUEST], answer[4];
    void *where = m ? mem_dma(m, GPA(at), sizeof(request), true) : NULL;
    if (!where)
        return;
    mem_dma_read(m, where, request, sizeof(request));
    st32be(answer, dma_perform(f, ld32be(request), ld32be(request + 4), ld64be(request + 8)));
    mem_dma_write(m, where, answer, sizeof(answer));
}

/* --- registers --- */

/* size bytes of a big-endian register as a little-endian access finds them. */
static uint64_t swapped(uint64_t value, unsigned size)
{
    return __builtin_bswap64(value) >> (64 - 8 * size);
}

static uint64_t fw_cfg_read(void *chip, uint64_t offset, unsigned size)
{
    struct fw_cfg *f = chip;
    uint8_t bytes[8] = {0};
    if (offset >= REG_DMA)
        return swapped(DMA_SIGNATURE >> 8 * (EXTENT - offset - size) & bits_mask(8 * size), size);
    if (offset >= REG_SELECTOR)
        return 0;
    device_lock(&f->dev);
    next_bytes(f, bytes, size);
    device_release(&f->dev);
    return ld64le(bytes);
}

static void fw_cfg_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    struct fw_cfg *f = chip;
    value = swapped(value, size);
    device_lock(&f->dev);
    if (offset == REG_SELECTOR && size == 2) {
        select_key(f, (uint16_t)value);
    } else if (offset == REG_DMA && size == 4) {
        f->dma_high = (uint32_t)value;
    } else if (offset == REG_DMA && size == 8) {
        f->dma_high = 0;
        dma(f, value);
    } else if (offset == REG_DMA + 4 && size == 4) {
        uint64_t high = f->dma_high;
        f->dma_high = 0;
        dma(f, high << 32 | value);
    }
    device_release(&f->dev);
}

static const struct bus_ops fw_cfg_ops = {fw_cfg_read, fw_cfg_write, .min_size = 1, .max_size = 8};

/* --- making items --- */

static void put(struct fw_cfg *f, unsigned key, struct item item)
{
    g_free(f->items[key].bytes);
    f->items[key] = item;
}

static struct item copied(const void *bytes, size_t size)
{
    return (struct item){.bytes = g_memdup2(bytes, size), .fd = -1, .size = size};
}

void fw_cfg_put(struct device *d, enum fw_cfg_key key, const void *bytes, size_t size)
{
    put(fw_cfg(d), key, copied(bytes, size));
}

void fw_cfg_put_number(struct device *d, enum fw_cfg_key key, uint64_t value, unsigned size)
{
    uint8_t bytes[8];
    st64le(bytes, value);
    fw_cfg_put(d, key, bytes, size);
}

void fw_cfg_put_fd(struct device *d, enum fw_cfg_key key, int fd, uint64_t size)
{
    put(fw_cfg(d), key, (struct item){.fd = fd, .size = size});
}

static void put_directory(struct fw_cfg *f)
{
    uint8_t bytes[DIR_COUNT + FW_CFG_FILES_MAX * DIR_ENTRY] = {0};
    st32be(bytes, f->files);
    for (unsigned i = 0; i < f->files; i++) {
        uint8_t *entry = bytes + DIR_COUNT + i * DIR_ENTRY;
        st32be(entry, (uint32_t)f->items[FW_CFG_FILE_FIRST + i].size);
        st16be(entry + DIR_SELECT, (uint16_t)(FW_CFG_FILE_FIRST + i));
        memcpy(entry + DIR_NAME, f->names[i], sizeof(f->names[i]));
    }
    put(f, FW_CFG_FILE_DIR, copied(bytes, DIR_COUNT + f->files * DIR_ENTRY));
}

static bool check_name(const struct fw_cfg *f, const char *name, GError **error)
{
    bool printable = *name;
    for (const char *c = name; *c; c++)
        printable = printable && g_ascii_isgraph(*c);
    if (!printable || strlen(name) > FW_CFG_NAME_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "fw_cfg: a file's name must be 1 to %d printable characters without spaces, such "
                           "as opt/org.example/x",
                           FW_CFG_NAME_MAX);
    for (unsigned i = 0; i < f->files; i++)
        if (!strcmp(f->names[i], name))
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "fw_cfg: %s is there already", name);
    return true;
}

bool fw_cfg_add_file(struct device *d, const char *name, const void *bytes, int fd, uint64_t size,
                     GError **error)
{
    struct fw_cfg *f = fw_cfg(d);
    if (!check_name(f, name, error))
        return false;
    if (f->files == FW_CFG_FILES_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "fw_cfg: %s is one more than the %d files there may be",
                           name, FW_CFG_FILES_MAX);
    if (size > UINT32_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "fw_cfg: %s is larger than the 4 GiB a file may have",
                           name);
    g_strlcpy(f->names[f->files], name, sizeof(f->names[0]));
    put(f, FW_CFG_FILE_FIRST + f->files, bytes ? copied(bytes, size) : (struct item){.fd = fd, .size = size});
    f->files++;
    put_directory(f);
    return true;
}

/* --- life --- */

static uint64_t fw_cfg_extent(const struct device *d)
{
    (void)d;
    return EXTENT;
}

static bool fw_cfg_init(struct device *d, GError **error)
{
    struct fw_cfg *f = fw_cfg(d);
    (void)error;
    for (unsigned i = 0; i < KEYS; i++)
        f->items[i].fd = -1;
    fw_cfg_put(d, FW_CFG_SIGNATURE, "QEMU", 4);
    fw_cfg_put_number(d, FW_CFG_ID, d->wires.mem ? ID_TRADITIONAL | ID_DMA : ID_TRADITIONAL, 4);
    put_directory(f);
    return true;
}

static void fw_cfg_destroy(struct device *d)
{
    struct fw_cfg *f = fw_cfg(d);
    for (unsigned i = 0; i < KEYS; i++)
        g_free(f->items[i].bytes);
}

static void fw_cfg_reset(struct device *d)
{
    struct fw_cfg *f = fw_cfg(d);
    select_key(f, FW_CFG_SIGNATURE);
    f->dma_high = 0;
}

static const struct state_field fw_cfg_state[] = {
    STATE_FIELD(fw_cfg, key, STATE_U16, 1),
    STATE_FIELD(fw_cfg, position, STATE_U64, 1),
    STATE_FIELD(fw_cfg, dma_high, STATE_U32, 1),
    {0},
};

const struct device_type device_fw_cfg = {
    .name = "fw-cfg",
    .help = "QEMU's firmware configuration: named items for the firmware",
    .size = sizeof(struct fw_cfg),
    .state = fw_cfg_state,
    .version = 1,
    .ops = &fw_cfg_ops,
    .init = fw_cfg_init,
    .extent = fw_cfg_extent,
    .reset = fw_cfg_reset,
    .destroy = fw_cfg_destroy,
};
