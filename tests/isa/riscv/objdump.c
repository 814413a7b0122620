/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * Runs GNU as and objdump for RISC-V over a block of code and cuts the listing into one text per instruction.
 */
#include "objdump.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

/* The object carries every extension of the table that binutils 2.40 knows: all but Zicond. */
static const char source[] =
    ".attribute arch, \"rv64imafdc_zicsr_zifencei_zihintpause_zba_zbb_zbs_zbc_zicbom_zicboz_zawrs_svinval\"\n"
    ".text\n"
    ".incbin \"code.bin\"\n";

static void run(const char *dir, const char *const *argv, char **out)
{
    g_autoptr(GError) err = NULL;
    int status = 0;

    g_spawn_sync(dir, (char **)(void *)(guintptr)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, out, NULL,
                 &status, &err);
    g_assert_no_error(err);
    g_assert_true(g_spawn_check_wait_status(status, &err));
}

/* "  1f4:\t014d                \tc.addi\tsp,19 # comment" */
static void take_line(const char *line, char **texts, size_t len)
{
    char *end = NULL;
    guint64 addr = g_ascii_strtoull(line, &end, 16);

    if (end == line || strncmp(end, ":\t", 2) != 0 || addr >= len) {
        return;
    }
    const char *text = strchr(end + 2, '\t');
    if (text) {
        char *copy = g_strdup(text + 1);
        char *comment = strstr(copy, " #");
        if (comment) {
            *comment = '\0';
        }
        g_free(texts[addr / 2]);
        texts[addr / 2] = g_strchomp(copy);
    }
}

char **objdump_run(const void *code, size_t len, const char *option)
{
    static const char *const as[] = {"riscv64-linux-gnu-as", "code.s", "-o", "code.o", NULL};
    /* Without its symbols, because as marks included bytes as data. */
    static const char *const strip[] = {"riscv64-linux-gnu-strip", "code.o", NULL};
    const char *objdump[] = {"riscv64-linux-gnu-objdump", "-dz", "code.o", option, NULL};
    g_autofree char *found_as = g_find_program_in_path(as[0]);
    g_autofree char *found = g_find_program_in_path(objdump[0]);
    g_autofree char *out = NULL;

    if (!found_as || !found) {
        g_test_skip(
            "riscv64-linux-gnu-as and riscv64-linux-gnu-objdump (binutils-riscv64-linux-gnu) not installed");
        return NULL;
    }
    g_autofree char *dir = g_dir_make_tmp("hostel-objdump-XXXXXX", NULL);
    g_assert_nonnull(dir);
    g_autofree char *bin_file = g_build_filename(dir, "code.bin", NULL);
    g_autofree char *s_file = g_build_filename(dir, "code.s", NULL);
    g_autofree char *o_file = g_build_filename(dir, "code.o", NULL);
    g_assert_true(g_file_set_contents(bin_file, code, (gssize)len, NULL));
    g_assert_true(g_file_set_contents(s_file, source, -1, NULL));
    run(dir, as, NULL);
    run(dir, strip, NULL);
    run(dir, objdump, &out);
    g_unlink(bin_file);
    g_unlink(s_file);
    g_unlink(o_file);
    g_rmdir(dir);

    char **texts = g_new0(char *, len / 2 + 1);
    for (char *line = out, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) {
            *next++ = '\0';
        }
        take_line(line, texts, len);
    }
    return texts;
}

void objdump_free(char **texts, size_t len)
{
    for (size_t i = 0; texts && i < len / 2 + 1; i++) {
        g_free(texts[i]);
    }
    g_free(texts);
}
