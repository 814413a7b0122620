/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image compare`: have two images the same disk? */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/copy.h"
#include "block/scratch.h"
#include "cli/cli.h"
#include "cli/image/image.h"

/* As qemu-img's. */
enum { SAME = 0, DIFFERENT = 1, NOT_OPENED = 2, NOT_MAPPED = 3, NOT_READ = 4, GO_ON = -1 };
enum { STEP = 1024 * 1024 };

static const struct image_option options[] = {
    IMAGE_OPT('f', NULL, "FORMAT", IMAGE_TEXT, format, "the first image's format"),
    IMAGE_OPT('F', NULL, "FORMAT", IMAGE_TEXT, output_format, "the second image's format"),
    IMAGE_OPT('s', NULL, NULL, IMAGE_FLAG, compare_strict, "sizes and what takes storage must be equal, too"),
    IMAGE_OPT_SOURCE_CACHE,
    IMAGE_OPTS_PROGRESS,
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_SHARE,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_QUIET,
    IMAGE_OPT_END,
};

/* One of the two, walked along. */
struct side {
    const struct image *image;
    struct block_extent run;
    uint64_t run_end, size;
    uint8_t *bytes;
};

struct comparison {
    const struct image_args *args;
    struct side a, b;
};

static int unreadable(const struct side *s, uint64_t at, int status, int code)
{
    fprintf(stderr, "hostel: %s: at %" PRIu64 ": %s\n", s->image->name, at, g_strerror(-status));
    return code;
}

/* How the side keeps what is at `at`; behind its end all is zero. */
static int look(struct side *s, uint64_t at, uint64_t end)
{
    if (at < s->run_end)
        return 0;
    s->run = (struct block_extent){.size = end - at, .zero = true, .hole = true};
    int status = at < s->size ? block_extent(s->image->disk, at, s->size - at, &s->run) : 0;
    s->run_end = at + s->run.size;
    return status;
}

static int read_side(struct side *s, uint64_t at, uint64_t size)
{
    const uint64_t here = at < s->size ? MIN(size, s->size - at) : 0;
    if (s->run.zero && s->run_end >= at + size) {
        memset(s->bytes, 0, size);
        return 0;
    }
    memset(s->bytes + here, 0, size - here);
    return here ? block_pread(s->image->disk, s->bytes, here, at) : 0;
}

static int mismatch(const struct comparison *c, uint64_t at, uint64_t size)
{
    for (uint64_t i = 0; i < size; i += BLOCK_SECTOR)
        if (memcmp(c->a.bytes + i, c->b.bytes + i, MIN(size - i, (uint64_t)BLOCK_SECTOR)) != 0) {
            image_say(c->args, "Content mismatch at offset %" PRIu64 "!\n", at + i);
            break;
        }
    return DIFFERENT;
}

/* The next part from *at on. */
static int compare_step(struct comparison *c, uint64_t *at, uint64_t end)
{
    struct side *a = &c->a, *b = &c->b;
    int status = look(a, *at, end);
    if (status)
        return unreadable(a, *at, status, NOT_MAPPED);
    if ((status = look(b, *at, end)))
        return unreadable(b, *at, status, NOT_MAPPED);
    if (c->args->compare_strict && a->run.hole != b->run.hole) {
        image_say(c->args, "Strict mode: Offset %" PRIu64 " block status mismatch!\n", *at);
        return DIFFERENT;
    }
    uint64_t size = MIN(MIN(a->run_end, b->run_end), end) - *at;
    if (!a->run.zero || !b->run.zero) {
        size = MIN(size, (uint64_t)STEP);
        if ((status = read_side(a, *at, size)))
            return unreadable(a, *at, status, NOT_READ);
        if ((status = read_side(b, *at, size)))
            return unreadable(b, *at, status, NOT_READ);
        if (memcmp(a->bytes, b->bytes, size) != 0)
            return mismatch(c, *at, size);
    }
    *at += size;
    return GO_ON;
}

/* From *at on to end. */
static int walk(struct comparison *c, struct progress *progress, uint64_t *at, uint64_t end)
{
    int code = GO_ON;
    for (unsigned steps = 0; *at < end && code == GO_ON; steps++) {
        code = atomic_load(&cli_stopped) ? NOT_READ : compare_step(c, at, end);
        if (steps % 64 == 0)
            progress_at(progress, *at);
    }
    return code;
}

/* What both have, then what one of them has more, which must be zero. */
static int walk_all(struct comparison *c)
{
    const uint64_t common = MIN(c->a.size, c->b.size), end = MAX(c->a.size, c->b.size);
    if (common != end && c->args->compare_strict) {
        image_say(c->args, "Strict mode: Image size mismatch!\n");
        return DIFFERENT;
    }
    struct progress progress;
    image_progress_begin(&progress, c->args, end);
    uint64_t at = 0;
    int code = walk(c, &progress, &at, common);
    if (code == GO_ON && common != end) {
        image_say(c->args, "Warning: Image size mismatch!\n");
        code = walk(c, &progress, &at, end);
    }
    progress_end(&progress, code == GO_ON);
    if (code != GO_ON)
        return code;
    image_say(c->args, "Images are identical.\n");
    return SAME;
}

static int compare(struct image_args *args, GError **error)
{
    AUTO_IMAGE a = {0}, b = {0};
    const char *format = args->output_format ? args->output_format : args->format;
    if (args->n != 2) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "expected two images, found %u arguments", args->n);
        return NOT_OPENED;
    }
    if (!image_open(args, args->names[0], args->format, NULL, IMAGE_READ, &a, error) ||
        !image_open(args, args->names[1], format, NULL, IMAGE_READ, &b, error))
        return NOT_OPENED;
    if (!image_confine(args, error))
        return NOT_OPENED;
    cli_stop_catch();
    struct comparison c = {
        .args = args,
        .a = {.image = &a, .size = a.disk->facts.size},
        .b = {.image = &b, .size = b.disk->facts.size},
    };
    g_autofree uint8_t *one = g_malloc(STEP), *two = g_malloc(STEP);
    c.a.bytes = one;
    c.b.bytes = two;
    return walk_all(&c);
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    int code = compare(args, &error);
    return error ? image_fail(error, code) : code;
}

const struct image_command image_command_compare = {
    .name = "compare",
    .synopsis = "-f FORMAT -F FORMAT [-s] FILE FILE",
    .help = "tell whether two images have the same disk",
    .options = options,
    .run = run,
    .usage = NOT_OPENED,
};
