/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Copies that people can watch. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "block/copy.h"
#include "cli/image/image.h"

/* A bar is for a terminal; what people ask for with -p elsewhere is read by programs, as qemu-img's is. */
void image_progress_begin(struct progress *p, const struct image_args *args, uint64_t total)
{
    enum progress_form form = progress_form(args->progress_form, args->quiet);
    if (args->progress && !args->progress_form)
        form = isatty(STDERR_FILENO) && isatty(STDOUT_FILENO) ? PROGRESS_BAR : PROGRESS_PERCENT;
    progress_begin(p, form, total);
}

static void tick(void *opaque, uint64_t done)
{
    progress_at(opaque, done);
}

bool image_copy(const struct image_args *args, struct block_copy *copy, GError **error)
{
    struct progress progress;
    image_progress_begin(&progress, args, copy->size);
    copy->stop = &cli_stopped;
    copy->threads = args->threads;
    if (args->rate && !image_parse_size(args->rate, &copy->rate, error))
        return false;
    copy->opaque = &progress;
    copy->progress = progress.form == PROGRESS_NONE ? NULL : tick;
    int status = block_copy(copy);
    progress_end(&progress, !status);
    if (!status)
        return true;
    if (status == -ECANCELED)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "stopped");
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot %s at %" PRIu64 ": %s",
                       copy->failed_reading ? copy->source->name : copy->target->name,
                       copy->failed_reading ? "read" : "write", copy->failed_at, g_strerror(-status));
}
