/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The contract of a disk image: what each row of drivers.def provides, and what the rest of Hostel calls. */
/*
 * Theory of operation
 *
 * A `struct disk` is an open disk: an array of bytes that can be read, written, made durable, and given back
 * to the host in parts. A driver is one way to keep such an array, of three kinds:
 *
 *   protocol  reaches bytes that are somewhere: a file, memory, a server
 *   format    finds a disk's bytes in an image, which is itself a disk (config.file): usually a file's, but
 * any other will do, so a qcow2 may lie on a server, or on a filter that records or fails filter    a disk
 * over another one (`below`, owned) that passes most of it on
 *
 * Whoever opens a disk names its driver: the bytes of an image are the guest's and say nothing about the
 * format. What an image refers to (a backing file, a file with its data) is opened only by the block_refs
 * that whoever opens it gives; without them the image opens only if it refers to nothing.
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
#include "base/option.h"

enum { BLOCK_SECTOR = 512, BLOCK_IOV_MAX = 1024 /* most buffers of one operation */ };

enum block_flags {
    BLOCK_NOWAIT = 1, /* reads: only what needs no wait for storage; some bytes may be there after -EAGAIN */
    BLOCK_MAY_UNMAP = 2, /* block_zero: the range may be given back to the host */
    BLOCK_ONLY_FAST = 4, /* block_zero: -EOPNOTSUPP when something would have to be written as zeroes */
};

/* What does not change while the disk is open, but for the size. */
struct block_facts {
    _Atomic uint64_t size; /* bytes; changed by block_resize(), and by writes to what is growable */
    uint32_t alignment;    /* offsets and sizes of operations are multiples of it; a power of two */
    uint32_t preferred;    /* what storage likes as unit of reading and writing; a power of two */
    uint32_t granularity;  /* smaller pieces cannot be given back; 0 = nothing can */
    uint32_t cluster;      /* formats: the unit they give out places in; 0 = none */
    bool readonly;
    bool growable; /* a write may begin at the end or behind it; what it leaves out reads as zeroes */
};

/* How one piece of a disk is kept. */
struct block_extent {
    uint64_t size;   /* bytes from where it was asked for, at least 1 */
    bool hole;       /* takes no storage, in no layer */
    bool zero;       /* reads as zeroes */
    bool compressed; /* its place holds it compressed */
    unsigned depth;  /* 0 = kept by this image, 1 = by its backing file, ...; a hole of all has the last */
    uint64_t place;  /* offset in the file of the image that keeps it when it is there as it is, else
                      * BLOCK_NO_PLACE */
};
#define BLOCK_NO_PLACE UINT64_MAX

struct disk;

/* What an image refers to. */
enum block_ref { BLOCK_REF_BACKING, BLOCK_REF_DATA };

/* Opens, or makes, what an image refers to; whoever opens the image gives one that allows what may be. */
struct block_refs {
    /* reference: as it stands in the image, hostile; format: likewise, NULL = the image does not say (then a
     * data file is plain bytes, and a backing file is refused). NULL with *error. */
    struct disk *(*open)(struct block_refs *refs, enum block_ref what, const char *reference,
                         const char *format, bool readonly, GError **error);
    /* A new empty growable file beside the image; for formats of more than one file. */
    struct disk *(*create)(struct block_refs *refs, const char *reference, GError **error);
};

enum block_open_flags {
    BLOCK_OPEN_ALONE = 1, /* without its backing file, which reads as zeroes */
    BLOCK_OPEN_REPAIR =
        2, /* to be checked and mended: what is merely damaged does not keep it from opening */
    BLOCK_OPEN_SHARED = 4,  /* protocol file: without a lock, though another may write */
    BLOCK_OPEN_KEYLESS = 8, /* an encrypted image opens without its key; its contents are then -EACCES */
};

/* What to open. Everything it holds is borrowed but for what is said to be taken. */
struct block_config {
    const char *name;  /* for messages; copied */
    int fd;            /* drivers with needs_file: of the file; taken; -1 when `file` is given, or none */
    struct disk *file; /* formats: the disk that the image lies on; taken; NULL = the file that is fd.
                        * Filters: what is below; taken */
    struct disk *base; /* the disk it lies over, instead of what the image names as backing; taken; or NULL */
    struct disk **members; /* filters over several disks: n_members of them, taken (the array is not) */
    unsigned n_members;
    struct block_refs *refs; /* NULL = the image may refer to nothing */
    bool readonly;
    unsigned flags;       /* enum block_open_flags */
    uint64_t size;        /* bytes, for drivers without a file */
    const char *uri;      /* of what is on a server; or NULL */
    const char *snapshot; /* id or name of the internal snapshot that is read instead; or NULL */
    const void *options;  /* values of the driver's options, or NULL for the defaults */
    const uint8_t *key;   /* of an encrypted image: the passphrase, key_size bytes; or NULL */
    size_t key_size;
};

enum block_kind { BLOCK_PROTOCOL, BLOCK_FORMAT, BLOCK_FILTER };

/* All operations: on any thread, several at once; arguments were checked against facts. */
struct block_driver {
    const char *name, *help;
    enum block_kind kind;
    bool needs_file;     /* config.file or config.fd; such formats can be given to --disk */
    bool needs_base;     /* config.base */
    unsigned members;    /* filters over several disks: how many at least; 0 = a filter is over config.file */
    const char *schemes; /* of the URIs that it opens, "http|https"; config.uri; or NULL */
    const char *module;  /* this row only tells about the driver, which is there after block/module.h loaded
                          * it;  or NULL */
    size_t size;         /* of the struct that begins with struct disk */

    /* Of opening: rows, ending with a NULL name, and the size of the struct of their values; or NULL. */
    const struct option_row *options;
    size_t options_size;

    /* Fills in facts. What it takes from config it sets to NULL (or -1) there and owns, also when it fails;
     * close is called only after it succeeded. NULL for filters that have functions of their own to make
     * them. Refuses to write to what it only can read, and unknown incompatible features by their names. */
    bool (*open)(struct disk *b, struct block_config *config, GError **error);
    /* Instead of open, for a format whose disk is the file itself: is the file one? */
    bool (*accept)(const struct disk *file, GError **error);
    /* What was not flushed may be lost; files are left as they should be where that needs no flush. */
    void (*close)(struct disk *b);
    int (*read)(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags);
    int (*write)(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset);
    int (*flush)(struct disk *b);
    /* Optional: -EOPNOTSUPP is as if it were NULL. Without discard nothing is given back; without zero zeroes
     * are written; without extent all is data; without resize the size is fixed (-EOPNOTSUPP). */
    int (*discard)(struct disk *b, uint64_t offset, uint64_t size);
    int (*zero)(struct disk *b, uint64_t offset, uint64_t size, unsigned flags);
    int (*extent)(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent);
    /* Shrinking loses what is behind; what is new reads as zeroes. The core sets facts.size afterwards. */
    int (*resize)(struct disk *b, uint64_t size);
    /* One cluster (facts.cluster; the last of the disk may be shorter) that holds nothing yet; compresses on
     * the calling thread, so several threads compress at once. */
    int (*write_compressed)(struct disk *b, const void *bytes, uint64_t offset, uint64_t size);
    /* Everything was written: puts in place what can only come last (a stream's footer). Then flush. */
    int (*seal)(struct disk *b);

    const struct block_image *image; /* formats: what is done with images, see block/image.h; or NULL */
};

/* The head of each open disk. */
struct disk {
    const struct block_driver *driver;
    struct disk *below; /* of a filter; of a format, its file; owned: closed after driver->close */
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

/* Opens a disk. Takes what config says is taken in any case. NULL with *error. Set-up, before a process is
 * locked down. */
struct disk *block_open(const struct block_driver *driver, struct block_config *config, GError **error);

/* Of an image that names a backing file: opens it as config and its flags say. True with *base NULL when it
 * is to be opened alone. For drivers, in open. */
bool block_open_base(struct block_config *config, const char *reference, const char *format,
                     struct disk **base, GError **error);

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

/* Changes the size. -EOPNOTSUPP when it is fixed. Nothing else is under way; bytes that are cut off are lost.
 */
int block_resize(struct disk *b, uint64_t size);

/* See the driver's. -EOPNOTSUPP where the format has no compression; seal is 0 where there is nothing to do.
 */
int block_write_compressed(struct disk *b, const void *bytes, uint64_t offset, uint64_t size);
int block_seal(struct disk *b);

/* One buffer. */
static inline int block_pread(struct disk *b, void *bytes, size_t size, uint64_t offset)
{
    const struct iovec iov = {bytes, size};
    return block_read(b, &iov, 1, offset, 0);
}

static inline int block_pwrite(struct disk *b, const void *bytes, size_t size, uint64_t offset)
{
    const struct iovec iov = {(void *)(uintptr_t)bytes, size};
    return block_write(b, &iov, 1, offset);
}

/* Bytes of n buffers. */
uint64_t block_iov_size(const struct iovec *iov, unsigned n);

/* Tells people about an operation ("write", "flush" with size 0) that failed with error (-errno): one line,
 * then silence for some seconds. Any thread. */
void block_report(struct disk *b, const char *what, uint64_t offset, uint64_t size, int error);

/* --- for drivers --- */

/* The head of a driver's struct, for filters: takes below. Facts are those of below. */
struct disk *block_filter_new(const struct block_driver *filter, struct disk *below);

#endif
