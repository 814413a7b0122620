/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Command-line options from tables. */
#include "base/option_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/error.h"

static bool parse_number(const char *text, const char **end, uint64_t *value)
{
    if (!g_ascii_isdigit(*text))
        return false;
    errno = 0;
    char *stop;
    *value = strtoull(text, &stop, 10);
    *end = stop;
    return errno == 0;
}

bool option_parse_size(const char *text, uint64_t *bytes)
{
    static const char units[] = "KMGT";
    const char *end;
    uint64_t number;
    if (!parse_number(text, &end, &number))
        return false;
    unsigned shift = 0;
    const char *unit = *end ? strchr(units, g_ascii_toupper(*end)) : NULL;
    if (unit) {
        shift = 10 * (unsigned)(unit - units + 1);
        end++;
        if (!strcmp(end, "iB") || !strcmp(end, "B"))
            end += strlen(end);
    }
    return !*end && !ckd_mul(bytes, number, BIT(shift));
}

bool option_parse_rate(const char *text, uint64_t *rate)
{
    static const char units[] = "KMG";
    const char *end;
    if (!parse_number(text, &end, rate))
        return false;
    const char *unit = *end ? strchr(units, g_ascii_toupper(*end)) : NULL;
    for (const char *u = units; unit && u <= unit; u++)
        if (ckd_mul(rate, *rate, UINT64_C(1000)))
            return false;
    return *rate <= INT64_MAX && !end[unit != NULL];
}

/* --- one value --- */

char *option_said(const struct option_at *at, const char *text)
{
    if (at->list)
        return g_strdup_printf("--%s %s=%s", at->list->name, at->row->name, text);
    return g_strdup_printf("--%s %s", at->row->name, text);
}

/* Refuses text, which `must` be something. */
static bool refuse(const struct option_at *at, const char *text, const char *must, GError **error)
{
    g_autofree char *said = option_said(at, text);
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: must be %s", said, must);
}

static bool parse_choice(const struct option_at *at, const char *text, GError **error)
{
    g_auto(GStrv) words = g_strsplit(at->row->choice, "|", -1);
    return g_strv_contains((const char *const *)words, text) || refuse(at, text, at->row->choice, error);
}

static bool parse_switch(const struct option_at *at, const char *text, bool *on, GError **error)
{
    *on = !strcmp(text, "on");
    return *on || !strcmp(text, "off") || refuse(at, text, "on or off", error);
}

static bool parse_count(const struct option_at *at, const char *text, unsigned *count, GError **error)
{
    const char *end;
    uint64_t number;
    const bool none = at->row->may_be_none;
    if (!parse_number(text, &end, &number) || *end || (number == 0 && !none) || number > UINT_MAX)
        return refuse(at, text, none ? "a whole number" : "a whole number, 1 or more", error);
    *count = (unsigned)number;
    return true;
}

static bool parse_size(const struct option_at *at, const char *text, uint64_t *bytes, GError **error)
{
    g_autofree char *said = option_said(at, text);
    if (!option_parse_size(text, bytes))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: must be a size such as %s", said,
                           at->row->value ? at->row->value : "16M");
    /* People who leave out the unit are used to programs that mean MiB by it. */
    if (at->who == OPTION_CLI && *bytes < MiB && g_ascii_isdigit(text[strlen(text) - 1]))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: means bytes; write %sM for MiB", said, text);
    return true;
}

static bool parse_rate(const struct option_at *at, const char *text, uint64_t *rate, GError **error)
{
    g_autofree char *said = option_said(at, text);
    return option_parse_rate(text, rate) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: must be a number a second, such as 10M", said);
}

/* "fd:N" or "fd:N:name", of a VMM. A path is refused here, once for all options. */
static bool parse_descriptor(const struct option_at *at, const char *text, struct option_file *file,
                             GError **error)
{
    const char *end;
    uint64_t number;
    g_autofree char *said = option_said(at, text);
    if (!g_str_has_prefix(text, "fd:") || !parse_number(text + 3, &end, &number) || (*end && *end != ':'))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a guest's process opens no paths; hand in a descriptor, as in fd:5, or use "
                           "'hostel run'",
                           said);
    if (number <= 2 || number > INT_MAX || fcntl((int)number, F_GETFD) < 0)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: is not an open descriptor from 3 on", said);
    file->fd = (int)number;
    file->name = *end ? end + 1 : text;
    return true;
}

static bool parse_file(const struct option_at *at, const char *text, struct option_file *file, GError **error)
{
    if (at->who == OPTION_VMM)
        return parse_descriptor(at, text, file, error);
    g_autofree char *said = option_said(at, "");
    if (!*text)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: the name of the file is empty", g_strchomp(said));
    file->name = text;
    return true;
}

static bool parse_console(const struct option_at *at, const char *text, struct option_console *console,
                          GError **error)
{
    static const char file_prefix[] = "file=";
    *console = (struct option_console){.file = {.fd = -1}};
    if (!strcmp(text, "none")) {
        console->kind = CONSOLE_NONE;
        return true;
    }
    if (g_str_has_prefix(text, file_prefix)) {
        console->kind = CONSOLE_FILE;
        return parse_file(at, text + strlen(file_prefix), &console->file, error);
    }
    console->kind = CONSOLE_STDIO;
    if (at->who == OPTION_VMM)
        return parse_file(at, text, &console->file, error);
    return !strcmp(text, "stdio") || refuse(at, text, "stdio, none or file=FILE", error);
}

static bool add_text(GPtrArray **texts, const char *text)
{
    if (!*texts)
        *texts = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(*texts, g_strdup(text));
    return true;
}

bool option_parse_value(const struct option_at *at, const char *text, void *values, GError **error)
{
    const struct option_row *row = at->row;
    if (row->choice && !parse_choice(at, text, error))
        return false;
    switch (row->type) {
    case OPTION_FLAG: *VALUE(bool, values, row) = true; return true;
    case OPTION_SWITCH: return parse_switch(at, text, VALUE(bool, values, row), error);
    case OPTION_TEXT: *VALUE(const char *, values, row) = text; return true;
    case OPTION_TEXTS: return add_text(VALUE(GPtrArray *, values, row), text);
    case OPTION_COUNT: return parse_count(at, text, VALUE(unsigned, values, row), error);
    case OPTION_SIZE: return parse_size(at, text, VALUE(uint64_t, values, row), error);
    case OPTION_RATE: return parse_rate(at, text, VALUE(uint64_t, values, row), error);
    case OPTION_FILE: return parse_file(at, text, VALUE(struct option_file, values, row), error);
    case OPTION_CONSOLE: return parse_console(at, text, VALUE(struct option_console, values, row), error);
    case OPTION_LIST: return option_list_parse(at, text, VALUE(struct option_list, values, row), error);
    }
    g_assert_not_reached();
}

/* --- whole command lines --- */

void option_init(const struct option_row *rows, void *values)
{
    for (const struct option_row *row = rows; row->name; row++) {
        if (row->type == OPTION_FILE)
            VALUE(struct option_file, values, row)->fd = -1;
        if (row->type == OPTION_CONSOLE)
            VALUE(struct option_console, values, row)->file.fd = -1;
        else if (row->value) /* a console's default is the zero of its kind */
            option_parse_value(&(struct option_at){.row = row, .who = OPTION_CLI}, row->value, values, NULL);
    }
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void free_texts(GPtrArray **texts)
{
    if (*texts)
        g_ptr_array_unref(*texts);
    *texts = NULL;
}

void option_fini(const struct option_row *rows, void *values)
{
    for (const struct option_row *row = rows; row->name; row++) {
        if (row->type == OPTION_FILE)
            close_fd(&VALUE(struct option_file, values, row)->fd);
        if (row->type == OPTION_CONSOLE)
            close_fd(&VALUE(struct option_console, values, row)->file.fd);
        if (row->type == OPTION_TEXTS)
            free_texts(VALUE(GPtrArray *, values, row));
        if (row->type == OPTION_LIST)
            option_list_fini(row, VALUE(struct option_list, values, row));
    }
}

void option_fds(const struct option_row *rows, const void *values, GArray *fds)
{
    for (const struct option_row *row = rows; row->name; row++) {
        int fd = -1;
        if (row->type == OPTION_FILE)
            fd = CONST_VALUE(struct option_file, values, row)->fd;
        if (row->type == OPTION_CONSOLE)
            fd = CONST_VALUE(struct option_console, values, row)->file.fd;
        if (fd >= 0)
            g_array_append_val(fds, fd);
        const struct option_list *list = CONST_VALUE(struct option_list, values, row);
        if (row->type == OPTION_LIST)
            for (unsigned i = 0; i < list->count; i++)
                option_fds(row->keys, option_list_item(row, list, i), fds);
    }
}

static const struct option_row *find(const struct option_row *rows, unsigned who, const char *name,
                                     size_t length)
{
    for (const struct option_row *row = rows; row->name; row++)
        if (row->who & who && strlen(row->name) == length && !strncmp(row->name, name, length))
            return row;
    return NULL;
}

static bool fail_unknown(const struct option_row *rows, unsigned who, const char *arg, GError **error)
{
    if (arg[0] != '-')
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "unexpected argument '%s'; everything is said with options (a kernel with --kernel)", arg);
    g_autofree char *name = g_strndup(arg, strcspn(arg, "="));
    const struct option_row *near = option_nearest(rows, who, name + strspn(name, "-"));
    if (near)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "unknown option '%s'; did you mean --%s?", name,
                           near->name);
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "unknown option '%s'; --help lists them", name);
}

bool option_parse(const struct option_row *rows, unsigned who, char *const *argv, void *values,
                  GError **error)
{
    for (; *argv; argv++) {
        const char *arg = *argv;
        bool dashes = g_str_has_prefix(arg, "--");
        size_t length = dashes ? strcspn(arg + 2, "=") : 0;
        const struct option_row *row = dashes ? find(rows, who, arg + 2, length) : NULL;
        if (!row)
            return fail_unknown(rows, who, arg, error);
        const char *text = arg[2 + length] == '=' ? arg + 2 + length + 1 : NULL;
        if (row->type == OPTION_FLAG && text)
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s takes no argument, found '%s'", row->name,
                               text);
        if (row->type != OPTION_FLAG && !text) {
            text = *++argv;
            if (!text)
                return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s needs an argument: --%s %s", row->name,
                                   row->name, row->arg);
        }
        const struct option_at at = {.row = row, .who = who};
        if (!option_parse_value(&at, text, values, error))
            return false;
    }
    return true;
}

/* --- for a VMM --- */

/* The argument that stands for a file; NULL when there is none. Only the last part of its path is told. */
static char *file_argument(const struct option_file *file, GArray *fds)
{
    if (file->fd < 0)
        return NULL;
    g_array_append_val(fds, file->fd);
    g_autofree char *base = g_path_get_basename(file->name ? file->name : "");
    return file->name ? g_strdup_printf("fd:%d:%s", file->fd, base) : g_strdup_printf("fd:%d", file->fd);
}

static char *console_argument(const struct option_console *console, GArray *fds)
{
    if (console->kind == CONSOLE_NONE)
        return g_strdup("none");
    g_autofree char *file = file_argument(&console->file, fds);
    return file ? g_strconcat(console->kind == CONSOLE_FILE ? "file=" : "", file, NULL) : NULL;
}

/* No count is 0: it was not given, and there is no default. */
static char *count_text(unsigned count)
{
    return count ? g_strdup_printf("%u", count) : NULL;
}

char *option_value_text(const struct option_row *row, const void *values, GArray *fds)
{
    switch (row->type) {
    case OPTION_FLAG: return *CONST_VALUE(bool, values, row) ? g_strdup("") : NULL;
    case OPTION_SWITCH: return g_strdup(*CONST_VALUE(bool, values, row) ? "on" : "off");
    case OPTION_TEXT: return g_strdup(*CONST_VALUE(const char *, values, row));
    case OPTION_COUNT: return count_text(*CONST_VALUE(unsigned, values, row));
    case OPTION_SIZE:
    case OPTION_RATE: return g_strdup_printf("%" G_GUINT64_FORMAT, *CONST_VALUE(uint64_t, values, row));
    case OPTION_FILE: return file_argument(CONST_VALUE(struct option_file, values, row), fds);
    case OPTION_CONSOLE: return console_argument(CONST_VALUE(struct option_console, values, row), fds);
    case OPTION_TEXTS:
    case OPTION_LIST: break;
    }
    g_assert_not_reached();
}

/* Adds "--name text". */
static void add_argument(const struct option_row *row, char *text, GPtrArray *argv)
{
    g_ptr_array_add(argv, g_strconcat("--", row->name, NULL));
    g_ptr_array_add(argv, text);
}

/* Adds each of the values of a row that may be given repeatedly. */
static void add_arguments(const struct option_row *row, const void *values, GPtrArray *argv, GArray *fds)
{
    if (row->type == OPTION_TEXTS) {
        const GPtrArray *texts = *CONST_VALUE(GPtrArray *, values, row);
        for (unsigned i = 0; texts && i < texts->len; i++)
            add_argument(row, g_strdup(texts->pdata[i]), argv);
        return;
    }
    const struct option_list *list = CONST_VALUE(struct option_list, values, row);
    for (unsigned i = 0; i < list->count; i++)
        add_argument(row, option_list_text(row, option_list_item(row, list, i), fds), argv);
}

void option_to_vmm(const struct option_row *rows, const void *values, GPtrArray *argv, GArray *fds)
{
    for (const struct option_row *row = rows; row->name; row++) {
        if (!(row->who & OPTION_VMM))
            continue;
        if (row->type == OPTION_TEXTS || row->type == OPTION_LIST) {
            add_arguments(row, values, argv, fds);
            continue;
        }
        g_autofree char *text = option_value_text(row, values, fds);
        if (!text || !g_strcmp0(text, row->value))
            continue;
        if (row->type == OPTION_FLAG)
            g_ptr_array_add(argv, g_strconcat("--", row->name, NULL));
        else
            add_argument(row, g_steal_pointer(&text), argv);
    }
}

/* --- names that were meant --- */

unsigned option_distance(const char *a, const char *b)
{
    unsigned row[OPTION_NAME_MAX + 1];
    unsigned width = (unsigned)strlen(b);
    if (width > OPTION_NAME_MAX)
        return UINT_MAX;
    for (unsigned j = 0; j <= width; j++)
        row[j] = j;
    for (unsigned i = 0; a[i]; i++) {
        unsigned diagonal = row[0];
        row[0] = i + 1;
        for (unsigned j = 0; j < width; j++) {
            unsigned change = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = MIN(change, MIN(diagonal, row[j]) + 1);
        }
    }
    return row[width];
}

const struct option_row *option_nearest(const struct option_row *rows, unsigned who, const char *name)
{
    /* What other programs call it. */
    static const struct {
        const char *theirs, *ours;
    } elsewhere[] = {
        {"m", "memory"},          {"mem", "memory"},     {"ram", "memory"},     {"smp", "cpus"},
        {"M", "board"},           {"machine", "board"},  {"accel", "method"},   {"bios", "firmware"},
        {"nographic", "console"}, {"serial", "console"}, {"nic", "net"},        {"netdev", "net"},
        {"d", "trace"},           {"h", "help"},         {"cmdline", "append"}, {"arch", "isa"},
        {"drive", "disk"},        {"hda", "disk"},       {"path", "file"},      {"filename", "file"},
        {"ro", "readonly"},       {"fmt", "format"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(elsewhere); i++)
        if (!strcmp(elsewhere[i].theirs, name))
            name = elsewhere[i].ours;

    const struct option_row *best = NULL;
    unsigned best_distance = OPTION_FAR;
    for (const struct option_row *row = rows; row->name; row++) {
        if (!(row->who & who))
            continue;
        unsigned d = option_distance(name, row->name);
        if (d < best_distance && d < strlen(row->name)) {
            best = row;
            best_distance = d;
        }
    }
    return best;
}
