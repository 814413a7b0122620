/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image amend`: changes options of an image that is there. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/image/image.h"

static const struct image_option options[] = {
    IMAGE_OPT_FORMAT,
    IMAGE_OPT('o', NULL, "KEY=VALUE,...", IMAGE_TEXTS, options, "what to change; 'help' lists it"),
    IMAGE_OPT(0, "force", NULL, IMAGE_FLAG, amend_force, "accepted; what is dangerous is said by the option"),
    IMAGE_OPT_CACHE,
    IMAGE_OPTS_PROGRESS,
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_QUIET,
    IMAGE_OPT_END,
};

/* What is a command of its own elsewhere. */
static bool amend_common(const struct image *image, const struct image_values *v, GError **error)
{
    uint64_t size;
    if (v->backing || v->backing_format)
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "-o backing_file, backing_fmt: `hostel image rebase` changes what an image lies over");
    if (!v->size)
        return true;
    return image_parse_size(v->size, &size, error) && IMAGE_CAN(image, resize, error) &&
           image->format->image->resize(image->disk, size, BLOCK_PREALLOC_OFF, error);
}

static bool amend(struct image_args *args, GError **error)
{
    AUTO_VALUES v = {0};
    AUTO_IMAGE image = {0};
    if (!args->options)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "nothing to change was given: -o KEY=VALUE,...");
    const struct block_driver *format = args->format ? image_format(args->format, error) : NULL;
    if (args->format && !format)
        return false;
    if (format && image_values_help(args->options, format))
        return true;
    if (args->n != 1)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "expected one image, found %u arguments", args->n);
    const unsigned mode = IMAGE_WRITE | (args->follow == BLOCK_FOLLOW_NONE ? IMAGE_ALONE : 0u);
    if (!image_open(args, args->names[0], args->format, NULL, mode, &image, error) ||
        !IMAGE_CAN(&image, amend, error))
        return false;
    const struct block_image *f = image.format->image;
    return image_values_parse(&v, f->amend_options, f->amend_options_size, args->options, image.format->name,
                              error) &&
           amend_common(&image, &v, error) && f->amend(image.disk, v.values, error);
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    return amend(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_amend = {
    .name = "amend",
    .synopsis = "-f FORMAT -o KEY=VALUE,... FILE",
    .help = "change options of an image that is there",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
