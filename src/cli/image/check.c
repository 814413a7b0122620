/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image check`: is an image consistent, and mending it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/image/image.h"

/* As qemu-img's. */
enum { CHECK_OK = 0, CHECK_FAILED = 1, CHECK_CORRUPT = 2, CHECK_LEAKS = 3, CHECK_UNSUPPORTED = 63 };

static const struct image_option options[] = {
    IMAGE_OPT_FORMAT,
    IMAGE_OPT_WORDS('r', "repair", "WHAT", check_fix, "leaks|all", "mend it: leaks, or all"),
    IMAGE_OPT_OUTPUT,
    IMAGE_OPT_SOURCE_CACHE,
    IMAGE_OPT_SHARE,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPT_FOLLOW,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_QUIET,
    IMAGE_OPT_END,
};

static void report(void *opaque, const char *line)
{
    const struct image_args *args = opaque;
    if (!args->quiet)
        fprintf(stderr, "%s\n", line);
}

static bool check_once(struct image_args *args, struct image *image, unsigned fix, struct block_check *out,
                       GError **error)
{
    *out = (struct block_check){.report = report, .opaque = args};
    return image->format->image->check(image->disk, fix, out, error);
}

static void add_count(json_t *j, const char *name, uint64_t count)
{
    if (count)
        json_object_set_new(j, name, json_integer((json_int_t)count));
}

static void print_json(const struct image *image, const struct block_check *c)
{
    json_t *j = json_object();
    json_t *file = json_string(image->name);
    json_object_set_new(j, "filename", file ? file : json_string("?"));
    json_object_set_new(j, "format", json_string(image->format->name));
    json_object_set_new(j, "check-errors", json_integer((json_int_t)c->errors));
    add_count(j, "image-end-offset", c->end);
    add_count(j, "corruptions", c->corruptions);
    add_count(j, "leaks", c->leaks);
    add_count(j, "corruptions-fixed", c->corruptions_fixed);
    add_count(j, "leaks-fixed", c->leaks_fixed);
    add_count(j, "total-clusters", c->clusters);
    add_count(j, "allocated-clusters", c->allocated);
    add_count(j, "fragmented-clusters", c->fragmented);
    add_count(j, "compressed-clusters", c->compressed);
    image_print_json(j);
}

static void print_human(const struct image_args *args, const struct block_check *c)
{
    if (!c->corruptions && !c->leaks && !c->errors)
        image_say(args, "No errors were found on the image.\n");
    if (c->corruptions)
        image_say(args,
                  "\n%" PRIu64
                  " errors were found on the image.\nData may be corrupted, or further writes to the "
                  "image may corrupt it.\n",
                  c->corruptions);
    if (c->leaks)
        image_say(args,
                  "\n%" PRIu64
                  " leaked clusters were found on the image.\nThis means waste of disk space, but no "
                  "harm to data.\n",
                  c->leaks);
    if (c->errors)
        image_say(args, "\n%" PRIu64 " internal errors have occurred during the check.\n", c->errors);
    if (c->clusters && c->allocated)
        image_say(args,
                  "%" PRIu64 "/%" PRIu64
                  " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
                  c->allocated, c->clusters, (double)c->allocated * 100 / (double)c->clusters,
                  (double)c->fragmented * 100 / (double)c->allocated,
                  (double)c->compressed * 100 / (double)c->allocated);
    if (c->end)
        image_say(args, "Image end offset: %" PRIu64 "\n", c->end);
}

/* Mends, then looks once more; what was mended is kept in c. */
static bool mend(struct image_args *args, struct image *image, struct block_check *c, GError **error)
{
    const unsigned all = BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS;
    if (!check_once(args, image, args->check_fix[0] == 'a' ? all : BLOCK_FIX_LEAKS, c, error))
        return false;
    if (!c->corruptions_fixed && !c->leaks_fixed)
        return true;
    const struct block_check first = *c;
    if (args->output[0] == 'h')
        image_say(args,
                  "The following inconsistencies were found and repaired:\n\n    %" PRIu64
                  " leaked clusters\n    %" PRIu64 " corruptions\n\nDouble checking the fixed image now...\n",
                  c->leaks_fixed, c->corruptions_fixed);
    if (!check_once(args, image, 0, c, error))
        return false;
    c->leaks_fixed = first.leaks_fixed;
    c->corruptions_fixed = first.corruptions_fixed;
    return true;
}

static bool can_check(const struct block_driver *format, GError **error)
{
    return (format && format->image && format->image->check) ||
           hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "This image format does not support checks (%s)",
                       format ? format->name : "raw");
}

static int check(struct image_args *args, GError **error)
{
    if (args->n != 1) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "expected one image, found %u arguments", args->n);
        return CHECK_FAILED;
    }
    AUTO_IMAGE image = {0};
    struct block_check c;
    const unsigned mode = IMAGE_ALONE | (args->check_fix ? IMAGE_WRITE | IMAGE_REPAIR : IMAGE_READ);
    const struct block_driver *format = args->format ? block_driver_find(args->format) : NULL;
    if (format && format->kind == BLOCK_FORMAT && !can_check(format, error))
        return CHECK_UNSUPPORTED;
    if (!image_open(args, args->names[0], args->format, NULL, mode, &image, error))
        return CHECK_FAILED;
    if (!can_check(image.format, error))
        return CHECK_UNSUPPORTED;
    if (!args->check_fix && !image_confine(args, error))
        return CHECK_FAILED;
    if (args->check_fix ? !mend(args, &image, &c, error) : !check_once(args, &image, 0, &c, error))
        return CHECK_FAILED;
    if (args->output[0] == 'j')
        print_json(&image, &c);
    else
        print_human(args, &c);
    return c.corruptions ? CHECK_CORRUPT : c.leaks ? CHECK_LEAKS : c.errors ? CHECK_FAILED : CHECK_OK;
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    int code = check(args, &error);
    return error ? image_fail(error, code) : code;
}

const struct image_command image_command_check = {
    .name = "check",
    .synopsis = "-f FORMAT [-r leaks|all] FILE",
    .help = "look for errors in an image, and mend them",
    .options = options,
    .run = run,
    .usage = CHECK_FAILED,
};
