/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The contract of a disk image: what each row of drivers.def provides, and what the rest of Hostel calls. */
/*
 * Theory of operation
 *
 * A `struct disk` is an open disk: an array of bytes that can be read, written, made durable, and given back
 * to the host in parts. A driver is one way to keep such an array (an image format, memory); a filter is a
 * driver over another block (`below`), which it owns. Whoever opens a disk names its driver: the bytes of an
 * image are the guest's and say nothing about the format.
 *
 * Operations block until they are done and may be called from any number of threads at once; a disk that is
 * to be used asynchronously gets a block_pool. Nothing is allocated on the way. An operation does the whole
 * range or fails: short transfers, interrupted calls and what a driver cannot do by itself are dealt with
 * below the functions of this header. Whoever lets two operations on the same bytes overlap gets either order
 * in any part of them.
 *
 * Durability. What block_write() acknowledged is durable when a block_flush() that began after it has
 * returned 0. A flush that failed may have lost any earlier write, and the host's kernel reports this once
 * and then forgets it; so the block remembers: from then on no write and no flush succeeds (-EIO), while
 * reading goes on.
 *
 * Errors are -errno. Beside what the host answers:
 *   -EINVAL  outside the disk, or not a multiple of facts.alignment
 *   -EROFS   the disk is read-only
 *   -EAGAIN  only with BLOCK_NOWAIT: would have to wait, or cannot tell
 *   -EIO     also: an earlier flush has failed, the file has become shorter
 */
#ifndef HOSTEL_BLOCK_BLOCK_H
#define HOSTEL_BLOCK_BLOCK_H

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/cleanup.h"

enum { BLOCK_SECTOR = 512, BLOCK_IOV_MAX = 1024 /* most buffers of one operation */ };

enum block_flags {
    BLOCK_NOWAIT = 1, /* reads: only what needs no wait for storage; some bytes may be there after -EAGAIN */
    BLOCK_MAY_UNMAP = 2, /* block_zero: the range may be given back to the host */
};

/* What does not change while the disk is open. */
struct block_facts {
    uint64_t size;        /* bytes */
    uint32_t alignment;   /* offsets and sizes of operations are multiples of it; a power of two */
    uint32_t preferred;   /* what storage likes as unit of reading and writing; a power of two */
    uint32_t granularity; /* smaller pieces cannot be given back; 0 = nothing can */
    bool readonly;
};

/* How one piece of a disk is kept. */
struct block_extent {
    uint64_t size; /* bytes from where it was asked for, at least 1 */
    bool hole;     /* takes no storage */
    bool zero;     /* reads as zeroes */
};

struct disk;

/* What to open. */
struct block_config {
    const char *name; /* for messages; copied */
    int fd;           /* of the file, for drivers that need one; taken; else -1 */
    bool readonly;
    uint64_t size; /* bytes, for drivers without a file */
    struct block_config
        *base; /* the disk it lies over, for drivers that need one; its fd is taken; else NULL */
};

/* All operations: on any thread, several at once; arguments were checked against facts. */
struct block_driver {
    const char *name, *help;
    bool needs_file; /* config.fd; such formats can be given to --disk */
    bool needs_base; /* config.base */
    size_t size;     /* of the struct that begins with struct disk */

    /* Fills in facts. What it takes from config it owns, also when it fails; close is called only after it
     * succeeded. NULL for filters, which have functions of their own to make them. */
    bool (*open)(struct disk *b, struct block_config *config, GError **error);
    void (*close)(struct disk *b);
    int (*read)(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags);
    int (*write)(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset);
    int (*flush)(struct disk *b);
    /* Optional: -EOPNOTSUPP is as if it were NULL. Without discard nothing is given back; without zero zeroes
     * are written; without extent all is data. */
    int (*discard)(struct disk *b, uint64_t offset, uint64_t size);
    int (*zero)(struct disk *b, uint64_t offset, uint64_t size, unsigned flags);
    int (*extent)(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent);
};

/* The head of each open disk. */
struct disk {
    const struct block_driver *driver;
    struct disk *below; /* of a filter, owned */
    char *name;
    struct block_facts facts;
    pthread_mutex_t flush_lock; /* guards the next five: see block_flush() */
    pthread_cond_t flush_ended;
    bool flushing;
    int flush_error; /* of the flush that failed; then -EIO */
    uint64_t flushes_begun, flushes_ended;
    _Atomic bool lost;             /* a flush has failed */
    _Atomic int64_t next_report;   /* block_report() is quiet until then: monotonic milliseconds */
    _Atomic unsigned reports_left; /* not reported since the last line */
};

/* All drivers, NULL-terminated; and by name, NULL when unknown. */
extern const struct block_driver *const block_drivers[];
const struct block_driver *block_driver_find(const char *name);

/* The names of the formats that people can give, "raw, qcow2"; owned by the caller. */
char *block_driver_names(void);

/* Opens a disk. Takes config->fd, and that of its base, in any case. NULL with *error. Set-up, before a
 * process is locked down. */
struct disk *block_open(const struct block_driver *driver, struct block_config *config, GError **error);

/* Nothing is under way any more. Does not flush. NULL is fine. */
void block_free(struct disk *b);
CLEANUP_DEFINE(disk, block_free)

/* --- operations --- */

int block_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags);
int block_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset);

/* Everything acknowledged so far becomes durable. */
int block_flush(struct disk *b);

/* The range's contents are not needed any more: it reads as anything. A hint; what cannot be given back
 * stays, and that is no error. */
int block_discard(struct disk *b, uint64_t offset, uint64_t size);

/* The range reads as zeroes from now on. */
int block_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags);

/* How the disk is kept from offset on, looking no further than size bytes (at least 1). */
int block_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent);

/* Bytes of n buffers. */
uint64_t block_iov_size(const struct iovec *iov, unsigned n);

/* Tells people about an operation ("write", "flush" with size 0) that failed with error (-errno): one line,
 * then silence for some seconds. Any thread. */
void block_report(struct disk *b, const char *what, uint64_t offset, uint64_t size, int error);

/* --- for drivers --- */

/* The head of a driver's struct, for filters: takes below. Facts are those of below. */
struct disk *block_filter_new(const struct block_driver *filter, struct disk *below);

#endif
