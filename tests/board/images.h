/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Generated kernels and firmware for the board's tests. */
#ifndef HOSTEL_TESTS_BOARD_IMAGES_H
#define HOSTEL_TESTS_BOARD_IMAGES_H

#include <elf.h>
#include <glib.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "base/byteorder.h"

static inline GByteArray *make_bytes(size_t size, uint8_t fill)
{
    GByteArray *a = g_byte_array_new();
    g_byte_array_set_size(a, (guint)size);
    memset(a->data, fill, size);
    return a;
}

/* A Linux Image with the header alone; memory: image_size. */
static inline GByteArray *make_image(size_t size, uint64_t text_offset, uint64_t memory)
{
    GByteArray *a = make_bytes(size, 0x5a);
    memset(a->data, 0, 64);
    memcpy(a->data, "MZ", 2);
    st64le(a->data + 8, text_offset);
    st64le(a->data + 16, memory);
    memcpy(a->data + 0x30, "RISCV\0\0\0RSC\x05", 12);
    return a;
}

/* An ELF file with one segment of size bytes; the entry is its fifth byte. */
static inline GByteArray *make_elf(uint64_t virt, uint64_t phys, size_t size, uint64_t memory)
{
    GByteArray *a = make_bytes(sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + size, 0xa5);
    Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                         .e_type = ET_EXEC,
                         .e_machine = EM_RISCV,
                         .e_version = EV_CURRENT,
                         .e_entry = virt + 4,
                         .e_phoff = sizeof(Elf64_Ehdr),
                         .e_ehsize = sizeof(Elf64_Ehdr),
                         .e_phentsize = sizeof(Elf64_Phdr),
                         .e_phnum = 1};
    Elf64_Phdr segment = {.p_type = PT_LOAD,
                          .p_offset = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr),
                          .p_vaddr = virt,
                          .p_paddr = phys,
                          .p_filesz = size,
                          .p_memsz = memory};
    memcpy(a->data, &header, sizeof(header));
    memcpy(a->data + sizeof(header), &segment, sizeof(segment));
    return a;
}

static inline GByteArray *make_gzip(const GByteArray *in)
{
    GByteArray *out = g_byte_array_new();
    z_stream z = {0};
    g_assert_cmpint(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), ==, Z_OK);
    g_byte_array_set_size(out, (guint)deflateBound(&z, in->len) + 32);
    z.next_in = in->data;
    z.avail_in = in->len;
    z.next_out = out->data;
    z.avail_out = out->len;
    g_assert_cmpint(deflate(&z, Z_FINISH), ==, Z_STREAM_END);
    g_byte_array_set_size(out, (guint)z.total_out);
    deflateEnd(&z);
    return out;
}

static inline GByteArray *make_zboot(const GByteArray *payload, const char *method)
{
    GByteArray *a = make_bytes(64, 0);
    memcpy(a->data, "MZ\0\0zimg", 8);
    st32le(a->data + 8, 64);
    st32le(a->data + 12, payload->len);
    g_strlcpy((char *)a->data + 24, method, 32);
    g_byte_array_append(a, payload->data, payload->len);
    return a;
}

/* The bytes as an open file; -1 for NULL. */
static inline int make_file(const GByteArray *bytes)
{
    if (!bytes)
        return -1;
    int fd = memfd_create("test", MFD_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, bytes->data, bytes->len), ==, bytes->len);
    return fd;
}

#endif
