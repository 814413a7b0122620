/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The menu behind Ctrl-], however typing is cut into reads; and bytes on their way. */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "cli/flow.h"
#include "cli/keys.h"

/* What the guest gets, and what is done, as capital letters between slashes. */
static char *type(const char *typed, size_t chunk)
{
    struct keys k = {0};
    GString *out = g_string_new(NULL);
    size_t size = strlen(typed);
    for (size_t start = 0; start < size; start += chunk) {
        const uint8_t *bytes = (const uint8_t *)typed + start;
        size_t left = MIN(chunk, size - start);
        for (size_t at = 0, for_guest, used; at < left; at += used) {
            enum key_action action = keys_look(&k, bytes + at, left - at, &for_guest, &used);
            g_assert_cmpuint(used, >, 0);
            g_assert_cmpuint(for_guest, <=, used);
            g_string_append_len(out, (const char *)bytes + at, (gssize)for_guest);
            static const char *const names[] = {"", "/M/", "/D/", "/Q/", "/R/", "/B/", "/X/"};
            g_string_append(out, names[action]);
        }
    }
    return g_string_free(out, FALSE);
}

static void test_keys(void)
{
    static const struct {
        const char *typed, *result;
    } cases[] = {
        {"hello", "hello"},
        {"\x1dq", "/M//Q/"},
        {"a\x1drb", "a/M//R/b"},
        {"a\x1d"
         "dd\x1d"
         "D",
         "a/M//D/d/M//D/"},
        {"\x1d"
         "b",
         "/M//B/"},
        {"ab\x1d\x1d"
         "cd",
         "ab/M/\x1d/X/cd"},
        {"\x1dx\x1d\nq", "/M//X//M//X/q"},
        {"\x1dQ\x1dR\x1d"
         "B",
         "/M//Q//M//R//M//B/"},
        {"\x03\x04\x1a\x1b[A", "\x03\x04\x1a\x1b[A"},
        {"\x1d", "/M/"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
        for (size_t chunk = 1; chunk < 9; chunk++) {
            g_autofree char *got = type(cases[i].typed, chunk);
            g_assert_cmpstr(got, ==, cases[i].result);
        }
}

static void test_flow(void)
{
    int p[2];
    struct flow f = {0};
    g_assert_cmpint(pipe2(p, O_NONBLOCK), ==, 0);
    g_assert_cmpint(flow_read(&f, p[0]), ==, -EAGAIN);
    g_assert_cmpuint(flow_put(&f, (const uint8_t *)"hello", 5), ==, 5);
    g_assert_cmpint(flow_write(&f, p[1]), ==, 0);
    g_assert_cmpuint(f.length, ==, 0);
    g_assert_cmpint(flow_read(&f, p[0]), ==, 5);
    g_assert_cmpmem(f.bytes + f.head, f.length, "hello", 5);

    uint8_t many[FLOW_SIZE];
    memset(many, 'x', sizeof(many));
    g_assert_cmpuint(flow_put(&f, many, sizeof(many)), ==, FLOW_SIZE - 5);
    g_assert_cmpuint(flow_put(&f, many, 1), ==, 0);
    g_assert_cmpmem(f.bytes + f.head, 6, "hellox", 6);
    g_assert_cmpint(flow_write(&f, p[0]), ==, -EBADF); /* the wrong end: the bytes are given up */
    g_assert_cmpuint(f.length, ==, 0);
    close(p[1]);
    g_assert_cmpint(flow_read(&f, p[0]), ==, 0);
    close(p[0]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keys/menu", test_keys);
    g_test_add_func("/flow", test_flow);
    return g_test_run();
}
