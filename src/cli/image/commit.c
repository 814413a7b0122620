/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image commit`: what an image differs in is written into the one it lies over. */
/*
 * The lower image is opened once, for writing, and given to the upper one to lie over; so its lock is held
 * once, and what is read through the upper one is what has been written already.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "block/copy.h"
#include "cli/cli.h"
#include "cli/image/image.h"

static const struct image_option options[] = {
    IMAGE_OPT_FORMAT,
    IMAGE_OPT('b', NULL, "FILE", IMAGE_TEXT, commit_base,
              "the image to write into, when it is not the next one; implies -d"),
    IMAGE_OPT('F', NULL, "FORMAT", IMAGE_TEXT, backing_format, "that image's format"),
    IMAGE_OPT('d', NULL, NULL, IMAGE_FLAG, drop, "leave the upper image as it is; it is not needed any more"),
    IMAGE_OPT('r', NULL, "RATE", IMAGE_TEXT, rate, "bytes per second at most"),
    IMAGE_OPT_CACHE,
    IMAGE_OPTS_PROGRESS,
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_QUIET,
    IMAGE_OPT_END,
};

static void add_link(GPtrArray *chain, const char *name, const struct block_driver *format)
{
    struct block_path_link *link = g_new(struct block_path_link, 1);
    *link = (struct block_path_link){g_strdup(name), format};
    g_ptr_array_add(chain, link);
}

static bool same_file(const char *a, const char *b)
{
    struct stat one, two;
    return !strcmp(a, b) ||
           (!stat(a, &one) && !stat(b, &two) && one.st_dev == two.st_dev && one.st_ino == two.st_ino);
}

/* The images below, down to the one to write into. With --follow they are what the images say; without it
 * there is the one that was named. */
static bool find_chain(struct image_args *args, GPtrArray *chain, GError **error)
{
    const char *name = args->names[0];
    if (args->follow == BLOCK_FOLLOW_NONE && args->commit_base) {
        const struct block_driver *format =
            args->backing_format ? image_format(args->backing_format, error) : NULL;
        if (format)
            add_link(chain, args->commit_base, format);
        return format || (args->backing_format == NULL &&
                          hostel_fail(error, HOSTEL_ERROR_USAGE,
                                      "the format of %s is missing, and formats are not guessed: -F FORMAT",
                                      args->commit_base));
    }
    AUTO_IMAGE whole = {0};
    if (!image_open(args, name, args->format, NULL, IMAGE_READ, &whole, error))
        return false;
    if (!whole.chain->len)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: lies over no other image", name);
    for (unsigned i = 0; i < whole.chain->len; i++) {
        const struct block_path_link *link = whole.chain->pdata[i];
        add_link(chain, link->name, link->format);
        if (!args->commit_base || same_file(link->name, args->commit_base))
            return true;
    }
    return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: does not lie over %s", name, args->commit_base);
}

/* Opens the images from the lowest on, each over the one before; *lowest is borrowed from the top. */
static bool open_over(struct image_args *args, const GPtrArray *chain, struct disk **lowest,
                      const struct block_driver **lowest_format, struct image *top, GError **error)
{
    const struct block_path_link *last = chain->pdata[chain->len - 1];
    if (!image_open(args, last->name, last->format->name, NULL, IMAGE_WRITE, top, error))
        return false;
    *lowest = top->disk;
    *lowest_format = top->format;
    for (unsigned i = chain->len; i-- > 0;) {
        const struct block_path_link *link = i ? chain->pdata[i - 1] : NULL;
        struct disk *below = STEAL(top->disk);
        image_close(top);
        if (!image_open_over(args, link ? link->name : args->names[0],
                             link ? link->format->name : args->format, below, i ? IMAGE_READ : IMAGE_WRITE,
                             top, error))
            return false;
    }
    return true;
}

/* The lower disk becomes as large as the upper one. */
static bool make_room(struct disk *lower, const struct block_driver *format, uint64_t size, GError **error)
{
    if (lower->facts.size >= size)
        return true;
    if (format->image && format->image->resize)
        return format->image->resize(lower, size, BLOCK_PREALLOC_OFF, error);
    int status = block_resize(lower, size);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot make it larger: %s", lower->name,
                                  g_strerror(-status));
}

static bool copy_down(const struct image_args *args, const struct image *top, struct disk *lower,
                      unsigned depth, GError **error)
{
    struct block_copy copy = {
        .source = top->disk,
        .target = lower,
        .size = top->disk->facts.size,
        .sparse = BLOCK_COPY_SPARSE,
        .depth = depth,
    };
    if (!image_copy(args, &copy, error))
        return false;
    int status = block_flush(lower);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", lower->name, g_strerror(-status));
}

static bool commit(struct image_args *args, GError **error)
{
    if (args->n != 1)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "expected one image, found %u arguments", args->n);
    g_autoptr(GPtrArray) chain = g_ptr_array_new_with_free_func((GDestroyNotify)block_path_link_free);
    AUTO_IMAGE top = {0};
    struct disk *lower;
    const struct block_driver *lower_format;
    if (!find_chain(args, chain, error) || !open_over(args, chain, &lower, &lower_format, &top, error))
        return false;
    cli_stop_catch();
    if (!make_room(lower, lower_format, top.disk->facts.size, error) ||
        !copy_down(args, &top, lower, chain->len, error))
        return false;
    /* What lies between still says the same, and the upper one may be wanted as it is: so -b means -d, too.
     */
    const struct block_image *f = top.format->image;
    if (!args->drop && !args->commit_base && chain->len == 1 && f && f->empty && !f->empty(top.disk, error))
        return false;
    image_say(args, "Image committed.\n");
    return true;
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    return commit(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_commit = {
    .name = "commit",
    .synopsis = "-f FORMAT {--follow | -b FILE -F FORMAT} [-d] FILE",
    .help = "write what an image differs in into the one it lies over",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
