/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The partitions of a disk: MBR with logical ones, and GPT. Only read. */
/*
 * Sources: UEFI specification 2.10, chapter 5 (GPT, and the legacy MBR); sectors have 512 bytes. Numbers are
 * those of Linux: in an MBR 1 to 4 are the table's places and 5 on the logical ones; in a GPT the places of
 * its array.
 */
#ifndef HOSTEL_BLOCK_PARTITION_H
#define HOSTEL_BLOCK_PARTITION_H

#include "block/block.h"

enum { BLOCK_PARTITIONS_MAX = 128 };

struct block_partition {
    unsigned number;
    uint64_t offset, size; /* bytes; inside the disk */
    char type[37];         /* "0x83", or a GUID */
    char *name;            /* of a GPT; UTF-8, "" = none; owned */
};

/* The partitions in the order of their numbers, owned; empty when the disk has no table. NULL with *error
 * when the table is damaged, or cannot be read. */
GPtrArray *block_partitions(struct disk *b, GError **error);
void block_partition_free(struct block_partition *p);

#endif
