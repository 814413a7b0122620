/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Fills riscv-virt's memory for a start: firmware, kernel, initrd, device tree, reset vector; and points the
 * harts at it. */
/*
 * Theory of operation
 *
 * Without a firmware file, hart 0 starts in S-mode at the kernel's entry with a0 = hart id, a1 = device tree,
 * as SBI says of a supervisor's start; the others wait for HSM. With one, all harts start in M-mode at the
 * reset vector in ROM, which loads a0 = hart id, a1 = device tree, a2 = the structure that OpenSBI's
 * fw_dynamic reads, and jumps to the firmware. A bank of flash may stand for the kernel (its entry is its
 * beginning) or for the firmware; a kernel is then not loaded, but flash finds it in fw_cfg.
 *
 *     0x80000000             firmware (raw; an ELF file says itself)
 *     0x80200000             kernel: at its text_offset, or at the next 2 MiB behind the firmware
 *     kernel + half of RAM   initrd (at most 128 MiB behind the kernel's start; elsewhere when that does not
 * fit) near 3 GiB or the end  device tree, 2 MiB aligned, where 32-bit addresses reach it
 *
 * The files are read again at each reset, through descriptors that were opened before.
 */
#include "board/riscv_virt.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "board/image.h"
#include "device/pflash.h"
#include "isa/riscv/cpu.h"

#define BOOT_KERNEL_ALIGN (2 * MiB)
#define BOOT_INITRD_MAX_DISTANCE (128 * MiB)
#define BOOT_DTB_TOP (3 * GiB)
#define BOOT_DTB_ALIGN (2 * MiB)
#define BOOT_DTB_ROOM (64 * KiB) /* beside the command line */
#define BOOT_UNPACKED_MAX (1 * GiB)

enum { REG_A0 = RISCV_REG_X0 + 10, REG_A1 = RISCV_REG_X0 + 11 };

struct range {
    uint64_t start, size; /* size 0: nothing there */
};

struct boot {
    struct machine *m;
    struct range firmware, kernel, initrd, dtb;
    uint64_t firmware_entry, kernel_entry;
};

static uint64_t range_end(const struct range *r)
{
    return r->start + r->size;
}

/* --- files --- */

/* The size of an open regular file that is not empty. */
static bool file_size(int fd, const char *name, uint64_t *size, GError **error)
{
    struct stat st;
    if (fstat(fd, &st))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be examined: %s", name, g_strerror(errno));
    if (!S_ISREG(st.st_mode))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s is not a regular file (each reset reads it again)",
                           name);
    if (!st.st_size)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s is empty", name);
    *size = (uint64_t)st.st_size;
    return true;
}

static bool file_read(int fd, const char *name, uint64_t offset, uint8_t *bytes, size_t size, GError **error)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, bytes + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be read: %s", name, g_strerror(errno));
        if (!n)
            return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: became shorter while it was read", name);
        done += (size_t)n;
    }
    return true;
}

static uint64_t dtb_room(const struct machine *m)
{
    return align_up(BOOT_DTB_ROOM + strlen(m->config.append), MEM_PAGE_SIZE);
}

/* "Too little memory" in one form, with an amount that will do for everything. end: of what is or was to be
 * loaded, from the start of RAM; initrd and device tree come on top. */
static bool fail_memory(const struct boot *b, const char *name, uint64_t end, GError **error)
{
    const struct machine_config *c = &b->m->config;
    uint64_t initrd = 0;
    if (c->initrd_fd >= 0 && !file_size(c->initrd_fd, c->initrd_name, &initrd, error))
        return false;
    uint64_t needed = end + align_up(initrd, MEM_PAGE_SIZE) + dtb_room(b->m) + BOOT_DTB_ALIGN;
    return hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "%s does not fit: the guest has %" PRIu64 " MiB of memory, at least %" PRIu64
                       " MiB are needed",
                       name, c->memory / MiB, align_up(needed, MiB) / MiB);
}

/* The whole file, unpacked. The caller owns *out. */
static bool file_load(const struct boot *b, int fd, const char *name, uint8_t **out, size_t *out_size,
                      bool *packed, GError **error)
{
    uint64_t size;
    size_t cap = MIN(b->m->config.memory, BOOT_UNPACKED_MAX);
    if (!file_size(fd, name, &size, error))
        return false;
    if (size > cap)
        return fail_memory(b, name, size + BOOT_KERNEL_ALIGN, error);
    g_autofree uint8_t *bytes = g_try_malloc(size);
    if (!bytes)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: no host memory to read it", name);
    if (!file_read(fd, name, 0, bytes, size, error) ||
        !image_unpack(name, bytes, size, cap, out, out_size, error))
        return false;
    *packed = *out;
    if (!*out) {
        *out = g_steal_pointer(&bytes);
        *out_size = size;
    }
    return true;
}

/* --- placing --- */

static bool in_ram(const struct boot *b, uint64_t start, uint64_t size)
{
    return range_inside(start, size, VIRT_DRAM, b->m->config.memory);
}

/* Zeroes what an earlier boot may have left. RAM is zero at first, and pages nobody touched cost nothing. */
static void zero(const struct boot *b, uint64_t start, uint64_t size)
{
    static const uint8_t zeros[4096];
    while (b->m->booted && size) {
        uint64_t n = MIN(size, sizeof(zeros));
        mem_write(b->m->mem, GPA(start), zeros, n);
        start += n;
        size -= n;
    }
}

/* Copies the image's segments to address + shift. *where: from the first byte to the last. */
static bool place(const struct boot *b, const char *name, const uint8_t *bytes, const struct image *image,
                  uint64_t shift, struct range *where, GError **error)
{
    uint64_t low = UINT64_MAX, high = 0;
    for (unsigned i = 0; i < image->count; i++) {
        const struct image_segment *s = &image->segment[i];
        uint64_t at = s->address + shift;
        if (at < VIRT_DRAM || at > VIRT_DRAM + b->m->board->max_memory ||
            s->mem_size > b->m->board->max_memory)
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s wants to be loaded at 0x%" PRIx64 " (0x%" PRIx64
                               " bytes), where there is no memory: "
                               "memory begins at 0x%" PRIx64,
                               name, at, s->mem_size, VIRT_DRAM);
        if (!in_ram(b, at, s->mem_size))
            return fail_memory(b, name, at - VIRT_DRAM + s->mem_size, error);
        low = MIN(low, at);
        high = MAX(high, at + s->mem_size);
    }
    for (unsigned i = 0; i < image->count; i++) {
        const struct image_segment *s = &image->segment[i];
        mem_write(b->m->mem, GPA(s->address + shift), bytes + s->offset, s->file_size);
        zero(b, s->address + shift + s->file_size, s->mem_size - s->file_size);
    }
    *where = (struct range){low, high - low};
    return true;
}

static uint64_t lowest(const struct image *image)
{
    uint64_t low = UINT64_MAX;
    for (unsigned i = 0; i < image->count; i++)
        low = MIN(low, image->segment[i].address);
    return low;
}

static bool load_firmware(struct boot *b, GError **error)
{
    const struct machine_config *c = &b->m->config;
    g_autofree uint8_t *bytes = NULL;
    size_t size = 0;
    bool packed = false;
    if (c->firmware_fd < 0)
        return true;
    if (!file_load(b, c->firmware_fd, c->firmware_name, &bytes, &size, &packed, error))
        return false;
    struct image image = {.count = 1, .entry = VIRT_DRAM, .segment[0] = {0, size, VIRT_DRAM, size}};
    if (image_is_elf(bytes, size) && !image_parse_elf(c->firmware_name, bytes, size, &image, error))
        return false;
    /* OpenSBI's ELF files are position-independent and begin at 0. */
    uint64_t low = lowest(&image), shift = image.relocates && low < VIRT_DRAM ? VIRT_DRAM - low : 0;
    b->firmware_entry = image.entry + shift;
    return place(b, c->firmware_name, bytes, &image, shift, &b->firmware, error);
}

/* What to add to the image's addresses. A Linux Image goes to its offset from the start of RAM, or as near
 * behind the firmware as its alignment allows; an ELF file where it says, unless that is below RAM (vmlinux
 * says 0). */
static uint64_t kernel_shift(const struct boot *b, const struct image *image)
{
    uint64_t free = VIRT_DRAM, low = lowest(image);
    if (b->firmware.size)
        free = align_up(MAX(range_end(&b->firmware), VIRT_DRAM + 1), BOOT_KERNEL_ALIGN);
    if (image->position_free)
        return b->firmware.size ? free - low : VIRT_DRAM;
    return low >= VIRT_DRAM ? 0 : MAX(free, VIRT_DRAM + BOOT_KERNEL_ALIGN) - low;
}

static bool load_kernel(struct boot *b, GError **error)
{
    const struct machine_config *c = &b->m->config;
    g_autofree uint8_t *bytes = NULL;
    g_autofree char *inside = NULL;
    struct image image;
    size_t size = 0;
    unsigned bank;
    bool packed = false;
    if (machine_flash_start(c, &bank)) {
        b->kernel_entry = VIRT_FLASH + bank * PFLASH_SIZE;
        return true;
    }
    if (c->kernel_fd < 0)
        return true;
    if (!file_load(b, c->kernel_fd, c->kernel_name, &bytes, &size, &packed, error))
        return false;
    if (packed)
        inside = g_strdup_printf("%s (unpacked)", c->kernel_name);
    const char *name = inside ? inside : c->kernel_name;
    if (b->firmware.size ? !image_parse_payload(name, bytes, size, &image, error)
                         : !image_parse_kernel(name, bytes, size, &image, error))
        return false;
    uint64_t shift = kernel_shift(b, &image);
    b->kernel_entry = image.entry + shift;
    if (!place(b, name, bytes, &image, shift, &b->kernel, error))
        return false;
    if (ranges_overlap(b->kernel.start, b->kernel.size, b->firmware.start, b->firmware.size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s and %s want the same memory, at 0x%" PRIx64, name,
                           c->firmware_name, b->kernel.start);
    return true;
}

/* The end of what was loaded from the start of RAM on. */
static uint64_t loaded_end(const struct boot *b)
{
    return MAX(MAX(range_end(&b->kernel), range_end(&b->firmware)), VIRT_DRAM);
}

static bool overlaps_loaded(const struct boot *b, uint64_t start, uint64_t size)
{
    return ranges_overlap(start, size, b->kernel.start, b->kernel.size) ||
           ranges_overlap(start, size, b->firmware.start, b->firmware.size);
}

/* Reserves the device tree's place. */
static bool place_dtb(struct boot *b, GError **error)
{
    uint64_t top = MIN(VIRT_DRAM + b->m->config.memory, BOOT_DTB_TOP);
    b->dtb.size = dtb_room(b->m);
    if (b->dtb.size <= top - VIRT_DRAM) {
        b->dtb.start = align_down(top - b->dtb.size, BOOT_DTB_ALIGN);
        if (b->dtb.start < VIRT_DRAM || overlaps_loaded(b, b->dtb.start, b->dtb.size))
            b->dtb.start = align_down(top - b->dtb.size, MEM_PAGE_SIZE); /* little memory */
        if (!overlaps_loaded(b, b->dtb.start, b->dtb.size))
            return true;
    }
    return fail_memory(b, b->kernel.size ? b->m->config.kernel_name : b->m->config.firmware_name,
                       loaded_end(b) - VIRT_DRAM, error);
}

/* A place for size bytes between kernel and device tree, or above both. False: none. */
static bool find_initrd_place(const struct boot *b, uint64_t size, uint64_t *at)
{
    uint64_t memory = b->m->config.memory, free = loaded_end(b), above = range_end(&b->dtb);
    uint64_t usual = b->kernel.start + MIN(memory / 2, BOOT_INITRD_MAX_DISTANCE);
    uint64_t candidates[] = {align_up(MAX(usual, free), BOOT_KERNEL_ALIGN), align_up(free, MEM_PAGE_SIZE)};
    for (unsigned i = 0; i < ARRAY_SIZE(candidates); i++)
        if (range_inside(candidates[i], size, free, b->dtb.start > free ? b->dtb.start - free : 0)) {
            *at = candidates[i];
            return true;
        }
    *at = align_up(MAX(above, free), MEM_PAGE_SIZE);
    return in_ram(b, *at, size);
}

static bool load_initrd(struct boot *b, GError **error)
{
    enum { CHUNK = 256 << 10 };
    const struct machine_config *c = &b->m->config;
    uint64_t size;
    if (c->initrd_fd < 0 || !b->kernel.size) /* flash takes it from fw_cfg */
        return true;
    if (!file_size(c->initrd_fd, c->initrd_name, &size, error))
        return false;
    if (size > c->memory || !find_initrd_place(b, size, &b->initrd.start))
        return fail_memory(b, c->initrd_name, loaded_end(b) - VIRT_DRAM, error);
    b->initrd.size = size;
    g_autofree uint8_t *chunk = g_malloc(CHUNK);
    for (uint64_t done = 0; done < size;) {
        uint64_t n = MIN(size - done, (uint64_t)CHUNK);
        if (!file_read(c->initrd_fd, c->initrd_name, done, chunk, n, error))
            return false;
        mem_write(b->m->mem, GPA(b->initrd.start + done), chunk, n);
        done += n;
    }
    return true;
}

static bool load_dtb(struct boot *b, GError **error)
{
    const struct riscv_layout layout = {.initrd = b->initrd.start, .initrd_size = b->initrd.size};
    size_t size;
    g_autofree void *blob = riscv_fdt(b->m, &layout, &size);
    if (!blob || size > b->dtb.size)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "the kernel command line is too long (%zu characters)",
                           strlen(b->m->config.append));
    mem_write(b->m->mem, GPA(b->dtb.start), blob, size);
    return true;
}

/* --- start --- */

/* The reset vector, and behind it its data: entry, device tree, and what fw_dynamic reads (OpenSBI,
 * docs/firmware/fw_dynamic.md). */
static void write_rom(const struct boot *b)
{
    enum { CODE = 6 * 4, INFO_MAGIC = 0x4942534f, INFO_VERSION = 2, NEXT_MODE_S = 1, WORDS = 8 };
    static const uint32_t code[CODE / 4] = {
        0x00000297, /* auipc t0, 0          */
        0x02828613, /* addi  a2, t0, 40     the structure */
        0xf1402573, /* csrr  a0, mhartid    */
        0x0202b583, /* ld    a1, 32(t0)     device tree */
        0x0182b283, /* ld    t0, 24(t0)     entry */
        0x00028067, /* jr    t0             */
    };
    const uint64_t data[WORDS] = {
        b->firmware.size ? b->firmware_entry : b->kernel_entry,
        b->dtb.start,
        INFO_MAGIC,
        INFO_VERSION,
        b->kernel_entry,
        NEXT_MODE_S,
        0, /* options */
        0, /* the hart that boots, where several could */
    };
    uint8_t rom[CODE + WORDS * 8];
    for (unsigned i = 0; i < ARRAY_SIZE(code); i++)
        st32le(rom + i * 4, code[i]);
    for (unsigned i = 0; i < WORDS; i++)
        st64le(rom + CODE + i * 8, data[i]);
    mem_write(b->m->mem, GPA(VIRT_ROM), rom, sizeof(rom));
}

static void start_harts(const struct boot *b)
{
    struct vcpus *vcpus = b->m->vcpus;
    if (riscv_virt_is_builtin(b->m)) {
        struct env *env = vcpus_env(vcpus, 0);
        env->pc = b->kernel_entry;
        env->reg[REG_A0] = 0;
        env->reg[REG_A1] = b->dtb.start;
        return;
    }
    for (unsigned i = 0; i < vcpus_count(vcpus); i++) {
        vcpus_env(vcpus, i)->pc = VIRT_ROM;
        vcpus_online(vcpus, i, NULL, NULL);
    }
}

bool riscv_boot(struct machine *m, GError **error)
{
    struct boot b = {.m = m};
    if (!load_firmware(&b, error) || !load_kernel(&b, error) || !place_dtb(&b, error) ||
        !load_initrd(&b, error) || !load_dtb(&b, error))
        return false;
    write_rom(&b);
    start_harts(&b);
    log_debug(LOG_BOARD,
              "kernel at 0x%" PRIx64 " (%" PRIu64 " KiB), entry 0x%" PRIx64 ", initrd at 0x%" PRIx64
              " (%" PRIu64 " KiB), device tree at 0x%" PRIx64,
              b.kernel.start, b.kernel.size / KiB, b.kernel_entry, b.initrd.start, b.initrd.size / KiB,
              b.dtb.start);
    return true;
}
