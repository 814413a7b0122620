/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image bench`: how fast an image is read or written. */
/*
 * As many threads as there are to be requests at a time share one counter; each takes a number, does the
 * request that it stands for, and takes the next.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/cli.h"
#include "cli/image/image.h"

enum { DEPTH_MAX = 256, COUNT = 75000, DEPTH = 64, SIZE = 4096 };

static const struct image_option options[] = {
    IMAGE_OPT_FORMAT,
    IMAGE_OPT('c', NULL, "N", IMAGE_COUNT, bench_count, "requests (default 75000)"),
    IMAGE_OPT('d', NULL, "N", IMAGE_COUNT, bench_depth, "requests at a time, up to 256 (default 64)"),
    IMAGE_OPT('s', NULL, "SIZE", IMAGE_SIZE, bench_size, "bytes of a request (default 4k)"),
    IMAGE_OPT('S', NULL, "SIZE", IMAGE_SIZE, bench_step,
              "from one request's offset to the next's (default: -s)"),
    IMAGE_OPT('o', NULL, "OFFSET", IMAGE_SIZE, offset, "where to begin"),
    IMAGE_OPT('w', NULL, NULL, IMAGE_FLAG, bench_write, "write"),
    IMAGE_OPT(0, "random", NULL, IMAGE_FLAG, bench_random, "at random offsets instead"),
    IMAGE_OPT(0, "pattern", "BYTE", IMAGE_COUNT, bench_pattern, "what is written (default 0)"),
    IMAGE_OPT(0, "flush-interval", "N", IMAGE_COUNT, bench_flush, "make durable after each N writes"),
    IMAGE_OPT(0, "no-drain", NULL, IMAGE_FLAG, ignored, "accepted; a flush holds nobody else up"),
    IMAGE_OPT('n', NULL, NULL, IMAGE_FLAG, ignored, "accepted"),
    IMAGE_OPT('i', NULL, "AIO", IMAGE_TEXT, bench_aio, "accepted"),
    IMAGE_OPT_CACHE,
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_SHARE,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_QUIET,
    IMAGE_OPT_END,
};

struct bench {
    const struct image_args *args;
    struct disk *disk;
    uint64_t size, step, places; /* of a request; between them; how many there are */
    _Atomic uint64_t next;
    _Atomic int status;
};

/* A number for a number, that looks random (splitmix64). */
static uint64_t scatter(uint64_t n)
{
    n += UINT64_C(0x9e3779b97f4a7c15);
    n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);
    return n ^ n >> 31;
}

static int request(struct bench *b, uint8_t *bytes, uint64_t n)
{
    const uint64_t place = b->args->bench_random ? scatter(n) % b->places : n % b->places;
    const uint64_t at = b->args->offset + place * b->step;
    if (!b->args->bench_write)
        return block_pread(b->disk, bytes, b->size, at);
    int status = block_pwrite(b->disk, bytes, b->size, at);
    if (!status && b->args->bench_flush && (n + 1) % b->args->bench_flush == 0)
        status = block_flush(b->disk);
    return status;
}

static void *work(void *opaque)
{
    struct bench *b = opaque;
    uint8_t *bytes = aligned_alloc(4096, align_up(b->size, 4096));
    if (!bytes) {
        atomic_store(&b->status, -ENOMEM);
        return NULL;
    }
    memset(bytes, (int)b->args->bench_pattern, b->size);
    for (;;) {
        const uint64_t n = atomic_fetch_add(&b->next, 1);
        if (n >= b->args->bench_count || atomic_load(&b->status) || atomic_load(&cli_stopped))
            break;
        int status = request(b, bytes, n);
        if (status)
            atomic_store(&b->status, status);
    }
    free(bytes);
    return NULL;
}

static void run_threads(struct bench *b)
{
    pthread_t threads[DEPTH_MAX];
    unsigned n = 0;
    while (n < b->args->bench_depth && !pthread_create(&threads[n], NULL, work, b))
        n++;
    if (!n)
        work(b);
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

static bool prepare(struct image_args *args, struct bench *b, GError **error)
{
    const uint64_t disk = b->disk->facts.size;
    if (args->bench_depth > DEPTH_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "-d %u: must be at most %d", args->bench_depth,
                           DEPTH_MAX);
    if (args->bench_pattern > 255 || (args->bench_flush && !args->bench_write))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--pattern is a byte, and --flush-interval is for -w");
    if (b->size > INT32_MAX || args->offset > disk || b->size > disk - args->offset)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "a request of %" PRIu64 " bytes at %" PRIu64 " is behind the disk's"
                           " end at %" PRIu64,
                           b->size, args->offset, disk);
    b->places = (disk - args->offset - b->size) / b->step + 1;
    return true;
}

static bool bench(struct image_args *args, GError **error)
{
    AUTO_IMAGE image = {0};
    if (args->n != 1)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "expected one image, found %u arguments", args->n);
    args->bench_count = args->bench_count ? args->bench_count : COUNT;
    args->bench_depth = args->bench_depth ? args->bench_depth : DEPTH;
    if (!image_open(args, args->names[0], args->format, NULL, args->bench_write ? IMAGE_WRITE : IMAGE_READ,
                    &image, error))
        return false;
    struct bench b = {.args = args, .disk = image.disk, .size = args->bench_size ? args->bench_size : SIZE};
    b.step = args->bench_step ? args->bench_step : b.size;
    if (!prepare(args, &b, error))
        return false;
    cli_stop_catch();
    image_say(args,
              "Sending %u %s requests, %" PRIu64 " bytes each, %u in parallel (starting at offset %" PRIu64
              ", step size %" PRIu64 ")\n",
              args->bench_count, args->bench_write ? "write" : "read", b.size, args->bench_depth,
              args->offset, b.step);
    if (args->bench_flush)
        image_say(args, "Sending flush every %u requests\n", args->bench_flush);
    const int64_t began = g_get_monotonic_time();
    run_threads(&b);
    if (b.status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", image.name, g_strerror(-b.status));
    if (atomic_load(&cli_stopped))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "stopped");
    image_say(args, "Run completed in %.3f seconds.\n", (double)(g_get_monotonic_time() - began) / 1e6);
    return true;
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    return bench(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_bench = {
    .name = "bench",
    .synopsis = "-f FORMAT [-w] [-c N] [-d N] [-s SIZE] FILE",
    .help = "measure how fast an image is read or written",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
