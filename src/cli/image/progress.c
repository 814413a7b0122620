/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Copies that people can watch: how far they are, how fast, how long they still take. */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "block/copy.h"
#include "cli/image/image.h"

enum { NONE, BAR, PERCENT, JSON };

static int64_t now_us(void)
{
    return g_get_monotonic_time();
}

/* A bar is for a terminal; what people ask for with -p elsewhere is read by programs, as qemu-img's is. */
void image_progress_begin(struct image_progress *p, const struct image_args *args, uint64_t total)
{
    const bool terminal = isatty(STDERR_FILENO);
    *p = (struct image_progress){.total = total, .began = now_us()};
    if (args->progress_form)
        p->form = args->progress_form[0] == 'b' ? BAR : args->progress_form[0] == 'j' ? JSON : NONE;
    else if (args->progress)
        p->form = terminal && isatty(STDOUT_FILENO) ? BAR : PERCENT;
    else
        p->form = terminal && !args->quiet ? BAR : NONE;
}

static void draw_bar(struct image_progress *p, uint64_t done, double seconds)
{
    const double part = p->total ? (double)done / (double)p->total : 1;
    const double rate = seconds > 0 ? (double)done / seconds : 0;
    g_autofree char *of = image_size_text(p->total), *so_far = image_size_text(done);
    g_autofree char *per_second = image_size_text((uint64_t)rate);
    fprintf(stderr, "\r\033[K%5.1f%%  %s of %s  %s/s", part * 100, so_far, of, per_second);
    if (rate > 0 && seconds > 1)
        fprintf(stderr, "  %.0f s left", (double)(p->total - done) / rate);
    fflush(stderr);
    p->drawn = 1;
}

void image_progress_at(struct image_progress *p, uint64_t done)
{
    const double seconds = (double)(now_us() - p->began) / 1e6;
    switch (p->form) {
    case BAR:
        if (seconds > 0.3) /* shorter work would only flicker */
            draw_bar(p, done, seconds);
        break;
    case PERCENT:
        printf("    (%.2f/100%%)\r", p->total ? (double)done * 100 / (double)p->total : 100.0);
        fflush(stdout);
        break;
    case JSON:
        printf("{\"done\": %" PRIu64 ", \"total\": %" PRIu64 ", \"seconds\": %.3f}\n", done, p->total,
               seconds);
        fflush(stdout);
        break;
    default: break;
    }
}

void image_progress_end(struct image_progress *p, bool complete)
{
    if (p->form == BAR && p->drawn)
        fputs("\r\033[K", stderr);
    if (p->form == PERCENT && complete)
        printf("    (100.00/100%%)\r");
    if (p->form == PERCENT)
        putchar('\n');
}

static void tick(void *opaque, uint64_t done)
{
    image_progress_at(opaque, done);
}

bool image_copy(const struct image_args *args, struct block_copy *copy, GError **error)
{
    struct image_progress progress;
    image_progress_begin(&progress, args, copy->size);
    copy->stop = &image_stopped;
    copy->threads = args->threads;
    if (args->rate && !image_parse_size(args->rate, &copy->rate, error))
        return false;
    copy->opaque = &progress;
    copy->progress = progress.form == NONE ? NULL : tick;
    int status = block_copy(copy);
    image_progress_end(&progress, !status);
    if (!status)
        return true;
    if (status == -ECANCELED)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "stopped");
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot %s at %" PRIu64 ": %s",
                       copy->failed_reading ? copy->source->name : copy->target->name,
                       copy->failed_reading ? "read" : "write", copy->failed_at, g_strerror(-status));
}
