/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image create`: a new image, empty or over another one. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/option_int.h"
#include "cli/cli.h"
#include "cli/image/image.h"

static const struct image_option options[] = {
    IMAGE_OPT('f', NULL, "FORMAT", IMAGE_TEXT, format, "the new image's format (default raw)"),
    IMAGE_OPT_CREATE,
    IMAGE_OPT('b', NULL, "FILE", IMAGE_TEXT, backing, "the image it lies over, as it is written into it"),
    IMAGE_OPT('F', NULL, "FORMAT", IMAGE_TEXT, backing_format, "that image's format"),
    IMAGE_OPT('u', NULL, NULL, IMAGE_FLAG, unsafe, "do not look at the image it lies over"),
    IMAGE_OPTS_KEY,
    IMAGE_OPT_QUIET,
    IMAGE_OPT_END,
};

/* Looks at the disk that the new one lies over: it is there, and has this size. */
static bool look_at_backing(struct image_args *args, const struct image_make *make, const char *name,
                            uint64_t *size, GError **error)
{
    g_autofree char *path = block_path_resolve(name, make->backing);
    AUTO_IMAGE backing = {0};
    if (!image_open(args, path, make->backing_format, NULL, IMAGE_READ | IMAGE_ALONE, &backing, error)) {
        g_prefix_error(error, "the backing file (-u makes the image without looking at it): ");
        return false;
    }
    if (!*size)
        *size = backing.disk->facts.size;
    return true;
}

static bool find_size(struct image_args *args, const struct image_values *v, struct image_make *make,
                      GError **error)
{
    const char *text = args->n > 1 ? args->names[1] : v->size;
    if (args->n > 1 && v->size)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "the size is given twice: %s and -o size=%s", text,
                           v->size);
    if (text && !image_parse_size(text, &make->size, error))
        return false;
    if (make->backing && !*make->backing)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "-b: the name of the backing file is empty");
    if (make->backing && !make->backing_format)
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "the format of the backing file %s is missing, and formats are not guessed: -F FORMAT",
            make->backing);
    if (make->backing_format && !make->backing)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "-F %s: is the format of a backing file: -b FILE",
                           make->backing_format);
    if (make->backing_format && !image_format(make->backing_format, error))
        return false;
    if (make->backing && !args->unsafe && !look_at_backing(args, make, args->names[0], &make->size, error))
        return false;
    return text || (make->backing && !args->unsafe) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "the size is missing: hostel image create ... %s SIZE",
                       args->names[0]);
}

static bool is_among(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (!strcmp(name, *names))
            return true;
    return false;
}

static bool is_given(const struct image_values *v, const char *name)
{
    g_autofree char *key = g_strdup_printf(",%s=", name);
    return strstr(v->given, key) != NULL;
}

/* Appends what the options say that come before the size (first), or behind it. */
static void say_options(GString *line, const struct image_make *make, const struct image_values *v,
                        bool first)
{
    static const char *const before_size[] = {"cluster_size", "extended_l2", "preallocation",
                                              "compression_type", NULL};
    static const char *const quiet[] = {"compat",        "data_file",  "data_file_raw",
                                        "preallocation", "block_size", NULL};
    const bool some_first = !strcmp(make->format->name, "qcow2");
    for (const struct option_row *row = make->format->image->create_options; row && row->name; row++) {
        g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
        g_autofree char *text = option_value_text(row, make->options, fds);
        const bool preset = text && row->value && !strcmp(text, row->value);
        if (text && (some_first && is_among(row->name, before_size)) == first &&
            !(preset && is_among(row->name, quiet) && !is_given(v, row->name)))
            g_string_append_printf(line, " %s=%s", row->name, *text ? text : "on");
    }
}

/* In qemu-img's words and order, which programs look for. */
static void say_formatting(const struct image_args *args, const struct image_make *make,
                           const struct image_values *v)
{
    g_autoptr(GString) line = g_string_new(NULL);
    say_options(line, make, v, true);
    g_string_append_printf(line, " size=%" PRIu64, make->size);
    g_autofree char *name = image_shown(args->names[0]);
    g_autofree char *backing = make->backing ? image_shown(make->backing) : NULL;
    if (backing)
        g_string_append_printf(line, " backing_file=%s backing_fmt=%s", backing, make->backing_format);
    say_options(line, make, v, false);
    image_say(args, "Formatting '%s', fmt=%s%s\n", name, make->format->name, line->str);
}

static bool create(struct image_args *args, GError **error)
{
    AUTO_VALUES v = {0};
    struct image_make make = {.format = image_format(args->format ? args->format : "raw", error)};
    if (!make.format)
        return false;
    if (image_values_help(args->options, make.format))
        return true;
    if (args->n < 1 || args->n > 2)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "expected FILE and SIZE, found %u arguments", args->n);
    const struct block_image *image = make.format->image;
    if (!image || !image->create)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "no new images of format %s can be made",
                           make.format->name);
    if (!image_load_key(args, error) ||
        !image_values_parse(&v, image->create_options, image->create_options_size, args->options,
                            make.format->name, error))
        return false;
    make.backing = args->backing ? args->backing : v.backing;
    make.backing_format = args->backing_format ? args->backing_format : v.backing_format;
    make.options = v.values;
    make.key = args->key;
    make.key_size = args->key_size;
    if (!find_size(args, &v, &make, error))
        return false;
    cli_stop_catch();
    AUTO(image_output) output = image_output_new(args->names[0], error);
    if (!output)
        return false;
    image_output_hint(output, v.extent_hint);
    say_formatting(args, &make, &v);
    return image_make(output, args->names[0], &make, NULL, NULL, error) &&
           image_output_publish(output, true, error);
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    return create(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_create = {
    .name = "create",
    .synopsis = "[-f FORMAT] [-o KEY=VALUE,...] [-b FILE -F FORMAT] FILE [SIZE]",
    .help = "make a new image",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
