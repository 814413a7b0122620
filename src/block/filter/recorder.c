/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A filter that notes what changes the disk below it; see recorder.h. */
#include "block/filter/recorder.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "block/cursor.h"

/* --- notes --- */

static void free_note(void *opaque)
{
    struct block_note *note = opaque;
    g_free(note->bytes);
    g_free(note);
}

struct block_record *block_record_new(void)
{
    struct block_record *record = g_new0(struct block_record, 1);
    pthread_mutex_init(&record->lock, NULL);
    record->notes = g_ptr_array_new_with_free_func(free_note);
    return record;
}

void block_record_free(struct block_record *record)
{
    if (!record)
        return;
    g_ptr_array_unref(record->notes);
    pthread_mutex_destroy(&record->lock);
    g_free(record);
}

unsigned block_record_count(struct block_record *record)
{
    pthread_mutex_lock(&record->lock);
    unsigned count = record->notes->len;
    pthread_mutex_unlock(&record->lock);
    return count;
}

bool block_record_durable(const struct block_record *record, unsigned i, unsigned end)
{
    const struct block_note *note = block_record_note(record, i);
    if (!note->ended)
        return false;
    for (; end > i; end--) {
        const struct block_note *flush = block_record_note(record, end - 1);
        if (flush->kind == BLOCK_NOTE_FLUSH && flush->began > note->ended)
            return true;
    }
    return false;
}

int block_record_replay(const struct block_record *record, unsigned from, unsigned to, struct disk *onto)
{
    int status = 0;
    for (unsigned i = from; i < to && !status; i++) {
        const struct block_note *note = block_record_note(record, i);
        switch (note->kind) {
        case BLOCK_NOTE_WRITE: status = block_pwrite(onto, note->bytes, note->size, note->offset); break;
        case BLOCK_NOTE_ZERO: status = block_zero(onto, note->offset, note->size, 0); break;
        case BLOCK_NOTE_DISCARD: status = block_discard(onto, note->offset, note->size); break;
        case BLOCK_NOTE_RESIZE: status = block_resize(onto, note->size); break;
        case BLOCK_NOTE_FLUSH: status = block_flush(onto); break;
        }
    }
    return status;
}

/* --- notes in a file --- */

static const char magic[8] = {'H', 'O', 'S', 'T', 'E', 'L', 'R', 'C'};

struct stored {
    uint64_t kind, offset, size, began, ended;
};

static bool put(int fd, const void *bytes, size_t size, GError **error)
{
    for (const char *p = bytes; size;) {
        ssize_t done = write(fd, p, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot write the record: %s", g_strerror(errno));
        p += done;
        size -= (size_t)done;
    }
    return true;
}

/* 1; 0 at the end of the file, or with *error. */
static int get(int fd, void *bytes, size_t size, GError **error)
{
    size_t have = 0;
    while (have < size) {
        ssize_t done = read(fd, (char *)bytes + have, size - have);
        if (done < 0 && errno == EINTR)
            continue;
        if (done == 0 && have == 0)
            return 0;
        if (done <= 0)
            return hostel_fail(error, HOSTEL_ERROR_INPUT, "the record ends in the middle of a note");
        have += (size_t)done;
    }
    return 1;
}

bool block_record_save(const struct block_record *record, int fd, GError **error)
{
    if (!put(fd, magic, sizeof(magic), error))
        return false;
    for (unsigned i = 0; i < record->notes->len; i++) {
        const struct block_note *note = block_record_note(record, i);
        const struct stored stored = {note->kind, note->offset, note->size, note->began, note->ended};
        if (!put(fd, &stored, sizeof(stored), error) ||
            (note->bytes && !put(fd, note->bytes, note->size, error)))
            return false;
    }
    return true;
}

static bool load_note(struct block_record *record, const struct stored *stored, int fd, GError **error)
{
    if (stored->kind > BLOCK_NOTE_FLUSH)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "the record has a note of kind %" PRIu64, stored->kind);
    struct block_note *note = g_new0(struct block_note, 1);
    g_ptr_array_add(record->notes, note);
    note->kind = (enum block_note_kind)stored->kind;
    note->offset = stored->offset;
    note->size = stored->size;
    note->began = stored->began;
    note->ended = stored->ended;
    record->clock = MAX(record->clock, MAX(note->began, note->ended));
    if (note->kind != BLOCK_NOTE_WRITE)
        return true;
    note->bytes = g_try_malloc(note->size);
    if (!note->bytes)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "the record has a write of %" PRIu64 " bytes",
                           note->size);
    return get(fd, note->bytes, note->size, error) ||
           (error && *error ? false
                            : hostel_fail(error, HOSTEL_ERROR_INPUT, "the record ends in a write's bytes"));
}

struct block_record *block_record_load(int fd, GError **error)
{
    GError *local = NULL;
    char head[sizeof(magic)];
    AUTO(block_record) record = block_record_new();
    if (!get(fd, head, sizeof(head), &local) || memcmp(head, magic, sizeof(magic)) != 0) {
        if (!local)
            hostel_fail(&local, HOSTEL_ERROR_INPUT, "this is no record of a disk's changes");
    } else {
        struct stored stored;
        while (get(fd, &stored, sizeof(stored), &local) && load_note(record, &stored, fd, &local))
            ;
    }
    if (!local)
        return STEAL(record);
    g_propagate_error(error, local);
    return NULL;
}

/* --- the filter --- */

struct recorder {
    struct disk disk;
    struct block_record *record;
};

static struct block_record *record_of(struct disk *b)
{
    return ((struct recorder *)(void *)b)->record;
}

static struct block_note *begin(struct disk *b, enum block_note_kind kind, uint64_t offset, uint64_t size)
{
    struct block_record *record = record_of(b);
    struct block_note *note = g_new0(struct block_note, 1);
    note->kind = kind;
    note->offset = offset;
    note->size = size;
    pthread_mutex_lock(&record->lock);
    note->began = ++record->clock;
    if (kind != BLOCK_NOTE_FLUSH)
        g_ptr_array_add(record->notes, note);
    pthread_mutex_unlock(&record->lock);
    return note;
}

static int end(struct disk *b, struct block_note *note, int status)
{
    struct block_record *record = record_of(b);
    const bool flush = note->kind == BLOCK_NOTE_FLUSH;
    pthread_mutex_lock(&record->lock);
    if (!status)
        note->ended = ++record->clock;
    if (flush && !status)
        g_ptr_array_add(record->notes, note);
    pthread_mutex_unlock(&record->lock);
    if (flush && status)
        free_note(note);
    return status;
}

static int recorder_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    return block_read(b->below, iov, n, offset, flags);
}

static int recorder_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    const uint64_t size = block_iov_size(iov, n);
    struct block_cursor c = {.iov = iov};
    uint8_t *bytes = g_malloc(size);
    block_cursor_take(&c, bytes, size);
    struct block_note *note = begin(b, BLOCK_NOTE_WRITE, offset, size);
    note->bytes = bytes; /* nobody looks at the notes before the operations on the disk have ended */
    return end(b, note, block_write(b->below, iov, n, offset));
}

static int recorder_flush(struct disk *b)
{
    struct block_note *note = begin(b, BLOCK_NOTE_FLUSH, 0, 0);
    return end(b, note, block_flush(b->below));
}

static int recorder_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    struct block_note *note = begin(b, BLOCK_NOTE_DISCARD, offset, size);
    return end(b, note, block_discard(b->below, offset, size));
}

static int recorder_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    struct block_note *note = begin(b, BLOCK_NOTE_ZERO, offset, size);
    return end(b, note, block_zero(b->below, offset, size, flags));
}

static int recorder_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return block_extent(b->below, offset, size, extent);
}

static int recorder_resize(struct disk *b, uint64_t size)
{
    struct block_note *note = begin(b, BLOCK_NOTE_RESIZE, 0, size);
    return end(b, note, block_resize(b->below, size));
}

static const struct block_driver recorder_filter = {
    .name = "recorder",
    .help = "notes what changes",
    .kind = BLOCK_FILTER,
    .size = sizeof(struct recorder),
    .read = recorder_read,
    .write = recorder_write,
    .flush = recorder_flush,
    .discard = recorder_discard,
    .zero = recorder_zero,
    .extent = recorder_extent,
    .resize = recorder_resize,
};

struct disk *block_recorder_new(struct disk *below, struct block_record *record)
{
    struct disk *b = block_filter_new(&recorder_filter, below);
    ((struct recorder *)(void *)b)->record = record;
    return b;
}
