/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Filter mirror: the same bytes on several disks (RAID 1), so that all but one may fail. */
/*
 * Theory of operation
 *
 * A change is made on every member, a read is answered by one. What must never happen is that a read is
 * answered by a member that has missed a change. So a member that fails a change or a flush while another one
 * does not is dropped, and that is reported; it is neither read nor written again as long as the disk is
 * open. When a change fails on all members, each of them may hold the old or the new bytes: all but the
 * first are dropped, and the caller gets the error.
 *
 * A read that fails is tried on the other members; if one of those answers, the one that failed is dropped.
 *
 * Two changes of the same bytes at once might reach the members in different orders, so a change has its
 * range for itself.
 *
 * Nothing on the members says that they belong together: a member that was dropped is whole again only when
 * it is a copy of a good one. Whoever opens them next must leave it out until then.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/error.h"
#include "base/log.h"
#include "block/filter/members.h"
#include "block/filter/ranges.h"

struct mirror_options {
    const char *read;
};

static const struct option_row mirror_rows[] = {
    {.name = "read",
     .arg = "HOW",
     .value = "first",
     .choice = "first|round-robin",
     .help = "whom reads go to",
     .type = OPTION_TEXT,
     .who = OPTION_BOTH,
     .offset = offsetof(struct mirror_options, read)},
    {0},
};

struct mirror {
    struct disk disk;
    struct block_members members;
    struct block_ranges changing;
    pthread_mutex_t dropping;
    _Atomic bool gone[BLOCK_MEMBERS_MAX];
    bool in_turn;
    _Atomic unsigned turn;
};

static struct mirror *mirror(struct disk *b)
{
    return (struct mirror *)(void *)b;
}

/* --- life --- */

static bool check_sizes(struct mirror *m, GError **error)
{
    struct disk *b = &m->disk;
    b->facts.size = m->members.disk[0]->facts.size;
    for (unsigned i = 1; i < m->members.n; i++)
        if (m->members.disk[i]->facts.size != b->facts.size)
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: its member 0 has %" PRIu64 " bytes, member %u, %s, %" PRIu64
                               "; copies of one disk are equally long",
                               b->name, b->facts.size, i, m->members.disk[i]->name,
                               m->members.disk[i]->facts.size);
    return true;
}

static bool mirror_open(struct disk *b, struct block_config *config, GError **error)
{
    struct mirror *m = mirror(b);
    const struct mirror_options *o = config->options;
    if (!block_members_take(&m->members, b, config, error) || !check_sizes(m, error)) {
        block_members_free(&m->members);
        return false;
    }
    m->in_turn = o && o->read && !g_strcmp0(o->read, "round-robin");
    block_ranges_init(&m->changing);
    pthread_mutex_init(&m->dropping, NULL);
    return true;
}

static void mirror_close(struct disk *b)
{
    struct mirror *m = mirror(b);
    pthread_mutex_destroy(&m->dropping);
    block_ranges_fini(&m->changing);
    block_members_free(&m->members);
}

/* --- members that fail --- */

static bool is_gone(const struct mirror *m, unsigned i)
{
    return atomic_load_explicit(&m->gone[i], memory_order_acquire);
}

/* The last one stays, whatever it did. */
static void drop(struct mirror *m, unsigned i, const char *what, int status)
{
    unsigned left = 0;
    pthread_mutex_lock(&m->dropping);
    for (unsigned k = 0; k < m->members.n; k++)
        left += k != i && !is_gone(m, k);
    const bool now = left && !atomic_exchange(&m->gone[i], true);
    pthread_mutex_unlock(&m->dropping);
    if (now)
        log_error(LOG_BLOCK,
                  "disk %s: cannot %s its member %u, %s: %s; it is not used any more, %u of %u members are "
                  "left; replace it by a copy of another one before the disk is opened again",
                  m->disk.name, what, i, m->members.disk[i]->name, g_strerror(-status), left, m->members.n);
}

/* What becomes of a change that ended like this on each member (1 = was not asked). It is made when a member
 * has it that is still in use: another change may have ended just now, and dropped the one that has this. */
static int settle(struct mirror *m, const int *status, const char *what)
{
    int first = -EIO;
    bool any = false, found = false;
    for (unsigned i = 0; i < m->members.n; i++)
        any |= status[i] == 0;
    for (unsigned i = 0; i < m->members.n; i++) {
        if (status[i] == 1 || status[i] == 0)
            continue;
        if (!any && !found)
            first = status[i];
        else
            drop(m, i, what, status[i]);
        found = true;
    }
    for (unsigned i = 0; i < m->members.n; i++)
        if (status[i] == 0 && !is_gone(m, i))
            return 0;
    return first;
}

/* --- changes --- */

/* One change, and how to make it on a member. */
struct change {
    int (*make)(struct disk *member, const struct change *c);
    const char *what;
    const struct iovec *iov;
    unsigned n, flags;
    uint64_t offset, size;
};

static int change_all(struct disk *b, const struct change *c)
{
    struct mirror *m = mirror(b);
    struct block_range range;
    int status[BLOCK_MEMBERS_MAX];
    block_ranges_take(&m->changing, &range, c->offset, c->size);
    for (unsigned i = 0; i < m->members.n; i++)
        status[i] = is_gone(m, i) ? 1 : c->make(m->members.disk[i], c);
    const int settled = settle(m, status, c->what);
    block_ranges_give(&m->changing, &range);
    return settled;
}

static int make_write(struct disk *member, const struct change *c)
{
    return block_write(member, c->iov, c->n, c->offset);
}

static int make_discard(struct disk *member, const struct change *c)
{
    return block_discard(member, c->offset, c->size);
}

static int make_zero(struct disk *member, const struct change *c)
{
    return block_zero(member, c->offset, c->size, c->flags);
}

static int mirror_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    const uint64_t size = block_iov_size(iov, n);
    return change_all(b, &(struct change){make_write, "write to", iov, n, 0, offset, size});
}

/* What was discarded reads as anything, but not as one thing now and another one later. */
static int mirror_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return change_all(b, &(struct change){make_discard, "discard in", NULL, 0, 0, offset, size});
}

/* Members of which one can do it fast and another one cannot would have different bytes, or the latter were
 * dropped. */
static int mirror_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    if (flags & BLOCK_ONLY_FAST)
        return -EOPNOTSUPP;
    return change_all(b, &(struct change){make_zero, "write zeroes to", NULL, 0, flags, offset, size});
}

static int mirror_flush(struct disk *b)
{
    struct mirror *m = mirror(b);
    int status[BLOCK_MEMBERS_MAX];
    for (unsigned i = 0; i < m->members.n; i++)
        status[i] = is_gone(m, i) ? 1 : block_flush(m->members.disk[i]);
    return settle(m, status, "flush");
}

/* --- reads --- */

static int mirror_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct mirror *m = mirror(b);
    const unsigned count = m->members.n, first = m->in_turn ? atomic_fetch_add(&m->turn, 1) % count : 0;
    int status[BLOCK_MEMBERS_MAX], now = -EIO;
    unsigned i = 0;
    for (; i < count && now; i++) {
        const unsigned k = (first + i) % count;
        now = status[k] = is_gone(m, k) ? 1 : block_read(m->members.disk[k], iov, n, offset, flags);
        if (now == -EAGAIN && flags & BLOCK_NOWAIT)
            return now;
    }
    for (; i < count; i++)
        status[(first + i) % count] = 1;
    if (!now)
        settle(m, status, "read"); /* what was read stays right, whoever goes meanwhile */
    return now ? -EIO : 0;
}

static int mirror_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    const struct mirror *m = mirror(b);
    unsigned i = 0;
    while (i + 1 < m->members.n && is_gone(m, i))
        i++;
    int status = block_extent(m->members.disk[i], offset, size, extent);
    extent->place = BLOCK_NO_PLACE;
    return status;
}

const struct block_driver block_driver_mirror = {
    .name = "mirror",
    .help = "the same on several disks (RAID 1)",
    .kind = BLOCK_FILTER,
    .members = 1,
    .size = sizeof(struct mirror),
    .options = mirror_rows,
    .options_size = sizeof(struct mirror_options),
    .open = mirror_open,
    .close = mirror_close,
    .read = mirror_read,
    .write = mirror_write,
    .flush = mirror_flush,
    .discard = mirror_discard,
    .zero = mirror_zero,
    .extent = mirror_extent,
};
