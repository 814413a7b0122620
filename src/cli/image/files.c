/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image ls` and `hostel image cat`: what they can be told. The work is done by hostel-files. */
#include "cli/image/files.h"

#include "cli/cli.h"

#define OPTIONS                                                                                              \
    IMAGE_OPT_FORMAT,                                                                                        \
        IMAGE_OPT('P', "partition", "N", IMAGE_COUNT, partition,                                             \
                  "the partition; needed when there are several"),                                           \
        IMAGE_OPT('l', NULL, "SNAPSHOT", IMAGE_TEXT, snapshot, "the disk as this internal snapshot has it"), \
        IMAGE_OPT_FOLLOW, IMAGE_OPT_SHARE, IMAGE_OPT_IMAGE_OPTS, IMAGE_OPTS_KEY

static const struct image_option ls_options[] = {OPTIONS, IMAGE_OPT_OUTPUT, IMAGE_OPT_END};
static const struct image_option cat_options[] = {OPTIONS, IMAGE_OPT_END};

static int run(struct image_args *args)
{
    return image_become("hostel-files", args);
}

const struct image_command image_command_ls = {
    .name = "ls",
    .synopsis = "-f FORMAT [-P N] FILE [PATH]",
    .help = "list a disk's partitions, or the files of its ext2, ext3 or ext4 file system",
    .options = ls_options,
    .run = run,
    .usage = CLI_USAGE,
};

const struct image_command image_command_cat = {
    .name = "cat",
    .synopsis = "-f FORMAT [-P N] FILE PATH",
    .help = "print a file of a disk's ext2, ext3 or ext4 file system",
    .options = cat_options,
    .run = run,
    .usage = CLI_USAGE,
};
