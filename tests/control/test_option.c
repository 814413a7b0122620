/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Options: sizes, every row of the table there and back, mistakes, and guesses at what was meant. */

#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "control/guest_options.h"
#include "os/fd.h"

static void test_sizes(void)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"1", 1},
        {"512M", 536870912},
        {"512m", 536870912},
        {"1G", 1073741824},
        {"1GiB", 1073741824},
        {"4KB", 4096},
        {"3T", 3298534883328},
        {"18446744073709551615", UINT64_MAX},
        {"16777215T", 18446742974197923840U},
        {"007K", 7168},
    };
    static const char *const bad[] = {"",
                                      "M",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 M",
                                      "1MM",
                                      "1Mi",
                                      "1.5G",
                                      "0x10",
                                      "1P",
                                      "1iB",
                                      "16777216T",
                                      "18446744073709551616",
                                      "99999999999999999999999",
                                      "1\n"};
    uint64_t bytes;
    for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
        g_assert_true(option_parse_size(good[i].text, &bytes));
        g_assert_cmpuint(bytes, ==, good[i].bytes);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        g_assert_false(option_parse_size(bad[i], &bytes));
}

static void test_defaults(void)
{
    struct guest_options o;
    guest_options_init(&o);
    g_assert_null(o.isa);
    g_assert_null(o.board);
    g_assert_cmpuint(o.cpus, ==, 1);
    g_assert_cmpuint(o.memory, ==, 512 * MiB);
    g_assert_cmpint(o.kernel.fd, ==, -1);
    g_assert_cmpint(o.console.kind, ==, CONSOLE_STDIO);
    g_assert_cmpint(o.console.file.fd, ==, -1);
    g_assert_cmpstr(o.net, ==, "none");
    g_assert_false(o.stats);
    guest_options_fini(&o);
}

/* argv as one writes it, without NULL. */
#define PARSE(who, o, error, ...)                                                                            \
    option_parse(guest_option_rows, who, (char *const[]){__VA_ARGS__, NULL}, o, error)

static char *arg(const char *text)
{
    return (char *)(uintptr_t)text;
}

static void test_parse(void)
{
    struct guest_options o;
    g_autoptr(GError) error = NULL;
    guest_options_init(&o);
    bool done = PARSE(OPTION_CLI, &o, &error, arg("--isa"), arg("riscv64"), arg("--cpus=4"), arg("--memory"),
                      arg("1G"), arg("--append"), arg("--cpus 9 = x"), arg("--stats"), arg("--kernel=a=b"),
                      arg("--console"), arg("file=out"));
    g_assert_no_error(error);
    g_assert_true(done);
    g_assert_cmpstr(o.isa, ==, "riscv64");
    g_assert_cmpuint(o.cpus, ==, 4);
    g_assert_cmpuint(o.memory, ==, GiB);
    g_assert_cmpstr(o.append, ==, "--cpus 9 = x");
    g_assert_true(o.stats);
    g_assert_cmpstr(o.kernel.name, ==, "a=b");
    g_assert_cmpint(o.console.kind, ==, CONSOLE_FILE);
    g_assert_cmpstr(o.console.file.name, ==, "out");
    guest_options_fini(&o);
}

/* What hostel tells a VMM is what the VMM understands. */
static void test_to_vmm(void)
{
    struct guest_options ours, theirs;
    g_autoptr(GError) error = NULL;
    guest_options_init(&ours);
    guest_options_init(&theirs);
    g_assert_true(PARSE(OPTION_CLI, &ours, &error, arg("--isa"), arg("riscv64"), arg("--append"), arg(""),
                        arg("--kernel"), arg("/some/where/Image:1"), arg("--cpus"), arg("3"), arg("--memory"),
                        arg("5K"), arg("--stats"), arg("--console"), arg("file=/secret/log")));
    ours.kernel.fd = open("/dev/null", O_RDONLY);
    ours.console.file.fd = open("/dev/null", O_WRONLY);
    ours.control.fd = open("/dev/null", O_RDWR);

    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    option_to_vmm(guest_option_rows, &ours, argv, fds);
    g_ptr_array_add(argv, NULL);
    g_assert_cmpuint(fds->len, ==, 3);
    g_autofree char *line = g_strjoinv(" ", (char **)argv->pdata);
    g_assert_null(strchr(line, '/')); /* no path of ours */

    g_assert_true(option_parse(guest_option_rows, OPTION_VMM, (char *const *)argv->pdata, &theirs, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(theirs.isa, ==, "riscv64");
    g_assert_cmpstr(theirs.append, ==, "");
    g_assert_cmpstr(theirs.kernel.name, ==, "Image:1");
    g_assert_cmpint(theirs.kernel.fd, ==, ours.kernel.fd);
    g_assert_cmpuint(theirs.cpus, ==, 3);
    g_assert_cmpuint(theirs.memory, ==, 5 * KiB);
    g_assert_true(theirs.stats);
    g_assert_cmpint(theirs.console.kind, ==, CONSOLE_FILE);
    g_assert_cmpint(theirs.console.file.fd, ==, ours.console.file.fd);
    g_assert_cmpint(theirs.control.fd, ==, ours.control.fd);
    g_assert_null(theirs.board);

    g_autoptr(GArray) taken = g_array_new(FALSE, FALSE, sizeof(int));
    option_fds(guest_option_rows, &theirs, taken);
    g_assert_cmpuint(taken->len, ==, 3);
    guest_options_fini(&ours);
    g_assert_false(fd_is_open(theirs.kernel.fd));
}

static void assert_refused(unsigned who, const char *option, const char *value, const char *word)
{
    struct guest_options o;
    g_autoptr(GError) error = NULL;
    guest_options_init(&o);
    g_assert_false(PARSE(who, &o, &error, arg(option), arg(value)));
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
    if (!strstr(error->message, word))
        g_error("'%s' does not say '%s'", error->message, word);
    guest_options_fini(&o);
}

static void test_mistakes(void)
{
    assert_refused(OPTION_CLI, "--cpus", "x", "whole number");
    assert_refused(OPTION_CLI, "--cpus", "0", "1 or more");
    assert_refused(OPTION_CLI, "--cpus", "4294967296", "whole number");
    assert_refused(OPTION_CLI, "--memory", "-1", "such as 512M");
    assert_refused(OPTION_CLI, "--memory", "512", "512M");
    assert_refused(OPTION_CLI, "--net", "user", "must be none");
    assert_refused(OPTION_CLI, "--kernel", "", "empty");
    assert_refused(OPTION_CLI, "--console", "pty", "stdio, none or file=FILE");
    assert_refused(OPTION_CLI, "--control", "fd:3", "unknown option");
    assert_refused(OPTION_VMM, "--help", "", "unknown option");
    assert_refused(OPTION_VMM, "--kernel", "Image", "opens no paths");
    assert_refused(OPTION_VMM, "--kernel", "fd:", "opens no paths");
    assert_refused(OPTION_VMM, "--kernel", "fd:2", "not an open descriptor");
    assert_refused(OPTION_VMM, "--kernel", "fd:99999999999", "not an open descriptor");
    assert_refused(OPTION_VMM, "--console", "file=/tmp/x", "opens no paths");
    assert_refused(OPTION_VMM, "--list", "everything", "boards|isas|methods");
}

static void test_meant(void)
{
    static const struct {
        const char *typed, *meant;
    } cases[] = {
        {"kernl", "kernel"},
        {"cpu", "cpus"},
        {"smp", "cpus"},
        {"m", "memory"},
        {"machine", "board"},
        {"bios", "firmware"},
        {"nographic", "console"},
        {"initramfs", NULL},
        {"initd", "initrd"},
        {"x", NULL},
        {"", NULL},
        {"qqqqqqqqqqqq", NULL},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct option_row *row = option_nearest(guest_option_rows, OPTION_CLI, cases[i].typed);
        g_assert_cmpstr(row ? row->name : NULL, ==, cases[i].meant);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/option/sizes", test_sizes);
    g_test_add_func("/option/defaults", test_defaults);
    g_test_add_func("/option/parse", test_parse);
    g_test_add_func("/option/to-vmm", test_to_vmm);
    g_test_add_func("/option/mistakes", test_mistakes);
    g_test_add_func("/option/meant", test_meant);
    return g_test_run();
}
