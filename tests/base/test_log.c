/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the log lets through, and that a guest cannot flood it; and the errors of the control path. */

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"

/* Standard error goes to a file while `say` runs; returns what was written. */
static char *captured(void (*say)(void))
{
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;
    int fd = g_file_open_tmp("hostel-log-XXXXXX", &path, &error);
    g_assert_no_error(error);
    int saved = dup(STDERR_FILENO);
    g_assert_cmpint(dup2(fd, STDERR_FILENO), ==, STDERR_FILENO);
    say();
    g_assert_cmpint(dup2(saved, STDERR_FILENO), ==, STDERR_FILENO);
    char *text = NULL;
    g_file_get_contents(path, &text, NULL, &error);
    g_assert_no_error(error);
    close(saved);
    close(fd);
    g_unlink(path);
    return text;
}

static unsigned count_lines(const char *text)
{
    unsigned n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static void say_each_level(void)
{
    log_error(LOG_VM, "broken %d", 1);
    log_debug(LOG_MMU, "walk %d", 2);
    log_debug(LOG_IRQ, "line %d", 3);
}

static void test_areas(void)
{
    g_assert_false(log_enable("mmu,nonsense"));
    g_assert_false(log_on(LOG_MMU));
    g_assert_true(log_enable("mmu"));
    g_assert_true(log_on(LOG_MMU));
    g_assert_false(log_on(LOG_IRQ));

    g_autofree char *text = captured(say_each_level);
    g_assert_nonnull(strstr(text, "broken 1\n"));
    g_assert_nonnull(strstr(text, "walk 2\n"));
    g_assert_null(strstr(text, "line 3"));
    g_assert_cmpuint(count_lines(text), ==, 2);
}

static void test_limit(void)
{
    static const char *const wrong[] = {"",
                                        "x",
                                        "-1",
                                        " 1",
                                        "0x",
                                        "1:",
                                        "1:0",
                                        "1:-1",
                                        "1 ",
                                        "1:2:3",
                                        "0x80g",
                                        "0xffffffffffffffff:2",
                                        "99999999999999999999"};
    g_assert_true(log_on_at(LOG_MMU, 0, 1)); /* the area is on since the test above; there is no limit */
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++)
        g_assert_false(log_limit(wrong[i]));
    g_assert_true(log_on_at(LOG_MMU, UINT64_MAX, 1));
    g_assert_true(log_limit("0x1000:0x10"));
    g_assert_false(log_on_at(LOG_MMU, 0xffe, 2));
    g_assert_true(log_on_at(LOG_MMU, 0xfff, 2));
    g_assert_true(log_on_at(LOG_MMU, 0x100f, 1));
    g_assert_false(log_on_at(LOG_MMU, 0x1010, 8));
    g_assert_false(log_on_at(LOG_IRQ, 0x1000, 1));
    g_assert_true(log_limit("0xffffffffffffffff"));
    g_assert_true(log_on_at(LOG_MMU, UINT64_MAX, 1));
    g_assert_false(log_on_at(LOG_MMU, UINT64_MAX - 1, 1));
}

static void say_a_long_line(void)
{
    g_autofree char *word = g_strnfill(5000, 'x');
    log_error(LOG_VM, "%s", word);
}

static void test_long_line(void)
{
    g_autofree char *text = captured(say_a_long_line);
    g_assert_cmpuint(count_lines(text), ==, 1);
    g_assert_cmpuint(strlen(text), <, 2000);
    g_assert_true(g_str_has_suffix(text, "x\n"));
}

static void flood(void)
{
    for (int i = 0; i < 10000; i++)
        log_guest(LOG_DEVICE, "the guest did it again (%d)", i);
}

static void test_flood(void)
{
    g_autofree char *text = captured(flood);
    g_assert_cmpuint(count_lines(text), >=, 10);
    /* The loop takes milliseconds; two seconds' worth leaves room for the turn of a second. */
    g_assert_cmpuint(count_lines(text), <=, 22);
}

static void test_error(void)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(hostel_fail(&error, HOSTEL_ERROR_INPUT, "found %d, expected %d", 2, 3));
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_INPUT);
    g_assert_cmpstr(error->message, ==, "found 2, expected 3");
    g_assert_false(hostel_fail(NULL, HOSTEL_ERROR_HOST, "nobody listens"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/log/areas", test_areas);
    g_test_add_func("/base/log/limit", test_limit);
    g_test_add_func("/base/log/long-line", test_long_line);
    g_test_add_func("/base/log/flood", test_flood);
    g_test_add_func("/base/error", test_error);
    return g_test_run();
}
