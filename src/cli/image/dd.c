/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image dd`: copies a part of a disk into a new image. */
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
    IMAGE_OPT('f', NULL, "FORMAT", IMAGE_TEXT, format, "the image's format"),
    IMAGE_OPT('O', NULL, "FORMAT", IMAGE_TEXT, output_format, "the new image's format (default raw)"),
    IMAGE_OPTS_PROGRESS,
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_SHARE,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_END,
};

/* What the words say. */
struct words {
    const char *in, *out;
    uint64_t block, count, skip;
    bool counted;
};

static bool take(struct words *w, const char *word, GError **error)
{
    const char *value = strchr(word, '=');
    const size_t length = value ? (size_t)(value - word) : 0;
    const struct {
        const char *name;
        uint64_t *place;
    } numbers[] = {{"bs", &w->block}, {"count", &w->count}, {"skip", &w->skip}};
    if (length == 2 && g_str_has_prefix(word, "if"))
        w->in = value + 1;
    if (length == 2 && g_str_has_prefix(word, "of"))
        w->out = value + 1;
    if (length == 2 && (word[0] == 'i' || word[0] == 'o'))
        return true;
    for (unsigned i = 0; value && i < ARRAY_SIZE(numbers); i++)
        if (strlen(numbers[i].name) == length && !strncmp(word, numbers[i].name, length)) {
            w->counted |= numbers[i].place == &w->count;
            return image_parse_size(value + 1, numbers[i].place, error);
        }
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "'%s' is none of if=, of=, bs=, count= and skip=", word);
}

static bool take_all(const struct image_args *args, struct words *w, GError **error)
{
    for (unsigned i = 0; i < args->n; i++)
        if (!take(w, args->names[i], error))
            return false;
    if (!w->in || !w->out)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "if=FILE and of=FILE are needed");
    return (w->block && w->block <= INT32_MAX) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "bs=: must be 1 to %d", INT32_MAX);
}

/* Which part of the source. Skipping everything leaves an empty disk of no bytes, as qemu-img's does. */
static void find_part(const struct words *w, uint64_t size, uint64_t *from, uint64_t *length)
{
    uint64_t end;
    if (w->counted && !ckd_mul(&end, w->count, w->block))
        size = MIN(size, end);
    if (ckd_mul(from, w->skip, w->block) || *from > size)
        *from = size;
    *length = size - *from;
}

static bool copy(struct image_args *args, const struct words *w, struct image *source, GError **error)
{
    struct block_copy part = {.source = source->disk, .sparse = BLOCK_COPY_SPARSE};
    const struct block_driver *format =
        image_format(args->output_format ? args->output_format : "raw", error);
    AUTO_VALUES v = {0};
    if (!format)
        return false;
    if (!format->image || !format->image->create)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "no new images of format %s can be made",
                           format->name);
    if (!image_values_parse(&v, format->image->create_options, format->image->create_options_size, NULL,
                            format->name, error))
        return false;
    find_part(w, source->disk->facts.size, &part.from, &part.size);
    const struct image_make make = {
        .format = format, .size = align_up(part.size, BLOCK_SECTOR), .options = v.values};
    AUTO(image_output) output = image_output_new(w->out, error);
    AUTO(disk) target = NULL;
    if (!output || !image_make(output, w->out, &make, NULL, &target, error))
        return false;
    part.target = target;
    part.target_zero = image_reads_as_zeroes(target);
    if (!image_copy(args, &part, error))
        return false;
    int status = block_seal(target);
    if (!status)
        status = block_flush(target);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write it: %s", w->out, g_strerror(-status));
    block_free(STEAL(target));
    return image_output_publish(output, true, error);
}

static bool dd(struct image_args *args, GError **error)
{
    struct words w = {.block = BLOCK_SECTOR};
    AUTO_IMAGE source = {0};
    if (!take_all(args, &w, error) || !image_open(args, w.in, args->format, NULL, IMAGE_READ, &source, error))
        return false;
    cli_stop_catch();
    return copy(args, &w, &source, error);
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    return dd(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_dd = {
    .name = "dd",
    .synopsis = "-f FORMAT [-O FORMAT] [bs=SIZE] [count=N] [skip=N] if=FILE of=NEW",
    .help = "copy a part of a disk into a new image",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
