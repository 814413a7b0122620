/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Command-line options from tables. */
#include "control/option.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/error.h"
#include "os/fd.h"

/* The value of a row, as its type. */
#define VALUE(type, values, row) ((type *)(void *)((char *)(values) + (row)->offset))
#define CONST_VALUE(type, values, row) ((type const *)(const void *)((const char *)(values) + (row)->offset))

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

/* --- one argument --- */

static bool parse_choice(const struct option_row *row, const char *text, GError **error)
{
    g_auto(GStrv) words = g_strsplit(row->choice, "|", -1);
    if (g_strv_contains((const char *const *)words, text))
        return true;
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s %s: must be %s", row->name, text, row->choice);
}

static bool parse_count(const struct option_row *row, const char *text, unsigned *count, GError **error)
{
    const char *end;
    uint64_t number;
    if (!parse_number(text, &end, &number) || *end || number == 0 || number > UINT_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s %s: must be a whole number, 1 or more", row->name,
                           text);
    *count = (unsigned)number;
    return true;
}

static bool parse_size(const struct option_row *row, unsigned who, const char *text, uint64_t *bytes,
                       GError **error)
{
    if (!option_parse_size(text, bytes))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s %s: must be a size such as %s", row->name, text,
                           row->value);
    /* People who leave out the unit are used to programs that mean MiB by it. */
    if (who == OPTION_CLI && *bytes < MiB && g_ascii_isdigit(text[strlen(text) - 1]))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s %s: means bytes; write %sM for MiB", row->name,
                           text, text);
    return true;
}

/* "fd:N" or "fd:N:name", of a VMM. A path is refused here, once for all options. */
static bool parse_descriptor(const struct option_row *row, const char *text, struct option_file *file,
                             GError **error)
{
    const char *end;
    uint64_t number;
    if (!g_str_has_prefix(text, "fd:") || !parse_number(text + 3, &end, &number) || (*end && *end != ':'))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "--%s %s: a guest's process opens no paths; hand in a descriptor, as in fd:5, or "
                           "use 'hostel run'",
                           row->name, text);
    if (number <= 2 || number > INT_MAX || !fd_is_open((int)number))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s %s: is not an open descriptor from 3 on",
                           row->name, text);
    file->fd = (int)number;
    file->name = *end ? end + 1 : text;
    return true;
}

static bool parse_file(const struct option_row *row, unsigned who, const char *text, struct option_file *file,
                       GError **error)
{
    if (who == OPTION_VMM)
        return parse_descriptor(row, text, file, error);
    if (!*text)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s: the name of the file is empty", row->name);
    file->name = text;
    return true;
}

static bool parse_console(const struct option_row *row, unsigned who, const char *text,
                          struct option_console *console, GError **error)
{
    static const char file_prefix[] = "file=";
    *console = (struct option_console){.file = {.fd = -1}};
    if (!strcmp(text, "none")) {
        console->kind = CONSOLE_NONE;
        return true;
    }
    if (g_str_has_prefix(text, file_prefix)) {
        console->kind = CONSOLE_FILE;
        return parse_file(row, who, text + strlen(file_prefix), &console->file, error);
    }
    console->kind = CONSOLE_STDIO;
    if (who == OPTION_VMM)
        return parse_file(row, who, text, &console->file, error);
    if (!strcmp(text, "stdio"))
        return true;
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s %s: must be stdio, none or file=FILE", row->name,
                       text);
}

static bool parse_value(const struct option_row *row, unsigned who, const char *text, void *values,
                        GError **error)
{
    if (row->choice && !parse_choice(row, text, error))
        return false;
    switch (row->type) {
    case OPTION_FLAG: *VALUE(bool, values, row) = true; return true;
    case OPTION_TEXT: *VALUE(const char *, values, row) = text; return true;
    case OPTION_COUNT: return parse_count(row, text, VALUE(unsigned, values, row), error);
    case OPTION_SIZE: return parse_size(row, who, text, VALUE(uint64_t, values, row), error);
    case OPTION_FILE: return parse_file(row, who, text, VALUE(struct option_file, values, row), error);
    case OPTION_CONSOLE:
        return parse_console(row, who, text, VALUE(struct option_console, values, row), error);
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
            parse_value(row, OPTION_CLI, row->value, values, NULL);
    }
}

void option_fini(const struct option_row *rows, void *values)
{
    for (const struct option_row *row = rows; row->name; row++) {
        if (row->type == OPTION_FILE)
            fd_close(&VALUE(struct option_file, values, row)->fd);
        if (row->type == OPTION_CONSOLE)
            fd_close(&VALUE(struct option_console, values, row)->file.fd);
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
        if (!parse_value(row, who, text, values, error))
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

/* The argument as text; NULL when the option is not given. For a flag, "". */
static char *to_text(const struct option_row *row, const void *values, GArray *fds)
{
    switch (row->type) {
    case OPTION_FLAG: return *CONST_VALUE(bool, values, row) ? g_strdup("") : NULL;
    case OPTION_TEXT: return g_strdup(*CONST_VALUE(const char *, values, row));
    case OPTION_COUNT: return g_strdup_printf("%u", *CONST_VALUE(unsigned, values, row));
    case OPTION_SIZE: return g_strdup_printf("%" G_GUINT64_FORMAT, *CONST_VALUE(uint64_t, values, row));
    case OPTION_FILE: return file_argument(CONST_VALUE(struct option_file, values, row), fds);
    case OPTION_CONSOLE: return console_argument(CONST_VALUE(struct option_console, values, row), fds);
    }
    g_assert_not_reached();
}

void option_to_vmm(const struct option_row *rows, const void *values, GPtrArray *argv, GArray *fds)
{
    for (const struct option_row *row = rows; row->name; row++) {
        if (!(row->who & OPTION_VMM))
            continue;
        g_autofree char *text = to_text(row, values, fds);
        if (!text || !g_strcmp0(text, row->value))
            continue;
        g_ptr_array_add(argv, g_strconcat("--", row->name, NULL));
        if (row->type != OPTION_FLAG)
            g_ptr_array_add(argv, g_steal_pointer(&text));
    }
}

/* --- names that were meant --- */

enum { NAME_MAX_LENGTH = 31 };

/* How many letters must be changed, added or removed to make b of a (Levenshtein's distance). */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[NAME_MAX_LENGTH + 1];
    unsigned width = (unsigned)strlen(b);
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
    };
    for (unsigned i = 0; i < ARRAY_SIZE(elsewhere); i++)
        if (!strcmp(elsewhere[i].theirs, name))
            name = elsewhere[i].ours;

    const struct option_row *best = NULL;
    unsigned best_distance = 3; /* further away is no likeness */
    for (const struct option_row *row = rows; row->name; row++) {
        if (!(row->who & who) || strlen(row->name) > NAME_MAX_LENGTH)
            continue;
        unsigned d = distance(name, row->name);
        if (d < best_distance && d < strlen(row->name)) {
            best = row;
            best_distance = d;
        }
    }
    return best;
}
