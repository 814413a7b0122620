/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Protocol iscsi: a logical unit of an iSCSI server. */
/*
 * Sources: SBC-3 for the commands. A session does one command at a time, so there are several of them. A unit
 * that is thinly provisioned gives blocks back (UNMAP), says which it keeps (GET LBA STATUS), and if those it
 * does not keep read as zeroes (LBPRZ) a range is made zero by letting go of it (WRITE SAME with UNMAP).
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/cursor.h"
#include "block/module.h"
#include "block/protocol/iscsi/unit.h"
#include "block/protocol/lines.h"
#include "block/protocol/remote.h"

enum { TRIES = 8 /* of a command that the unit wants given again */, SAME_MAX = 65535 /* blocks */ };
enum { BLOCK_MAX = 64 << 10 };
#define TRANSFER_MAX MiB

struct iscsi_disk {
    struct disk disk;
    struct unit_place place;
    struct lines lines;
    uint32_t block;                 /* bytes */
    uint32_t most;                  /* bytes of one transfer */
    uint32_t most_unmap, most_same; /* blocks */
    bool thin, reads_zero, unmaps, unmaps_same;
    _Atomic bool no_same, no_status; /* what the unit was found not to have */
};

static struct iscsi_disk *iscsi_disk(struct disk *b)
{
    return (struct iscsi_disk *)(void *)b;
}

/* --- commands --- */

/* One of them: how it is given, and what it needs. */
struct command {
    struct scsi_task *(*give)(struct iscsi_disk *d, struct iscsi_context *s, struct command *c);
    uint64_t lba;
    uint32_t blocks;
    struct iovec *iov;
    unsigned n;
    bool unmap;
    struct block_extent *extent;
};

static int run(struct iscsi_disk *d, struct command *c)
{
    int status;
    bool again = true, broken = false;
    struct iscsi_context *s = lines_take(&d->lines, &status);
    if (!s)
        return status;
    for (unsigned i = 0; i < TRIES && again; i++)
        status = unit_finish(c->give(d, s, c), &again, &broken);
    lines_give(&d->lines, s, broken);
    return status;
}

static struct scsi_iovec *scsi_iov(struct command *c)
{
    static_assert(sizeof(struct iovec) == sizeof(struct scsi_iovec), "libiscsi promises that they are alike");
    return (struct scsi_iovec *)(void *)c->iov;
}

static struct scsi_task *give_read(struct iscsi_disk *d, struct iscsi_context *s, struct command *c)
{
    struct scsi_task *t = iscsi_read16_iov_sync(s, d->place.lun, c->lba, c->blocks * d->block, (int)d->block,
                                                0, 0, 0, 0, 0, scsi_iov(c), (int)c->n);
    if (t && t->status == SCSI_STATUS_GOOD && t->residual_status != SCSI_RESIDUAL_NO_RESIDUAL)
        t->status = SCSI_STATUS_ERROR; /* it gave less than it was asked for */
    return t;
}

static struct scsi_task *give_write(struct iscsi_disk *d, struct iscsi_context *s, struct command *c)
{
    return iscsi_write16_iov_sync(s, d->place.lun, c->lba, NULL, c->blocks * d->block, (int)d->block, 0, 0, 0,
                                  0, 0, scsi_iov(c), (int)c->n);
}

static struct scsi_task *give_flush(struct iscsi_disk *d, struct iscsi_context *s, struct command *c)
{
    (void)c;
    return iscsi_synchronizecache16_sync(s, d->place.lun, 0, 0, 0, 0);
}

static struct scsi_task *give_unmap(struct iscsi_disk *d, struct iscsi_context *s, struct command *c)
{
    struct unmap_list list = {.lba = c->lba, .num = c->blocks};
    return iscsi_unmap_sync(s, d->place.lun, 0, 0, &list, 1);
}

static struct scsi_task *give_same(struct iscsi_disk *d, struct iscsi_context *s, struct command *c)
{
    static unsigned char zeroes[BLOCK_MAX];
    return iscsi_writesame16_sync(s, d->place.lun, c->lba, zeroes, d->block, c->blocks, 0, c->unmap, 0, 0);
}

/* The first piece, into the extent. */
static struct scsi_task *give_status(struct iscsi_disk *d, struct iscsi_context *s, struct command *c)
{
    struct scsi_task *t = iscsi_get_lba_status_sync(s, d->place.lun, c->lba, 8 + 16);
    const struct scsi_get_lba_status *found =
        t && t->status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall(t) : NULL;
    if (!found || !found->num_descriptors || found->descriptors[0].lba > c->lba)
        return t;
    const uint64_t end = found->descriptors[0].lba + found->descriptors[0].num_blocks;
    if (end <= c->lba)
        return t;
    c->extent->size = (end - c->lba) * d->block;
    c->extent->hole = found->descriptors[0].provisioning != SCSI_PROVISIONING_TYPE_MAPPED;
    c->extent->zero = c->extent->hole && d->reads_zero;
    return t;
}

/* --- opening --- */

static struct scsi_task *ask(struct iscsi_disk *d, struct iscsi_context *s, int page)
{
    struct scsi_task *t = page < 0 ? iscsi_readcapacity16_sync(s, d->place.lun)
                                   : iscsi_inquiry_sync(s, d->place.lun, 1, page, 255);
    if (t && t->status == SCSI_STATUS_GOOD)
        return t;
    if (t)
        scsi_free_scsi_task(t);
    return NULL;
}

static bool find_size(struct iscsi_disk *d, struct iscsi_context *s, GError **error)
{
    struct scsi_task *t = ask(d, s, -1);
    const struct scsi_readcapacity16 *r = t ? scsi_datain_unmarshall(t) : NULL;
    const uint32_t block = r ? r->block_length : 0;
    const uint64_t blocks = r ? r->returned_lba + 1 : 0;
    const bool good = block >= BLOCK_SECTOR && block <= BLOCK_MAX && !(block & (block - 1)) && blocks &&
                      blocks <= INT64_MAX / block;
    if (good) {
        d->block = block;
        d->disk.facts.size = blocks * block;
        d->disk.facts.alignment = block;
        d->disk.facts.preferred = MAX(block, 4096U);
        d->thin = r->lbpme;
        d->reads_zero = r->lbprz;
    }
    if (t)
        scsi_free_scsi_task(t);
    return good || hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: has no size, or blocks of a size, that a disk has", d->place.name);
}

static void find_limits(struct iscsi_disk *d, struct iscsi_context *s)
{
    uint32_t granularity = d->block;
    d->most = TRANSFER_MAX;
    d->most_unmap = d->most_same = SAME_MAX;
    struct scsi_task *t = ask(d, s, SCSI_INQUIRY_PAGECODE_BLOCK_LIMITS);
    const struct scsi_inquiry_block_limits *limits = t ? scsi_datain_unmarshall(t) : NULL;
    if (limits) {
        if (limits->max_xfer_len && limits->max_xfer_len < d->most / d->block)
            d->most = limits->max_xfer_len * d->block;
        if (limits->max_unmap)
            d->most_unmap = limits->max_unmap;
        if (limits->max_ws_len)
            d->most_same = (uint32_t)MIN(limits->max_ws_len, (uint64_t)UINT32_MAX / d->block);
        if (limits->opt_unmap_gran && limits->opt_unmap_gran <= (64 * MiB) / d->block)
            granularity = limits->opt_unmap_gran * d->block;
    }
    if (t)
        scsi_free_scsi_task(t);
    t = d->thin ? ask(d, s, SCSI_INQUIRY_PAGECODE_LOGICAL_BLOCK_PROVISIONING) : NULL;
    const struct scsi_inquiry_logical_block_provisioning *p = t ? scsi_datain_unmarshall(t) : NULL;
    d->unmaps = p && p->lbpu;
    d->unmaps_same = p && p->lbpws && d->reads_zero;
    if (t)
        scsi_free_scsi_task(t);
    d->disk.facts.granularity = d->unmaps ? granularity : 0;
}

/* Is it protected? When it does not say it is not. */
static bool check_writable(struct iscsi_disk *d, struct iscsi_context *s, GError **error)
{
    struct scsi_task *t = iscsi_modesense6_sync(s, d->place.lun, 1, SCSI_MODESENSE_PC_CURRENT,
                                                SCSI_MODEPAGE_RETURN_ALL_PAGES, 0, 255);
    const struct scsi_mode_sense *mode =
        t && t->status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall(t) : NULL;
    const bool protected = mode && mode->device_specific_parameter & 0x80;
    if (t)
        scsi_free_scsi_task(t);
    return !protected || hostel_fail(error, HOSTEL_ERROR_INPUT,
                                     "%s: is protected against writing; add readonly=on", d->place.name);
}

static void *login_again(void *opaque, int *error)
{
    struct iscsi_context *s = unit_login(opaque, NULL);
    *error = s ? 0 : -EIO;
    return s;
}

static bool iscsi_disk_open(struct disk *b, struct block_config *config, GError **error)
{
    struct iscsi_disk *d = iscsi_disk(b);
    struct iscsi_options defaults = {0};
    const struct iscsi_options *o = config->options;
    if (!config->uri)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: give a URI, iscsi://HOST[:PORT]/IQN/LUN", b->name);
    if (!o) {
        option_init(iscsi_option_rows, &defaults);
        o = &defaults;
    }
    if (!unit_place_init(&d->place, b->name, config->uri, o, error))
        return false;
    struct iscsi_context *first = unit_login(&d->place, error);
    if (first && find_size(d, first, error) && (config->readonly || check_writable(d, first, error))) {
        find_limits(d, first);
        lines_init(&d->lines, o->connections, login_again, unit_logout, &d->place);
        lines_add(&d->lines, first);
        return true;
    }
    if (first)
        unit_logout(first);
    unit_place_clear(&d->place);
    return false;
}

static void iscsi_disk_close(struct disk *b)
{
    lines_fini(&iscsi_disk(b)->lines);
    unit_place_clear(&iscsi_disk(b)->place);
}

/* --- data --- */

static int transfer(struct iscsi_disk *d, bool write, const struct iovec *iov, unsigned n, uint64_t offset)
{
    struct iovec piece[BLOCK_IOV_MAX];
    struct block_cursor cursor = {.iov = iov};
    uint64_t left = block_iov_size(iov, n);
    int status = 0;
    while (left && !status) {
        const uint32_t now = (uint32_t)MIN(left, d->most);
        struct command c = {.give = write ? give_write : give_read,
                            .lba = offset / d->block,
                            .blocks = now / d->block,
                            .iov = piece,
                            .n = block_cursor_next(&cursor, now, piece)};
        status = run(d, &c);
        offset += now;
        left -= now;
    }
    return status == -EOPNOTSUPP ? -EIO : status;
}

static int iscsi_disk_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset,
                           unsigned flags)
{
    return flags & BLOCK_NOWAIT ? -EAGAIN : transfer(iscsi_disk(b), false, iov, n, offset);
}

static int iscsi_disk_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return transfer(iscsi_disk(b), true, iov, n, offset);
}

/* A unit that does not know the command has no cache. */
static int iscsi_disk_flush(struct disk *b)
{
    struct iscsi_disk *d = iscsi_disk(b);
    struct command c = {.give = give_flush};
    const int status = run(d, &c);
    if (lines_broke(&d->lines))
        return -EIO;
    return status == -EOPNOTSUPP ? 0 : status;
}

static int in_pieces(struct iscsi_disk *d, const struct command *what, uint32_t most, uint64_t offset,
                     uint64_t size)
{
    int status = 0;
    while (size && !status) {
        struct command c = *what;
        c.lba = offset / d->block;
        c.blocks = (uint32_t)MIN(size / d->block, most);
        status = run(d, &c);
        offset += (uint64_t)c.blocks * d->block;
        size -= (uint64_t)c.blocks * d->block;
    }
    return status;
}

static int iscsi_disk_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    struct iscsi_disk *d = iscsi_disk(b);
    const struct command c = {.give = give_unmap};
    return d->unmaps ? in_pieces(d, &c, d->most_unmap, offset, size) : -EOPNOTSUPP;
}

static int iscsi_disk_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    struct iscsi_disk *d = iscsi_disk(b);
    const struct command c = {.give = give_same, .unmap = flags & BLOCK_MAY_UNMAP && d->unmaps_same};
    /* Without letting go of the range the other side writes its blocks, however short the order was. */
    if (atomic_load_explicit(&d->no_same, memory_order_relaxed) || (flags & BLOCK_ONLY_FAST && !c.unmap))
        return -EOPNOTSUPP;
    const int status = in_pieces(d, &c, d->most_same, offset, size);
    if (status == -EOPNOTSUPP && !c.unmap)
        atomic_store_explicit(&d->no_same, true, memory_order_relaxed);
    return status;
}

static int iscsi_disk_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    struct iscsi_disk *d = iscsi_disk(b);
    struct block_extent found = {.size = 0};
    struct command c = {.give = give_status, .lba = offset / d->block, .extent = &found};
    if (!d->thin || atomic_load_explicit(&d->no_status, memory_order_relaxed))
        return -EOPNOTSUPP;
    const int status = run(d, &c);
    if (status == -EOPNOTSUPP)
        atomic_store_explicit(&d->no_status, true, memory_order_relaxed);
    const uint64_t before = offset % d->block;
    if (status || found.size <= before)
        return status ? status : -EOPNOTSUPP;
    extent->size = MIN(found.size - before, size);
    extent->hole = found.hole;
    extent->zero = found.zero;
    return 0;
}

static const struct block_driver iscsi_driver = {
    .name = "iscsi",
    .help = "a logical unit on an iSCSI server",
    .kind = BLOCK_PROTOCOL,
    .size = sizeof(struct iscsi_disk),
    .options = iscsi_option_rows,
    .options_size = sizeof(struct iscsi_options),
    .open = iscsi_disk_open,
    .close = iscsi_disk_close,
    .read = iscsi_disk_read,
    .write = iscsi_disk_write,
    .flush = iscsi_disk_flush,
    .discard = iscsi_disk_discard,
    .zero = iscsi_disk_zero,
    .extent = iscsi_disk_extent,
};

BLOCK_MODULE_DEFINE(iscsi_driver);
