/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What all disks have in common: opening, the checks before each operation, and what drivers leave to us. */
#include "block/block.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "os/fd.h"

#define BLOCK_DRIVER(name) extern const struct block_driver block_driver_##name;
#include "block/drivers.def"
#undef BLOCK_DRIVER

const struct block_driver *const block_drivers[] = {
#define BLOCK_DRIVER(name) &block_driver_##name,
#include "block/drivers.def"
#undef BLOCK_DRIVER
    NULL,
};

const struct block_driver *block_driver_find(const char *name)
{
    for (unsigned i = 0; block_drivers[i]; i++)
        if (!strcmp(block_drivers[i]->name, name))
            return block_drivers[i];
    return NULL;
}

char *block_driver_names(void)
{
    GString *names = g_string_new(NULL);
    for (unsigned i = 0; block_drivers[i]; i++)
        if (block_drivers[i]->needs_file)
            g_string_append_printf(names, "%s%s", names->len ? ", " : "", block_drivers[i]->name);
    return g_string_free(names, FALSE);
}

/* --- life --- */

static struct disk *alloc(const struct block_driver *driver, const char *name)
{
    struct disk *b = g_malloc0(driver->size);
    b->driver = driver;
    b->name = g_strdup(name);
    pthread_mutex_init(&b->flush_lock, NULL);
    pthread_cond_init(&b->flush_ended, NULL);
    return b;
}

static void dealloc(struct disk *b)
{
    pthread_cond_destroy(&b->flush_ended);
    pthread_mutex_destroy(&b->flush_lock);
    g_free(b->name);
    g_free(b);
}

static bool is_power(uint32_t n)
{
    return n && !(n & (n - 1));
}

static bool check_base(const struct block_driver *driver, const struct block_config *config, GError **error)
{
    if (driver->needs_base == (config->base != NULL))
        return true;
    return hostel_fail(error, HOSTEL_ERROR_USAGE,
                       driver->needs_base
                           ? "%s: a disk of format %s lies over another one, which is missing; give base="
                           : "%s: a disk of format %s lies over no other; leave out base=",
                       config->name, driver->name);
}

struct disk *block_open(const struct block_driver *driver, struct block_config *config, GError **error)
{
    struct disk *b = alloc(driver, config->name);
    b->facts.readonly = config->readonly;
    if (check_base(driver, config, error) && driver->open(b, config, error)) {
        g_assert(is_power(b->facts.alignment) && is_power(b->facts.preferred));
        return b;
    }
    fd_close(&config->fd);
    if (config->base)
        fd_close(&config->base->fd);
    dealloc(b);
    return NULL;
}

struct disk *block_filter_new(const struct block_driver *filter, struct disk *below)
{
    struct disk *b = alloc(filter, below->name);
    b->below = below;
    b->facts = below->facts;
    return b;
}

void block_free(struct disk *b)
{
    if (!b)
        return;
    if (b->driver->close)
        b->driver->close(b);
    block_free(b->below);
    dealloc(b);
}

/* --- before an operation --- */

static int check(const struct disk *b, uint64_t offset, uint64_t size)
{
    if (!range_inside(offset, size, 0, b->facts.size) || ((offset | size) & (b->facts.alignment - 1)))
        return -EINVAL;
    return 0;
}

static int check_change(const struct disk *b, uint64_t offset, uint64_t size)
{
    if (b->facts.readonly)
        return -EROFS;
    if (atomic_load_explicit(&b->lost, memory_order_acquire))
        return -EIO;
    return check(b, offset, size);
}

uint64_t block_iov_size(const struct iovec *iov, unsigned n)
{
    uint64_t size = 0;
    for (unsigned i = 0; i < n; i++)
        size += iov[i].iov_len;
    return size;
}

/* --- operations --- */

int block_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    if (n > BLOCK_IOV_MAX)
        return -EINVAL;
    uint64_t size = block_iov_size(iov, n);
    int status = check(b, offset, size);
    return status || !size ? status : b->driver->read(b, iov, n, offset, flags);
}

int block_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    if (n > BLOCK_IOV_MAX)
        return -EINVAL;
    uint64_t size = block_iov_size(iov, n);
    int status = check_change(b, offset, size);
    return status || !size ? status : b->driver->write(b, iov, n, offset);
}

/* The lock is held, and nobody flushes. */
static void flush_once_locked(struct disk *b)
{
    b->flushing = true;
    b->flushes_begun++;
    pthread_mutex_unlock(&b->flush_lock);
    int status = b->driver->flush(b);
    pthread_mutex_lock(&b->flush_lock);
    if (status) {
        b->flush_error = status;
        atomic_store_explicit(&b->lost, true, memory_order_release);
    }
    b->flushes_ended = b->flushes_begun;
    b->flushing = false;
    pthread_cond_broadcast(&b->flush_ended);
}

/* One at a time: the kernel tells a write that was lost to one of the flushes that wait for it, and the
 * others would succeed. The one that is told says so here before the next one begins. One that is
 * under way may have begun before a write that our caller wants to be durable, so we need the next; all who
 * wait for that share it. */
int block_flush(struct disk *b)
{
    if (b->facts.readonly)
        return 0;
    pthread_mutex_lock(&b->flush_lock);
    const uint64_t mine = b->flushes_begun + 1;
    int status = 0;
    while (b->flushes_ended < mine && !b->lost) {
        if (b->flushing)
            pthread_cond_wait(&b->flush_ended, &b->flush_lock);
        else
            flush_once_locked(b);
    }
    if (b->lost) {
        status = b->flush_error;
        b->flush_error = -EIO;
    }
    pthread_mutex_unlock(&b->flush_lock);
    return status;
}

int block_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    int status = check_change(b, offset, size);
    if (status || !size || !b->driver->discard || !b->facts.granularity)
        return status;
    status = b->driver->discard(b, offset, size);
    return status == -EOPNOTSUPP ? 0 : status;
}

/* Zeroes where the driver has nothing better. */
static int write_zeroes(struct disk *b, uint64_t offset, uint64_t size)
{
    static const uint8_t zeroes[64 * KiB];
    struct iovec iov[16];
    while (size) {
        unsigned n = 0;
        uint64_t now = 0;
        for (; n < ARRAY_SIZE(iov) && now < size; n++) {
            iov[n].iov_base = (void *)(uintptr_t)zeroes;
            iov[n].iov_len = MIN(size - now, sizeof(zeroes));
            now += iov[n].iov_len;
        }
        int status = b->driver->write(b, iov, n, offset);
        if (status)
            return status;
        offset += now;
        size -= now;
    }
    return 0;
}

int block_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    int status = check_change(b, offset, size);
    if (status || !size)
        return status;
    status = b->driver->zero ? b->driver->zero(b, offset, size, flags) : -EOPNOTSUPP;
    return status == -EOPNOTSUPP ? write_zeroes(b, offset, size) : status;
}

int block_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    *extent = (struct block_extent){.size = size};
    if (!size || !range_inside(offset, size, 0, b->facts.size))
        return -EINVAL;
    int status = b->driver->extent ? b->driver->extent(b, offset, size, extent) : -EOPNOTSUPP;
    return status == -EOPNOTSUPP ? 0 : status;
}

/* --- what people are told --- */

static const char *consequence(const struct disk *b)
{
    if (atomic_load_explicit(&b->lost, memory_order_relaxed))
        return "writes may be lost, so the disk takes no more of them; mend the host's storage, then restart "
               "the guest";
    return "the guest gets an I/O error";
}

void block_report(struct disk *b, const char *what, uint64_t offset, uint64_t size, int error)
{
    enum { QUIET_MS = 5000 };
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t ms = now.tv_sec * 1000 + now.tv_nsec / 1000000;
    int64_t next = atomic_load(&b->next_report);
    if (ms < next || !atomic_compare_exchange_strong(&b->next_report, &next, ms + QUIET_MS)) {
        atomic_fetch_add(&b->reports_left, 1);
        return;
    }
    unsigned left = atomic_exchange(&b->reports_left, 0);
    char more[48] = "";
    if (left)
        g_snprintf(more, sizeof(more), " (%u more errors since the last line)", left);
    char where[64] = "";
    if (size)
        g_snprintf(where, sizeof(where), " %" PRIu64 " bytes at %" PRIu64, size, offset);
    log_error(LOG_BLOCK, "disk %s: cannot %s%s: %s; %s%s", b->name, what, where, g_strerror(-error),
              consequence(b), more);
}
