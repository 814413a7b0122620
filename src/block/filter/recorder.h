/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A filter that notes all that changes the disk below, so that a power cut can be tried afterwards. */
/*
 * Each change gets two numbers from one clock: when it was begun, when it had ended. A flush makes durable
 * what had ended before it began, however many threads there were; of everything else a power cut may leave
 * any part. The notes outlive the disk.
 */
#ifndef HOSTEL_BLOCK_RECORDER_H
#define HOSTEL_BLOCK_RECORDER_H

#include "block/block.h"

enum block_note_kind {
    BLOCK_NOTE_WRITE,
    BLOCK_NOTE_ZERO,
    BLOCK_NOTE_DISCARD,
    BLOCK_NOTE_RESIZE, /* size: the new one */
    BLOCK_NOTE_FLUSH,
};

struct block_note {
    enum block_note_kind kind;
    uint64_t offset, size;
    uint8_t *bytes;        /* BLOCK_NOTE_WRITE: size bytes */
    uint64_t began, ended; /* ended 0: had not, or failed */
};

/* In the order in which they began; flushes that succeeded stand where they ended. */
struct block_record {
    pthread_mutex_t lock;
    GPtrArray *notes; /* of struct block_note, owned */
    uint64_t clock;
};

struct block_record *block_record_new(void);
void block_record_free(struct block_record *record);
CLEANUP_DEFINE(block_record, block_record_free)

static inline const struct block_note *block_record_note(const struct block_record *record, unsigned i)
{
    return (const struct block_note *)record->notes->pdata[i];
}

/* So far. */
unsigned block_record_count(struct block_record *record);

/* Is note i durable once the notes before `end` have happened? */
bool block_record_durable(const struct block_record *record, unsigned i, unsigned end);

/* Does to another disk, which must be as large and as growable, what the notes from `from` to before `to`
 * did. 0 or -errno. */
int block_record_replay(const struct block_record *record, unsigned from, unsigned to, struct disk *onto);

/* Writes the notes to a file, or reads them from one, whose numbers are this host's: little-endian or not.
 * NULL, false with *error. */
bool block_record_save(const struct block_record *record, int fd, GError **error);
struct block_record *block_record_load(int fd, GError **error);

/* Takes below. record is borrowed until the disk is freed; several disks may share one. */
struct disk *block_recorder_new(struct disk *below, struct block_record *record);

#endif
