/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What `hostel run debian` is made of, but the guest: its command line, guests with a name, and the seed as
 * cpio(1) reads it. */

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/debian.h"
#include "cli/named.h"
#include "cli/seed.h"
#include "cli/thin.h"
#include "os/fd.h"

static char *scratch;

static void remove_all(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *file; dir && (file = g_dir_read_name(dir));) {
        g_autofree char *full = g_build_filename(path, file, NULL);
        remove_all(full);
    }
    g_remove(path);
}

/* --- the command line --- */

static void test_request(void)
{
    g_auto(GStrv) argv =
        g_strsplit("debian:trixie --name=web --size 8G --cpus 4 --ssh-key a --package=x --ssh-key b "
                   "--stats --append quiet --user joe",
                   " ", -1);
    g_autoptr(GError) error = NULL;
    struct debian_request r;
    g_assert_true(debian_request_parse(&r, argv, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(r.release, ==, "trixie");
    g_assert_cmpstr(r.name, ==, "web");
    g_assert_cmpuint(r.own.size, ==, 8 * GiB);
    g_assert_cmpstr(r.own.user, ==, "joe");
    g_assert_cmpuint(r.own.ssh_keys->len, ==, 2);
    g_assert_cmpstr(r.own.packages->pdata[0], ==, "x");
    g_assert_true(r.has_own);
    g_ptr_array_add(r.guest, NULL);
    g_autofree char *rest = g_strjoinv(" ", (char **)r.guest->pdata);
    g_assert_cmpstr(rest, ==, "--name=web --cpus 4 --stats --append quiet");
    debian_request_fini(&r);
}

static void test_request_again(void)
{
    g_auto(GStrv) argv = g_strsplit("debian --name a --memory 2G", " ", -1);
    struct debian_request r;
    g_assert_true(debian_request_parse(&r, argv, NULL));
    g_assert_false(r.has_own); /* nothing that only a new guest can be given */
    g_assert_cmpstr(r.name, ==, "a");
    g_assert_cmpstr(r.own.user, ==, "debian");
    debian_request_fini(&r);
}

static void test_request_refused(void)
{
    static const char *const lines[][2] = {
        {"debian:sid", "debian:trixie"},
        {"debian:", "debian:trixie"},
        {"debian --size 4G1", "size"},
        {"debian --size 3G", "at least 4G"},
        {"debian --size", "needs an argument"},
        {"debian --kernel=x", "own"},
        {"debian --flash x", "own"},
        {"debian --user=", "--user"},
        {"debian --user ro:ot", "--user"},
        {"debian --user -x", "--user"},
        {"debian --hostname a.b", "--hostname"},
        {"debian --package ../x", "--package"},
        {"debian --password=", "--password"},
        {"debian --password a --password-file b", "one of them"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
        g_auto(GStrv) argv = g_strsplit(lines[i][0], " ", -1);
        g_autoptr(GError) error = NULL;
        struct debian_request r;
        if (debian_request_parse(&r, argv, &error))
            g_error("'%s' is not refused", lines[i][0]);
        g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
        if (!strstr(error->message, lines[i][1]))
            g_error("'%s' does not say '%s'", error->message, lines[i][1]);
        debian_request_fini(&r);
    }
}

/* --- guests with a name --- */

static void test_names(void)
{
    static const char *const good[] = {"a", "A-1_b.c", "0", "debian"};
    static const char *const bad[] = {"", ".", "..", "a/b", "-a", ".a", "a b", "\xc3\xa4"};
    for (unsigned i = 0; i < ARRAY_SIZE(good); i++)
        g_assert_true(named_is_valid(good[i]));
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        g_assert_false(named_is_valid(bad[i]));
    g_autofree char *longest = g_strnfill(63, 'x'), *longer = g_strnfill(64, 'x');
    g_assert_true(named_is_valid(longest));
    g_assert_false(named_is_valid(longer));
}

static void test_named(void)
{
    g_autoptr(GError) error = NULL;
    {
        AUTO(named) half = named_open("half", &error); /* left as it is: nothing stays */
        g_assert_no_error(error);
        g_assert_false(half->made);
        g_autofree char *path = named_path(half, "file");
        g_assert_true(g_file_set_contents(path, "x", 1, NULL));
        g_assert_null(named_open("half", &error)); /* in use */
        g_assert_nonnull(strstr(error->message, "in use"));
        g_clear_error(&error);
        g_assert_true(named_is_busy("half"));
    }
    g_assert_false(named_is_busy("half"));
    {
        AUTO(named) whole = named_open("whole", &error);
        g_key_file_set_string(whole->definition, "guest", "isa", "riscv64");
        g_assert_true(named_keep(whole, &error));
    }
    g_auto(GStrv) names = named_list();
    g_assert_cmpuint(g_strv_length(names), ==, 1);
    g_assert_cmpstr(names[0], ==, "whole");
    AUTO(named) again = named_open("whole", &error);
    g_assert_true(again->made);
    g_autofree char *isa = g_key_file_get_string(again->definition, "guest", "isa", NULL);
    g_assert_cmpstr(isa, ==, "riscv64");
    g_assert_true(named_remove(again, &error));
    g_auto(GStrv) none = named_list();
    g_assert_cmpuint(g_strv_length(none), ==, 0);
}

/* --- what a new guest gets --- */

static char *cpio_says(const char *archive, const char *how)
{
    g_autofree char *quoted = g_shell_quote(archive);
    g_autofree char *command = g_strdup_printf("sh -c \"cpio -i --quiet %s <%s\"", how, quoted);
    char *said = NULL;
    int status = 1;
    g_assert_true(g_spawn_command_line_sync(command, &said, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    return said;
}

static void test_seed(void)
{
    g_autofree char *cpio = g_find_program_in_path("cpio");
    if (!cpio) {
        g_test_skip("cpio is not installed");
        return;
    }
    g_autoptr(GByteArray) seed = seed_new();
    seed_add_text(seed, "user", "debian");
    seed_add_text(seed, "empty", "");
    seed_add(seed, "keys", "ssh-ed25519 AAAA\n", 17);
    seed_end(seed);
    g_assert_cmpuint(seed->len % 4, ==, 0);
    g_autofree char *path = g_build_filename(scratch, "seed", NULL);
    g_assert_true(g_file_set_contents(path, (const char *)seed->data, (gssize)seed->len, NULL));
    g_autofree char *names = cpio_says(path, "-t"), *keys = cpio_says(path, "--to-stdout seed/keys");
    g_assert_cmpstr(names, ==, "seed\nseed/user\nseed/empty\nseed/keys\n");
    g_assert_cmpstr(keys, ==, "ssh-ed25519 AAAA\n");

    /* Behind a file whose size is not a multiple of 4. */
    g_autofree char *initrd = g_build_filename(scratch, "initrd", NULL);
    g_assert_true(g_file_set_contents(initrd, "12345", 5, NULL));
    AUTO_FD fd = seed_append(initrd, path, NULL);
    g_assert_cmpint(fd, >=, 0);
    char bytes[16] = {0};
    g_assert_cmpint(pread(fd, bytes, 14, 0), ==, 14);
    g_assert_cmpint(memcmp(bytes, "12345\0\0\0", 8), ==, 0);
    g_assert_cmpint(memcmp(bytes + 8, "070701", 6), ==, 0);
    g_assert_cmpint(seed_append("/nonexistent", path, NULL), ==, -1);
}

static void test_thin(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *base = g_build_filename(scratch, "base", NULL),
                    *link = g_build_filename(scratch, "link", NULL);
    g_autofree char *disk = g_build_filename(scratch, "disk", NULL);
    g_assert_true(g_file_set_contents(base, "x", 1, NULL));
    g_assert_cmpint(truncate(base, 1 << 20), ==, 0);
    g_assert_true(thin_share(base, link, &error));
    g_assert_true(thin_overlay(base, disk, 8 * GiB, &error));
    struct stat status;
    g_assert_cmpint(stat(disk, &status), ==, 0);
    g_assert_cmpint(status.st_blocks * 512, <, 1 << 20);
    g_assert_false(thin_overlay(base, disk, 8 * GiB, &error)); /* never over another one */
}

int main(int argc, char **argv)
{
    /* Before GLib looks where data is kept. */
    scratch = g_dir_make_tmp("hostel-debian-XXXXXX", NULL);
    g_setenv("XDG_DATA_HOME", scratch, TRUE);
    g_setenv("XDG_RUNTIME_DIR", scratch, TRUE);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/debian/request", test_request);
    g_test_add_func("/debian/request-again", test_request_again);
    g_test_add_func("/debian/request-refused", test_request_refused);
    g_test_add_func("/named/names", test_names);
    g_test_add_func("/named/life", test_named);
    g_test_add_func("/seed/archive", test_seed);
    g_test_add_func("/thin/copies", test_thin);
    int status = g_test_run();
    remove_all(scratch);
    g_free(scratch);
    return status;
}
