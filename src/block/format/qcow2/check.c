/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Checking a qcow2 image: what is counted against what the refcounts say. */
#include <errno.h>
#include <inttypes.h>

#include "base/error.h"
#include "base/log.h"
#include "block/format/qcow2/check_int.h"

/* --- refcounts --- */

/* Of one block, or of clusters that have none. */
static int compare(struct qcow2_counts *c, uint64_t first, uint64_t n, bool has_block,
                   int (*visit)(struct qcow2_counts *c, uint64_t cluster, uint64_t refcount,
                                uint64_t references))
{
    int status = 0;
    for (uint64_t i = first; i < first + n && !status; i++) {
        uint64_t refcount = 0;
        const uint64_t references = qcow2_counts_get(c, i);
        if (has_block && (status = qcow2_refcount_get_locked(c->q, i, &refcount)))
            break;
        if (refcount != references)
            status = visit(c, i, refcount, references);
    }
    return status;
}

/* Skips what is all zero in a block, which is most of it. */
static int compare_block(struct qcow2_counts *c, uint64_t index,
                         int (*visit)(struct qcow2_counts *c, uint64_t cluster, uint64_t refcount,
                                      uint64_t references))
{
    struct qcow2 *q = c->q;
    const uint64_t first = index << q->block_bits, n = BIT(q->block_bits);
    int status = 0;
    for (uint64_t at = first, now; at < first + n && !status; at += now) {
        now = MIN(first + n - at, QCOW2_LEAF - at % QCOW2_LEAF);
        if (!qcow2_counts_leaf(c, at, false)) {
            bool free;
            uint64_t run;
            status = qcow2_refcount_scan_locked(q, at, now, &free, &run);
            if (status || (free && run == now))
                continue;
        }
        status = compare(c, at, now, true, visit);
    }
    return status;
}

int qcow2_differences(struct qcow2_counts *c, int (*visit)(struct qcow2_counts *c, uint64_t cluster,
                                                           uint64_t refcount, uint64_t references))
{
    struct qcow2 *q = c->q;
    int status = 0;
    for (uint64_t i = 0; i < q->reftable_entries && !status; i++)
        if (q->reftable[i])
            status = compare_block(c, i, visit);
    /* Clusters that are in use, and have no block. */
    for (uint64_t at = 0; at <= c->highest && !status; at += QCOW2_LEAF) {
        if (!qcow2_counts_leaf(c, at, false))
            continue;
        for (uint64_t i = at; i < at + QCOW2_LEAF && !status; i++) {
            const uint64_t index = i >> q->block_bits, references = qcow2_counts_get(c, i);
            if (references && (index >= q->reftable_entries || !q->reftable[index]))
                status = visit(c, i, 0, references);
        }
    }
    return status;
}

static int tell(struct qcow2_counts *c, uint64_t cluster, uint64_t refcount, uint64_t references)
{
    if (refcount > references) {
        qcow2_say(c, "Leaked cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, cluster, refcount,
                  references);
        c->check->leaks++;
    } else {
        qcow2_say(c, "ERROR cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, cluster, refcount,
                  references);
        c->check->corruptions++;
    }
    return 0;
}

/* --- flags --- */

enum qcow2_flag qcow2_flag_of(uint64_t entry, uint64_t references)
{
    const bool copied = entry & QCOW2_COPIED;
    if (copied == (references == 1))
        return QCOW2_FLAG_GOOD;
    return copied ? QCOW2_FLAG_WRONG : QCOW2_FLAG_MISSING;
}

/* Set where it must not be: two would write to one cluster. Missing: a copy too many, so it is like a leak.
 */
static void tell_flag(struct qcow2_counts *c, uint64_t entry, uint64_t references, const char *what)
{
    const enum qcow2_flag flag = qcow2_flag_of(entry, references);
    if (flag == QCOW2_FLAG_WRONG) {
        qcow2_say(c, "ERROR OFLAG_COPIED %s: entry=%016" PRIx64 " references=%" PRIu64, what, entry,
                  references);
        c->check->corruptions++;
    } else if (flag == QCOW2_FLAG_MISSING) {
        qcow2_say(c, "OFLAG_COPIED is missing, %s: entry=%016" PRIx64, what, entry);
        c->check->leaks++;
    }
}

static int check_table_flags(struct qcow2_counts *c, uint64_t index)
{
    struct qcow2 *q = c->q;
    struct qcow2_table *t;
    int status = qcow2_l2_readable(q, index << (q->cluster_bits + q->l2_bits), &t);
    for (uint64_t i = 0; t && i < BIT(q->l2_bits); i++) {
        const struct qcow2_entry e = qcow2_entry_read(q, t, i);
        if (!(e.entry & QCOW2_COMPRESSED) && qcow2_entry_placed(q, e.entry) && qcow2_l2_entry_good(c, e))
            tell_flag(c, e.entry,
                      q->external ? 1 : qcow2_counts_get(c, (e.entry & QCOW2_OFFSET_MASK) >> q->cluster_bits),
                      "data cluster");
    }
    qcow2_table_put(&q->l2, t);
    return status;
}

static void check_flags(struct qcow2_counts *c)
{
    struct qcow2 *q = c->q;
    qcow2_forget_seen(c);
    for (uint64_t i = 0; i < q->header.l1_size; i++) {
        const uint64_t entry = q->l1[i];
        if (!entry || !qcow2_l1_entry_good(c, entry) ||
            !qcow2_first_time(c, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits))
            continue;
        tell_flag(c, entry, qcow2_counts_get(c, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits), "L2 table");
        c->check->errors += check_table_flags(c, i) != 0;
    }
}

/* --- all --- */

static bool failed(struct qcow2 *q, int status, GError **error)
{
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: qcow2: cannot repair it: %s", q->disk.name,
                                  g_strerror(-status));
}

static int count_again(struct qcow2_counts *c)
{
    c->quiet = true;
    return qcow2_count_all(c, NULL) && !c->unread ? 0 : -EIO;
}

/* In an order in which each step may be the last: references are counted before they are dropped. */
static int repair(struct qcow2_counts *c, unsigned fix)
{
    struct qcow2 *q = c->q;
    const bool leaks = fix & BLOCK_FIX_LEAKS, errors = fix & BLOCK_FIX_ERRORS;
    int status = 0;
    /* What could not be written is not known any more; only an image that was found to be damaged goes on. */
    if (atomic_load(&q->failed) && !(q->header.incompatible & QCOW2_INCOMPATIBLE_CORRUPT))
        return -EIO;
    atomic_store(&q->failed, 0);
    if (errors && c->broken) {
        status = qcow2_repair_rebuild(c);
    } else {
        if (errors)
            status = qcow2_repair_refcounts(c, true, false);
        if (!status)
            status = qcow2_sync(q);
    }
    /* Entries that went may leave others as the only ones, whose flags follow. */
    for (unsigned round = 0; round < 2 && !status && errors; round++) {
        status = qcow2_repair_entries(c);
        if (!status)
            status = qcow2_sync(q);
        if (!status)
            status = count_again(c);
    }
    if (!status && !errors)
        status = count_again(c);
    if (!status && leaks && !c->broken)
        status = qcow2_repair_refcounts(c, false, true);
    return status ? status : qcow2_sync_all(q);
}

/* Looks once more; what is not found again is mended. */
static bool look_again(struct qcow2_counts *c, GError **error)
{
    struct block_check after = {0};
    struct qcow2_counts again;
    qcow2_counts_init(&again, c->q, &after);
    bool ok = qcow2_count_all(&again, error);
    if (again.unread) {
        c->check->errors += after.errors;
        qcow2_counts_fini(&again);
        return ok;
    }
    if (ok && !again.broken)
        ok = failed(c->q, qcow2_differences(&again, tell), error);
    if (ok)
        check_flags(&again);
    c->check->corruptions_fixed = c->check->corruptions - MIN(after.corruptions, c->check->corruptions);
    c->check->leaks_fixed = c->check->leaks - MIN(after.leaks, c->check->leaks);
    qcow2_counts_fini(&again);
    return ok;
}

static bool clear_corrupt(struct qcow2 *q, GError **error)
{
    if (!(q->header.incompatible & QCOW2_INCOMPATIBLE_CORRUPT))
        return true;
    q->header.incompatible &= ~QCOW2_INCOMPATIBLE_CORRUPT;
    pthread_mutex_lock(&q->meta);
    int status = qcow2_header_update_locked(q);
    pthread_mutex_unlock(&q->meta);
    return failed(q, status, error);
}

static bool check_counts(struct qcow2_counts *c, unsigned fix, GError **error)
{
    struct qcow2 *q = c->q;
    struct block_check *check = c->check;
    if (!qcow2_count_all(c, error))
        return false;
    check->clusters = align_up(q->disk.facts.size, q->cluster) >> q->cluster_bits;
    check->end = (c->highest + 1) << q->cluster_bits;
    if (c->unread) /* what it counts would seem to be leaks */
        return true;
    if (!c->broken) {
        pthread_mutex_lock(&q->meta);
        int status = qcow2_differences(c, tell);
        pthread_mutex_unlock(&q->meta);
        if (status)
            check->errors++;
    }
    check_flags(c);
    if (check->errors)
        return true;
    const bool dirty = q->header.incompatible & (QCOW2_INCOMPATIBLE_CORRUPT | QCOW2_INCOMPATIBLE_DIRTY);
    if (!fix || (!check->leaks && !check->corruptions && !dirty))
        return true;
    if (!failed(q, repair(c, fix), error) || !look_again(c, error))
        return false;
    return check->corruptions != check->corruptions_fixed || check->errors || !(fix & BLOCK_FIX_ERRORS) ||
           clear_corrupt(q, error);
}

bool qcow2_check(struct disk *b, unsigned fix, struct block_check *check, GError **error)
{
    struct qcow2 *q = qcow2(b);
    struct qcow2_counts c;
    if (fix && b->facts.readonly)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: is open for reading only, so it cannot be repaired", b->name);
    if (!q->reftable && !qcow2_refcounts_load(q, error))
        return false;
    if (!b->facts.readonly && !atomic_load(&q->failed)) {
        int status = qcow2_sync_all(q);
        if (status)
            return failed(q, status, error);
    }
    qcow2_counts_init(&c, q, check);
    bool ok = check_counts(&c, fix, error);
    qcow2_counts_fini(&c);
    return ok;
}

bool qcow2_rebuild(struct qcow2 *q, GError **error)
{
    struct block_check check = {0};
    struct qcow2_counts c;
    log_info(LOG_BLOCK, "disk %s: qcow2: was not closed; its refcounts are made anew", q->disk.name);
    qcow2_counts_init(&c, q, &check);
    bool ok = check_counts(&c, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS, error);
    if (ok && (check.errors || check.corruptions > check.corruptions_fixed))
        ok = hostel_fail(
            error, HOSTEL_ERROR_INPUT,
            "%s: qcow2: was not closed properly, and is damaged; repair it: hostel image check -r all "
            "%s",
            q->disk.name, q->disk.name);
    qcow2_counts_fini(&c);
    return ok;
}
