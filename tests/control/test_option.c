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

static void test_rates(void)
{
    static const struct {
        const char *text;
        uint64_t rate;
    } good[] = {{"0", 0},
                {"500", 500},
                {"10M", 10000000},
                {"250k", 250000},
                {"1G", 1000000000},
                {"9223372036854775807", INT64_MAX},
                {"9223372036G", UINT64_C(9223372036000000000)}};
    static const char *const bad[] = {
        "", "M", "-1", " 1", "1.5M", "1MM", "1MiB", "1T", "9223372036854775808", "9223372037G", "1M "};
    uint64_t rate;
    for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
        g_assert_true(option_parse_rate(good[i].text, &rate));
        g_assert_cmpuint(rate, ==, good[i].rate);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        g_assert_false(option_parse_rate(bad[i], &rate));
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
    g_assert_cmpuint(o.nets.count, ==, 0);
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
    assert_refused(OPTION_CLI, "--net", "bridge", "must be user|tap|none");
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

/* Each --disk adds one; two commas are one; keys may be in any order, the file's name may stand alone. */
static void test_lists(void)
{
    struct guest_options ours, theirs;
    g_autoptr(GError) error = NULL;
    guest_options_init(&ours);
    guest_options_init(&theirs);
    bool done =
        PARSE(OPTION_CLI, &ours, &error, arg("--disk"), arg("file=/a/b,,c,,,format=raw"), arg("--disk"),
              arg("serial=x=1,,2,readonly=on,format=raw,file=f,,"), arg("--disk=d.img,readonly=off,format="));
    g_assert_no_error(error);
    g_assert_true(done);
    g_assert_cmpuint(ours.disks.count, ==, 3);
    struct disk_options *disks = ours.disks.items;
    g_assert_cmpstr(disks[0].file.name, ==, "/a/b,c,");
    g_assert_cmpstr(disks[0].format, ==, "raw");
    g_assert_cmpint(disks[0].file.fd, ==, -1);
    g_assert_false(disks[0].readonly);
    g_assert_null(disks[0].serial);
    g_assert_cmpstr(disks[1].file.name, ==, "f,");
    g_assert_cmpstr(disks[1].serial, ==, "x=1,2");
    g_assert_true(disks[1].readonly);
    g_assert_cmpstr(disks[2].file.name, ==, "d.img");
    g_assert_cmpstr(disks[2].format, ==, "");

    for (unsigned i = 0; i < 3; i++)
        disks[i].file.fd = open("/dev/null", O_RDONLY);
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    option_to_vmm(guest_option_rows, &ours, argv, fds);
    g_ptr_array_add(argv, NULL);
    g_assert_cmpuint(fds->len, ==, 3);
    g_autofree char *line = g_strjoinv(" ", (char **)argv->pdata);
    g_assert_null(strchr(line, '/'));
    g_assert_true(option_parse(guest_option_rows, OPTION_VMM, (char *const *)argv->pdata, &theirs, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(theirs.disks.count, ==, 3);
    for (unsigned i = 0; i < 3; i++) {
        struct disk_options *d = (struct disk_options *)theirs.disks.items + i;
        g_assert_cmpint(d->file.fd, ==, disks[i].file.fd);
        g_assert_cmpstr(d->format, ==, disks[i].format);
        g_assert_cmpstr(d->serial, ==, disks[i].serial);
        g_assert_cmpint(d->readonly, ==, disks[i].readonly);
    }
    g_assert_cmpstr(((struct disk_options *)theirs.disks.items)->file.name, ==, "b,c,");
    g_array_set_size(fds, 0);
    option_fds(guest_option_rows, &theirs, fds);
    g_assert_cmpuint(fds->len, ==, 3);
    int last = disks[2].file.fd;
    guest_options_fini(&ours);
    g_assert_false(fd_is_open(last));
    for (unsigned i = 0; i < 3; i++)
        ((struct disk_options *)theirs.disks.items)[i].file.fd = -1; /* closed already */
    guest_options_fini(&theirs);
}

static void test_list_mistakes(void)
{
    assert_refused(OPTION_CLI, "--disk", "", "empty");
    assert_refused(OPTION_CLI, "--disk", "file=,format=raw", "empty");
    assert_refused(OPTION_CLI, "--disk", "file=x", "format is missing");
    assert_refused(OPTION_CLI, "--disk", "format=raw", "file is missing");
    assert_refused(OPTION_CLI, "--disk", "file=x,fromat=raw", "did you mean format?");
    assert_refused(OPTION_CLI, "--disk", "file=x,format=raw,interface=virtio",
                   "there are file, format, readonly");
    assert_refused(OPTION_CLI, "--disk", "file=x,format=raw,readonly", "readonly=on|off");
    assert_refused(OPTION_CLI, "--disk", "file=x,format=raw,readonly=yes", "must be on or off");
    assert_refused(OPTION_CLI, "--disk", "file=x,format=raw,format=raw", "twice");
    assert_refused(OPTION_CLI, "--disk", "x,file=y,format=raw", "twice");
    assert_refused(OPTION_CLI, "--disk", "file=x,format=raw,", "unknown key ''");
    assert_refused(OPTION_CLI, "--drive", "file=x,format=raw", "--disk");
    assert_refused(OPTION_VMM, "--disk", "file=x,format=raw", "opens no paths");
}

/* Inside an item a key of texts may be repeated, and the order is kept. */
static void test_texts(void)
{
    struct item {
        const char *kind;
        GPtrArray *forward;
    };
    static const struct option_row keys[] = {
        {.name = "kind",
         .arg = "user|tap",
         .help = "",
         .choice = "user|tap",
         .type = OPTION_TEXT,
         .who = OPTION_BOTH,
         .bare = true,
         .required = true,
         .offset = offsetof(struct item, kind)},
        {.name = "forward",
         .arg = "RULE",
         .help = "",
         .type = OPTION_TEXTS,
         .who = OPTION_BOTH,
         .offset = offsetof(struct item, forward)},
        {0},
    };
    static const struct option_row rows[] = {
        {.name = "net",
         .arg = "",
         .help = "",
         .type = OPTION_LIST,
         .who = OPTION_BOTH,
         .keys = keys,
         .item_size = sizeof(struct item)},
        {0},
    };
    struct option_list nets = {0}, theirs = {0};
    g_autoptr(GError) error = NULL;
    char *const good[] = {arg("--net"), arg("user,forward=tcp::22,forward=a,,b"), NULL};
    g_assert_true(option_parse(rows, OPTION_CLI, good, &nets, &error));
    g_assert_no_error(error);
    struct item *item = nets.items;
    g_assert_cmpstr(item->kind, ==, "user");
    g_assert_cmpuint(item->forward->len, ==, 2);
    g_assert_cmpstr(item->forward->pdata[1], ==, "a,b");

    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    option_to_vmm(rows, &nets, argv, fds);
    g_ptr_array_add(argv, NULL);
    g_assert_cmpstr(argv->pdata[1], ==, "kind=user,forward=tcp::22,forward=a,,b");
    g_assert_true(option_parse(rows, OPTION_VMM, (char *const *)argv->pdata, &theirs, &error));
    g_assert_cmpstr(((struct item *)theirs.items)->forward->pdata[0], ==, "tcp::22");
    option_fini(rows, &nets);
    option_fini(rows, &theirs);

    char *const bad[] = {arg("--net"), arg("bridge"), NULL};
    g_assert_false(option_parse(rows, OPTION_CLI, bad, &nets, &error));
    g_assert_nonnull(strstr(error->message, "--net kind=bridge: must be user|tap"));
    option_fini(rows, &nets);
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
    g_test_add_func("/option/rates", test_rates);
    g_test_add_func("/option/defaults", test_defaults);
    g_test_add_func("/option/parse", test_parse);
    g_test_add_func("/option/to-vmm", test_to_vmm);
    g_test_add_func("/option/mistakes", test_mistakes);
    g_test_add_func("/option/lists", test_lists);
    g_test_add_func("/option/list-mistakes", test_list_mistakes);
    g_test_add_func("/option/texts", test_texts);
    g_test_add_func("/option/meant", test_meant);
    return g_test_run();
}
