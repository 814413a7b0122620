/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The IR of chosen instructions, as text, against tests/isa/riscv/lift/: reviewed once, then kept. */
/*
 * A case is a line `code MODE WORD...`, then the block that must come out, as ir_print writes it, up to an
 * empty line. MODE is u, s or m, a digit for mstatus.FS and one for frm; words are hexadecimal, of 8 or 4
 * digits. Lines before a case that begin with # say what it shows. With HOSTEL_GOLDEN=write the files are
 * written anew: read the difference before you keep it.
 */
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteorder.h"
#include "isa/riscv/cpu.h"

enum { PC = 0x10000, MAX_BYTES = 256 };

static struct ir_block block;

static uint32_t parse_mode(const char *s)
{
    static const char privs[] = "us.m";
    const char *p = strchr(privs, s[0]);
    static const uint8_t mmu[] = {RISCV_MMU_U, RISCV_MMU_S, 0, RISCV_MMU_M};

    g_assert_true(p && g_ascii_isdigit(s[1]) && g_ascii_isdigit(s[2]));
    unsigned priv = (unsigned)(p - privs);
    return priv << RISCV_MODE_PRIV | (uint32_t)(s[1] - '0') << RISCV_MODE_FS |
           (uint32_t)(s[2] - '0') << RISCV_MODE_FRM | (uint32_t)mmu[priv] << RISCV_MODE_MMU;
}

/* Lifts what the `code` line says. Returns its text. */
static char *lift_line(const char *line)
{
    g_auto(GStrv) word = g_strsplit(line, " ", -1);
    uint8_t bytes[MAX_BYTES];
    struct isa_code code = {.pc = PC, .bytes = bytes};

    g_assert_cmpuint(g_strv_length(word), >=, 3);
    code.mode = parse_mode(word[1]);
    for (unsigned n = 2; word[n]; n++) {
        unsigned long v = strtoul(word[n], NULL, 16);
        g_assert_cmpuint(code.avail + 4, <=, MAX_BYTES);
        if (strlen(word[n]) == 4) {
            st16le(bytes + code.avail, (uint16_t)v);
            code.avail += 2;
        } else {
            st32le(bytes + code.avail, (uint32_t)v);
            code.avail += 4;
        }
        code.max_insns++;
    }
    g_assert_cmpint(riscv_lift(&code, &block), ==, 0);
    return ir_print(&block);
}

/* The file as it should be: comments and code lines kept, blocks made anew. */
static char *expected(const char *text)
{
    g_auto(GStrv) line = g_strsplit(text, "\n", -1);
    GString *out = g_string_new(NULL);
    bool inside = false;

    for (unsigned n = 0; line[n]; n++) {
        if (g_str_has_prefix(line[n], "code ")) {
            g_autofree char *ir = lift_line(line[n]);
            g_string_append_printf(out, "%s\n%s", line[n], ir);
            inside = true;
            continue;
        }
        inside = inside && line[n][0] != '\0';
        if (!inside && (line[n][0] != '\0' || line[n + 1])) {
            g_string_append_printf(out, "%s\n", line[n]);
        }
    }
    return g_string_free(out, FALSE);
}

static void test_file(gconstpointer data)
{
    const char *path = data;
    g_autofree char *have = NULL;

    g_assert_true(g_file_get_contents(path, &have, NULL, NULL));
    g_autofree char *want = expected(have);
    if (g_strcmp0(g_getenv("HOSTEL_GOLDEN"), "write") == 0) {
        g_assert_true(g_file_set_contents(path, want, -1, NULL));
    } else if (strcmp(have, want) != 0) {
        g_auto(GStrv) a = g_strsplit(have, "\n", -1);
        g_auto(GStrv) b = g_strsplit(want, "\n", -1);
        unsigned n = 0;
        while (a[n] && b[n] && strcmp(a[n], b[n]) == 0) {
            n++;
        }
        g_test_message("%s:%u: expected \"%s\", lifted to \"%s\"", path, n + 1, a[n] ? a[n] : "(end)",
                       b[n] ? b[n] : "(end)");
        g_test_fail();
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_autofree char *dir = g_test_build_filename(G_TEST_DIST, "lift", NULL);
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    g_assert_nonnull(d);
    for (const char *name; (name = g_dir_read_name(d)) != NULL;) {
        if (g_str_has_suffix(name, ".txt")) {
            g_autofree char *test = g_strdup_printf("/riscv/lift-text/%s", name);
            g_test_add_data_func_full(test, g_build_filename(dir, name, NULL), test_file, g_free);
        }
    }
    return g_test_run();
}
