/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image measure`: how much room a new image will take. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/cli.h"
#include "cli/image/image.h"

static const struct image_option options[] = {
    IMAGE_OPT('f', NULL, "FORMAT", IMAGE_TEXT, format, "the source's format"),
    IMAGE_OPT('O', NULL, "FORMAT", IMAGE_TEXT, output_format, "the new image's format (default raw)"),
    IMAGE_OPT_CREATE,
    IMAGE_OPT(0, "size", "SIZE", IMAGE_SIZE, size, "instead of a source: an empty disk so large"),
    IMAGE_OPT('l', NULL, "SNAPSHOT", IMAGE_TEXT, snapshot, "an internal snapshot instead of the disk"),
    IMAGE_OPT_OUTPUT,
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_SHARE,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_END,
};

static void print(const struct image_args *args, const struct block_measure *m)
{
    if (args->output[0] == 'j')
        image_print_json(json_pack("{s:I, s:I}", "required", (json_int_t)m->required, "fully-allocated",
                                   (json_int_t)m->full));
    else
        printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", m->required, m->full);
}

static bool measure(struct image_args *args, GError **error)
{
    AUTO_VALUES v = {0};
    AUTO_IMAGE source = {0};
    const struct block_driver *format =
        image_format(args->output_format ? args->output_format : "raw", error);
    if (!format)
        return false;
    if (image_values_help(args->options, format))
        return true;
    if (args->n != (args->size ? 0 : 1))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "expected either one image or --size");
    const struct block_image *f = format->image;
    if (!f || !f->measure)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "format %s cannot tell before it is made",
                           format->name);
    if (!image_values_parse(&v, f->create_options, f->create_options_size, args->options, format->name,
                            error))
        return false;
    if (args->n &&
        !image_open(args, args->names[0], args->format, args->snapshot, IMAGE_READ, &source, error))
        return false;
    if (!image_confine(args, error))
        return false;
    const struct block_create create = {
        .name = "the new image",
        .size = align_up(source.disk ? source.disk->facts.size : args->size, BLOCK_SECTOR),
        .backing = v.backing,
        .backing_format = v.backing_format,
        .options = v.values,
    };
    struct block_measure m = {0};
    if (!f->measure(&create, source.disk, &m, error))
        return false;
    print(args, &m);
    return true;
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    return measure(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_measure = {
    .name = "measure",
    .synopsis = "[-O FORMAT] [-o KEY=VALUE,...] {--size SIZE | -f FORMAT FILE}",
    .help = "tell how much room a new image will take",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
