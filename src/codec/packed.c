/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Large files with holes, compressed by all processors (packed.h has the theory). */
#include "codec/packed.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/error.h"
#include "codec/compress.h"
#include "os/fd.h"

/* The table: a skippable frame's magic and size, a row for each frame, and a foot. */
enum {
    TABLE_HEAD = 8,
    ROW = 8, /* packed and unpacked size; 4 more with checksums, which we leave to the frames */
    ROW_SUMMED = 12,
    FOOT = 9, /* how many frames, 1 byte of flags, magic */
    FOOT_FLAGS = 4,
    FOOT_MAGIC = 5,
    FLAG_SUMS = 0x80,
    FLAGS_RESERVED = 0x7c,
};
static const uint32_t table_magic = 0x184d2a5e, foot_magic = 0x8f92eab1, frame_magic = 0xfd2fb528;

enum { PAGE = 4096, THREADS_MAX = 64 };

/* More than zstd ever makes of so many bytes (ZSTD_COMPRESSBOUND, a checksum). */
static uint64_t packed_bound(uint64_t size)
{
    return size + size / 128 + 1024;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    return !bytes[0] && !memcmp(bytes, bytes + 1, size - 1);
}

/* --- several threads --- */

/* One piece of work for all threads: chunks are taken in their order. */
struct crew {
    const struct packed_work *work;
    int (*chunk)(struct crew *crew, uint64_t i, uint8_t *in, uint8_t *out); /* 0 or -errno */
    uint64_t count;
    size_t in_room, out_room; /* of each thread's buffers */
    _Atomic uint64_t next;
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t turned;
    int status; /* the first failure */
    uint64_t failed;
    void *opaque;
};

static void give_up(struct crew *crew, uint64_t i, int status)
{
    pthread_mutex_lock(&crew->lock);
    if (!crew->status) {
        crew->status = status;
        crew->failed = i;
    }
    pthread_cond_broadcast(&crew->turned);
    pthread_mutex_unlock(&crew->lock);
    atomic_store(&crew->next, crew->count);
}

static void *take_part(void *opaque)
{
    struct crew *crew = opaque;
    const struct packed_work *work = crew->work;
    g_autofree uint8_t *in = g_try_malloc(crew->in_room), *out = g_try_malloc(crew->out_room);
    if (!in || !out)
        give_up(crew, 0, -ENOMEM);
    for (uint64_t i; (i = atomic_fetch_add(&crew->next, 1)) < crew->count;) {
        const bool stopped = work->stop && atomic_load(work->stop);
        const int status = stopped ? -ECANCELED : crew->chunk(crew, i, in, out);
        if (status)
            give_up(crew, i, status);
    }
    return NULL;
}

static int crew_work(struct crew *crew)
{
    pthread_t threads[THREADS_MAX];
    unsigned started = 0;
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->turned, NULL);
    while (started + 1 < MIN(crew->work->threads, THREADS_MAX) && started + 1 < crew->count &&
           !pthread_create(&threads[started], NULL, take_part, crew))
        started++;
    take_part(crew); /* with fewer it goes as well */
    while (started > 0)
        pthread_join(threads[--started], NULL);
    pthread_cond_destroy(&crew->turned);
    pthread_mutex_destroy(&crew->lock);
    return crew->status;
}

static void count_done(const struct packed_work *work, uint64_t bytes)
{
    if (work->progress)
        atomic_fetch_add(work->progress, bytes);
}

/* --- chunks of zeroes, which most of what a guest has never used are --- */

struct hole {
    uint8_t frame[256];
    size_t size;
};

static int hole_make(struct hole *hole, int level)
{
    g_autofree uint8_t *zeroes = g_malloc0(PACKED_CHUNK);
    const ssize_t size =
        compress_pack(COMPRESS_ZSTD_SUMMED, level, zeroes, PACKED_CHUNK, hole->frame, sizeof(hole->frame));
    hole->size = size > 0 ? (size_t)size : 0;
    return size > 0 ? 0 : (int)size;
}

/* --- packing --- */

struct packing {
    int in, out;
    uint64_t size;  /* of the original */
    uint64_t place; /* of the next frame; under the crew's lock, as the next */
    uint64_t turn;  /* the chunk that it is of */
    uint8_t *table;
    struct hole hole;
};

bool packed_available(void)
{
    uint8_t byte = 0, out[64];
    return compress_pack(COMPRESS_ZSTD_SUMMED, COMPRESS_LEVEL_DEFAULT, &byte, 1, out, sizeof(out)) > 0;
}

/* The chunk's bytes; *zero: they are all zeroes, and perhaps not there. What was never written is not read.
 */
static int read_chunk(const struct packing *p, uint64_t at, uint8_t *bytes, size_t size, bool *zero)
{
    const off_t data = lseek(p->in, (off_t)at, SEEK_DATA);
    *zero = (data < 0 && errno == ENXIO) || data >= (off_t)(at + size);
    const int status = *zero ? 0 : fd_read_at(p->in, bytes, size, at);
    if (*zero)
        memset(bytes, 0, size);
    else if (!status)
        *zero = is_zero(bytes, size);
    return status;
}

/* Gives the frame of chunk i its place, behind that of the chunk before. */
static int take_place(struct crew *crew, uint64_t i, size_t packed, size_t size, uint64_t *place)
{
    struct packing *p = crew->opaque;
    pthread_mutex_lock(&crew->lock);
    while (p->turn != i && !crew->status)
        pthread_cond_wait(&crew->turned, &crew->lock);
    const int status = crew->status;
    *place = p->place;
    if (!status) {
        st32le(p->table + TABLE_HEAD + i * ROW, (uint32_t)packed);
        st32le(p->table + TABLE_HEAD + i * ROW + 4, (uint32_t)size);
        p->place += packed;
        p->turn++;
        pthread_cond_broadcast(&crew->turned);
    }
    pthread_mutex_unlock(&crew->lock);
    return status;
}

static int pack_chunk(struct crew *crew, uint64_t i, uint8_t *in, uint8_t *out)
{
    struct packing *p = crew->opaque;
    const uint64_t at = i * PACKED_CHUNK;
    const size_t size = (size_t)MIN(PACKED_CHUNK, p->size - at);
    const uint8_t *frame = out;
    uint64_t place;
    bool zero;
    int status = read_chunk(p, at, in, size, &zero);
    if (status)
        return status;
    ssize_t packed = (ssize_t)p->hole.size;
    if (zero && size == PACKED_CHUNK)
        frame = p->hole.frame;
    else
        packed = compress_pack(COMPRESS_ZSTD_SUMMED, crew->work->level, in, size, out, packed_bound(size));
    if (packed < 0)
        return (int)packed;
    status = take_place(crew, i, (size_t)packed, size, &place);
    if (!status)
        status = fd_write_at(p->out, frame, (size_t)packed, place);
    count_done(crew->work, size);
    return status;
}

static int write_table(const struct packing *p, uint64_t count)
{
    uint8_t *foot = p->table + TABLE_HEAD + count * ROW;
    st32le(p->table, table_magic);
    st32le(p->table + 4, (uint32_t)(count * ROW + FOOT));
    st32le(foot, (uint32_t)count);
    foot[FOOT_FLAGS] = 0;
    st32le(foot + FOOT_MAGIC, foot_magic);
    return fd_write_at(p->out, p->table, TABLE_HEAD + count * ROW + FOOT, p->place);
}

static int pack(struct packing *p, const struct packed_work *work)
{
    struct stat status;
    if (fstat(p->in, &status))
        return -errno;
    p->size = (uint64_t)status.st_size;
    const uint64_t count = (p->size + PACKED_CHUNK - 1) / PACKED_CHUNK;
    if (count > PACKED_FRAMES_MAX)
        return -EFBIG;
    p->table = g_try_malloc(TABLE_HEAD + count * ROW + FOOT);
    int result = p->table ? hole_make(&p->hole, work->level) : -ENOMEM;
    if (result)
        return result;
    struct crew crew = {.work = work,
                        .chunk = pack_chunk,
                        .count = count,
                        .in_room = PACKED_CHUNK,
                        .out_room = packed_bound(PACKED_CHUNK),
                        .opaque = p};
    result = crew_work(&crew);
    return result ? result : write_table(p, count);
}

bool packed_pack(int in, int out, const struct packed_work *work, GError **error)
{
    struct packing p = {.in = in, .out = out};
    const int status = pack(&p, work);
    g_free(p.table);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "cannot be compressed: %s",
                                  status == -EOPNOTSUPP  ? "this Hostel was built without zstd"
                                  : status == -ECANCELED ? "that was cancelled"
                                                         : g_strerror(-status));
}

/* --- reading --- */

struct packed {
    int fd;
    uint64_t count;
    uint64_t *place, *at; /* of each frame, in the file and in the original; one more, the end */
    size_t largest, largest_packed;
    /* What packed_read() has unpacked last. */
    uint8_t *in, *out;
    uint64_t cached; /* count = nothing */
    uint64_t failed; /* frame */
    int status;      /* why */
};

void packed_free(struct packed *p)
{
    if (!p)
        return;
    g_free(p->place);
    g_free(p->at);
    g_free(p->in);
    g_free(p->out);
    g_free(p);
}

bool packed_is(int fd)
{
    uint8_t magic[4];
    return !fd_read_at(fd, magic, sizeof(magic), 0) && ld32le(magic) == frame_magic;
}

static bool fail_table(GError **error, const char *what)
{
    return hostel_fail(error, HOSTEL_ERROR_INPUT, "the compressed file %s; copy it again, whole", what);
}

/* The rows of the table, which begins at byte `end`, where the frames must end. */
static bool take_rows(struct packed *p, const uint8_t *rows, size_t row, uint64_t end, GError **error)
{
    for (uint64_t i = 0; i < p->count; i++) {
        const uint32_t packed = ld32le(rows + i * row), size = ld32le(rows + i * row + 4);
        if (!packed || packed > end - p->place[i] || packed > packed_bound(size) || !size ||
            size > PACKED_CHUNK_MAX)
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "frame %" PRIu64 " of the compressed file, at byte %" PRIu64
                               ", cannot be %" PRIu32 " bytes for %" PRIu32,
                               i, p->place[i], packed, size);
        p->place[i + 1] = p->place[i] + packed;
        p->at[i + 1] = p->at[i] + size;
        p->largest = MAX(p->largest, size);
        p->largest_packed = MAX(p->largest_packed, packed);
    }
    return p->place[p->count] == end || fail_table(error, "has bytes that its table does not know");
}

static bool read_table(struct packed *p, uint64_t file_size, GError **error)
{
    uint8_t foot[FOOT];
    if (file_size < TABLE_HEAD + FOOT || fd_read_at(p->fd, foot, FOOT, file_size - FOOT) ||
        ld32le(foot + FOOT_MAGIC) != foot_magic)
        return fail_table(error, "is cut off, or not one that can be read at any place");
    const size_t row = foot[FOOT_FLAGS] & FLAG_SUMS ? ROW_SUMMED : ROW;
    p->count = ld32le(foot);
    const uint64_t table = TABLE_HEAD + p->count * row + FOOT;
    if (foot[FOOT_FLAGS] & FLAGS_RESERVED || !p->count || p->count > PACKED_FRAMES_MAX || table > file_size)
        return fail_table(error, "has a damaged table");
    g_autofree uint8_t *bytes = g_try_malloc(table);
    p->place = g_try_new0(uint64_t, p->count + 1);
    p->at = g_try_new0(uint64_t, p->count + 1);
    if (!bytes || !p->place || !p->at)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "no memory for a table of %" PRIu64 " bytes", table);
    if (fd_read_at(p->fd, bytes, table, file_size - table) || ld32le(bytes) != table_magic ||
        ld32le(bytes + 4) != table - TABLE_HEAD)
        return fail_table(error, "has a damaged table");
    return take_rows(p, bytes + TABLE_HEAD, row, file_size - table, error);
}

struct packed *packed_open(int fd, GError **error)
{
    struct stat status;
    AUTO(packed) p = g_new0(struct packed, 1);
    p->fd = fd;
    if (fstat(fd, &status) || !S_ISREG(status.st_mode)) {
        hostel_fail(error, HOSTEL_ERROR_INPUT, "a compressed file must be a regular file");
        return NULL;
    }
    if (!packed_available()) {
        hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                    "it is compressed, and this Hostel was built without zstd; 'zstd -d' unpacks it");
        return NULL;
    }
    if (!read_table(p, (uint64_t)status.st_size, error))
        return NULL;
    p->in = g_try_malloc(p->largest_packed);
    p->out = g_try_malloc(p->largest);
    p->cached = p->count;
    if (p->in && p->out)
        return STEAL(p);
    hostel_fail(error, HOSTEL_ERROR_HOST, "no memory for a frame of the compressed file");
    return NULL;
}

uint64_t packed_size(const struct packed *p)
{
    return p->at[p->count];
}

static size_t frame_size(const struct packed *p, uint64_t i)
{
    return (size_t)(p->place[i + 1] - p->place[i]);
}

static size_t chunk_size(const struct packed *p, uint64_t i)
{
    return (size_t)(p->at[i + 1] - p->at[i]);
}

/* 0 or -errno; out has room for the whole chunk. */
static int unpack_frame(const struct packed *p, uint64_t i, const uint8_t *in, uint8_t *out)
{
    const size_t packed = frame_size(p, i), size = chunk_size(p, i);
    const ssize_t n = compress_unpack(COMPRESS_ZSTD_SUMMED, in, packed, out, size);
    return n == -ENOMEM ? -ENOMEM : n != (ssize_t)size ? -EILSEQ : 0;
}

/* The frame that has the byte, which there is. */
static uint64_t find_frame(const struct packed *p, uint64_t at)
{
    uint64_t low = 0, high = p->count;
    while (high - low > 1) {
        const uint64_t middle = low + (high - low) / 2;
        if (p->at[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int packed_read(struct packed *p, void *bytes, size_t size, uint64_t at)
{
    if (at > packed_size(p) || size > packed_size(p) - at)
        return -ENODATA;
    for (size_t done = 0, here; done < size; done += here) {
        const uint64_t i = find_frame(p, at + done);
        if (i != p->cached) {
            p->cached = p->count;
            p->failed = i;
            p->status = fd_read_at(p->fd, p->in, frame_size(p, i), p->place[i]);
            if (!p->status)
                p->status = unpack_frame(p, i, p->in, p->out);
            if (p->status)
                return p->status;
            p->cached = i;
        }
        here = (size_t)MIN(size - done, p->at[i + 1] - (at + done));
        memcpy((uint8_t *)bytes + done, p->out + (at + done - p->at[i]), here);
    }
    return 0;
}

static bool fail_frame(const struct packed *p, uint64_t i, int status, GError **error)
{
    if (status == -EILSEQ || status == -ENODATA)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "frame %" PRIu64 " of the compressed file is damaged, between bytes %" PRIu64
                           " and %" PRIu64,
                           i, p->place[i], p->place[i + 1]);
    return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot be unpacked: %s",
                       status == -ECANCELED ? "that was cancelled" : g_strerror(-status));
}

bool packed_failed(const struct packed *p)
{
    return p->status;
}

bool packed_fail(const struct packed *p, GError **error)
{
    return fail_frame(p, p->failed, p->status, error);
}

/* --- unpacking --- */

struct unpacking {
    const struct packed *p;
    int out;
    struct hole hole; /* as we write it */
};

/* Writes what is not zero, page by page. */
static int write_chunk(int out, const uint8_t *bytes, size_t size, uint64_t place)
{
    int status = 0;
    for (size_t at = 0, end; !status && at < size; at = end) {
        while (at < size && is_zero(bytes + at, MIN(PAGE, size - at)))
            at += MIN(PAGE, size - at);
        for (end = at; end < size && !is_zero(bytes + end, MIN(PAGE, size - end));)
            end += MIN(PAGE, size - end);
        if (end > at)
            status = fd_write_at(out, bytes + at, end - at, place + at);
    }
    return status;
}

static int unpack_chunk(struct crew *crew, uint64_t i, uint8_t *in, uint8_t *out)
{
    const struct unpacking *u = crew->opaque;
    const size_t packed = frame_size(u->p, i), size = chunk_size(u->p, i);
    int status = fd_read_at(u->p->fd, in, packed, u->p->place[i]);
    const bool hole =
        !status && size == PACKED_CHUNK && packed == u->hole.size && !memcmp(in, u->hole.frame, packed);
    if (!status && !hole)
        status = unpack_frame(u->p, i, in, out);
    if (!status && !hole)
        status = write_chunk(u->out, out, size, u->p->at[i]);
    count_done(crew->work, size);
    return status;
}

bool packed_unpack(struct packed *p, int out, const struct packed_work *work, GError **error)
{
    struct unpacking u = {.p = p, .out = out};
    struct crew crew = {.work = work,
                        .chunk = unpack_chunk,
                        .count = p->count,
                        .in_room = p->largest_packed,
                        .out_room = p->largest,
                        .opaque = &u};
    if (ftruncate(out, (off_t)packed_size(p)))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot be unpacked: %s", g_strerror(errno));
    hole_make(&u.hole, COMPRESS_LEVEL_DEFAULT);
    const int status = crew_work(&crew);
    return !status || fail_frame(p, crew.failed, status, error);
}
