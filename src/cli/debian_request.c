/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The command line of `hostel run debian`: its own options are told from those of any guest. */
#include <string.h>

#include "base/error.h"
#include "cli/debian.h"
#include "control/guest_options.h"

static const char *const releases[] = {"trixie"};
enum { DISK_SIZE_GIB = 4, HOSTNAME_MAX = 63 };

const struct option_row debian_option_rows[] = {
#define DEBIAN_OPTION(field, option, TYPE, argument, preset, text)                                           \
    {.name = option,                                                                                         \
     .arg = argument,                                                                                        \
     .value = preset,                                                                                        \
     .group = "A new guest",                                                                                 \
     .help = text,                                                                                           \
     .type = OPTION_##TYPE,                                                                                  \
     .who = OPTION_CLI,                                                                                      \
     .offset = offsetof(struct debian_options, field)},
#include "cli/debian_options.def"
#undef DEBIAN_OPTION
    {0},
};

bool debian_is_meant(const char *word)
{
    return word && (!strcmp(word, "debian") || g_str_has_prefix(word, "debian:"));
}

static bool parse_release(struct debian_request *r, const char *system, GError **error)
{
    const char *colon = strchr(system, ':');
    r->release = releases[0];
    for (unsigned i = 0; colon && i < G_N_ELEMENTS(releases); i++)
        if (!strcmp(colon + 1, releases[i])) {
            r->release = releases[i];
            return true;
        }
    return !colon ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: there is debian:%s only", system, releases[0]);
}

static const struct option_row *find(const struct option_row *rows, const char *arg)
{
    size_t length = strcspn(arg, "=");
    for (const struct option_row *row = rows; row->name; row++)
        if (g_str_has_prefix(arg, "--") && strlen(row->name) == length - 2 &&
            !strncmp(row->name, arg + 2, length - 2))
            return row;
    return NULL;
}

/* Adds an option with its argument, if that is the next word; how many words that were. */
static unsigned take(const struct option_row *row, char *const *argv, GPtrArray *out)
{
    g_ptr_array_add(out, argv[0]);
    if (!row || row->type == OPTION_FLAG || strchr(argv[0], '=') || !argv[1])
        return 1;
    g_ptr_array_add(out, argv[1]);
    return 2;
}

/* The guest's own kernel is what this is about. */
static bool refuse(const struct option_row *row, GError **error)
{
    static const char *const refused[] = {"kernel", "initrd", "firmware", "flash", NULL};
    return !row || !g_strv_contains(refused, row->name) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "--%s: Debian brings its own; 'hostel run --%s ...' starts another", row->name,
                       row->name);
}

static bool check_word(const char *option, const char *word, const char *also, size_t most, GError **error)
{
    size_t length = strlen(word);
    bool good = length && length <= most && g_ascii_islower(word[0]);
    for (size_t i = 0; i < length; i++)
        good &= g_ascii_islower(word[i]) || g_ascii_isdigit(word[i]) || strchr(also, word[i]);
    return good ||
           hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "--%s %s: must begin with a lower-case letter, then more of them, digits and '%c'",
                       option, word, also[0]);
}

static bool check(struct debian_request *r, GError **error)
{
    const struct debian_options *o = &r->own;
    if (o->size < (uint64_t)DISK_SIZE_GIB << 30 || o->size % 4096)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--size: must be at least %dG, and a multiple of 4K",
                           DISK_SIZE_GIB);
    if (o->password && o->password_file)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--password and --password-file: give one of them");
    if (o->password && (!*o->password || strpbrk(o->password, "\r\n")))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--password: must be one line, and not empty");
    if (!check_word("user", o->user, "-_", 31, error) ||
        (o->hostname && !check_word("hostname", o->hostname, "-", HOSTNAME_MAX, error)))
        return false;
    for (unsigned i = 0; o->packages && i < o->packages->len; i++)
        if (!check_word("package", o->packages->pdata[i], "-+.", 255, error))
            return false;
    return true;
}

bool debian_request_parse(struct debian_request *r, char **argv, GError **error)
{
    *r = (struct debian_request){.name = "debian", .guest = g_ptr_array_new()};
    option_init(debian_option_rows, &r->own);
    if (!parse_release(r, argv[0], error))
        return false;
    g_autoptr(GPtrArray) own = g_ptr_array_new();
    for (argv++; *argv;) {
        const struct option_row *mine = find(debian_option_rows, *argv),
                                *row = find(guest_option_rows, *argv);
        if (!refuse(row, error))
            return false;
        if (row && !strcmp(row->name, "name"))
            r->name = strchr(*argv, '=') ? strchr(*argv, '=') + 1 : argv[1] ? argv[1] : r->name;
        argv += take(mine ? mine : row, argv, mine ? own : r->guest);
    }
    r->has_own = own->len > 0;
    g_ptr_array_add(own, NULL);
    return option_parse(debian_option_rows, OPTION_CLI, (char *const *)own->pdata, &r->own, error) &&
           check(r, error);
}

void debian_request_fini(struct debian_request *r)
{
    option_fini(debian_option_rows, &r->own);
    g_ptr_array_unref(r->guest);
}
