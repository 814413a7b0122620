/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image resize`: makes a disk larger or smaller. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "cli/cli.h"
#include "cli/image/image.h"

static const struct image_option options[] = {
    IMAGE_OPT_FORMAT,
    IMAGE_OPT_WORDS(0, "preallocation", "HOW", preallocation, "off|metadata|falloc|full",
                    "of what is new: off, metadata, falloc or full"),
    IMAGE_OPT(0, "shrink", NULL, IMAGE_FLAG, shrink,
              "allow it to become smaller, which loses what is behind"),
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_QUIET,
    IMAGE_OPT_END,
};

static bool find_size(const char *text, uint64_t now, uint64_t *size, GError **error)
{
    const char sign = *text;
    uint64_t number = 0;
    if (!image_parse_size(text + (sign == '+' || sign == '-'), &number, error))
        return false;
    if ((sign == '+' && (ckd_add(size, now, number) || *size > INT64_MAX)) || (sign == '-' && number >= now))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: the disk has %" PRIu64 " bytes", text, now);
    if (sign != '+')
        *size = sign == '-' ? now - number : number;
    *size = (*size + BLOCK_SECTOR - 1) / BLOCK_SECTOR * BLOCK_SECTOR;
    return *size || hostel_fail(error, HOSTEL_ERROR_USAGE, "a disk has at least one sector");
}

static enum block_preallocation preallocation(const char *text)
{
    return !text || text[0] == 'o'   ? BLOCK_PREALLOC_OFF
           : text[0] == 'm'          ? BLOCK_PREALLOC_METADATA
           : !strcmp(text, "falloc") ? BLOCK_PREALLOC_FALLOC
                                     : BLOCK_PREALLOC_FULL;
}

static bool resize_to(struct image *image, uint64_t size, const char *how, GError **error)
{
    const struct block_image *f = image->format->image;
    if (f && f->resize)
        return f->resize(image->disk, size, preallocation(how), error);
    if (how && strcmp(how, "off") != 0)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "--preallocation %s: format %s has no such thing",
                           how, image->format->name);
    int status = block_resize(image->disk, size);
    if (!status)
        status = block_flush(image->disk);
    if (status == -EOPNOTSUPP)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: images of format %s keep their size",
                           image->name, image->format->name);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", image->name, g_strerror(-status));
}

/* What is new is zero, so where the image lies over another one it matters what that has there. */
static bool check_backing(struct image *image, GError **error)
{
    g_autofree char *backing = NULL;
    if (!image_lies_over(image, &backing, error))
        return false;
    return !backing || hostel_fail(error, HOSTEL_ERROR_USAGE,
                                   "%s: lies over %s, which must not show where the disk becomes larger; "
                                   "allow to look at it with --follow",
                                   image->name, backing);
}

static bool resize(struct image_args *args, GError **error)
{
    if (args->n != 2)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "expected an image and its new size, found %u arguments", args->n);
    AUTO_IMAGE image = {0};
    uint64_t size = 0;
    /* What it lies over matters only where the disk becomes larger. */
    const unsigned mode = args->follow == BLOCK_FOLLOW_NONE ? IMAGE_ALONE : 0;
    if (!image_open(args, args->names[0], args->format, NULL, IMAGE_WRITE | mode, &image, error) ||
        !find_size(args->names[1], image.disk->facts.size, &size, error))
        return false;
    if (size < image.disk->facts.size && !args->shrink)
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "%s: would lose what is behind the new end; use --shrink if that is meant, after the "
            "guest has made its file systems smaller",
            image.name);
    if (size < image.disk->facts.size && preallocation(args->preallocation) != BLOCK_PREALLOC_OFF)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "--preallocation %s: %s becomes smaller, so nothing is new", args->preallocation,
                           image.name);
    if (size > image.disk->facts.size && mode == IMAGE_ALONE && !check_backing(&image, error))
        return false;
    if (!resize_to(&image, size, args->preallocation, error))
        return false;
    image_say(args, "Image resized.\n");
    return true;
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    return resize(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_resize = {
    .name = "resize",
    .synopsis = "-f FORMAT [--shrink] FILE [+|-]SIZE",
    .help = "make a disk larger or smaller",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
    .signed_last = true,
};
