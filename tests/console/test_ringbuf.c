/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A ring buffer beside a flat text: what is kept is its end; characters are not cut in two. */
#include <glib.h>
#include <string.h>

#include "console/ringbuf.h"

static void assert_read(struct ringbuf *r, size_t size, bool whole, const char *expected)
{
    char text[64] = "";
    size_t n = ringbuf_read(r, text, size, whole);
    g_assert_cmpmem(text, n, expected, strlen(expected));
}

static void test_oldest_go(void)
{
    AUTO(ringbuf) r = ringbuf_new(8);
    assert_read(r, 8, false, "");
    ringbuf_write(r, "abcdef", 6);
    assert_read(r, 2, false, "ab");
    ringbuf_write(r, "ghij", 4);
    assert_read(r, 64, false, "cdefghij");
    ringbuf_write(r, "0123456789abcdef", 16);
    ringbuf_write(r, "g", 1);
    assert_read(r, 3, false, "9ab");
    assert_read(r, 64, false, "cdefg");
    assert_read(r, 64, false, "");
}

static void test_of_one_byte(void)
{
    AUTO(ringbuf) r = ringbuf_new(1);
    ringbuf_write(r, "", 0);
    ringbuf_write(r, "ab", 2);
    assert_read(r, 64, true, "b");
    ringbuf_write(r, "\xc3", 1); /* a rest could never come */
    assert_read(r, 64, true, "\xc3");
}

static void test_characters(void)
{
    AUTO(ringbuf) r = ringbuf_new(16);
    ringbuf_write(r, "x\xe2\x82", 3);
    assert_read(r, 64, true, "x");
    assert_read(r, 64, true, "");
    ringbuf_write(r, "\xac", 1);
    assert_read(r, 64, true, "\xe2\x82\xac");
    ringbuf_write(r, "abc\xc3\xa4", 5);
    assert_read(r, 4, true, "abc");
    assert_read(r, 4, true, "\xc3\xa4");
    ringbuf_write(r, "a\xc3\xa4", 3);
    assert_read(r, 2, true, "a\xc3"); /* too small for a promise */
    assert_read(r, 4, true, "\xa4");  /* no beginning of anything */
    ringbuf_write(r, "\xffz\xe2\x82", 4);
    ringbuf_write(r, "z", 1);
    assert_read(r, 64, true, "\xffz\xe2\x82z");
    ringbuf_write(r, "\xe2\x82", 2);
    assert_read(r, 64, false, "\xe2\x82");
}

static void test_random(void)
{
    for (size_t size = 1; size <= 64; size *= 2) {
        AUTO(ringbuf) r = ringbuf_new(size);
        g_autoptr(GByteArray) flat = g_byte_array_new();
        for (int i = 0; i < 20000; i++) {
            uint8_t bytes[200];
            unsigned n = (unsigned)g_random_int_range(0, i % 7 ? 20 : 200);
            if (g_random_boolean()) {
                for (unsigned k = 0; k < n; k++)
                    bytes[k] = (uint8_t)g_random_int();
                ringbuf_write(r, bytes, n);
                g_byte_array_append(flat, bytes, n);
                if (flat->len > size)
                    g_byte_array_remove_range(flat, 0, flat->len - (unsigned)size);
            } else {
                size_t got = ringbuf_read(r, bytes, n, false);
                g_assert_cmpmem(bytes, got, flat->data, MIN(n, flat->len));
                g_byte_array_remove_range(flat, 0, (unsigned)got);
            }
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ringbuf/oldest-go", test_oldest_go);
    g_test_add_func("/ringbuf/of-one-byte", test_of_one_byte);
    g_test_add_func("/ringbuf/characters", test_characters);
    g_test_add_func("/ringbuf/random", test_random);
    return g_test_run();
}
