/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Reading, writing and making room by one flat table; see places.h. */
#include "block/format/places.h"

#include <errno.h>
#include <inttypes.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/below.h"
#include "block/scratch.h"

enum { PAGES_AT_ONCE = 256, COPY = 1024 * 1024, AHEAD = 64 * 1024 * 1024 };

static struct iovec zero_buffer(uint64_t size)
{
    return (struct iovec){(void *)(uintptr_t)block_zeroes(), MIN(size, (uint64_t)BLOCK_ZEROES)};
}

/* --- life --- */

static uint64_t pages_of(uint64_t table_size)
{
    return (table_size + PLACES_PAGE - 1) / PLACES_PAGE;
}

int places_init(struct places *p)
{
    if (!p->step)
        p->step = p->lead + p->block;
    if (!p->limit)
        p->limit = INT64_MAX;
    p->live = g_try_malloc0_n(p->count + 1, sizeof(*p->live));
    p->dirty = g_try_malloc0(pages_of(p->table_size) + 1);
    if (!p->live || !p->dirty) {
        g_free(STEAL(p->live));
        g_free(STEAL(p->dirty));
        return -ENOMEM;
    }
    pthread_mutex_init(&p->lock, NULL);
    return 0;
}

void places_fini(struct places *p)
{
    block_free(STEAL(p->base));
    if (!p->live)
        return;
    pthread_mutex_destroy(&p->lock);
    g_free(STEAL(p->live));
    g_free(STEAL(p->dirty));
    g_free(STEAL(p->spares));
}

bool places_loaded(const struct places *p, int status, uint64_t damaged, unsigned flags, GError **error)
{
    const struct disk *b = p->disk;
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its table: %s", b->name,
                           g_strerror(-status));
    if (damaged && !b->facts.readonly && !(flags & BLOCK_OPEN_REPAIR))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: %" PRIu64
                           " entries of its table are damaged, so it is not written to; mend it: "
                           "hostel image check -f %s -r all %s",
                           b->name, damaged, b->driver->name, b->name);
    return true;
}

int places_grow(struct places *p, uint64_t count, uint64_t table_size)
{
    bool *dirty = g_try_malloc0(pages_of(table_size) + 1);
    _Atomic uint64_t *live = g_try_malloc0_n(count + 1, sizeof(*live));
    if (!dirty || !live) {
        g_free(dirty);
        g_free(live);
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < p->count; i++)
        atomic_init(&live[i], places_get(p, i));
    g_free(p->live);
    g_free(p->dirty);
    p->live = live;
    p->dirty = dirty;
    p->count = count;
    p->table_size = table_size;
    return 0;
}

/* --- the table --- */

uint64_t places_entry(const struct places *p, uint64_t block)
{
    return p->ratio ? block + block / p->ratio : block;
}

void places_set(struct places *p, uint64_t block, uint64_t entry)
{
    atomic_store_explicit(&p->live[block], entry, memory_order_release);
    p->dirty[places_entry(p, block) * p->entry_size / PLACES_PAGE] = true;
    atomic_store_explicit(&p->changed, true, memory_order_release);
}

/* What the entries of one piece have in common. */
enum kind { KIND_NONE, KIND_HERE, KIND_ZERO, KIND_PARTIAL, KIND_BAD };

static enum kind kind_of(uint64_t entry)
{
    switch (entry & PLACES_STATES) {
    case 0: return entry ? KIND_HERE : KIND_NONE;
    case PLACES_ZERO: return KIND_ZERO;
    case PLACES_PARTIAL: return KIND_PARTIAL;
    default: return KIND_BAD;
    }
}

/* How many bytes from offset on, up to size, are kept alike, one behind the other; and where in the file. */
static uint64_t run(const struct places *p, uint64_t offset, uint64_t size, enum kind *kind, uint64_t *place)
{
    uint64_t i = offset / p->block, entry = places_get(p, i);
    const uint64_t end = offset + size;
    *kind = kind_of(entry);
    *place = (entry & ~(uint64_t)PLACES_STATES) + offset % p->block;
    while ((i + 1) * p->block < end && *kind != KIND_PARTIAL) {
        const uint64_t next = places_get(p, ++i);
        if (kind_of(next) != *kind || (*kind == KIND_HERE && next != entry + p->block))
            return i * p->block - offset;
        entry = next;
    }
    return MIN(end, (i + 1) * p->block) - offset;
}

/* --- reading --- */

/* What is behind the file's end is zeroes: a file is cut off there after a crash, or by who made it. Hence
 * block_read_padded(). */

/* Bytes from offset on, up to size and inside one partial block, that are alike. */
static int run_inside(struct places *p, uint64_t offset, uint64_t size, uint64_t place, uint64_t *now,
                      bool *here, unsigned flags)
{
    const uint32_t inside = (uint32_t)(offset % p->block), sector = inside / BLOCK_SECTOR;
    const uint32_t last = (uint32_t)((inside + size - 1) / BLOCK_SECTOR);
    uint32_t sectors = 0;
    int status =
        p->ops->here(p, offset / p->block, place - inside, sector, last - sector + 1, &sectors, here, flags);
    *now = MIN(size, (uint64_t)(sector + sectors) * BLOCK_SECTOR - inside);
    return status;
}

static int read_partial(struct places *p, struct block_cursor *c, uint64_t offset, uint64_t size,
                        uint64_t place, unsigned flags)
{
    int status = 0;
    for (uint64_t now; size && !status; offset += now, place += now, size -= now) {
        bool here;
        status = run_inside(p, offset, size, place, &now, &here, flags);
        if (!status)
            status = here ? block_read_padded(p->file, c, place, now, flags)
                          : block_read_padded(p->base, c, offset, now, flags);
    }
    return status;
}

int places_read(struct places *p, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct block_cursor c = {.iov = iov};
    int status = 0;
    for (uint64_t size = block_iov_size(iov, n), now; size && !status; offset += now, size -= now) {
        enum kind kind;
        uint64_t place;
        now = run(p, offset, size, &kind, &place);
        switch (kind) {
        case KIND_NONE: status = block_read_padded(p->base, &c, offset, now, flags); break;
        case KIND_HERE: status = block_read_padded(p->file, &c, place, now, flags); break;
        case KIND_ZERO: block_cursor_zero(&c, now); break;
        case KIND_PARTIAL: status = read_partial(p, &c, offset, now, place, flags); break;
        case KIND_BAD: status = -EIO; break;
        }
    }
    return status;
}

int places_read_file(struct places *p, void *bytes, uint64_t size, uint64_t offset)
{
    const struct iovec iov = {bytes, size};
    struct block_cursor c = {.iov = &iov};
    return size ? block_read_padded(p->file, &c, offset, size, 0) : 0;
}

/* --- making room --- */

int places_begin(struct places *p)
{
    if (!p->ops->begin || atomic_load_explicit(&p->begun, memory_order_acquire))
        return 0;
    pthread_mutex_lock(&p->lock);
    int status = atomic_load(&p->begun) ? 0 : p->ops->begin(p);
    if (!status)
        atomic_store_explicit(&p->begun, true, memory_order_release);
    pthread_mutex_unlock(&p->lock);
    return status;
}

/* The file reaches up to there; a good deal further, as a hole, so that this need not be done for each block,
 * when others are writing and the host lets one do so at a time. The lock is held. */
static int extend(struct places *p, uint64_t end)
{
    if (!p->file->facts.growable)
        return -ENOSPC;
    const uint64_t ahead = end < p->limit && p->limit - end > AHEAD ? end + AHEAD : end;
    int status = block_pwrite(p->file, block_zeroes(), BLOCK_SECTOR, ahead - BLOCK_SECTOR);
    if (!status)
        p->known = ahead;
    return status ? block_pwrite(p->file, block_zeroes(), BLOCK_SECTOR, end - BLOCK_SECTOR) : 0;
}

/* The file has these bytes, and they are zeroes. The lock is held. */
static int make_zeroes(struct places *p, uint64_t at, uint64_t size)
{
    const uint64_t end = p->file->facts.size;
    int status = 0;
    if (at >= p->end && at + size <= p->known)
        return 0;
    if (at < end)
        status = block_zero(p->file, at, MIN(size, end - at), BLOCK_MAY_UNMAP);
    return status || at + size <= end || p->ops->prepare ? status : extend(p, at + size);
}

void places_trim(struct places *p)
{
    if (p->known > p->end && p->file->facts.size == p->known)
        block_resize(p->file, p->end); /* else it stays as it is, with a hole at its end */
    p->known = 0;
}

/* Room for up to n blocks that lie one behind the other: how many, and where the first one's data begins.
 * The lock is held. */
static int make_room(struct places *p, uint64_t block, uint64_t *n, uint64_t *place)
{
    const bool spare = p->spare_count > 0;
    if (spare || p->step != p->block)
        *n = 1;
    const uint64_t at = spare ? p->spares[p->spare_count - 1] - p->lead : p->end,
                   bytes = (*n - 1) * p->step + p->lead + p->block;
    if (at > p->limit || bytes > p->limit - at)
        return -ENOSPC;
    int status = make_zeroes(p, at, bytes);
    *place = at + p->lead;
    if (!status && p->ops->prepare)
        status = p->ops->prepare(p, block, at);
    if (status)
        return status;
    if (spare)
        p->spare_count--;
    else
        p->end = at + *n * p->step;
    return 0;
}

/* Places for the blocks of a range of which none has one, and nothing lies under them. The lock is held. */
static int give_places(struct places *p, uint64_t offset, uint64_t size)
{
    const uint64_t first = offset / p->block, end = (offset + size - 1) / p->block + 1;
    for (uint64_t i = first, n, place; i < end; i += n) {
        n = end - i;
        int status = make_room(p, i, &n, &place);
        if (status)
            return status;
        for (uint64_t k = 0; k < n; k++)
            places_set(p, i + k, place + k * p->block);
    }
    return 0;
}

/* Copies what the base has to the block's place. The lock is held. */
static int copy_base(struct places *p, uint64_t offset, uint64_t size, uint64_t place)
{
    int status = 0;
    for (uint64_t now; size && !status; offset += now, place += now, size -= now) {
        now = MIN(size, (uint64_t)COPY);
        uint8_t *bytes = block_scratch_take(now);
        const struct iovec iov = {bytes, now};
        struct block_cursor c = {.iov = &iov};
        status = bytes ? block_read_padded(p->base, &c, offset, now, 0) : -ENOMEM;
        if (!status)
            status = block_write(p->file, &iov, 1, place);
        block_scratch_give(bytes);
    }
    return status;
}

/* The first write to a block that the base may have: its edges, then the data, then the entry. */
static int write_over_base(struct places *p, struct block_cursor *c, uint64_t offset, uint64_t size)
{
    struct iovec part[BLOCK_IOV_MAX];
    const uint64_t i = offset / p->block, inside = offset % p->block, behind = inside + size;
    uint64_t one = 1, place;
    int status = make_room(p, i, &one, &place);
    if (!status)
        status = copy_base(p, i * p->block, inside, place);
    if (!status)
        status = copy_base(p, offset + size, p->block - behind, place + behind);
    if (!status)
        status = block_write(p->file, part, block_cursor_next(c, size, part), place + inside);
    if (!status)
        places_set(p, i, place);
    return status;
}

/* Gives a partial block the sectors it lacks; from then on it is a whole one. The lock is held. */
static int complete(struct places *p, uint64_t block, uint64_t place)
{
    uint64_t offset = block * p->block, at = place;
    int status = 0;
    for (uint64_t size = p->block, now; size && !status; offset += now, at += now, size -= now) {
        bool here;
        status = run_inside(p, offset, size, at, &now, &here, 0);
        if (!status && !here)
            status = copy_base(p, offset, now, at);
    }
    if (!status)
        places_set(p, block, place);
    return status;
}

/* What the range has no place for is given one; *wrote: that took what was to be written. */
static int allocate(struct places *p, struct block_cursor *c, uint64_t offset, uint64_t size, uint64_t *wrote)
{
    enum kind kind;
    uint64_t place;
    pthread_mutex_lock(&p->lock);
    size = run(p, offset, size, &kind, &place); /* another one may have been faster */
    const uint64_t inside = offset % p->block, one = MIN(size, p->block - inside);
    int status = 0;
    *wrote = 0;
    if (kind == KIND_BAD) {
        status = -EIO;
    } else if (kind == KIND_PARTIAL) {
        status = complete(p, offset / p->block, place - inside);
    } else if (kind == KIND_NONE && p->base) {
        status = write_over_base(p, c, offset, one);
        *wrote = one;
    } else if (kind != KIND_HERE) {
        status = give_places(p, offset, size);
    }
    pthread_mutex_unlock(&p->lock);
    return status;
}

int places_write(struct places *p, const struct iovec *iov, unsigned n, uint64_t offset)
{
    struct iovec part[BLOCK_IOV_MAX];
    struct block_cursor c = {.iov = iov};
    int status = places_begin(p);
    for (uint64_t size = block_iov_size(iov, n), now; size && !status; offset += now, size -= now) {
        enum kind kind;
        uint64_t place;
        now = run(p, offset, size, &kind, &place);
        if (kind == KIND_HERE)
            status = block_write(p->file, part, block_cursor_next(&c, now, part), place);
        else
            status = allocate(p, &c, offset, now, &now);
    }
    return status;
}

/* --- durability --- */

/* Copies pages that changed; how many, at most PAGES_AT_ONCE. */
static unsigned collect(struct places *p, uint64_t *pages, uint8_t *bytes, uint64_t *from)
{
    const uint64_t all = pages_of(p->table_size);
    unsigned n = 0;
    for (; *from < all && n < PAGES_AT_ONCE; (*from)++) {
        if (!p->dirty[*from])
            continue;
        p->dirty[*from] = false;
        const uint64_t left = p->table_size - *from * PLACES_PAGE;
        p->ops->encode(p, *from, bytes + (size_t)n * PLACES_PAGE, (uint32_t)MIN(left, PLACES_PAGE));
        pages[n++] = *from;
    }
    return n;
}

/* Pages one behind the other go in one write. */
static int store(struct places *p, const uint64_t *pages, unsigned n, const uint8_t *bytes)
{
    int status = 0;
    for (unsigned i = 0, k; i < n && !status; i = k) {
        for (k = i + 1; k < n && pages[k] == pages[k - 1] + 1;)
            k++;
        const uint64_t at = pages[i] * PLACES_PAGE;
        const uint64_t size = MIN((uint64_t)(k - i) * PLACES_PAGE, p->table_size - at);
        status = block_pwrite(p->file, bytes + (size_t)i * PLACES_PAGE, size, p->table + at);
    }
    return status;
}

/* As the essay says. The core lets one in at a time. */
static int flush_pages(struct places *p, uint8_t *bytes)
{
    uint64_t pages[PAGES_AT_ONCE], from = 0;
    const uint64_t all = pages_of(p->table_size);
    int status = 0;
    while (from < all && !status) {
        pthread_mutex_lock(&p->lock);
        const unsigned n = collect(p, pages, bytes, &from);
        if (p->ops->before && n)
            status = p->ops->before(p);
        pthread_mutex_unlock(&p->lock);
        if (!n)
            break;
        if (!status)
            status = block_flush(p->file);
        if (!status)
            status = p->ops->store ? p->ops->store(p, pages, n, bytes) : store(p, pages, n, bytes);
    }
    return status ? status : block_flush(p->file);
}

int places_flush(struct places *p)
{
    if (!atomic_exchange(&p->changed, false))
        return block_flush(p->file);
    uint8_t *bytes = block_scratch_take((size_t)PAGES_AT_ONCE * PLACES_PAGE);
    int status = bytes ? flush_pages(p, bytes) : -ENOMEM;
    block_scratch_give(bytes);
    if (status) /* nobody knows any more which pages these were; and it need not be a flush that asked */
        atomic_store(&p->disk->lost, true);
    return status;
}

/* --- space --- */

int places_discard(struct places *p, uint64_t offset, uint64_t size)
{
    int status = places_begin(p);
    for (uint64_t now; size && !status; offset += now, size -= now) {
        enum kind kind;
        uint64_t place;
        const uint64_t end = p->file->facts.size;
        now = run(p, offset, size, &kind, &place);
        if (kind == KIND_HERE && place < end)
            status = block_discard(p->file, place, MIN(now, end - place));
    }
    return status;
}

/* Without a place, and the base may have something there. */
static int zero_over_base(struct places *p, uint64_t offset, uint64_t size, unsigned flags)
{
    if (p->zero_state && offset % p->block == 0 && size == p->block) {
        int status = 0;
        pthread_mutex_lock(&p->lock);
        if (places_get(p, offset / p->block) == PLACES_NONE)
            places_set(p, offset / p->block, PLACES_ZERO);
        else
            status = -EAGAIN; /* another one was faster */
        pthread_mutex_unlock(&p->lock);
        if (!status)
            return 0;
    }
    int status = flags & BLOCK_ONLY_FAST ? -EOPNOTSUPP : 0;
    for (uint64_t now; size && !status; offset += now, size -= now) {
        const struct iovec iov = zero_buffer(size);
        now = iov.iov_len;
        status = places_write(p, &iov, 1, offset);
    }
    return status;
}

int places_zero(struct places *p, uint64_t offset, uint64_t size, unsigned flags)
{
    int status = places_begin(p);
    for (uint64_t now; size && !status; offset += now, size -= now) {
        enum kind kind;
        uint64_t place;
        const uint64_t end = p->file->facts.size;
        now = run(p, offset, size, &kind, &place);
        if (kind == KIND_HERE && place < end) {
            status = block_zero(p->file, place, MIN(now, end - place), flags);
        } else if (kind == KIND_PARTIAL || (kind == KIND_NONE && p->base)) {
            now = MIN(now, p->block - offset % p->block);
            status = zero_over_base(p, offset, now, flags);
        } else if (kind == KIND_BAD) {
            status = -EIO;
        }
    }
    return status;
}

static int extent_here(struct places *p, uint64_t size, uint64_t place, struct block_extent *extent)
{
    const uint64_t end = p->file->facts.size;
    *extent = (struct block_extent){.size = size, .zero = true, .place = BLOCK_NO_PLACE};
    return place < end ? block_extent(p->file, place, MIN(size, end - place), extent) : 0;
}

int places_extent(struct places *p, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    enum kind kind;
    uint64_t place, now = run(p, offset, size, &kind, &place);
    bool here = false;
    int status;
    switch (kind) {
    case KIND_NONE: return block_extent_below(p->base, offset, now, extent);
    case KIND_HERE: return extent_here(p, now, place, extent);
    case KIND_ZERO:
        *extent = (struct block_extent){.size = now, .hole = true, .zero = true, .place = BLOCK_NO_PLACE};
        return 0;
    case KIND_PARTIAL:
        status = run_inside(p, offset, now, place, &now, &here, 0);
        if (status)
            return status;
        return here ? extent_here(p, now, place, extent) : block_extent_below(p->base, offset, now, extent);
    default: return -EIO;
    }
}

bool places_image_resize(struct disk *b, uint64_t size, enum block_preallocation how, GError **error)
{
    if (how != BLOCK_PREALLOC_OFF)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: format %s takes no room beforehand; leave out the preallocation", b->name,
                           b->driver->name);
    if (size < b->facts.size)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: format %s cannot shrink its disk of %" PRIu64 " bytes to %" PRIu64
                           "; convert it to another image",
                           b->name, b->driver->name, (uint64_t)b->facts.size, size);
    int status = block_resize(b, size);
    if (!status)
        status = block_flush(b);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot resize it to %" PRIu64 " bytes: %s",
                                  b->name, size, g_strerror(-status));
}
