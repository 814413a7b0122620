/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Kernel and firmware files: what is taken, how it is measured, and what is said of the rest. */
#include "base/error.h"
#include "board/image.h"
#include "images.h"

/* Parses as a kernel; the message must contain `says`, or it must be taken when says is NULL. */
static void check(const char *what, GByteArray *bytes, const char *says)
{
    struct image image;
    GError *error = NULL;
    g_autofree uint8_t *out = NULL;
    size_t size = bytes->len;
    bool ok = image_unpack("file", bytes->data, bytes->len, 1 << 20, &out, &size, &error) &&
              image_parse_kernel("file", out ? out : bytes->data, out ? size : bytes->len, &image, &error);
    g_test_message("%s: %s", what, ok ? "taken" : error->message);
    g_assert_true(ok == !says);
    if (says) {
        g_assert_true(error->domain == HOSTEL_ERROR);
        g_assert_nonnull(strstr(error->message, says));
        g_assert_null(strchr(error->message, '\n'));
    }
    g_clear_error(&error);
    g_byte_array_unref(bytes);
}

static GByteArray *text(const char *s)
{
    return g_byte_array_append(g_byte_array_new(), (const uint8_t *)s, (guint)strlen(s));
}

/* A file with a magic number somewhere. */
static GByteArray *magic(size_t at, const char *bytes, size_t size)
{
    GByteArray *a = make_bytes(at + size + 64, 0);
    memcpy(a->data + at, bytes, size);
    return a;
}

static void test_accepts(void)
{
    struct image image;
    GError *error = NULL;
    g_autoptr(GByteArray) linux_image = make_image(5000, 0x200000, 123456);
    g_assert_true(image_parse_kernel("k", linux_image->data, linux_image->len, &image, &error));
    g_assert_true(image.position_free);
    g_assert_cmphex(image.entry, ==, 0x200000);
    g_assert_cmpuint(image.segment[0].file_size, ==, 5000);
    g_assert_cmpuint(image.segment[0].mem_size, ==, 123456);
    g_autoptr(GByteArray) elf = make_elf(UINT64_C(0xffffffff80000000), 0x80200000, 100, 300);
    g_assert_true(image_parse_kernel("k", elf->data, elf->len, &image, &error));
    g_assert_false(image.position_free);
    g_assert_cmphex(image.entry, ==, 0x80200004); /* physical */
    g_assert_cmpuint(image.segment[0].file_size, ==, 100);
    g_assert_cmpuint(image.segment[0].mem_size, ==, 300);
    check("gzip", make_gzip(linux_image), NULL);
    g_autoptr(GByteArray) z = make_gzip(linux_image);
    check("zboot", make_zboot(z, "gzip"), NULL);
}

static void test_refuses_others(void)
{
    check("empty", g_byte_array_new(), "empty");
    check("text", text("hello, world\n"), "it is text");
    check("script", text("#!/bin/sh\necho\n"), "a script");
    check("x86", magic(0x202, "HdrS", 4), "an x86 kernel");
    check("arm64", magic(0x38, "ARM\x64", 4), "an arm64 kernel");
    check("xz",
          magic(0,
                "\xfd"
                "7zXZ",
                5),
          "xz data");
    check("zstd", magic(0, "\x28\xb5\x2f\xfd", 4), "zstd data");
    check("cpio", magic(0, "070701", 6), "initramfs");
    check("uImage", magic(0, "\x27\x05\x19\x56", 4), "U-Boot");
    check("zeros", make_bytes(1000, 0), "data of no known kind");
    check("efi", magic(0, "MZ", 2), "an EFI");
    g_autoptr(GByteArray) note = text("a packed note");
    check("gzip of text", make_gzip(note), "it is text");
    g_autoptr(GByteArray) z = make_gzip(note);
    check("zboot of text", make_zboot(z, "gzip"), "it is text");
    check("zboot zstd", make_zboot(z, "zstd"), "packed with \"zstd\"");
}

static GByteArray *elf_with(size_t at, uint16_t value)
{
    GByteArray *a = make_elf(0x80000000, 0x80000000, 64, 64);
    st16le(a->data + at, value);
    return a;
}

static void test_refuses_elf(void)
{
    check("x86-64", elf_with(18, EM_X86_64), "an ELF file for x86-64");
    check("arm64", elf_with(18, EM_AARCH64), "an ELF file for arm64");
    check("unknown", elf_with(18, 999), "machine number 999");
    GByteArray *a = make_elf(0, 0, 64, 64);
    a->data[EI_CLASS] = ELFCLASS32;
    check("32 bits", a, "a 32-bit ELF file for RISC-V");
    check("object", elf_with(16, ET_REL), "not linked");
    check("phentsize", elf_with(54, 1), "strange size");
    check("nothing", elf_with(56, 0), "nothing to load");
    check("many headers", elf_with(56, 0xffff), "cut off");
    a = make_elf(0x80000000, 0x80000000, 64, 64);
    g_byte_array_set_size(a, a->len - 1);
    check("cut segment", a, "cut off");
    a = make_elf(0x80000000, 0x80000000, 64, 64);
    g_byte_array_set_size(a, 40);
    check("cut header", a, "cut off");
    check("shrinking", make_elf(0x80000000, 0x80000000, 64, 63), "impossible segment");
    check("wrapping", make_elf(0, UINT64_MAX - 10, 64, 64), "impossible segment");
}

static void test_refuses_damage(void)
{
    check("odd text offset", make_image(5000, 1, 5000), "damaged");
    check("wrapping size", make_image(5000, 0x200000, UINT64_MAX - 5), "damaged");
    GByteArray *a = make_image(5000, 0x200000, 5000);
    st32le(a->data + 0x3c, 64); /* a PE header that counts 8192 bytes */
    memcpy(a->data + 64, "PE\0\0", 4);
    st16le(a->data + 64 + 6, 1);
    st16le(a->data + 64 + 20, 0);
    st32le(a->data + 64 + 24 + 16, 4096);
    st32le(a->data + 64 + 24 + 20, 4096);
    check("cut", a, "8192 bytes, cut off at 5000");
    g_autoptr(GByteArray) image = make_image(5000, 0x200000, 5000);
    a = make_gzip(image);
    g_byte_array_set_size(a, a->len - 9);
    check("cut gzip", a, "cut off");
    a = make_gzip(image);
    a->data[12] ^= 0xff;
    check("damaged gzip", a, "gzip data is");
    g_autoptr(GByteArray) z = make_gzip(image);
    a = make_zboot(z, "gzip");
    g_byte_array_set_size(a, a->len - 1);
    check("cut zboot", a, "cut off");
    g_autoptr(GByteArray) big = make_image(2 << 20, 0x200000, 0);
    check("bomb", make_gzip(big), "unpacks to more than");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/image/accepts", test_accepts);
    g_test_add_func("/image/refuses-others", test_refuses_others);
    g_test_add_func("/image/refuses-elf", test_refuses_elf);
    g_test_add_func("/image/refuses-damage", test_refuses_damage);
    return g_test_run();
}
