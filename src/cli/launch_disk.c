/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Opens the files of a guest's disks. */
/*
 * A guest's process opens no path, but which files an image refers to is only known when it has been read. So
 * the image is opened here once, for reading only, and each file that this asks for is noted and handed on
 * with its descriptor; opening the image over there asks for the same files in the same order.
 */
#include "cli/launch_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "block/file.h"
#include "block/path.h"
#include "cli/launch.h"
#include "os/fd.h"

/* The size is not ours to judge: what it must be depends on the format. */
static bool open_image(struct option_file *file, const char *key, bool readonly, GError **error)
{
    uint64_t size;
    file->fd = block_file_open(file->name, readonly, error);
    if (file->fd >= 0 && block_file_claim(file->fd, file->name, readonly, true, &size, error))
        return true;
    g_prefix_error(error, "--disk %s=", key);
    return false;
}

/* What is noted, and for which disk. */
struct notes {
    struct guest_options *options;
    unsigned disk; /* from 1 */
};

static const struct option_row *files_row(void)
{
    const struct option_row *row = guest_option_rows;
    while (strcmp(row->name, "disk-file") != 0)
        row++;
    return row;
}

static void note(void *opaque, const char *reference, const char *name, int fd)
{
    struct notes *notes = opaque;
    struct option_list *list = &notes->options->disk_files;
    struct disk_file_options *file = option_list_add(files_row(), list);
    file->disk = notes->disk;
    file->reference = option_list_keep(list, reference);
    file->file =
        (struct option_file){.name = option_list_keep(list, name), .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)};
}

static bool follow(struct guest_options *options, unsigned i, GError **error)
{
    struct disk_options *o = (struct disk_options *)options->disks.items + i;
    struct notes notes = {options, i + 1};
    /* Shared: the lock that the open file has already must stay one for writing. */
    struct block_config config = {.name = o->file.name,
                                  .fd = fcntl(o->file.fd, F_DUPFD_CLOEXEC, 3),
                                  .readonly = true,
                                  .flags = BLOCK_OPEN_SHARED};
    struct block_path path = {
        .name = o->file.name,
        .format = block_driver_find(o->format),
        .readonly = true,
        .flags = o->base.name ? BLOCK_OPEN_ALONE : 0,
        .follow = !strcmp(o->follow, "any") ? BLOCK_FOLLOW_ANY : BLOCK_FOLLOW_FOLDER,
        .opened = note,
        .opaque = &notes,
        .writable = !o->readonly,
        .file = block_open(block_driver_find("file"), &config, error),
    };
    if (!path.format) /* the guest's process says which there are */
        return block_free(path.file), true;
    AUTO(disk) b = path.file ? block_path_open(&path, error) : NULL;
    if (!b)
        g_prefix_error(error, "--disk ");
    return b != NULL;
}

/* Opens the layers of a disk; *count: how many there are. Only the last is written. */
static bool open_layers(struct guest_options *options, unsigned disk, unsigned *count, GError **error)
{
    struct disk_layer_options *layers = options->disk_layers.items;
    unsigned last = 0;
    *count = 0;
    for (unsigned i = 0; i < options->disk_layers.count; i++)
        if (layers[i].disk == disk) {
            last = i;
            ++*count;
        }
    for (unsigned i = 0; *count && i < options->disk_layers.count; i++)
        if (layers[i].disk == disk && !open_image(&layers[i].file, "layer", i != last, error))
            return false;
    return true;
}

bool launch_disk(struct guest_options *options, unsigned i, GError **error)
{
    struct disk_options *o = (struct disk_options *)options->disks.items + i;
    unsigned layers;
    return open_layers(options, i + 1, &layers, error) &&
           open_image(&o->file, "file", o->readonly || layers, error) &&
           (!o->base.name || open_image(&o->base, "base", true, error)) &&
           launch_open_input("disk key", &o->key, error) &&
           (!strcmp(o->follow, "off") || follow(options, i, error));
}
