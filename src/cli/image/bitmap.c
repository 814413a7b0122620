/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image bitmap`: an image's persistent bitmaps of what changed. */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/cli.h"
#include "cli/image/image.h"

static const struct image_option options[] = {
    IMAGE_OPT_FORMAT,
    IMAGE_OPT(0, "add", NULL, IMAGE_ACTION, bitmap_actions, "make the bitmap"),
    IMAGE_OPT(0, "remove", NULL, IMAGE_ACTION, bitmap_actions, "delete it"),
    IMAGE_OPT(0, "clear", NULL, IMAGE_ACTION, bitmap_actions, "nothing in it is marked any more"),
    IMAGE_OPT(0, "enable", NULL, IMAGE_ACTION, bitmap_actions, "let it note writes"),
    IMAGE_OPT(0, "disable", NULL, IMAGE_ACTION, bitmap_actions, "let it note nothing"),
    IMAGE_OPT(0, "merge", "SOURCE", IMAGE_ACTION, bitmap_actions, "mark also what SOURCE has marked"),
    IMAGE_OPT('g', "granularity", "SIZE", IMAGE_TEXT, bitmap_granularity,
              "with --add: bytes that one bit stands for"),
    IMAGE_OPT('b', "source-file", "FILE", IMAGE_TEXT, bitmap_source,
              "with --merge: the image that has SOURCE"),
    IMAGE_OPT('F', "source-format", "FORMAT", IMAGE_TEXT, bitmap_source_format, "that image's format"),
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_END,
};

static bool merge(struct image_args *args, struct image *image, const char *name, const char *from,
                  GError **error)
{
    AUTO_IMAGE source = {0};
    const char *format = args->bitmap_source_format ? args->bitmap_source_format : image->format->name;
    if (!args->bitmap_source)
        return image->format->image->bitmap_merge(image->disk, name, image->disk, from, error);
    if (!image_open(args, args->bitmap_source, format, NULL, IMAGE_READ | IMAGE_ALONE, &source, error))
        return false;
    if (source.format != image->format)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: bitmaps are merged between images of one format",
                           source.name);
    return image->format->image->bitmap_merge(image->disk, name, source.disk, from, error);
}

static bool add(struct image_args *args, struct image *image, const char *name, GError **error)
{
    uint64_t granularity = 0;
    if (args->bitmap_granularity && !image_parse_size(args->bitmap_granularity, &granularity, error))
        return false;
    if (args->bitmap_granularity &&
        (granularity < BLOCK_SECTOR || granularity > 2 * GiB || !is_power_of_two(granularity)))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "-g %s: must be a power of two, 512 to 2G",
                           args->bitmap_granularity);
    return image->format->image->bitmap_add(image->disk, name, (uint32_t)granularity, true, error);
}

static bool act(struct image_args *args, struct image *image, const char *action, const char *from,
                GError **error)
{
    const struct block_image *f = image->format->image;
    const char *name = args->names[1];
    switch (action[0]) {
    case 'a': return IMAGE_CAN(image, bitmap_add, error) && add(args, image, name, error);
    case 'r': return IMAGE_CAN(image, bitmap_remove, error) && f->bitmap_remove(image->disk, name, error);
    case 'c': return IMAGE_CAN(image, bitmap_clear, error) && f->bitmap_clear(image->disk, name, error);
    case 'm': return IMAGE_CAN(image, bitmap_merge, error) && merge(args, image, name, from, error);
    default:
        return IMAGE_CAN(image, bitmap_enable, error) &&
               f->bitmap_enable(image->disk, name, action[0] == 'e', error);
    }
}

static bool bitmap(struct image_args *args, GError **error)
{
    if (args->n != 2)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "expected an image and a bitmap's name, found %u arguments", args->n);
    if (!args->bitmap_actions)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "say what to do: --add, --remove, --clear, --enable, --disable or --merge SOURCE");
    AUTO_IMAGE image = {0};
    const unsigned mode = IMAGE_WRITE | (args->follow == BLOCK_FOLLOW_NONE ? IMAGE_ALONE : 0u);
    if (!image_open(args, args->names[0], args->format, NULL, mode, &image, error))
        return false;
    for (unsigned i = 0; i < args->bitmap_actions->len; i += 2)
        if (!act(args, &image, args->bitmap_actions->pdata[i], args->bitmap_actions->pdata[i + 1], error))
            return false;
    return true;
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    return bitmap(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_bitmap = {
    .name = "bitmap",
    .synopsis =
        "-f FORMAT {--add | --remove | --clear | --enable | --disable | --merge SOURCE}... FILE BITMAP",
    .help = "make, change and delete an image's persistent bitmaps",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
