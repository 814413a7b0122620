/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image rebase`: an image gets another backing file, and keeps its disk as it is. */
/*
 * What the image keeps itself stays. The rest showed through from the old backing file, and would show
 * through from the new one; where the two differ, what the old one has is written into the image first. Only
 * when that is durable is the new name put into the image, so whatever happens meanwhile, the disk is the
 * same. With -u only the name changes.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/cli.h"
#include "cli/image/image.h"

enum { STEP = 1024 * 1024 };

static const struct image_option options[] = {
    IMAGE_OPT_FORMAT,
    IMAGE_OPT('b', NULL, "FILE", IMAGE_TEXT, backing, "the new backing file, as it is written in; '' = none"),
    IMAGE_OPT('F', NULL, "FORMAT", IMAGE_TEXT, backing_format, "its format"),
    IMAGE_OPT('u', NULL, NULL, IMAGE_FLAG, unsafe,
              "change the name only: the new one reads as the old one did"),
    IMAGE_OPT_CACHE,
    IMAGE_OPT_SOURCE_CACHE,
    IMAGE_OPTS_PROGRESS,
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_SHARE,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_QUIET,
    IMAGE_OPT_END,
};

/* One rebase on its way. */
struct rebase {
    struct image *top;
    struct disk *base;       /* the new one; or NULL */
    uint8_t *before, *after; /* STEP bytes each */
    uint64_t unit;
};

static bool fail_at(const struct disk *disk, uint64_t at, int status, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: at %" PRIu64 ": %s", disk->name, at,
                       g_strerror(-status));
}

/* What the new one has there; behind its end nothing. */
static int read_base(struct rebase *r, uint64_t at, uint64_t size)
{
    const uint64_t end = r->base ? (uint64_t)r->base->facts.size : 0,
                   here = at < end ? MIN(size, end - at) : 0;
    memset(r->after + here, 0, size - here);
    return here ? block_pread(r->base, r->after, here, at) : 0;
}

/* A piece that shows through: kept where the new backing file says something else. */
static bool keep(struct rebase *r, uint64_t at, uint64_t size, GError **error)
{
    struct disk *top = r->top->disk;
    int status = block_pread(top, r->before, size, at);
    if (status)
        return fail_at(top, at, status, error);
    if ((status = read_base(r, at, size)))
        return fail_at(r->base, at, status, error);
    for (uint64_t i = 0; i < size && !status;) {
        const uint64_t now = MIN(r->unit - (at + i) % r->unit, size - i);
        if (memcmp(r->before + i, r->after + i, now) != 0)
            status = block_pwrite(top, r->before + i, now, at + i);
        i += now;
    }
    return !status || fail_at(top, at, status, error);
}

/* Will the new backing file show through? Where an image lies over none, what it does not have is zero, and
 * would be that file's. */
static bool shows_through(const struct rebase *r, const struct block_extent *e)
{
    return e->depth > 0 || (!r->top->chain->len && e->hole && e->zero);
}

/* Both say zero: nothing to read. */
static bool both_zero(const struct rebase *r, const struct block_extent *e, uint64_t at, uint64_t *size,
                      int *status)
{
    struct block_extent below = {.size = *size, .zero = true};
    *status = 0;
    if (r->base && at < r->base->facts.size)
        *status = block_extent(r->base, at, MIN(*size, r->base->facts.size - at), &below);
    *size = MIN(*size, below.size);
    return e->zero && below.zero;
}

static bool keep_all(struct rebase *r, const struct image_args *args, GError **error)
{
    struct disk *top = r->top->disk;
    const uint64_t end = top->facts.size;
    struct progress progress;
    bool ok = true;
    image_progress_begin(&progress, args, end);
    for (uint64_t at = 0; at < end && ok;) {
        struct block_extent e;
        int status = block_extent(top, at, end - at, &e);
        uint64_t size = e.size;
        if (!status && shows_through(r, &e) && !both_zero(r, &e, at, &size, &status) && !status) {
            size = MIN(size, STEP - at % STEP);
            ok = keep(r, at, size, error);
        }
        if (status)
            ok = fail_at(top, at, status, error);
        if (ok && atomic_load(&cli_stopped))
            ok = hostel_fail(error, HOSTEL_ERROR_HOST, "stopped; the backing file is the old one");
        at += size;
        progress_at(&progress, at);
    }
    progress_end(&progress, ok);
    int status = ok ? block_flush(top) : 0;
    return ok && (!status || fail_at(top, 0, status, error));
}

static bool open_base(struct image_args *args, struct image *base, GError **error)
{
    if (!*args->backing)
        return true;
    g_autofree char *path = block_path_resolve(args->names[0], args->backing);
    return image_open(args, path, args->backing_format, NULL, IMAGE_READ, base, error);
}

static bool safely(struct image_args *args, struct image *top, GError **error)
{
    AUTO_IMAGE base = {0};
    if (!open_base(args, &base, error))
        return false;
    g_autofree uint8_t *before = g_malloc(STEP), *after = g_malloc(STEP);
    struct rebase r = {
        .top = top,
        .base = base.disk,
        .before = before,
        .after = after,
        .unit = MIN(MAX(top->disk->facts.cluster, 4 * KiB), (uint64_t)STEP),
    };
    cli_stop_catch();
    return keep_all(&r, args, error);
}

static bool rebase(struct image_args *args, GError **error)
{
    AUTO_IMAGE top = {0};
    if (args->n != 1)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "expected one image, found %u arguments", args->n);
    if (!args->backing)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "-b FILE: is missing; -b '' makes it lie over nothing");
    if (*args->backing && !args->backing_format)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "the format of %s is missing, and formats are not guessed: -F FORMAT",
                           args->backing);
    if (args->backing_format && !image_format(args->backing_format, error))
        return false;
    const unsigned mode = IMAGE_WRITE | (args->unsafe ? IMAGE_ALONE : 0u);
    if (!image_open(args, args->names[0], args->format, NULL, mode, &top, error) ||
        !IMAGE_CAN(&top, set_backing, error) || (!args->unsafe && !safely(args, &top, error)))
        return false;
    const char *backing = *args->backing ? args->backing : NULL;
    return top.format->image->set_backing(top.disk, backing, backing ? args->backing_format : NULL, error);
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    return rebase(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_rebase = {
    .name = "rebase",
    .synopsis = "-f FORMAT [-u] -b FILE -F FORMAT FILE",
    .help = "give an image another backing file, keeping its disk as it is",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
