/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The file of a saved guest: its layout, for writing and for reading (saved.h has the theory). */
#include "codec/saved.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "codec/crc32c.h"
#include "os/fd.h"

static const uint8_t magic[8] = {0x89, 'H', 'O', 'S', 'T', 'E', 'L', '\n'};

/* The head, offsets in bytes. */
enum {
    HEAD_VERSION = 8,
    HEAD_SECTIONS = 12, /* how many */
    HEAD_AT = 16,       /* where they begin */
    HEAD_BYTES = 24,    /* how long they are */
    HEAD_FILE = 32,     /* how long the file is */
    HEAD_CRC = 60,      /* of what is before; the rest is zero */
    HEAD_SIZE = 64,
};

/* Before each section's bytes; the bytes are followed by zeroes up to a multiple of 8. */
enum {
    SECTION_KIND = 0,
    SECTION_NAME = 16,
    SECTION_VERSION = 64,
    SECTION_LENGTH = 68,
    SECTION_CRC = 72, /* of kind .. length and the bytes */
    SECTION_SIZE = 80,
};

/* Bytes of a section of memory; behind them a CRC for each chunk. */
enum { MEMORY_BASE = 0, MEMORY_LENGTH = 8, MEMORY_PLACE = 16, MEMORY_SIZE = 24, MEMORY_VERSION = 1 };

#define MEMORY_KIND "memory"
enum { MEMORY_ALIGN = 2 << 20 };

/* A buffer for reading memory back. */
enum { PIECE = 256 << 10 };

static uint64_t chunks_of(uint64_t size)
{
    return (size + SAVED_CHUNK - 1) / SAVED_CHUNK;
}

static bool is_zero(const uint8_t *page)
{
    return !page[0] && !page[SAVED_PAGE - 1] && !memcmp(page, page + 1, SAVED_PAGE - 1);
}

/* --- where it is kept --- */

static int fd_of(void *opaque)
{
    return GPOINTER_TO_INT(opaque);
}

static int fd_read(void *opaque, void *bytes, size_t size, uint64_t at)
{
    return fd_read_at(fd_of(opaque), bytes, size, at);
}

static int fd_write(void *opaque, const void *bytes, size_t size, uint64_t at)
{
    return fd_write_at(fd_of(opaque), bytes, size, at);
}

static int fd_size(void *opaque, uint64_t *size)
{
    struct stat status;
    if (fstat(fd_of(opaque), &status) || !S_ISREG(status.st_mode))
        return -EINVAL;
    *size = (uint64_t)status.st_size;
    return 0;
}

static int fd_set_size(void *opaque, uint64_t size)
{
    return ftruncate(fd_of(opaque), (off_t)size) ? -errno : 0;
}

static int fd_sync(void *opaque)
{
    return fdatasync(fd_of(opaque)) ? -errno : 0;
}

static uint64_t fd_next_data(void *opaque, uint64_t at)
{
    const off_t data = lseek(fd_of(opaque), (off_t)at, SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? UINT64_MAX : at; /* where the file's system cannot tell, all is data */
    return (uint64_t)data;
}

static struct saved_io io_of_fd(int fd)
{
    static const struct saved_ops ops = {.read = fd_read,
                                         .write = fd_write,
                                         .size = fd_size,
                                         .set_size = fd_set_size,
                                         .sync = fd_sync,
                                         .next_data = fd_next_data};
    return (struct saved_io){&ops, GINT_TO_POINTER(fd)};
}

static int io_read(const struct saved_io *io, void *bytes, size_t size, uint64_t at)
{
    return io->ops->read ? io->ops->read(io->opaque, bytes, size, at) : -EOPNOTSUPP;
}

static int io_write(const struct saved_io *io, const void *bytes, size_t size, uint64_t at)
{
    return io->ops->write ? io->ops->write(io->opaque, bytes, size, at) : -EOPNOTSUPP;
}

static int io_sync(const struct saved_io *io)
{
    return io->ops->sync ? io->ops->sync(io->opaque) : 0;
}

static uint64_t io_next_data(const struct saved_io *io, uint64_t at)
{
    return io->ops->next_data ? io->ops->next_data(io->opaque, at) : at;
}

/* --- memory's checksums --- */

/* Adds a page that is not all zeroes to a chunk's checksum. */
static uint32_t sum_page(uint32_t crc, uint64_t number, const uint8_t *page)
{
    uint8_t bytes[4];
    st32le(bytes, (uint32_t)number);
    return crc32c(crc32c(crc, bytes, sizeof(bytes)), page, SAVED_PAGE);
}

/* Reads [place, place + size) as it is kept, in pieces, passing over what nobody has written: each piece has
 * whole pages and is given to put(). 0, or what reading or put() says. */
static int read_pieces(const struct saved_io *io, uint64_t place, uint64_t size, uint8_t *piece,
                       saved_put put, void *opaque)
{
    const uint64_t end = place + size;
    for (uint64_t at = place; at < end;) {
        const uint64_t data = io_next_data(io, at);
        if (data > at)
            at = align_down(data, SAVED_PAGE);
        if (at >= end)
            return 0;
        const size_t here = (size_t)MIN(end - at, PIECE);
        int status = io_read(io, piece, here, at);
        if (!status)
            status = put(opaque, at - place, piece, here);
        if (status)
            return status;
        at += here;
    }
    return 0;
}

static int sum_piece(void *opaque, uint64_t at, const uint8_t *bytes, size_t size)
{
    uint32_t *crc = opaque;
    for (size_t i = 0; i < size; i += SAVED_PAGE) {
        if (!is_zero(bytes + i))
            *crc = sum_page(*crc, (at + i) / SAVED_PAGE, bytes + i);
    }
    return 0;
}

/* Sums one chunk as it is kept: each page that is not all zeroes, with its number before it. */
static int sum_chunk(const struct saved_io *io, uint64_t place, uint64_t size, uint8_t *piece, uint32_t *crc)
{
    *crc = 0;
    return read_pieces(io, place, size, piece, sum_piece, crc);
}

/* --- writing --- */

struct saved_writer {
    struct saved_io io;
    GByteArray *sections;
    uint32_t count;
    uint64_t end;     /* of memory */
    GArray *memories; /* of struct memory */
};

/* The checksum of a chunk so far, as long as its pages are written once and in order. */
struct chunk {
    uint32_t crc;
    uint16_t next; /* the first page that may follow */
    bool stale;    /* the file has to be read */
};

struct memory {
    struct saved_memory m;
    char name[SAVED_NAME_MAX + 1];
    struct chunk *chunk; /* of each chunk */
};

static void memory_clear(void *opaque)
{
    struct memory *memory = opaque;
    g_free(memory->chunk);
}

struct saved_writer *saved_writer_new(int fd)
{
    return saved_writer_new_io(io_of_fd(fd));
}

struct saved_writer *saved_writer_new_io(struct saved_io io)
{
    struct saved_writer *w = g_new0(struct saved_writer, 1);
    w->io = io;
    w->sections = g_byte_array_new();
    w->memories = g_array_new(FALSE, TRUE, sizeof(struct memory));
    g_array_set_clear_func(w->memories, memory_clear);
    w->end = SAVED_PAGE;
    return w;
}

void saved_writer_free(struct saved_writer *w)
{
    if (!w)
        return;
    g_byte_array_unref(w->sections);
    g_array_unref(w->memories);
    g_free(w);
}

void saved_add(struct saved_writer *w, const char *kind, const char *name, unsigned version,
               const void *bytes, size_t size)
{
    static const uint8_t zeroes[8];
    uint8_t head[SECTION_SIZE] = {0};
    g_assert(strlen(kind) <= SAVED_KIND_MAX && strlen(name) <= SAVED_NAME_MAX && size <= UINT32_MAX);
    memcpy(head + SECTION_KIND, kind, strlen(kind));
    memcpy(head + SECTION_NAME, name, strlen(name));
    st32le(head + SECTION_VERSION, version);
    st32le(head + SECTION_LENGTH, (uint32_t)size);
    st32le(head + SECTION_CRC, crc32c(crc32c(0, head, SECTION_CRC), bytes, size));
    g_byte_array_append(w->sections, head, sizeof(head));
    g_byte_array_append(w->sections, bytes, (guint)size);
    g_byte_array_append(w->sections, zeroes, (guint)(-size & 7));
    w->count++;
}

uint64_t saved_add_memory(struct saved_writer *w, const char *name, uint64_t base, uint64_t size)
{
    struct memory memory = {.m = {.base = base, .size = size}};
    g_assert(size && !(size % SAVED_PAGE) && strlen(name) <= SAVED_NAME_MAX);
    /* What is large begins where the host may use large pages for it. */
    memory.m.place = size >= MEMORY_ALIGN ? align_up(w->end, MEMORY_ALIGN) : w->end;
    g_strlcpy(memory.name, name, sizeof(memory.name));
    memory.chunk = g_new0(struct chunk, chunks_of(size));
    w->end = memory.m.place + size;
    g_array_append_val(w->memories, memory);
    return memory.m.place;
}

/* Sums pages that have been written while they are in the processor's cache. A guest that runs may have
 * changed one since; then it is going to be written again, and its chunk becomes stale. */
static void sum_written(struct saved_writer *w, uint64_t place, const uint8_t *bytes, uint64_t size,
                        bool first)
{
    enum { PAGES = SAVED_CHUNK / SAVED_PAGE };
    guint i = 0;
    struct memory *memory = &g_array_index(w->memories, struct memory, i);
    while (!range_inside(place, size, memory->m.place, memory->m.size))
        memory = &g_array_index(w->memories, struct memory, ++i);
    for (uint64_t at = 0; at < size; at += SAVED_PAGE) {
        const uint64_t page = (place + at - memory->m.place) / SAVED_PAGE;
        struct chunk *c = &memory->chunk[page / PAGES];
        c->stale = c->stale || !first || page % PAGES < c->next;
        if (c->stale)
            continue;
        c->crc = sum_page(c->crc, page % PAGES, bytes + at);
        c->next = (uint16_t)(page % PAGES + 1);
    }
}

int saved_write_pages(struct saved_writer *w, uint64_t place, const uint8_t *bytes, uint64_t size, bool first)
{
    for (uint64_t at = 0, end; at < size; at = end) {
        while (first && at < size && is_zero(bytes + at))
            at += SAVED_PAGE;
        for (end = at; end < size && end - at < PIECE && !(first && is_zero(bytes + end));)
            end += SAVED_PAGE;
        if (at == end)
            break;
        int status = io_write(&w->io, bytes + at, end - at, place + at);
        if (status)
            return status;
        sum_written(w, place + at, bytes + at, end - at, first);
    }
    return 0;
}

static int add_sums(struct saved_writer *w, const struct memory *memory, uint8_t *piece)
{
    const struct saved_memory *m = &memory->m;
    const uint64_t chunks = chunks_of(m->size);
    g_autofree uint8_t *bytes = g_malloc0(MEMORY_SIZE + 4 * chunks);
    st64le(bytes + MEMORY_BASE, m->base);
    st64le(bytes + MEMORY_LENGTH, m->size);
    st64le(bytes + MEMORY_PLACE, m->place);
    for (uint64_t i = 0; i < chunks; i++) {
        uint32_t crc = memory->chunk[i].crc;
        const uint64_t at = i * SAVED_CHUNK;
        int status = 0;
        if (memory->chunk[i].stale)
            status = sum_chunk(&w->io, m->place + at, MIN(SAVED_CHUNK, m->size - at), piece, &crc);
        if (status)
            return status;
        st32le(bytes + MEMORY_SIZE + 4 * i, crc);
    }
    saved_add(w, MEMORY_KIND, memory->name, MEMORY_VERSION, bytes, MEMORY_SIZE + 4 * chunks);
    return 0;
}

static int finish(struct saved_writer *w, bool durable)
{
    uint8_t head[HEAD_SIZE] = {0};
    g_autofree uint8_t *piece = g_malloc(PIECE);
    const struct saved_ops *ops = w->io.ops;
    int status = ops->set_size ? ops->set_size(w->io.opaque, w->end) : 0;
    for (guint i = 0; i < w->memories->len && !status; i++)
        status = add_sums(w, &g_array_index(w->memories, struct memory, i), piece);
    if (!status)
        status = io_write(&w->io, w->sections->data, w->sections->len, w->end);
    if (!status && durable)
        status = io_sync(&w->io);
    if (status)
        return status;
    memcpy(head, magic, sizeof(magic));
    st32le(head + HEAD_VERSION, SAVED_VERSION);
    st32le(head + HEAD_SECTIONS, w->count);
    st64le(head + HEAD_AT, w->end);
    st64le(head + HEAD_BYTES, w->sections->len);
    st64le(head + HEAD_FILE, w->end + w->sections->len);
    st32le(head + HEAD_CRC, crc32c(0, head, HEAD_CRC));
    status = io_write(&w->io, head, sizeof(head), 0);
    return !status && durable ? io_sync(&w->io) : status;
}

bool saved_finish(struct saved_writer *w, bool durable, GError **error)
{
    int status = finish(w, durable);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "the saved guest cannot be written: %s",
                                  g_strerror(-status));
}

uint64_t saved_writer_size(const struct saved_writer *w)
{
    return w->end + w->sections->len;
}

/* --- reading --- */

struct saved {
    struct saved_io io;
    uint64_t file_size, memory_end;
    uint8_t *bytes; /* of all sections */
    struct saved_section *section;
    unsigned count;
};

void saved_free(struct saved *s)
{
    if (!s)
        return;
    g_free(s->bytes);
    g_free(s->section);
    g_free(s);
}

/* What the head says. */
struct head {
    uint64_t at, bytes;
    uint32_t count;
};

static bool check_head(const uint8_t *head, uint64_t file_size, struct head *out, GError **error)
{
    static const uint8_t nothing[HEAD_SIZE];
    if (!memcmp(head, nothing, HEAD_SIZE))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "saving was cut off before its end; save again");
    if (memcmp(head, magic, sizeof(magic)) != 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "not a saved guest; 'hostel save' makes one");
    if (ld32le(head + HEAD_VERSION) != SAVED_VERSION)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "a saved guest of format %" PRIu32 ", this Hostel reads %d; use a newer one",
                           ld32le(head + HEAD_VERSION), SAVED_VERSION);
    if (ld32le(head + HEAD_CRC) != crc32c(0, head, HEAD_CRC))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "the head of the saved guest is damaged (checksum)");
    if (ld64le(head + HEAD_FILE) != file_size)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "the saved guest has %" PRIu64 " bytes and should have %" PRIu64
                           "; copy it again, whole",
                           file_size, ld64le(head + HEAD_FILE));
    *out = (struct head){.at = ld64le(head + HEAD_AT),
                         .bytes = ld64le(head + HEAD_BYTES),
                         .count = ld32le(head + HEAD_SECTIONS)};
    if (out->at < SAVED_PAGE || out->at % SAVED_PAGE || out->bytes > SAVED_SECTIONS_BYTES ||
        out->count > SAVED_SECTIONS_MAX || !range_inside(out->at, out->bytes, 0, file_size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "the head of the saved guest is damaged: %" PRIu32 " sections of %" PRIu64
                           " bytes at %" PRIu64,
                           out->count, out->bytes, out->at);
    return true;
}

/* Takes a section from the bytes that begin at *at. */
static bool take_section(struct saved *s, const struct head *head, uint64_t *at, GError **error)
{
    uint8_t *bytes = s->bytes + *at;
    struct saved_section *section = &s->section[s->count];
    const uint64_t left = head->bytes - *at, place = head->at + *at;
    if (left < SECTION_SIZE || ld32le(bytes + SECTION_LENGTH) > left - SECTION_SIZE)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "section %u of the saved guest, at byte %" PRIu64 ", is cut off", s->count, place);
    const uint32_t size = ld32le(bytes + SECTION_LENGTH);
    if (bytes[SECTION_NAME - 1] || bytes[SECTION_VERSION - 1] ||
        crc32c(crc32c(0, bytes, SECTION_CRC), bytes + SECTION_SIZE, size) != ld32le(bytes + SECTION_CRC))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "section %u of the saved guest, at byte %" PRIu64 ", is damaged (checksum)",
                           s->count, place);
    *section = (struct saved_section){.kind = (const char *)bytes + SECTION_KIND,
                                      .name = (const char *)bytes + SECTION_NAME,
                                      .version = ld32le(bytes + SECTION_VERSION),
                                      .bytes = bytes + SECTION_SIZE,
                                      .size = size};
    if (saved_look(s, section->kind, section->name))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "the saved guest has its section %s '%s' twice",
                           section->kind, section->name);
    s->count++;
    *at += MIN(left, align_up(SECTION_SIZE + (uint64_t)size, 8));
    return true;
}

static bool read_sections(struct saved *s, const struct head *head, GError **error)
{
    s->bytes = g_try_malloc0(head->bytes + 1);
    s->section = g_try_new0(struct saved_section, (gsize)head->count + 1);
    if (!s->bytes || !s->section)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "no memory for %" PRIu64 " bytes of saved state",
                           head->bytes);
    int status = io_read(&s->io, s->bytes, head->bytes, head->at);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "the saved guest cannot be read: %s",
                           g_strerror(-status));
    uint64_t at = 0;
    while (s->count < head->count)
        if (!take_section(s, head, &at, error))
            return false;
    return at == head->bytes || hostel_fail(error, HOSTEL_ERROR_INPUT,
                                            "there are bytes behind the last section of the saved guest");
}

struct saved *saved_open(int fd, GError **error)
{
    return saved_open_io(io_of_fd(fd), error);
}

struct saved *saved_open_io(struct saved_io io, GError **error)
{
    uint8_t bytes[HEAD_SIZE];
    struct head head = {0};
    AUTO(saved) s = g_new0(struct saved, 1);
    s->io = io;
    if (io.ops->size(io.opaque, &s->file_size)) {
        hostel_fail(error, HOSTEL_ERROR_INPUT, "a saved guest must be a regular file");
        return NULL;
    }
    int result = s->file_size < HEAD_SIZE ? -ENODATA : io_read(&io, bytes, sizeof(bytes), 0);
    if (result) {
        hostel_fail(error, HOSTEL_ERROR_INPUT, "not a saved guest: %s",
                    result == -ENODATA ? "it is too short" : g_strerror(-result));
        return NULL;
    }
    if (!check_head(bytes, s->file_size, &head, error))
        return NULL;
    s->memory_end = head.at;
    return read_sections(s, &head, error) ? STEAL(s) : NULL;
}

const struct saved_section *saved_look(struct saved *s, const char *kind, const char *name)
{
    for (unsigned i = 0; i < s->count; i++)
        if (!strcmp(s->section[i].kind, kind) && !strcmp(s->section[i].name, name)) {
            s->section[i].used = true;
            return &s->section[i];
        }
    return NULL;
}

const struct saved_section *saved_find(struct saved *s, const char *kind, const char *name, unsigned newest,
                                       GError **error)
{
    const struct saved_section *section = saved_look(s, kind, name);
    if (!section)
        hostel_fail(error, HOSTEL_ERROR_INPUT, "the saved guest has no %s '%s', which this guest has", kind,
                    name);
    else if (!section->version || section->version > newest)
        hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                    "%s '%s' was saved in version %u, this Hostel reads 1 to %u; use a newer one", kind, name,
                    section->version, newest);
    else
        return section;
    return NULL;
}

const struct saved_section *saved_sections(const struct saved *s, unsigned *count)
{
    *count = s->count;
    return s->section;
}

bool saved_check_used(const struct saved *s, GError **error)
{
    for (unsigned i = 0; i < s->count; i++)
        if (!s->section[i].used)
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "the saved guest has %s '%s', which this guest has not", s->section[i].kind,
                               s->section[i].name);
    return true;
}

static bool check_memory(const struct saved *s, const struct saved_section *section, struct saved_memory *out,
                         GError **error)
{
    if (section->size < MEMORY_SIZE)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "memory '%s' of the saved guest is cut off",
                           section->name);
    *out = (struct saved_memory){.base = ld64le(section->bytes + MEMORY_BASE),
                                 .size = ld64le(section->bytes + MEMORY_LENGTH),
                                 .place = ld64le(section->bytes + MEMORY_PLACE)};
    if (!out->size || out->size % SAVED_PAGE || out->place % SAVED_PAGE || out->place < SAVED_PAGE ||
        !range_inside(out->place, out->size, 0, s->memory_end) ||
        section->size != MEMORY_SIZE + 4 * chunks_of(out->size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "memory '%s' of the saved guest is damaged: %" PRIu64 " bytes at byte %" PRIu64,
                           section->name, out->size, out->place);
    return true;
}

bool saved_find_memory(struct saved *s, const char *name, struct saved_memory *out, GError **error)
{
    const struct saved_section *section = saved_find(s, MEMORY_KIND, name, MEMORY_VERSION, error);
    return section && check_memory(s, section, out, error);
}

/* Where a chunk that is being read goes, and its sum. */
struct reading {
    uint32_t crc;
    uint64_t at; /* of the chunk, in its block */
    saved_put put;
    void *opaque;
};

static int read_piece(void *opaque, uint64_t at, const uint8_t *bytes, size_t size)
{
    struct reading *r = opaque;
    sum_piece(&r->crc, at, bytes, size);
    for (size_t i = 0, end; i < size; i = end) {
        while (i < size && is_zero(bytes + i))
            i += SAVED_PAGE;
        for (end = i; end < size && !is_zero(bytes + end);)
            end += SAVED_PAGE;
        int status = r->put && i < end ? r->put(r->opaque, r->at + at + i, bytes + i, end - i) : 0;
        if (status)
            return status;
    }
    return 0;
}

static bool read_memory(const struct saved *s, const struct saved_section *section, saved_put put,
                        void *opaque, GError **error)
{
    struct saved_memory m;
    g_autofree uint8_t *piece = g_malloc(PIECE);
    if (!check_memory(s, section, &m, error))
        return false;
    for (uint64_t i = 0; i < chunks_of(m.size); i++) {
        struct reading r = {.at = i * SAVED_CHUNK, .put = put, .opaque = opaque};
        const uint64_t size = MIN(SAVED_CHUNK, m.size - r.at);
        int status = read_pieces(&s->io, m.place + r.at, size, piece, read_piece, &r);
        if (status == -ECANCELED)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "reading the saved guest was cancelled");
        if (status)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "the saved guest cannot be read: %s",
                               g_strerror(-status));
        if (r.crc != ld32le(section->bytes + MEMORY_SIZE + 4 * i))
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "memory '%s' of the saved guest is damaged between bytes %" PRIu64
                               " and %" PRIu64 " of the file (checksum)",
                               section->name, m.place + r.at, m.place + r.at + size);
    }
    return true;
}

bool saved_read_memory(struct saved *s, const char *name, saved_put put, void *opaque, GError **error)
{
    const struct saved_section *section = saved_find(s, MEMORY_KIND, name, MEMORY_VERSION, error);
    return section && read_memory(s, section, put, opaque, error);
}

bool saved_verify(struct saved *s, GError **error)
{
    for (unsigned i = 0; i < s->count; i++)
        if (!strcmp(s->section[i].kind, MEMORY_KIND) && !read_memory(s, &s->section[i], NULL, NULL, error))
            return false;
    return true;
}
