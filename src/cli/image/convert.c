/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image convert`: copies disks into a new image of another format, or with other options. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/copy.h"
#include "cli/cli.h"
#include "cli/image/image.h"

static const struct image_option options[] = {
    IMAGE_OPT('f', NULL, "FORMAT", IMAGE_TEXT, format, "the images' format"),
    IMAGE_OPT('O', NULL, "FORMAT", IMAGE_TEXT, output_format, "the new image's format (default raw)"),
    IMAGE_OPT_CREATE,
    IMAGE_OPT('c', NULL, NULL, IMAGE_FLAG, convert_compress, "compress"),
    IMAGE_OPT('B', NULL, "FILE", IMAGE_TEXT, backing,
              "lie over FILE, which reads as what the old image lies over; only the rest is copied"),
    IMAGE_OPT('b', NULL, "FILE", IMAGE_TEXT, backing, "the same as -B"),
    IMAGE_OPT('F', NULL, "FORMAT", IMAGE_TEXT, backing_format, "with -B: that image's format"),
    IMAGE_OPT('l', NULL, "SNAPSHOT", IMAGE_TEXT, snapshot, "an internal snapshot instead of the disk"),
    IMAGE_OPT('S', NULL, "SIZE", IMAGE_TEXT, sparse, "zeroes so long become holes (default 4k; 0: none)"),
    IMAGE_OPT('n', NULL, NULL, IMAGE_FLAG, convert_into, "write into an image that is there"),
    IMAGE_OPT(0, "target-is-zero", NULL, IMAGE_FLAG, convert_target_zero, "with -n: it reads as zeroes"),
    IMAGE_OPT(0, "salvage", NULL, IMAGE_FLAG, convert_salvage, "what cannot be read becomes zeroes"),
    IMAGE_OPT(0, "bitmaps", NULL, IMAGE_FLAG, convert_bitmaps, "copy persistent bitmaps, too"),
    IMAGE_OPT(0, "skip-broken-bitmaps", NULL, IMAGE_FLAG, convert_skip_broken,
              "with --bitmaps: leave out those not stored properly"),
    IMAGE_OPT('m', NULL, "N", IMAGE_COUNT, threads, "threads that work in parallel (default: processors)"),
    IMAGE_OPT('r', NULL, "RATE", IMAGE_TEXT, rate, "bytes per second at most"),
    IMAGE_OPT('W', NULL, NULL, IMAGE_FLAG, ignored, "accepted; order is not kept anyway"),
    IMAGE_OPT('C', NULL, NULL, IMAGE_FLAG, ignored, "accepted, without effect"),
    IMAGE_OPT_CACHE,
    IMAGE_OPT_SOURCE_CACHE,
    IMAGE_OPTS_PROGRESS,
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_SHARE,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPT(0, "target-image-opts", NULL, IMAGE_FLAG, target_image_opts,
              "with -n: as --image-opts for the target"),
    IMAGE_OPTS_KEY,
    IMAGE_OPT_QUIET,
    IMAGE_OPT_END,
};

/* The images to copy, one behind the other, and where they go. */
struct conversion {
    struct image_args *args;
    struct image *sources;
    unsigned n;
    uint64_t size; /* of all */
    const char *name;
    struct disk *target;
    const struct block_driver *target_format;
    bool target_zero;
    bool over; /* the new image lies over what the source does: only what the source itself keeps is copied */
};

/* Each begins at a whole sector. */
static uint64_t room(const struct image *image)
{
    return align_up(image->disk->facts.size, BLOCK_SECTOR);
}

/* "snapshot.id=1" and "snapshot.name=x" are other ways to say the same. */
static const char *snapshot_of(const struct image_args *args)
{
    const char *text = args->snapshot;
    if (text && g_str_has_prefix(text, "snapshot.id="))
        return text + strlen("snapshot.id=");
    if (text && g_str_has_prefix(text, "snapshot.name="))
        return text + strlen("snapshot.name=");
    return text;
}

/* The image that was named with -B, or -o backing_file=. */
static bool open_backing(struct conversion *c, const char *name, const char *format, struct disk **base,
                         GError **error)
{
    if (!format)
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "the format of the backing file %s is missing, and formats are not guessed: -F FORMAT", name);
    g_autofree char *path = block_path_resolve(c->name, name);
    AUTO_IMAGE image = {0};
    if (!image_open(c->args, path, format, NULL, IMAGE_READ, &image, error))
        return false;
    *base = STEAL(image.disk);
    return true;
}

/* What an image says that it lies over; NULL in *backing when it does not. */
static bool find_backing(struct image_args *args, const char *name, char **backing, GError **error)
{
    AUTO_IMAGE alone = {0};
    return image_open(args, name, args->format, NULL, IMAGE_READ | IMAGE_ALONE, &alone, error) &&
           image_lies_over(&alone, backing, error);
}

/* With -B what the source lies over reads the same as what was named, so that is taken for it unless the
 * source may be followed: only what the source keeps itself is copied. */
static bool open_source(struct conversion *c, const char *name, struct image *source, GError **error)
{
    struct image_args *args = c->args;
    struct disk *base = NULL;
    g_autofree char *backing = NULL;
    const bool may_differ = args->backing && args->follow == BLOCK_FOLLOW_NONE;
    if (may_differ && !find_backing(args, name, &backing, error))
        return false;
    if (!may_differ || !backing)
        return image_open(args, name, args->format, snapshot_of(args), IMAGE_READ, source, error);
    return open_backing(c, args->backing, args->backing_format, &base, error) &&
           image_open_over(args, name, args->format, base, IMAGE_READ, source, error);
}

static bool open_sources(struct conversion *c, GError **error)
{
    const unsigned n = c->args->n - 1;
    if (c->args->backing && (n > 1 || c->args->snapshot))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "-B: makes sense for one image as it is, without -l");
    c->sources = g_new0(struct image, n);
    while (c->n < n) {
        struct image *source = &c->sources[c->n++];
        if (!open_source(c, c->args->names[c->n - 1], source, error))
            return false;
        if (ckd_add(&c->size, c->size, room(source)) || c->size > INT64_MAX)
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: with it the images have more bytes together than a disk can have",
                               source->name);
    }
    return true;
}

/* --- clusters that lie on several images --- */

/*
 * A compressed cluster is written whole and once. With several images, one may end inside a cluster and the
 * next begin there; and an image that is there (-n) may be larger than what is copied. Such clusters are put
 * together here, all others are left to block_copy().
 */

/* The size of what is compressed at once; 1 = nothing is. */
static uint64_t unit(const struct conversion *c)
{
    return c->args->convert_compress ? MAX(c->target->facts.cluster, (uint32_t)BLOCK_SECTOR) : 1;
}

static void tell_unread(const struct image *source, uint64_t bytes)
{
    if (bytes)
        fprintf(stderr, "hostel: %s: %" PRIu64 " bytes could not be read and are zero now\n", source->name,
                bytes);
}

/* Bytes of one image; what cannot be read is zero with --salvage. */
static bool read_part(const struct conversion *c, const struct image *source, uint8_t *bytes, uint64_t size,
                      uint64_t at, GError **error)
{
    int status = block_pread(source->disk, bytes, size, at);
    if (status && !c->args->convert_salvage)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read at %" PRIu64 ": %s", source->name, at,
                           g_strerror(-status));
    uint64_t unread = 0;
    for (uint64_t i = 0, now; status && i < size; i += now) {
        now = MIN((uint64_t)BLOCK_SECTOR, size - i);
        if (!block_pread(source->disk, bytes + i, now, at + i))
            continue;
        memset(bytes + i, 0, now);
        unread += now;
    }
    tell_unread(source, unread);
    return true;
}

/* What the images have at [at, at + size) of the target; they leave the rest of bytes as it is. */
static bool gather(const struct conversion *c, uint8_t *bytes, uint64_t at, uint64_t size, GError **error)
{
    uint64_t begin = 0;
    for (unsigned i = 0; i < c->n && begin < at + size; i++) {
        const struct image *source = &c->sources[i];
        const uint64_t end = begin + room(source), data_end = begin + source->disk->facts.size;
        const uint64_t from = MAX(at, begin), to = MIN(at + size, end), read_to = MIN(to, data_end);
        if (from < to)
            memset(bytes + (from - at), 0, to - from);
        if (from < read_to && !read_part(c, source, bytes + (from - at), read_to - from, from - begin, error))
            return false;
        begin = end;
    }
    return true;
}

/* Puts one cluster together and writes it. */
static bool copy_joint(const struct conversion *c, uint64_t at, bool sparse, GError **error)
{
    const uint64_t size = MIN(unit(c), c->target->facts.size - at);
    g_autofree uint8_t *bytes = g_try_malloc0(size);
    int status = bytes ? 0 : -ENOMEM;
    if (!status && !c->target_zero)
        status = block_pread(c->target, bytes, size, at);
    if (!status && !gather(c, bytes, at, size, error))
        return false;
    if (!status && (!sparse || !block_is_zero(bytes, size)))
        status = block_write_compressed(c->target, bytes, at, size);
    else if (!status && !c->target_zero)
        status = block_zero(c->target, at, size, BLOCK_MAY_UNMAP);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write at %" PRIu64 ": %s", c->name,
                                  at, g_strerror(-status));
}

/* --- the copy --- */

/* The i-th image, which begins at `begin` in the target; *joint is the cluster put together last. */
static bool copy_one(struct conversion *c, unsigned i, uint64_t begin, uint64_t *joint, uint64_t sparse,
                     GError **error)
{
    const struct image *source = &c->sources[i];
    const uint64_t size = source->disk->facts.size, end = begin + size;
    const uint64_t from = align_up(begin, unit(c));
    /* Where the target ends inside a cluster this is no larger than that. */
    const uint64_t to = end == c->target->facts.size ? end : align_down(end, unit(c));
    struct block_copy copy = {
        .source = source->disk,
        .target = c->target,
        .from = from - begin,
        .to = from,
        .size = from < to ? to - from : 0,
        .sparse = (uint32_t)MIN(sparse, 16 * MiB),
        .target_zero = c->target_zero,
        .compress = c->args->convert_compress,
        .salvage = c->args->convert_salvage,
        .depth = c->over ? 1 : 0,
    };
    if (size && begin < from && align_down(begin, unit(c)) != *joint) {
        *joint = align_down(begin, unit(c));
        if (!copy_joint(c, *joint, sparse, error))
            return false;
    }
    if (!image_copy(c->args, &copy, error))
        return false;
    tell_unread(source, copy.unread);
    if (from > to || to == end || to == *joint)
        return true;
    *joint = to;
    return copy_joint(c, to, sparse, error);
}

static bool copy_all(struct conversion *c, uint64_t sparse, GError **error)
{
    uint64_t begin = 0, joint = UINT64_MAX;
    for (unsigned i = 0; i < c->n; i++) {
        if (!copy_one(c, i, begin, &joint, sparse, error))
            return false;
        begin += room(&c->sources[i]);
    }
    return true;
}

static bool copy_bitmap(struct conversion *c, const struct block_bitmap *bitmap, GError **error)
{
    const struct block_image *f = c->target_format->image;
    if (bitmap->in_use && c->args->convert_skip_broken) {
        fprintf(stderr, "hostel: warning: bitmap %s was not stored properly and is left out\n", bitmap->name);
        return true;
    }
    if (bitmap->in_use)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "bitmap %s was not stored properly; --skip-broken-bitmaps leaves such out",
                           bitmap->name);
    return f->bitmap_add(c->target, bitmap->name, bitmap->granularity, bitmap->enabled, error) &&
           f->bitmap_merge(c->target, bitmap->name, c->sources[0].disk, bitmap->name, error);
}

/* After the data, whose writes they are not to note. */
static bool copy_bitmaps(struct conversion *c, GError **error)
{
    const struct image *source = &c->sources[0];
    const struct block_image *f = c->target_format->image;
    if (c->n > 1 || source->format != c->target_format || !f || !f->bitmaps || !f->bitmap_add ||
        !f->bitmap_merge)
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "--bitmaps: bitmaps are copied from one image to another of the same format, which has "
            "them");
    g_autoptr(GPtrArray) bitmaps = f->bitmaps(source->disk, error);
    if (!bitmaps)
        return false;
    for (unsigned i = 0; i < bitmaps->len; i++)
        if (!copy_bitmap(c, bitmaps->pdata[i], error))
            return false;
    return true;
}

static bool complete(struct conversion *c, GError **error)
{
    uint64_t sparse = BLOCK_COPY_SPARSE;
    const bool durable = g_strcmp0(c->args->cache, "unsafe") != 0;
    if (c->args->sparse && !image_parse_size(c->args->sparse, &sparse, error))
        return false;
    if (sparse % BLOCK_SECTOR)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "-S %s: must be a multiple of %d bytes",
                           c->args->sparse, BLOCK_SECTOR);
    if (!copy_all(c, sparse, error) || (c->args->convert_bitmaps && !copy_bitmaps(c, error)))
        return false;
    int status = block_seal(c->target);
    if (!status && durable)
        status = block_flush(c->target);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write it: %s", c->name, g_strerror(-status));
}

/* -n: an image that is there. */
static bool convert_into(struct conversion *c, GError **error)
{
    AUTO_IMAGE target = {0};
    struct image_args args = *c->args; /* as the target is to be opened */
    const char *format = args.output_format || args.target_image_opts ? args.output_format : "raw";
    args.image_opts = args.target_image_opts;
    if (c->args->options)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "-o: is for a new image, -n writes into one that is there");
    if (!image_open(&args, c->name, format, NULL, IMAGE_WRITE, &target, error))
        return false;
    if (target.disk->facts.size < c->size)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has %" PRIu64 " bytes, which is less than the %" PRIu64 " to be copied",
                           c->name, (uint64_t)target.disk->facts.size, c->size);
    c->target = target.disk;
    c->target_format = target.format;
    c->target_zero = c->args->convert_target_zero;
    return complete(c, error);
}

static bool can_make(const struct conversion *c, const struct block_driver *format, GError **error)
{
    if (!format->image || !format->image->create)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "no new images of format %s can be made",
                           format->name);
    if (c->args->convert_compress && !format->write_compressed)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "-c: format %s has no compression", format->name);
    if (c->args->convert_target_zero)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "--target-is-zero: is for -n; a new image is zero anyway");
    return true;
}

static bool make_and_fill(struct conversion *c, struct image_output *output, const struct image_make *make,
                          GError **error)
{
    struct disk *base = NULL;
    AUTO(disk) target = NULL;
    if ((make->backing && !open_backing(c, make->backing, make->backing_format, &base, error)) ||
        !image_make(output, c->name, make, base, &target, error))
        return false;
    c->target = target;
    c->target_format = make->format;
    /* What is new is zero, also where its storage was taken at once; but what is encrypted may be anything.
     */
    c->target_zero =
        image_reads_as_zeroes(target) || (!make->backing && !make->key && !image_output_in_place(c->name));
    return complete(c, error);
}

static bool convert_new(struct conversion *c, const struct block_driver *format, GError **error)
{
    AUTO_VALUES v = {0};
    const struct image_args *args = c->args;
    if (!can_make(c, format, error) ||
        !image_values_parse(&v, format->image->create_options, format->image->create_options_size,
                            args->options, format->name, error))
        return false;
    const struct image_make make = {
        .format = format,
        .size = c->size,
        .backing = args->backing ? args->backing : v.backing,
        .backing_format = args->backing_format ? args->backing_format : v.backing_format,
        .options = v.values,
        .key = args->key,
        .key_size = args->key_size,
    };
    c->over = make.backing != NULL;
    AUTO(image_output) output = image_output_new(c->name, error);
    if (output)
        image_output_hint(output, v.extent_hint);
    return output && make_and_fill(c, output, &make, error) &&
           image_output_publish(output, g_strcmp0(args->cache, "unsafe") != 0, error);
}

static bool convert(struct image_args *args, struct conversion *c, GError **error)
{
    const struct block_driver *format =
        image_format(args->output_format ? args->output_format : "raw", error);
    if (!format)
        return false;
    if (image_values_help(args->options, format))
        return true;
    if (args->n < 2)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "expected an image and the new one's name, found %u arguments", args->n);
    if (args->target_image_opts && !args->convert_into)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "--target-image-opts: is for -n, which writes into what is there");
    c->name = args->names[args->n - 1];
    if (!open_sources(c, error))
        return false;
    cli_stop_catch();
    return args->convert_into ? convert_into(c, error) : convert_new(c, format, error);
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    struct conversion c = {.args = args};
    const bool ok = convert(args, &c, &error);
    for (unsigned i = 0; i < c.n; i++)
        image_close(&c.sources[i]);
    g_free(c.sources);
    return ok ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_convert = {
    .name = "convert",
    .synopsis = "-f FORMAT [-O FORMAT] [-c] [-o KEY=VALUE,...] FILE... NEW",
    .help = "copy images into a new one, of another format or with other options",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
