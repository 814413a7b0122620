/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Command lines of `hostel image`: letters, names and plain arguments in any order. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "cli/cli.h"
#include "cli/image/image.h"

enum { NAMED = 256 /* what getopt_long answers for option 0 of a table; then + 1, ... */, OPTIONS_MAX = 48 };

#define VALUE(type, args, option) ((type *)(void *)((char *)(args) + (option)->offset))

enum { FRACTION_DIGITS = 15 /* what a double holds exactly, more or less */ };

/* Whole digits of a size, decimal or behind "0x". NULL when there are none or too many; else what follows. */
static const char *take_digits(const char *text, uint64_t *number)
{
    char *end;
    const bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') && g_ascii_isxdigit(text[2]);
    if (!g_ascii_isdigit(*text))
        return NULL;
    errno = 0;
    *number = g_ascii_strtoull(text, &end, hex ? 16 : 10);
    return errno ? NULL : end;
}

/* ".25" of a unit, when there is a fraction; what follows it. */
static const char *take_fraction(const char *text, double *fraction)
{
    char digits[FRACTION_DIGITS + 2] = "0.";
    if (*text != '.')
        return text;
    text++;
    const size_t n = strspn(text, "0123456789");
    memcpy(digits + 1, text - 1, MIN(n, FRACTION_DIGITS - 1) + 1);
    *fraction = g_ascii_strtod(digits, NULL);
    return text + n;
}

/* What a unit multiplies by, a power of two; text is moved behind it. */
static unsigned take_unit(const char **text)
{
    static const char units[] = "BKMGTPE";
    const char *unit = **text ? strchr(units, g_ascii_toupper(**text)) : NULL;
    if (!unit)
        return 0;
    ++*text;
    if (unit != units && (!strcmp(*text, "iB") || !strcmp(*text, "B")))
        *text += strlen(*text);
    return 10 * (unsigned)(unit - units);
}

/* "1.5G": digits, a fraction, a unit; or "0x1f0". As qemu-img reads them, so without exponents, and with no
 * fraction of a byte; and with KiB and KB for K, too. */
bool image_parse_size(const char *text, uint64_t *bytes, GError **error)
{
    uint64_t number = 0;
    double fraction = 0;
    const char *rest = take_digits(text, &number);
    const bool decimal = rest && !strpbrk(text, "xX");
    if (decimal)
        rest = take_fraction(rest, &fraction);
    const unsigned shift = rest ? take_unit(&rest) : 0;
    if (!rest || *rest || (fraction > 0 && !shift))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "'%s' is no size such as 16M, 1.5G or 65536", text);
    if (ckd_mul(&number, number, UINT64_C(1) << shift) || number > INT64_MAX - BLOCK_SECTOR)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "'%s' is more than a disk can have, 8 EiB", text);
    *bytes = number + (uint64_t)(fraction * (double)(UINT64_C(1) << shift));
    return true;
}

/* --- values --- */

static char *said(const struct image_option *o)
{
    return o->name ? g_strdup_printf("--%s", o->name) : g_strdup_printf("-%c", o->letter);
}

static bool take_count(const struct image_option *o, const char *text, unsigned *count, GError **error)
{
    char *end;
    const uint64_t number = g_ascii_strtoull(text, &end, 0);
    g_autofree char *name = said(o);
    if (!g_ascii_isdigit(*text) || *end || number > INT32_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s %s: must be a number", name, text);
    *count = (unsigned)number;
    return true;
}

static bool take_follow(const char *text, enum block_follow *follow, GError **error)
{
    if (text && strcmp(text, "any") != 0 && strcmp(text, "folder") != 0 && strcmp(text, "none") != 0)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--follow=%s: must be folder, any or none", text);
    *follow = !text || text[0] == 'f' ? BLOCK_FOLLOW_FOLDER
              : text[0] == 'a'        ? BLOCK_FOLLOW_ANY
                                      : BLOCK_FOLLOW_NONE;
    return true;
}

static bool take_value(const struct image_option *o, const char *text, struct image_args *args,
                       GError **error)
{
    g_autofree char *name = said(o);
    if (o->choice) {
        g_auto(GStrv) words = g_strsplit(o->choice, "|", -1);
        if (!g_strv_contains((const char *const *)words, text))
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s %s: must be %s", name, text, o->choice);
    }
    switch (o->type) {
    case IMAGE_FLAG: *VALUE(bool, args, o) = true; return true;
    case IMAGE_TEXT: *VALUE(const char *, args, o) = text; return true;
    case IMAGE_COUNT: return take_count(o, text, VALUE(unsigned, args, o), error);
    case IMAGE_FOLLOW: return take_follow(text, VALUE(enum block_follow, args, o), error);
    case IMAGE_ACTION:
    case IMAGE_TEXTS:
        if (!*VALUE(GPtrArray *, args, o))
            *VALUE(GPtrArray *, args, o) = g_ptr_array_new();
        if (o->type == IMAGE_ACTION)
            g_ptr_array_add(*VALUE(GPtrArray *, args, o), (void *)(uintptr_t)o->name);
        g_ptr_array_add(*VALUE(GPtrArray *, args, o), (void *)(uintptr_t)text);
        return true;
    case IMAGE_SIZE:
        if (image_parse_size(text, VALUE(uint64_t, args, o), error))
            return true;
        g_prefix_error(error, "%s: ", name);
        return false;
    }
    g_assert_not_reached();
}

/* --- getopt --- */

static void make_tables(const struct image_option *options, struct option *longs, GString *letters)
{
    unsigned n = 0;
    g_string_append(letters, ":h");
    longs[n++] = (struct option){"help", no_argument, NULL, 'h'};
    for (unsigned i = 0; options[i].letter || options[i].name; i++) {
        const struct image_option *o = &options[i];
        const int argument = !o->arg ? no_argument : *o->arg == '[' ? optional_argument : required_argument;
        if (o->letter)
            g_string_append_printf(letters, "%c%s", o->letter, argument ? ":" : "");
        g_assert(n < OPTIONS_MAX);
        if (o->name)
            longs[n++] = (struct option){o->name, argument, NULL, NAMED + (int)i};
    }
    longs[n] = (struct option){0};
}

static const struct image_option *option_of(const struct image_option *options, int answer)
{
    if (answer >= NAMED)
        return &options[answer - NAMED];
    for (; options->letter || options->name; options++)
        if (options->letter == answer)
            return options;
    return NULL;
}

/* What getopt could not make sense of; argv[at] is where it was. */
static bool refuse(int answer, const char *word, const char *command, GError **error)
{
    char letter[] = {'-', (char)optopt, '\0'};
    const char *name = g_str_has_prefix(word, "--") || !isgraph(optopt) || optopt >= NAMED ? word : letter;
    if (answer == ':')
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s needs an argument", name);
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "unknown option '%s'; 'hostel image %s --help' lists them",
                       name, command);
}

static bool parse(struct image_args *args, const struct image_command *command, char **argv, bool *help,
                  GError **error)
{
    struct option longs[OPTIONS_MAX + 1];
    g_autoptr(GString) letters = g_string_new(NULL);
    make_tables(command->options, longs, letters);
    const int all = (int)g_strv_length(argv);
    const char *last = all > 1 ? argv[all - 1] : "";
    const int argc = all - (command->signed_last && last[0] == '-' && g_ascii_isdigit(last[1]));
    optind = 0; /* begin anew */
    opterr = 0;
    for (;;) {
        const int at = MAX(optind, 1), answer = getopt_long(argc, argv, letters->str, longs, NULL);
        if (answer == -1)
            break;
        *help |= answer == 'h' && !option_of(command->options, 'h');
        if (answer == 'h')
            continue;
        if (answer == '?' || answer == ':')
            return refuse(answer, argv[MIN(optind > at ? optind - 1 : at, argc - 1)], command->name, error);
        if (!take_value(option_of(command->options, answer), optarg, args, error))
            return false;
    }
    args->argv = argv;
    args->names = argv + optind;
    args->n = (unsigned)(all - optind);
    return true;
}

bool image_args_parse(struct image_args *args, const struct image_command *command, char **argv, int *code)
{
    GError *error = NULL;
    bool help = false;
    *args = (struct image_args){.command = command, .output = "human"};
    if (parse(args, command, argv, &help, &error)) {
        if (help)
            image_help_command(command);
        *code = CLI_OK;
        return !help;
    }
    *code = image_fail(error, command->usage);
    return false;
}

void image_args_fini(struct image_args *args)
{
    for (const struct image_option *o = args->command->options; o->letter || o->name; o++) {
        if ((o->type != IMAGE_TEXTS && o->type != IMAGE_ACTION) || !*VALUE(GPtrArray *, args, o))
            continue;
        g_ptr_array_unref(*VALUE(GPtrArray *, args, o));
        *VALUE(GPtrArray *, args, o) = NULL;
    }
    if (args->key)
        explicit_bzero(args->key, args->key_size);
    g_free(args->key);
    args->key = NULL;
}

/* --- help --- */

void image_help_command(const struct image_command *command)
{
    printf("Usage: hostel image %s %s\n\nWhat it does: %s.\n\n", command->name, command->synopsis,
           command->help);
    for (const struct image_option *o = command->options; o->letter || o->name; o++) {
        g_autoptr(GString) left = g_string_new(NULL);
        if (o->letter)
            g_string_append_printf(left, "-%c%s", o->letter, o->name ? ", " : "");
        if (o->name)
            g_string_append_printf(left, "--%s", o->name);
        if (o->arg)
            g_string_append_printf(left, "%s%s", *o->arg == '[' ? "" : " ", o->arg);
        printf("  %-32s %s\n", left->str, o->help);
    }
}

void image_help(void)
{
    printf("Usage: hostel image COMMAND [OPTION]... FILE...\n\nMakes, describes, checks, copies and changes "
           "disk "
           "images.\n\n");
    for (unsigned i = 0; image_commands[i]; i++)
        printf("  %-10s %s\n", image_commands[i]->name, image_commands[i]->help);
    g_autofree char *names = block_driver_names();
    printf(
        "\nFormats: %s.\n'hostel image COMMAND --help' lists options; hostel-image(1) explains everything.\n",
        names);
}
