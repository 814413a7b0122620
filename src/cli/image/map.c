/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image map`: how an image keeps each part of its disk. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/image/image.h"

static const struct image_option options[] = {
    IMAGE_OPT_FORMAT,
    IMAGE_OPT(0, "start-offset", "N", IMAGE_TEXT, map_start, "begin there"),
    IMAGE_OPT('s', NULL, "N", IMAGE_TEXT, map_start, "the same"),
    IMAGE_OPT(0, "max-length", "N", IMAGE_TEXT, map_length, "look at so much"),
    IMAGE_OPT('l', NULL, "N", IMAGE_TEXT, map_length, "the same"),
    IMAGE_OPT_OUTPUT,
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_SHARE,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_END,
};

/* One line: what is alike and lies in a row. */
struct piece {
    uint64_t start, size, place;
    unsigned depth;
    bool present, zero, data, compressed;
};

static bool merge(struct piece *into, const struct piece *next)
{
    const bool alike = into->depth == next->depth && into->present == next->present &&
                       into->zero == next->zero && into->data == next->data &&
                       into->compressed == next->compressed;
    const bool in_row = into->place == BLOCK_NO_PLACE ? next->place == BLOCK_NO_PLACE
                                                      : next->place == into->place + into->size;
    if (!alike || !in_row)
        return false;
    into->size += next->size;
    return true;
}

static void print_json(const struct piece *p, bool first)
{
    printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
           ", \"depth\": %u, \"present\": %s, \"zero\": %s, "
           "\"data\": %s",
           first ? "[" : ",\n", p->start, p->size, p->depth, p->present ? "true" : "false",
           p->zero ? "true" : "false", p->data ? "true" : "false");
    if (p->compressed)
        printf(", \"compressed\": true");
    if (p->place != BLOCK_NO_PLACE)
        printf(", \"offset\": %" PRIu64, p->place);
    printf("}");
}

static bool print_human(const struct image *image, const struct piece *p, GError **error)
{
    if (!p->data || p->zero)
        return true;
    if (p->place == BLOCK_NO_PLACE)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "File contains external, encrypted or compressed clusters.");
    const char *name = image->name;
    if (p->depth && p->depth <= image->chain->len)
        name = ((struct block_path_link *)image->chain->pdata[p->depth - 1])->name;
    printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", p->start, p->size, p->place, name);
    return true;
}

/* A hole of a raw image is in its place, too, as people know it. */
static struct piece piece_of(const struct image *image, uint64_t at, const struct block_extent *e)
{
    const bool raw = !strcmp(image->format->name, "raw");
    return (struct piece){
        .start = at,
        .size = e->size,
        .place = raw ? at : e->place,
        .depth = e->depth,
        .present = raw || !e->hole || e->depth < image->chain->len, /* zeroes that hide what lies below */
        .zero = e->zero,
        .data = !e->zero || (!e->hole && e->place != BLOCK_NO_PLACE),
        .compressed = e->compressed,
    };
}

static bool find_range(const struct image_args *args, uint64_t size, uint64_t *start, uint64_t *end,
                       GError **error)
{
    uint64_t length = UINT64_MAX;
    *start = 0;
    if ((args->map_start && !image_parse_size(args->map_start, start, error)) ||
        (args->map_length && !image_parse_size(args->map_length, &length, error)))
        return false;
    *start = MIN(*start, size);
    *end = *start + MIN(length, size - *start);
    return true;
}

static bool print(const struct image_args *args, const struct image *image, const struct piece *p, bool first,
                  GError **error)
{
    if (args->output[0] == 'h')
        return print_human(image, p, error);
    print_json(p, first);
    return true;
}

static bool map(struct image_args *args, GError **error)
{
    if (args->n != 1)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "expected one image, found %u arguments", args->n);
    AUTO_IMAGE image = {0};
    if (!image_open(args, args->names[0], args->format, NULL, IMAGE_READ, &image, error))
        return false;
    if (!image_confine(args, error))
        return false;
    uint64_t at, end;
    if (!find_range(args, image.disk->facts.size, &at, &end, error))
        return false;
    if (args->output[0] == 'h')
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    struct piece line = {0};
    bool first = true;
    while (at < end) {
        struct block_extent e;
        int status = block_extent(image.disk, at, end - at, &e);
        if (status)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: at %" PRIu64 ": %s", image.name, at,
                               g_strerror(-status));
        const struct piece next = piece_of(&image, at, &e);
        at += e.size;
        if (line.size && merge(&line, &next))
            continue;
        if (line.size && !print(args, &image, &line, first, error))
            return false;
        first &= !line.size;
        line = next;
    }
    if (line.size && !print(args, &image, &line, first, error))
        return false;
    if (args->output[0] == 'j')
        printf(line.size ? "]\n" : "[]\n");
    return true;
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    return map(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_map = {
    .name = "map",
    .synopsis = "-f FORMAT [--output human|json] FILE",
    .help = "tell how an image keeps each part of its disk",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
