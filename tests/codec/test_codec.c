/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Device trees read back by libfdt, and gzip data made by zlib, whole, cut, damaged and too big. */
#include <errno.h>
#include <glib.h>
#include <libfdt.h>
#include <string.h>
#include <zlib.h>

#include "base/byteorder.h"
#include "codec/fdt.h"
#include "codec/gunzip.h"

static void test_tree(void)
{
    static const char *const names[] = {"one", "two", NULL};
    static const uint32_t cells[] = {1, 0x80000000};
    size_t size;
    int len;
    AUTO(dt) t = dt_new();
    dt_u32(t, "#address-cells", 2);
    dt_begin(t, "chip@%x", 0x1000u);
    dt_strings(t, "compatible", names);
    dt_reg(t, UINT64_C(0x123456789), 0x1000);
    dt_cells(t, "cells", cells, 2);
    dt_flag(t, "dma-coherent");
    dt_u64(t, "seed", UINT64_C(0x1122334455667788));
    dt_end(t);
    g_autofree void *blob = dt_finish(t, &size);
    g_assert_nonnull(blob);
    g_assert_cmpint(fdt_check_full(blob, size), ==, 0);
    int node = fdt_path_offset(blob, "/chip@1000");
    g_assert_cmpint(node, >, 0);
    const void *p = fdt_getprop(blob, node, "compatible", &len);
    g_assert_cmpmem(p, len, "one\0two", 8);
    p = fdt_getprop(blob, node, "reg", &len);
    g_assert_cmpint(len, ==, 16);
    g_assert_cmphex(ld64be(p), ==, UINT64_C(0x123456789));
    p = fdt_getprop(blob, node, "cells", &len);
    g_assert_cmphex(ld32be((const char *)p + 4), ==, 0x80000000);
    g_assert_nonnull(fdt_getprop(blob, node, "dma-coherent", &len));
    g_assert_cmpint(len, ==, 0);
    g_assert_cmphex(ld64be(fdt_getprop(blob, node, "seed", &len)), ==, UINT64_C(0x1122334455667788));
}

/* Bigger than the first buffer, so that it grows in nodes and in properties. */
static void test_growth(void)
{
    static char big[3000];
    size_t size;
    int len;
    AUTO(dt) t = dt_new();
    for (unsigned i = 0; i < 100; i++) {
        dt_begin(t, "node@%u", i);
        dt_bytes(t, "big", big, sizeof(big));
        dt_end(t);
    }
    g_autofree void *blob = dt_finish(t, &size);
    g_assert_nonnull(blob);
    g_assert_cmpint(fdt_check_full(blob, size), ==, 0);
    fdt_getprop(blob, fdt_path_offset(blob, "/node@99"), "big", &len);
    g_assert_cmpint(len, ==, (int)sizeof(big));
}

static void test_misuse(void)
{
    static char big[1 << 20];
    size_t size;
    AUTO(dt) t = dt_new();
    dt_end(t);
    dt_end(t);
    g_assert_null(dt_finish(t, &size));
    AUTO(dt) u = dt_new();
    dt_bytes(u, "enormous", big, sizeof(big));
    dt_u32(u, "after", 1);
    g_assert_null(dt_finish(u, &size));
}

static GByteArray *gzip(const uint8_t *bytes, size_t size)
{
    GByteArray *out = g_byte_array_new();
    z_stream z = {0};
    g_assert_cmpint(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), ==, Z_OK);
    g_byte_array_set_size(out, (guint)deflateBound(&z, size) + 32);
    z.next_in = (Bytef *)(uintptr_t)bytes;
    z.avail_in = (uInt)size;
    z.next_out = out->data;
    z.avail_out = out->len;
    g_assert_cmpint(deflate(&z, Z_FINISH), ==, Z_STREAM_END);
    g_byte_array_set_size(out, (guint)z.total_out);
    deflateEnd(&z);
    return out;
}

static void test_gunzip(void)
{
    size_t size = 3 << 20, got;
    g_autofree uint8_t *data = g_malloc(size), *out = NULL;
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * i >> 8);
    g_autoptr(GByteArray) z = gzip(data, size);
    g_assert_cmpint(codec_gunzip(z->data, z->len, size, &out, &got), ==, 0); /* exactly the cap */
    g_assert_cmpmem(out, got, data, size);
    g_clear_pointer(&out, g_free);
    g_assert_cmpint(codec_gunzip(z->data, z->len, size - 1, &out, &got), ==, -EFBIG);
    g_assert_cmpint(codec_gunzip(z->data, z->len - 1, size, &out, &got), ==, -ENODATA);
    g_assert_cmpint(codec_gunzip(z->data, 5, size, &out, &got), ==, -ENODATA);
    g_assert_cmpint(codec_gunzip(z->data, 0, size, &out, &got), ==, -ENODATA);
    g_assert_cmpint(codec_gunzip(data, 100, size, &out, &got), ==, -EINVAL);
    z->data[z->len / 2] ^= 0x55;
    g_assert_cmpint(codec_gunzip(z->data, z->len, size, &out, &got), <, 0);
    z->data[z->len / 2] ^= 0x55;
    g_byte_array_append(z, (const uint8_t *)"trailing", 8);
    g_assert_cmpint(codec_gunzip(z->data, z->len, size, &out, &got), ==, 0);
    g_assert_cmpuint(got, ==, size);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dt/tree", test_tree);
    g_test_add_func("/dt/growth", test_growth);
    g_test_add_func("/dt/misuse", test_misuse);
    g_test_add_func("/gunzip", test_gunzip);
    return g_test_run();
}
