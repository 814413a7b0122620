/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image snapshot`: an image's internal snapshots. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/image/image.h"

static const struct image_option options[] = {
    IMAGE_OPT_FORMAT,
    IMAGE_OPT('l', NULL, NULL, IMAGE_FLAG, snapshot_list, "list them (the default)"),
    IMAGE_OPT('c', NULL, "NAME", IMAGE_TEXT, snapshot_create, "make one of the disk as it is"),
    IMAGE_OPT('a', NULL, "SNAPSHOT", IMAGE_TEXT, snapshot_apply,
              "make the disk what it was; by name or number"),
    IMAGE_OPT('d', NULL, "SNAPSHOT", IMAGE_TEXT, snapshot_delete, "delete one"),
    IMAGE_OPT_SHARE,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPT_FOLLOW,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_QUIET,
    IMAGE_OPT_END,
};

static void print_one(const struct block_snapshot *s)
{
    char date[32] = "";
    struct tm tm;
    const time_t seconds = (time_t)s->seconds;
    if (localtime_r(&seconds, &tm))
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
    const uint64_t clock = s->vm_clock / 1000000000;
    g_autofree char *run =
        g_strdup_printf("%02" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ".%03" PRIu64, clock / 3600, clock / 60 % 60,
                        clock % 60, s->vm_clock / 1000000 % 1000);
    g_autofree char *icount = s->icount != UINT64_MAX ? g_strdup_printf("%" PRIu64, s->icount) : g_strdup("");
    g_autofree char *size = progress_size_text(s->vm_state_size);
    printf("%-9s %-16s %8s%20s%13s%11s\n", s->id, s->name, size, date, run, icount);
}

void image_print_snapshots(const GPtrArray *snapshots)
{
    printf("%-9s %-16s %8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
    for (unsigned i = 0; i < snapshots->len; i++)
        print_one(snapshots->pdata[i]);
}

static bool list(const struct image *image, GError **error)
{
    if (!IMAGE_CAN(image, snapshots, error))
        return false;
    g_autoptr(GPtrArray) snapshots = image->format->image->snapshots(image->disk, error);
    if (!snapshots)
        return false;
    if (snapshots->len) {
        printf("Snapshot list:\n");
        image_print_snapshots(snapshots);
    }
    return true;
}

static bool snapshot(struct image_args *args, GError **error)
{
    const unsigned actions =
        args->snapshot_list + !!args->snapshot_create + !!args->snapshot_apply + !!args->snapshot_delete;
    if (args->n != 1)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "expected one image, found %u arguments", args->n);
    if (actions > 1)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "one of -l, -c, -a and -d can be done at a time");
    AUTO_IMAGE image = {0};
    const bool change = actions && !args->snapshot_list;
    if (!image_open(args, args->names[0], args->format, NULL,
                    IMAGE_ALONE | (change ? IMAGE_WRITE : IMAGE_READ), &image, error))
        return false;
    const struct block_image *f = image.format->image;
    if (!change)
        return list(&image, error);
    if (args->snapshot_create)
        return IMAGE_CAN(&image, snapshot_create, error) &&
               f->snapshot_create(image.disk, args->snapshot_create, error);
    if (args->snapshot_apply)
        return IMAGE_CAN(&image, snapshot_apply, error) &&
               f->snapshot_apply(image.disk, args->snapshot_apply, error);
    return IMAGE_CAN(&image, snapshot_delete, error) &&
           f->snapshot_delete(image.disk, args->snapshot_delete, error);
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    return snapshot(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_snapshot = {
    .name = "snapshot",
    .synopsis = "-f FORMAT [-l | -c NAME | -a SNAPSHOT | -d SNAPSHOT] FILE",
    .help = "list, make, apply and delete an image's internal snapshots",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
