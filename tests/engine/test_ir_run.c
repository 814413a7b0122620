/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Runs the blocks of ir/: text files that say what they start from and what must come out. */
/*
 * A file is a block in the IR's text form with directives in its comments, which apply in order:
 *
 *     ;! case NAME                 begins a run from zeros; a file has one or more
 *     ;! set REG VALUE             REG a register of the rig, "icount", or "mem ADDRESS" for 8 bytes
 *     ;! stop REASON               how the run ends: next poll exception lookup wait yield (default next)
 *     ;! expect REG VALUE          REG as above, or pc, exit (-1: not linkable), cause, value, fp_flags
 *
 * Registers that no `expect` names must keep what they were set to. Every case runs four times: prepared and
 * plain, with the TLB filling and without.
 */
#include "rig.h"

#include <string.h>

#include "base/bits.h"

static const char *const stops[] = {"next", "poll", "exception", "lookup", "wait", "yield"};

struct runner {
    const char *file;
    unsigned line;
    struct rig *rig;
    struct block *block;
    const char *name; /* of the case; NULL before the first */
    enum engine_stop stop;
    bool ran;
    uint64_t expected[ENV_REGS];
};

G_GNUC_PRINTF(2, 3) static void complain(const struct runner *r, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    g_autofree char *what = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_error("%s:%u: case %s: %s", r->file, r->line, r->name ? r->name : "?", what);
}

static uint64_t parse_number(const struct runner *r, const char *text)
{
    char *end = NULL;
    bool negative = text && *text == '-';
    uint64_t v = text ? g_ascii_strtoull(text + negative, &end, 0) : 0;

    if (!text || end == text + negative || *end) {
        complain(r, "\"%s\" is not a number", text ? text : "");
    }
    return negative ? 0 - v : v;
}

/* The state a word names; NULL when it names none. Cells are 64 bits; q0 is q0 and q0.hi. */
static uint64_t *cell_of(struct runner *r, const char *word)
{
    if (strcmp(word, "icount") == 0) {
        return &r->rig->env.icount;
    }
    if (strcmp(word, "q0.hi") == 0) {
        return &r->rig->env.reg[RIG_Q + 1];
    }
    for (unsigned i = 0; i < RIG_REGS; i++) {
        if (strcmp(rig_target.regs[i].name, word) == 0) {
            return &r->rig->env.reg[i];
        }
    }
    return NULL;
}

static void finish_case(struct runner *r)
{
    for (unsigned i = 0; r->ran && i < ENV_REGS; i++) {
        if (r->rig->env.reg[i] != r->expected[i]) {
            complain(r, "register %s is 0x%" G_GINT64_MODIFIER "x, not 0x%" G_GINT64_MODIFIER "x",
                     i < RIG_REGS ? rig_target.regs[i].name : "beyond", r->rig->env.reg[i], r->expected[i]);
        }
    }
    r->ran = false;
}

static void run_case(struct runner *r, const char *stop)
{
    memcpy(r->expected, r->rig->env.reg, sizeof r->expected);
    r->stop = rig_run(r->rig, r->block);
    r->ran = true;
    if (strcmp(stops[r->stop], stop) != 0) {
        complain(r, "stopped by %s, not %s", stops[r->stop], stop);
    }
}

static uint64_t other_state(const struct runner *r, const char *what)
{
    const struct env *env = &r->rig->env;

    if (strcmp(what, "pc") == 0) {
        return env->pc;
    }
    if (strcmp(what, "exit") == 0) {
        return env->last_exit ? (uint64_t)(env->last_exit - r->block->exits) : UINT64_MAX;
    }
    if (strcmp(what, "cause") == 0) {
        return env->exc.pending ? env->exc.cause : UINT64_MAX;
    }
    if (strcmp(what, "value") == 0) {
        return env->exc.value;
    }
    if (strcmp(what, "fp_flags") == 0) {
        return env->fp_flags;
    }
    complain(r, "no state is called %s", what);
    return 0;
}

/* word: directive, name, value; or directive, "mem", address, value. */
static void directive(struct runner *r, char **word)
{
    guint n = g_strv_length(word);
    bool set = n > 0 && strcmp(word[0], "set") == 0, expect = n > 0 && strcmp(word[0], "expect") == 0;

    if (n == 2 && strcmp(word[0], "case") == 0) {
        finish_case(r);
        rig_reset(r->rig);
        g_free((char *)(uintptr_t)r->name);
        r->name = g_strdup(word[1]);
    } else if (n == 2 && strcmp(word[0], "stop") == 0) {
        run_case(r, word[1]);
    } else if (n == 4 && (set || expect) && strcmp(word[1], "mem") == 0) {
        uint64_t at = parse_number(r, word[2]) - RIG_RAM, v = parse_number(r, word[3]), got;
        g_assert_cmpuint(at, <=, RIG_RAM_SIZE - 8);
        if (set) {
            memcpy(r->rig->ram + at, &v, 8);
        }
        memcpy(&got, r->rig->ram + at, 8);
        if (got != v) {
            complain(r, "memory is 0x%" G_GINT64_MODIFIER "x, not %s", got, word[3]);
        }
    } else if (n == 3 && set && cell_of(r, word[1])) {
        *cell_of(r, word[1]) = parse_number(r, word[2]);
    } else if (n == 3 && expect) {
        uint64_t v = parse_number(r, word[2]), *cell = cell_of(r, word[1]);
        uint64_t got = cell ? *cell : other_state(r, word[1]);
        if (got != v) {
            complain(r, "%s is 0x%" G_GINT64_MODIFIER "x, not %s", word[1], got, word[2]);
        }
        if (cell && cell != &r->rig->env.icount) {
            r->expected[cell - r->rig->env.reg] = v;
        }
    } else {
        complain(r, "cannot read this directive");
    }
}

static void run_file(const char *file, const char *text, bool plain, bool fill)
{
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    struct runner r = {.file = file, .rig = rig_new(plain)};
    unsigned cases = 0;

    r.rig->fill = fill;
    rig_parse(ir, text);
    r.block = rig_compile(r.rig, ir);
    for (char **line = lines; *line; line++) {
        r.line++;
        if (!g_str_has_prefix(*line, ";!")) {
            continue;
        }
        g_auto(GStrv) split = g_strsplit_set(*line + 2, " \t", -1);
        g_autoptr(GPtrArray) words = g_ptr_array_new();
        for (char **w = split; *w; w++) {
            if (**w) {
                g_ptr_array_add(words, *w);
            }
        }
        g_ptr_array_add(words, NULL);
        directive(&r, (char **)words->pdata);
        cases += words->len > 1 && strcmp(words->pdata[0], "stop") == 0;
    }
    finish_case(&r);
    if (!cases) {
        complain(&r, "nothing is run");
    }
    g_free((char *)(uintptr_t)r.name);
    rig_free(r.rig);
}

static void check_file(gconstpointer data)
{
    const char *path = data;
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    g_file_get_contents(path, &text, NULL, &error);
    g_assert_no_error(error);
    for (unsigned k = 0; k < 4; k++) {
        run_file(path, text, k & 1, k & 2);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    const char *source = g_getenv("HOSTEL_TEST_SOURCE");
    g_autofree char *folder = g_build_filename(source ? source : ".", "ir", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, &error);
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);

    g_assert_no_error(error);
    for (const char *name; (name = g_dir_read_name(dir));) {
        if (g_str_has_suffix(name, ".ir")) {
            char *path = g_build_filename(folder, name, NULL);
            g_autofree char *test = g_strdup_printf("/engine/ir/%s", name);
            g_ptr_array_add(paths, path);
            g_test_add_data_func(test, path, check_file);
        }
    }
    g_assert_cmpuint(paths->len, >, 0);
    return g_test_run();
}
