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
#include "block/module.h"
#include "block/scratch.h"
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
        if (block_drivers[i]->kind == BLOCK_FORMAT)
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

/* Closes what config still holds. */
static void drop(struct block_config *config)
{
    fd_close(&config->fd);
    block_free(STEAL(config->file));
    block_free(STEAL(config->base));
    for (unsigned i = 0; i < config->n_members; i++)
        block_free(STEAL(config->members[i]));
}

/* A filter that is in drivers.def has what it is to lie over. */
static bool check_below(const struct block_driver *driver, const struct block_config *config, GError **error)
{
    if (driver->kind != BLOCK_FILTER ||
        (driver->members ? config->n_members >= driver->members : !!config->file))
        return true;
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: the filter %s lies over %s; give %s", config->name,
                       driver->name, driver->members ? "several disks" : "another disk",
                       driver->members ? "member.0., member.1., ..." : "file.");
}

static bool check_base(const struct block_driver *driver, const struct block_config *config, GError **error)
{
    if (config->base && driver->accept)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a disk of format %s lies over no other; leave out base=", config->name,
                           driver->name);
    if (!config->base && driver->needs_base)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a disk of format %s lies over another one, which is missing; give base=",
                           config->name, driver->name);
    return true;
}

static struct disk *open_here(const struct block_driver *driver, struct block_config *config, GError **error)
{
    struct disk *b = alloc(driver, config->name);
    b->facts.readonly = config->readonly;
    if (driver->open(b, config, error)) {
        g_assert(is_power(b->facts.alignment) && is_power(b->facts.preferred));
        return b;
    }
    block_free(STEAL(b->below));
    dealloc(b);
    return NULL;
}

/* A format's image lies on the file that is fd unless it was given a disk for it. */
static bool open_file(const struct block_driver *driver, struct block_config *config, GError **error)
{
    if (driver->kind != BLOCK_FORMAT || !driver->needs_file || config->file)
        return true;
    struct block_config file = {.name = config->name,
                                .fd = fd_steal(&config->fd),
                                .readonly = config->readonly,
                                .flags = config->flags};
    config->file = block_open(block_driver_find("file"), &file, error);
    return config->file != NULL;
}

static struct disk *accept_file(const struct block_driver *driver, struct block_config *config,
                                GError **error)
{
    if (!driver->accept(config->file, error))
        return NULL;
    config->file->facts.growable = false;
    config->file->facts.readonly |= config->readonly;
    return STEAL(config->file);
}

struct disk *block_open(const struct block_driver *driver, struct block_config *config, GError **error)
{
    struct disk *b = NULL;
    if (driver->module)
        driver = block_module_load(driver, error);
    if (driver && check_base(driver, config, error) && check_below(driver, config, error) &&
        open_file(driver, config, error))
        b = driver->accept ? accept_file(driver, config, error) : open_here(driver, config, error);
    if (b && config->base) {
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "%s: a disk of format %s lies over no other; leave out base=", config->name,
                    driver->name);
        block_free(STEAL(b));
    }
    drop(config);
    return b;
}

bool block_open_base(struct block_config *config, const char *reference, const char *format,
                     struct disk **base, GError **error)
{
    *base = STEAL(config->base);
    if (*base || !reference || config->flags & BLOCK_OPEN_ALONE)
        return true;
    if (!config->refs)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: lies over its backing file %s (format %s), and an image opens no file by "
                           "itself; allow it, or name the backing file",
                           config->name, reference, format ? format : "not said");
    *base = config->refs->open(config->refs, BLOCK_REF_BACKING, reference, format, true, error);
    return *base != NULL;
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

static int check_inside(const struct disk *b, uint64_t offset, uint64_t size, uint64_t end)
{
    return range_inside(offset, size, 0, end) && !((offset | size) & (b->facts.alignment - 1)) ? 0 : -EINVAL;
}

static int check(const struct disk *b, uint64_t offset, uint64_t size)
{
    return check_inside(b, offset, size, b->facts.size);
}

/* May anything be changed at all? */
static int check_writable(const struct disk *b)
{
    if (b->facts.readonly)
        return -EROFS;
    return atomic_load_explicit(&b->lost, memory_order_acquire) ? -EIO : 0;
}

static int check_change(const struct disk *b, uint64_t offset, uint64_t size)
{
    int status = check_writable(b);
    return status ? status : check(b, offset, size);
}

/* A write reached so far. */
static void grow(struct disk *b, uint64_t end)
{
    uint64_t size = atomic_load(&b->facts.size);
    while (size < end && !atomic_compare_exchange_weak(&b->facts.size, &size, end))
        ;
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
    int status = check_writable(b);
    if (!status)
        status = check_inside(b, offset, size, b->facts.growable ? INT64_MAX : b->facts.size);
    if (status || !size)
        return status;
    status = b->driver->write(b, iov, n, offset);
    if (!status && b->facts.growable)
        grow(b, offset + size);
    return status;
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
        status = b->flush_error ? b->flush_error : -EIO; /* 0: the driver found it lost by itself */
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
    struct iovec iov[4]; /* 1 MiB at once */
    while (size) {
        unsigned n = 0;
        uint64_t now = 0;
        for (; n < ARRAY_SIZE(iov) && now < size; n++) {
            iov[n].iov_base = (void *)(uintptr_t)block_zeroes();
            iov[n].iov_len = MIN(size - now, (uint64_t)BLOCK_ZEROES);
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
    return status == -EOPNOTSUPP && !(flags & BLOCK_ONLY_FAST) ? write_zeroes(b, offset, size) : status;
}

int block_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    *extent = (struct block_extent){.size = size, .place = BLOCK_NO_PLACE};
    if (!size || !range_inside(offset, size, 0, b->facts.size))
        return -EINVAL;
    int status = b->driver->extent ? b->driver->extent(b, offset, size, extent) : -EOPNOTSUPP;
    return status == -EOPNOTSUPP ? 0 : status;
}

int block_resize(struct disk *b, uint64_t size)
{
    int status = check_writable(b);
    if (status)
        return status;
    if (size > INT64_MAX || size & (b->facts.alignment - 1))
        return -EINVAL;
    status = b->driver->resize ? b->driver->resize(b, size) : -EOPNOTSUPP;
    if (!status)
        b->facts.size = size;
    return status;
}

int block_write_compressed(struct disk *b, const void *bytes, uint64_t offset, uint64_t size)
{
    int status = check_change(b, offset, size);
    if (status || !size)
        return status;
    if (!b->driver->write_compressed)
        return -EOPNOTSUPP;
    if (offset % b->facts.cluster || size > b->facts.cluster ||
        (size < b->facts.cluster && offset + size != b->facts.size))
        return -EINVAL;
    return b->driver->write_compressed(b, bytes, offset, size);
}

int block_seal(struct disk *b)
{
    int status = b->driver->seal ? check_writable(b) : 0;
    return status || !b->driver->seal ? status : b->driver->seal(b);
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
