/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Recognizes kernels and firmware: Linux's RISC-V Image header, EFI zboot, gzip, ELF; and names everything
 * else. */
#include "board/image.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "codec/gunzip.h"

/* The boot image header of Linux's Documentation/arch/riscv/boot-image-header.rst. */
enum {
    LINUX_TEXT_OFFSET = 8, /* from the start of RAM */
    LINUX_IMAGE_SIZE =
        16, /* with everything the kernel uses before it knows its memory; 0 in very old kernels */
    LINUX_MAGIC = 0x38, /* "RSC\x05"; arm64's header has "ARM\x64" at the same place */
    LINUX_HEADER = 64,
};

/* drivers/firmware/efi/libstub/zboot-header.S */
enum { ZBOOT_MAGIC = 4, ZBOOT_OFFSET = 8, ZBOOT_SIZE = 12, ZBOOT_METHOD = 24, ZBOOT_HEADER = 64 };

static bool has(const uint8_t *bytes, size_t size, size_t at, const char *magic, size_t length)
{
    return size >= at + length && !memcmp(bytes + at, magic, length);
}

/* has() for a literal, which may contain zeros. */
#define HAS(at, magic) has(bytes, size, at, magic, sizeof(magic) - 1)

/* --- what a file is, in words --- */

static const char unknown[] = "data of no known kind";

static const char *elf_machine(unsigned machine, char *buffer, size_t size)
{
    static const struct {
        uint16_t machine;
        const char *name;
    } names[] = {{EM_386, "32-bit x86"}, {EM_X86_64, "x86-64"},
                 {EM_ARM, "32-bit Arm"}, {EM_AARCH64, "arm64"},
                 {EM_RISCV, "RISC-V"},   {EM_PPC64, "64-bit POWER"},
                 {EM_S390, "s390"},      {EM_MIPS, "MIPS"},
                 {EM_SPARCV9, "SPARC"},  {258 /* EM_LOONGARCH */, "LoongArch"}};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
        if (names[i].machine == machine)
            return names[i].name;
    g_snprintf(buffer, size, "machine number %u", machine);
    return buffer;
}

static const char *describe_elf(const uint8_t *bytes, size_t size, char *buffer, size_t buffer_size)
{
    char number[32];
    if (size < sizeof(Elf32_Ehdr))
        return "the beginning of an ELF file";
    bool big = bytes[EI_DATA] == ELFDATA2MSB;
    unsigned machine = big ? ld16be(bytes + 18) : ld16le(bytes + 18);
    const char *bits = bytes[EI_CLASS] == ELFCLASS32 ? "a 32-bit" : "an";
    g_snprintf(buffer, buffer_size, "%s ELF file for %s", bits, elf_machine(machine, number, sizeof(number)));
    return buffer;
}

const char *image_describe(const uint8_t *bytes, size_t size, char *buffer, size_t buffer_size)
{
    static const struct {
        size_t at;
        const char *magic;
        size_t length;
        const char *what;
    } magics[] = {
        {LINUX_MAGIC, "RSC\x05", 4, "a RISC-V kernel"},
        {LINUX_MAGIC, "ARM\x64", 4, "an arm64 kernel"},
        {0x202, "HdrS", 4, "an x86 kernel (bzImage)"},
        {ZBOOT_MAGIC, "zimg", 4, "a packed EFI kernel (zboot)"},
        {0, "MZ", 2, "an EFI or Windows program"},
        {0, "\x1f\x8b", 2, "gzip data"},
        {0,
         "\xfd"
         "7zXZ",
         5, "xz data"},
        {0, "\x28\xb5\x2f\xfd", 4, "zstd data"},
        {0, "BZh", 3, "bzip2 data"},
        {0, "\x02\x21\x4c\x18", 4, "lz4 data"},
        {0, "070701", 6, "an initramfs (cpio archive)"},
        {0, "\x27\x05\x19\x56", 4, "a U-Boot image (uImage)"},
        {0, "\xd0\x0d\xfe\xed", 4, "a device tree or FIT image"},
        {0, "QFI\xfb", 4, "a qcow2 disk image"},
        {0, "!<arch>\n", 8, "a Debian package or static library"},
        {0, "#!", 2, "a script"},
        {0x8001, "CD001", 5, "an ISO 9660 disc image"},
    };
    if (!size)
        return "empty";
    if (image_is_elf(bytes, size))
        return describe_elf(bytes, size, buffer, buffer_size);
    for (unsigned i = 0; i < G_N_ELEMENTS(magics); i++)
        if (has(bytes, size, magics[i].at, magics[i].magic, magics[i].length))
            return magics[i].what;
    for (size_t i = 0; i < MIN(size, 512); i++)
        if (!g_ascii_isprint((char)bytes[i]) && !g_ascii_isspace((char)bytes[i]))
            return unknown;
    return "text";
}

/* --- wrappings --- */

static bool unpack_gzip(const char *name, const uint8_t *bytes, size_t size, size_t cap, uint8_t **out,
                        size_t *out_size, GError **error)
{
    switch (codec_gunzip(bytes, size, cap, out, out_size)) {
    case 0: return true;
    case -ENODATA:
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the gzip data is cut off; copy the file again",
                           name);
    case -EFBIG:
        return hostel_fail(
            error, HOSTEL_ERROR_INPUT,
            "%s: unpacks to more than the %zu MiB that fit the guest's memory; give it more memory", name,
            cap >> 20);
    case -ENOMEM: return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: no host memory to unpack it", name);
    default:
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the gzip data is damaged; copy the file again",
                           name);
    }
}

static bool unpack_zboot(const char *name, const uint8_t *bytes, size_t size, size_t cap, uint8_t **out,
                         size_t *out_size, GError **error)
{
    uint32_t offset = ld32le(bytes + ZBOOT_OFFSET), packed = ld32le(bytes + ZBOOT_SIZE);
    char method[9] = "";
    memcpy(method, bytes + ZBOOT_METHOD, sizeof(method) - 1);
    if (!range_inside(offset, packed, 0, size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: an EFI zboot kernel of at least %" PRIu64
                           " bytes, cut off at %zu; copy the file again",
                           name, (uint64_t)offset + packed, size);
    if (strcmp(method, "gzip") != 0) {
        for (char *c = method; *c; c++)
            *c = g_ascii_isprint(*c) ? *c : '?';
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: an EFI zboot kernel packed with \"%s\", only gzip can be unpacked; unpack it first", name,
            method);
    }
    return unpack_gzip(name, bytes + offset, packed, cap, out, out_size, error);
}

bool image_unpack(const char *name, const uint8_t *bytes, size_t size, size_t cap, uint8_t **out,
                  size_t *out_size, GError **error)
{
    *out = NULL;
    if (size >= ZBOOT_HEADER && HAS(0, "MZ") && HAS(ZBOOT_MAGIC, "zimg"))
        return unpack_zboot(name, bytes, size, cap, out, out_size, error);
    if (HAS(0, "\x1f\x8b"))
        return unpack_gzip(name, bytes, size, cap, out, out_size, error);
    return true;
}

/* --- ELF --- */

bool image_is_elf(const uint8_t *bytes, size_t size)
{
    return HAS(0, ELFMAG);
}

/* Takes a PT_LOAD header into the image. *virt: its virtual address. */
static bool add_segment(const char *name, const uint8_t *ph, size_t size, struct image *out, uint64_t *virt,
                        GError **error)
{
    struct image_segment s = {
        .offset = ld64le(ph + offsetof(Elf64_Phdr, p_offset)),
        .file_size = ld64le(ph + offsetof(Elf64_Phdr, p_filesz)),
        .address = ld64le(ph + offsetof(Elf64_Phdr, p_paddr)),
        .mem_size = ld64le(ph + offsetof(Elf64_Phdr, p_memsz)),
    };
    uint64_t end;
    *virt = ld64le(ph + offsetof(Elf64_Phdr, p_vaddr));
    if (!range_inside(s.offset, s.file_size, 0, size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the ELF file is cut off: a segment of %" PRIu64 " bytes at %" PRIu64
                           ", but the file has %zu",
                           name, s.file_size, s.offset, size);
    if (s.mem_size < s.file_size || ckd_add(&end, s.address, s.mem_size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the ELF file has an impossible segment at 0x%" PRIx64, name, s.address);
    if (out->count == IMAGE_MAX_SEGMENTS)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the ELF file has more than %d segments to load",
                           name, IMAGE_MAX_SEGMENTS);
    out->segment[out->count++] = s;
    return true;
}

static bool check_elf_header(const char *name, const uint8_t *bytes, size_t size, GError **error)
{
    char what[64];
    if (size < sizeof(Elf64_Ehdr))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the ELF file is cut off at %zu bytes", name, size);
    if (bytes[EI_CLASS] != ELFCLASS64 || bytes[EI_DATA] != ELFDATA2LSB ||
        ld16le(bytes + offsetof(Elf64_Ehdr, e_machine)) != EM_RISCV)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: %s, expected one for 64-bit RISC-V", name,
                           image_describe(bytes, size, what, sizeof(what)));
    if (ld16le(bytes + offsetof(Elf64_Ehdr, e_type)) != ET_EXEC &&
        ld16le(bytes + offsetof(Elf64_Ehdr, e_type)) != ET_DYN)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the ELF file is not linked (an object file or a core dump)", name);
    if (ld16le(bytes + offsetof(Elf64_Ehdr, e_phentsize)) != sizeof(Elf64_Phdr))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the ELF file has program headers of a strange size", name);
    return true;
}

bool image_parse_elf(const char *name, const uint8_t *bytes, size_t size, struct image *out, GError **error)
{
    *out = (struct image){.position_free = false};
    if (!check_elf_header(name, bytes, size, error))
        return false;
    uint64_t table = ld64le(bytes + offsetof(Elf64_Ehdr, e_phoff)),
             entry = ld64le(bytes + offsetof(Elf64_Ehdr, e_entry));
    unsigned count = ld16le(bytes + offsetof(Elf64_Ehdr, e_phnum));
    if (!range_inside(table, (uint64_t)count * sizeof(Elf64_Phdr), 0, size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the ELF file is cut off in its program headers",
                           name);
    out->entry = entry;
    out->relocates = ld16le(bytes + offsetof(Elf64_Ehdr, e_type)) == ET_DYN;
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *ph = bytes + table + i * sizeof(Elf64_Phdr);
        uint64_t virt;
        if (ld32le(ph) != PT_LOAD || !ld64le(ph + offsetof(Elf64_Phdr, p_memsz)))
            continue;
        if (!add_segment(name, ph, size, out, &virt, error))
            return false;
        /* A kernel's entry is a virtual address: translation is off when it starts. */
        const struct image_segment *s = &out->segment[out->count - 1];
        if (entry >= virt && entry - virt < s->mem_size)
            out->entry = s->address + (entry - virt);
    }
    if (!out->count)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the ELF file has nothing to load", name);
    return true;
}

/* --- Linux --- */

/* Bytes the file must have by its PE section table; 0 when there is none that makes sense. A kernel with EFI
 * stub is a PE file, and this alone tells a cut-off one: the Image header counts memory, not bytes. */
static uint64_t pe_extent(const uint8_t *bytes, size_t size)
{
    enum {
        PE_POINTER = 0x3c,
        PE_SECTIONS = 6,
        PE_OPTIONAL_SIZE = 20,
        PE_HEADER = 24,
        SECTION = 40,
        RAW_SIZE = 16
    };
    uint64_t pe = ld32le(bytes + PE_POINTER), extent = 0;
    if (!range_inside(pe, PE_HEADER, 0, size) || memcmp(bytes + pe, "PE\0\0", 4) != 0)
        return 0;
    unsigned count = ld16le(bytes + pe + PE_SECTIONS);
    uint64_t table = pe + PE_HEADER + ld16le(bytes + pe + PE_OPTIONAL_SIZE);
    for (unsigned i = 0; i < count && range_inside(table + i * SECTION, SECTION, 0, size); i++) {
        const uint8_t *raw = bytes + table + i * SECTION + RAW_SIZE;
        uint64_t end = (uint64_t)ld32le(raw) + ld32le(raw + 4);
        extent = MAX(extent, end);
    }
    return extent;
}

static bool parse_linux(const char *name, const uint8_t *bytes, size_t size, struct image *out,
                        GError **error)
{
    uint64_t text_offset = ld64le(bytes + LINUX_TEXT_OFFSET), image_size = ld64le(bytes + LINUX_IMAGE_SIZE),
             end;
    uint64_t extent = HAS(0, "MZ") ? pe_extent(bytes, size) : 0;
    if (extent > size)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: a RISC-V kernel of %" PRIu64 " bytes, cut off at %zu; copy the file again",
                           name, extent, size);
    if (image_size < size)
        image_size = size;
    if (ckd_add(&end, text_offset, image_size) || text_offset & 0xfff)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the kernel's header is damaged: load offset 0x%" PRIx64 ", size 0x%" PRIx64,
                           name, text_offset, image_size);
    *out = (struct image){.position_free = true, .entry = text_offset, .count = 1};
    out->segment[0] = (struct image_segment){
        .offset = 0, .file_size = size, .address = text_offset, .mem_size = image_size};
    return true;
}

static bool is_kernel(const uint8_t *bytes, size_t size)
{
    return image_is_elf(bytes, size) || (size >= LINUX_HEADER && HAS(LINUX_MAGIC, "RSC\x05"));
}

bool image_parse_payload(const char *name, const uint8_t *bytes, size_t size, struct image *out,
                         GError **error)
{
    char what[64];
    if (is_kernel(bytes, size))
        return image_parse_kernel(name, bytes, size, out, error);
    const char *is = image_describe(bytes, size, what, sizeof(what));
    if (is != unknown)
        return hostel_fail(
            error, HOSTEL_ERROR_INPUT,
            "%s is nothing that firmware could start: it is %s; expected a kernel, an ELF file "
            "or a raw binary such as u-boot.bin",
            name, is);
    *out = (struct image){.position_free = true, .count = 1};
    out->segment[0] = (struct image_segment){.file_size = size, .mem_size = size};
    return true;
}

bool image_parse_kernel(const char *name, const uint8_t *bytes, size_t size, struct image *out,
                        GError **error)
{
    char what[64];
    if (image_is_elf(bytes, size))
        return image_parse_elf(name, bytes, size, out, error);
    if (is_kernel(bytes, size))
        return parse_linux(name, bytes, size, out, error);
    return hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "%s is not a RISC-V kernel: it is %s; expected a Linux Image, Image.gz or ELF file",
                       name, image_describe(bytes, size, what, sizeof(what)));
}
