/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A file in memory. Its pages are shared by copies until one of them writes; none = all zero. */
#include "store.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"

struct page {
    unsigned users;
    uint64_t hash; /* 0 = not known */
    uint8_t bytes[STORE_PAGE];
};

struct store {
    pthread_mutex_t lock;
    uint64_t size;
    GPtrArray *pages; /* struct page or NULL; no longer than needed */
};

static struct store *make(void)
{
    struct store *s = g_new0(struct store, 1);
    pthread_mutex_init(&s->lock, NULL);
    s->pages = g_ptr_array_new();
    return s;
}

struct store *store_new(uint64_t size)
{
    struct store *s = make();
    s->size = size;
    return s;
}

/* --- pages --- */

static void drop(struct store *s, uint64_t i)
{
    struct page *page = s->pages->pdata[i];
    s->pages->pdata[i] = NULL;
    if (page && --page->users == 0)
        g_free(page);
}

/* One that is this store's alone. */
static struct page *own(struct store *s, uint64_t i)
{
    if (i >= s->pages->len)
        g_ptr_array_set_size(s->pages, (int)i + 1);
    struct page *page = s->pages->pdata[i];
    if (!page || page->users > 1) {
        struct page *fresh = g_new0(struct page, 1);
        if (page)
            memcpy(fresh->bytes, page->bytes, STORE_PAGE);
        drop(s, i);
        fresh->users = 1;
        s->pages->pdata[i] = page = fresh;
    }
    page->hash = 0;
    return page;
}

static struct page *look(const struct store *s, uint64_t i)
{
    return i < s->pages->len ? s->pages->pdata[i] : NULL;
}

struct store *store_copy(const struct store *from)
{
    struct store *s = make();
    s->size = from->size;
    g_ptr_array_set_size(s->pages, (int)from->pages->len);
    for (unsigned i = 0; i < from->pages->len; i++) {
        struct page *page = from->pages->pdata[i];
        s->pages->pdata[i] = page;
        if (page)
            page->users++;
    }
    return s;
}

void store_free(struct store *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < s->pages->len; i++)
        drop(s, i);
    g_ptr_array_unref(s->pages);
    pthread_mutex_destroy(&s->lock);
    g_free(s);
}

uint64_t store_size(const struct store *s)
{
    return s->size;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    return !bytes[0] && !memcmp(bytes, bytes + 1, size - 1);
}

/* FNV-1a by words. Never 0; a page of zeroes is as none. */
static uint64_t page_hash(struct page *page)
{
    const uint64_t *words = (const uint64_t *)(const void *)page->bytes;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (unsigned i = 0; i < STORE_PAGE / 8; i++)
        hash = (hash ^ words[i] ^ (hash >> 29)) * UINT64_C(0x100000001b3);
    return is_zero(page->bytes, STORE_PAGE) ? 1 : hash | 2;
}

uint64_t store_hash(struct store *s)
{
    uint64_t hash = s->size * UINT64_C(0x9e3779b97f4a7c15);
    for (unsigned i = 0; i < s->pages->len; i++) {
        struct page *page = s->pages->pdata[i];
        if (page && !page->hash)
            page->hash = page_hash(page);
        if (page && page->hash != 1)
            hash += (page->hash ^ (i + 1) * UINT64_C(0xff51afd7ed558ccd)) * UINT64_C(0xc4ceb9fe1a85ec53);
    }
    return hash;
}

/* --- bytes --- */

void store_read(struct store *s, void *bytes, uint64_t size, uint64_t offset)
{
    for (uint8_t *to = bytes; size;) {
        const uint64_t at = offset % STORE_PAGE, now = MIN(size, STORE_PAGE - at);
        const struct page *page = look(s, offset / STORE_PAGE);
        if (page)
            memcpy(to, page->bytes + at, now);
        else
            memset(to, 0, now);
        to += now;
        offset += now;
        size -= now;
    }
}

void store_write(struct store *s, const void *bytes, uint64_t size, uint64_t offset)
{
    s->size = MAX(s->size, offset + size);
    for (const uint8_t *from = bytes; size;) {
        const uint64_t at = offset % STORE_PAGE, now = MIN(size, STORE_PAGE - at);
        memcpy(own(s, offset / STORE_PAGE)->bytes + at, from, now);
        from += now;
        offset += now;
        size -= now;
    }
}

void store_fill(struct store *s, uint8_t byte, uint64_t size, uint64_t offset)
{
    const uint64_t end = MIN(offset + size, s->size);
    for (uint64_t now; offset < end; offset += now) {
        const uint64_t at = offset % STORE_PAGE, i = offset / STORE_PAGE;
        now = MIN(end - offset, STORE_PAGE - at);
        if (!byte && !look(s, i))
            continue;
        if (!byte && now == STORE_PAGE)
            drop(s, i);
        else
            memset(own(s, i)->bytes + at, byte, now);
    }
}

void store_resize(struct store *s, uint64_t size)
{
    if (size < s->size) {
        store_fill(s, 0, s->size - size, size);
        for (uint64_t i = align_up(size, STORE_PAGE) / STORE_PAGE; i < s->pages->len; i++)
            drop(s, i);
        g_ptr_array_set_size(s->pages, (int)MIN(s->pages->len, align_up(size, STORE_PAGE) / STORE_PAGE));
    }
    s->size = size;
}

void store_load(struct store *s, int fd)
{
    uint8_t bytes[STORE_PAGE];
    struct stat status;
    g_assert_cmpint(fstat(fd, &status), ==, 0);
    store_resize(s, 0);
    store_resize(s, (uint64_t)status.st_size);
    ssize_t got;
    for (uint64_t at = 0; (got = pread(fd, bytes, sizeof(bytes), (off_t)at)) > 0; at += (uint64_t)got)
        if (!is_zero(bytes, (size_t)got))
            store_write(s, bytes, (uint64_t)got, at);
}

void store_save(struct store *s, int fd)
{
    g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)s->size), ==, 0);
    for (unsigned i = 0; i < s->pages->len; i++) {
        const struct page *page = s->pages->pdata[i];
        const uint64_t at = (uint64_t)i * STORE_PAGE, size = MIN(STORE_PAGE, s->size - at);
        if (page)
            g_assert_cmpint(pwrite(fd, page->bytes, size, (off_t)at), ==, (ssize_t)size);
    }
}

/* --- as a disk --- */

struct store_disk {
    struct disk disk;
    struct store *store;
    bool garbage;
};

static struct store_disk *store_disk_of(struct disk *b)
{
    return (struct store_disk *)(void *)b;
}

static struct store *locked(struct disk *b)
{
    struct store *s = store_disk_of(b)->store;
    pthread_mutex_lock(&s->lock);
    return s;
}

static int disk_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    (void)flags;
    struct store *s = locked(b);
    for (; n; offset += iov->iov_len, iov++, n--)
        store_read(s, iov->iov_base, iov->iov_len, offset);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static int disk_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    struct store *s = locked(b);
    for (; n; offset += iov->iov_len, iov++, n--)
        store_write(s, iov->iov_base, iov->iov_len, offset);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static int disk_flush(struct disk *b)
{
    (void)b;
    return 0;
}

static int disk_fill(struct disk *b, uint8_t byte, uint64_t offset, uint64_t size)
{
    struct store *s = locked(b);
    store_fill(s, byte, size, offset);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static int disk_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return disk_fill(b, store_disk_of(b)->garbage ? STORE_GARBAGE : 0, offset, size);
}

static int disk_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    (void)flags;
    return disk_fill(b, 0, offset, size);
}

static int disk_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    struct store *s = locked(b);
    uint64_t i = offset / STORE_PAGE;
    const bool hole = !look(s, i);
    while (++i * STORE_PAGE < offset + size && !look(s, i) == hole)
        ;
    pthread_mutex_unlock(&s->lock);
    *extent = (struct block_extent){.size = MIN(size, i * STORE_PAGE - offset), .hole = hole, .zero = hole};
    extent->place = hole ? BLOCK_NO_PLACE : offset;
    return 0;
}

static int disk_resize(struct disk *b, uint64_t size)
{
    struct store *s = locked(b);
    store_resize(s, size);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static bool disk_open(struct disk *b, struct block_config *config, GError **error)
{
    (void)error;
    store_disk_of(b)->store = (struct store *)(uintptr_t)config->options;
    b->facts.size = store_disk_of(b)->store->size;
    b->facts.alignment = 1;
    b->facts.preferred = b->facts.granularity = 4096;
    b->facts.growable = !config->readonly;
    return true;
}

static const struct block_driver store_driver = {
    .name = "store",
    .help = "a test's file in memory",
    .kind = BLOCK_PROTOCOL,
    .size = sizeof(struct store_disk),
    .open = disk_open,
    .read = disk_read,
    .write = disk_write,
    .flush = disk_flush,
    .discard = disk_discard,
    .zero = disk_zero,
    .extent = disk_extent,
    .resize = disk_resize,
};

struct disk *store_disk(struct store *s, bool readonly, bool garbage)
{
    struct block_config config = {.name = "store", .fd = -1, .readonly = readonly, .options = s};
    struct disk *b = block_open(&store_driver, &config, NULL);
    store_disk_of(b)->garbage = garbage;
    return b;
}
