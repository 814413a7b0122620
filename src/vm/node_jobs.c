/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Merging the images of a chain while the guest goes on. */
/*
 * Theory of operation
 *
 * block/merge.h copies; this file sees to it that nobody disturbs that, and switches at the end. Whatever is
 * written while the job runs is what readers see there anyway, so a job that is cancelled, fails, or ends
 * with the host's power has changed nothing that anybody can see. What makes it count is one write of a
 * header, or of none:
 *
 *   commit, below the topmost  the images are merged into the base. Then the image above them is written
 *                              to say that it lies over the base, and its link is turned.
 *   commit, of the topmost     the guest writes to it meanwhile. The root notes what was changed, and that
 *                              is merged again, until told to complete. Then, with the gate closed: the last
 *                              of it is merged, the base made durable, the topmost emptied, so that it
 *                              reads as the base whoever opens it later, and the device goes on in the base.
 *   stream                     what is below is copied into the image itself, a piece at a time, for which
 *                              the guest's writes to that piece wait. Then it is written to say that it
 *                              lies over what stays, or over nothing.
 *
 * The nodes of the chain belong to the job until it ends (vm_node.job), so the chain stays what it is. The
 * image that is written is ours alone meanwhile. What was opened read-only is opened for writing over a
 * descriptor that comes with the command, and read-only again at the end, unless the guest goes on in it.
 */
#include "vm/node_jobs.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/file.h"
#include "block/filter/bucket.h"
#include "block/merge.h"
#include "control/qmp.h"
#include "os/fd.h"
#include "vm/nodes_int.h"

enum {
    DIRTY_SHIFT = 16,     /* 64 KiB are noted together, more on large disks */
    ROUNDS_LAST = 4,      /* over what has changed, before the guest must wait for the rest */
    READY_MS = 50,        /* between two looks at what has changed */
    STREAM_PIECE = 65536, /* that the guest's writes wait for */
};
#define DIRTY_BITS_MAX (UINT64_C(1) << 26)

struct merge {
    struct vm_nodes *nodes;
    struct job *job, *running; /* the same; running is the thread's */
    GPtrArray *taken;          /* of struct vm_node: of the job, with a reference each */
    struct vm_node *top, *base;
    struct vm_node *above;  /* commit below the topmost: lies on top; else NULL */
    char *backing, *format; /* what the header above is to say; NULL = nothing */
    bool silent;            /* it says nothing, and so it stays */
    bool holds_target;      /* take_target() */
    int readonly_fd;        /* of the image that is written, as it was opened before; -1 = for writing */
    bool stream, active;
    _Atomic uint64_t speed;
    _Atomic bool completing;
    struct block_merge merge;
    struct block_bucket bucket;
    struct block_watch watch;
    struct block_dirty dirty;
    struct block_ranges ranges;
    uint64_t dirty_words;
    char *failure;
};

/* --- the chain --- */

static struct vm_node *lowest(struct vm_node *node)
{
    while (vm_node_backing(node))
        node = vm_node_backing(node);
    return node;
}

/* How many images are above base, from top on; 0: it is none of the chain. */
static unsigned layers(const struct vm_node *top, const struct vm_node *base)
{
    unsigned n = 0;
    for (const struct vm_node *at = top; at; at = vm_node_backing(at), n++)
        if (at == base)
            return n;
    return base ? 0 : n;
}

/* Takes the nodes from `from` to `to` (NULL = the lowest) for the job. */
static bool take_nodes(struct merge *m, struct vm_node *from, const struct vm_node *to, GError **error)
{
    for (struct vm_node *at = from; at; at = vm_node_backing(at)) {
        if (!vm_node_check_free(at, "merge", error))
            return false;
        if (at != from && !(m->stream && at == to) && vm_node_parents(at) > 1)
            return hostel_fail(
                error, HOSTEL_ERROR_USAGE,
                "node '%s': more than one image lies over it, so nothing can be merged into or "
                "out of it",
                at->name);
        g_ptr_array_add(m->taken, at);
        if (at == to)
            break;
    }
    for (guint i = 0; i < m->taken->len; i++)
        vm_node_ref(m->taken->pdata[i]);
    return true;
}

/* What the image above the base says of it: its name and format there. */
static bool read_backing(struct merge *m, const struct vm_merge_request *r, GError **error)
{
    struct vm_node *over = m->top;
    struct block_image_info info = {0};
    if (!m->base)
        return true;
    m->format = g_strdup(m->base->driver->name);
    m->backing = g_strdup(r->backing_file);
    while (vm_node_backing(over) != m->base)
        over = vm_node_backing(over);
    if (m->backing || !over->driver->image || !over->driver->image->info)
        return true;
    if (!over->driver->image->info(over->disk, &info, error))
        return false;
    m->backing = g_strdup(info.backing);
    m->silent = !m->backing;
    block_image_info_clear(&info);
    /* An empty image must be known to lie over the base, and over nothing between. */
    return !m->silent || !m->active || over == m->top ||
           hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "node '%s': its image does not say what it lies over; give backing-file", over->name);
}

/* The node that the job writes to. */
static struct vm_node *target(const struct merge *m)
{
    return m->stream ? m->top : m->base;
}

/* It can be written to from now on, and by nobody else. Takes *fd when that is needed. */
static bool take_target(struct merge *m, int *fd, GError **error)
{
    struct vm_node *node = target(m);
    if (node->disk->facts.readonly) {
        m->readonly_fd = block_file_dup(node->disk);
        m->holds_target = vm_node_reopen(node, fd_steal(fd), false, error);
    } else {
        m->holds_target = block_file_own(node->disk) ||
                          hostel_fail(error, HOSTEL_ERROR_HOST,
                                      "node '%s' is in use by another guest, which reads it", node->name);
    }
    m->merge.from = m->top->disk;
    m->merge.to = node->disk;
    return m->holds_target;
}

/* Others may read it again; what was merged is durable. It stays open for writing when the guest goes on in
 * it. */
static void give_target(struct merge *m)
{
    struct vm_node *node = target(m);
    const bool held = m->holds_target;
    m->holds_target = false;
    if (!held || vm_node_device(node))
        return;
    if (m->readonly_fd < 0 || !vm_node_reopen(node, fd_steal(&m->readonly_fd), true, NULL))
        block_file_share(node->disk);
}

/* fd: another one of its file, with which it can be opened for writing; -1 = none. */
static bool check_writable(const struct vm_node *node, int fd, GError **error)
{
    return !node->disk->facts.readonly || fd >= 0 ||
           hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "node '%s' was opened read-only, and the job has to write to it; give x-file",
                       node->name);
}

/* Snapshots inside it read what it lies over, of which they would not be given a copy. */
static bool check_snapshots(const struct vm_node *node, GError **error)
{
    const struct block_image *image = node->driver->image;
    g_autoptr(GPtrArray) all =
        image && image->snapshots ? image->snapshots(node->disk, error) : g_ptr_array_new();
    return all && (!all->len || hostel_fail(error, HOSTEL_ERROR_USAGE,
                                            "node '%s': its image has internal snapshots, which read what it "
                                            "lies over; delete them first",
                                            node->name));
}

static bool check_header(const struct vm_node *node, GError **error)
{
    return (node->driver->image && node->driver->image->set_backing) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "node '%s': images of format %s cannot be told what they lie over", node->name,
                       node->driver->name);
}

/* --- on the job's thread --- */

static uint64_t now_ns(void)
{
    return (uint64_t)g_get_monotonic_time() * 1000;
}

/* Sleeps as the limit of speed wants it. False: cancelled. */
static bool wait_turn(struct merge *m, uint64_t bytes)
{
    const uint64_t rate = atomic_load(&m->speed);
    if (rate != m->bucket.rate)
        m->bucket = (struct block_bucket){.rate = rate, .burst = 100000000};
    const uint64_t until = block_bucket_take(&m->bucket, bytes, now_ns());
    bool go_on = job_go_on(m->running);
    while (go_on && now_ns() < until && atomic_load(&m->speed) == rate) {
        g_usleep((gulong)MIN((until - now_ns()) / 1000 + 1, READY_MS * 1000));
        go_on = job_go_on(m->running);
    }
    return go_on;
}

static bool fail(struct merge *m, int status, GError **error)
{
    hostel_fail(error, HOSTEL_ERROR_HOST, "cannot merge '%s': %s", m->top->name, g_strerror(-status));
    m->failure = g_strdup(g_strerror(-status));
    return false;
}

/* Everything once. */
static bool merge_all(struct merge *m, uint64_t piece, GError **error)
{
    const uint64_t size = m->top->disk->facts.size;
    for (uint64_t at = 0; at < size; at += piece) {
        const uint64_t now = MIN(piece, size - at);
        struct block_range range;
        uint64_t copied = 0;
        if (m->stream)
            block_ranges_take(&m->ranges, &range, at, now);
        int status = block_merge_range(&m->merge, at, now, &copied);
        if (m->stream)
            block_ranges_give(&m->ranges, &range);
        if (status)
            return fail(m, status, error);
        job_progress(m->running, at + now, size);
        if (copied ? !wait_turn(m, copied) : !job_go_on(m->running))
            return false;
    }
    return true;
}

/* What has changed since the last look. *left: pieces that were merged. */
static int merge_dirty(struct merge *m, uint64_t *left)
{
    const uint64_t size = m->top->disk->facts.size, piece = UINT64_C(1) << m->dirty.shift;
    int status = 0;
    *left = 0;
    for (uint64_t word = 0; word < m->dirty_words && !status; word++) {
        uint64_t bits = atomic_load_explicit(&m->dirty.bits[word], memory_order_relaxed);
        if (bits)
            bits = atomic_exchange(&m->dirty.bits[word], 0);
        for (; bits && !status; bits &= bits - 1, ++*left) {
            const uint64_t at = (word * 64 + (unsigned)__builtin_ctzll(bits)) << m->dirty.shift;
            if (at < size)
                status = block_merge_range(&m->merge, at, MIN(piece, size - at), NULL);
        }
    }
    return status;
}

/* The topmost: goes on until it is told to complete. */
static bool follow(struct merge *m, GError **error)
{
    uint64_t left;
    int status = 0;
    for (unsigned last = 0; last < ROUNDS_LAST && !status;) {
        if (!job_go_on(m->running))
            return false;
        status = merge_dirty(m, &left);
        if (atomic_load(&m->completing)) {
            last = left ? last + 1 : ROUNDS_LAST;
        } else if (!left) {
            job_reached_ready(m->running);
            g_usleep(READY_MS * 1000);
        }
    }
    return !status || fail(m, status, error);
}

static bool run(struct job *job, void *opaque, GError **error)
{
    struct merge *m = opaque;
    m->running = job;
    if (!merge_all(m, m->stream ? STREAM_PIECE : BLOCK_MERGE_PIECE, error))
        return false;
    if (m->active && !follow(m, error))
        return false;
    int status = 0;
    if (!m->stream &&
        m->base->disk->facts.size > m->top->disk->facts.size) /* nobody sees it; nor shall they */
        status = block_zero(m->base->disk, m->top->disk->facts.size,
                            m->base->disk->facts.size - m->top->disk->facts.size, BLOCK_MAY_UNMAP);
    if (!status)
        status = block_flush(m->merge.to);
    return !status || fail(m, status, error);
}

/* --- its end, on the main thread --- */

/* The image says what it lies over from now on, and does so. Closed. */
static bool turn_backing(struct merge *m, struct vm_node *node, GError **error)
{
    if (!m->silent &&
        !node->driver->image->set_backing(node->disk, m->backing, m->backing ? m->format : NULL, error))
        return false;
    if (node->backing)
        vm_link_turn(node->backing, m->base);
    return true;
}

/* The device goes on in the base. Closed. */
static bool pivot(struct merge *m, struct vm_device *d, GError **error)
{
    uint64_t left;
    int status = merge_dirty(m, &left);
    if (!status)
        status = block_flush(m->base->disk);
    if (status)
        return fail(m, status, error);
    if (vm_node_backing(m->top) != m->base && !turn_backing(m, m->top, error))
        return false;
    /* Told apart by nobody: each piece of the topmost that goes reads as the base, which has the same. */
    if (!m->top->driver->image->empty(m->top->disk, error))
        return false;
    vm_device_turn(d, m->base);
    return true;
}

static void tell(struct merge *m, const char *event, const char *problem)
{
    struct vm_nodes *n = m->nodes;
    const uint64_t size = m->top->disk->facts.size;
    json_t *data =
        json_pack("{s:s,s:s,s:I,s:I,s:I}", "type", m->stream ? "stream" : "commit", "device", job_id(m->job),
                  "len", (json_int_t)size, "offset", (json_int_t)size, "speed", (json_int_t)m->speed);
    if (problem)
        json_object_set_new(data, "error", json_string(problem));
    n->ops.event(n->opaque, event, data);
}

static void give_nodes(struct merge *m)
{
    for (guint i = 0; i < m->taken->len; i++)
        ((struct vm_node *)m->taken->pdata[i])->job = NULL;
}

static bool finish(struct job *job, void *opaque, bool good, GError **error)
{
    struct merge *m = opaque;
    struct vm_device *d = vm_node_device_above(m->top);
    g_autoptr(GError) why = NULL;
    m->job = job; /* which may be before job_start() has returned */
    give_nodes(m);
    if (d) {
        block_root_close(d->root);
        if (m->watch.dirty || m->watch.ranges)
            block_root_watch(d->root, NULL);
    }
    bool done = good;
    if (good && m->active)
        done = d ? pivot(m, d, &why)
                 : hostel_fail(&why, HOSTEL_ERROR_USAGE, "the disk is not in the guest any more");
    else if (good)
        done = turn_backing(m, m->stream ? m->top : m->above, &why);
    give_target(m);
    if (d)
        block_root_open(d->root);
    if (done || m->failure || why)
        tell(m, "BLOCK_JOB_COMPLETED", why ? why->message : done ? NULL : m->failure);
    else
        tell(m, "BLOCK_JOB_CANCELLED", NULL);
    if (why)
        g_propagate_error(error, g_steal_pointer(&why));
    return done;
}

static bool complete(struct job *job, void *opaque, GError **error)
{
    (void)job;
    (void)error;
    atomic_store(&((struct merge *)opaque)->completing, true);
    return true;
}

static void drop(void *opaque)
{
    struct merge *m = opaque;
    give_target(m); /* of a job that did not begin */
    for (guint i = 0; i < m->taken->len; i++)
        vm_node_unref(m->taken->pdata[i]);
    g_ptr_array_unref(m->taken);
    g_ptr_array_remove(m->nodes->merges, m);
    fd_close(&m->readonly_fd);
    block_ranges_fini(&m->ranges);
    g_free((void *)(uintptr_t)m->dirty.bits);
    g_free(m->merge.buffer);
    g_free(m->backing);
    g_free(m->format);
    g_free(m->failure);
    g_free(m);
}

/* --- its beginning --- */

static struct merge *new_merge(struct vm_nodes *n, const struct vm_merge_request *r)
{
    struct merge *m = g_new0(struct merge, 1);
    m->nodes = n;
    m->taken = g_ptr_array_new();
    m->readonly_fd = -1;
    m->speed = r->speed;
    m->merge.buffer = g_malloc(BLOCK_MERGE_PIECE);
    block_ranges_init(&m->ranges);
    g_ptr_array_add(n->merges, m);
    return m;
}

/* Not yet a job. */
static bool give_up(struct merge *m)
{
    drop(m);
    return false;
}

static bool start_job(struct merge *m, struct jobs *jobs, const struct vm_merge_request *r,
                      struct vm_device *d, const struct job_ops *ops, GError **error)
{
    const char *id = r->id ? r->id : d ? d->id : r->device;
    const bool watched = d && (m->watch.dirty || m->watch.ranges);
    if (watched) {
        block_root_close(d->root);
        block_root_watch(d->root, &m->watch);
    }
    struct job *job = job_start(jobs, id, ops, m, error); /* which drops m when it fails */
    if (watched && !job)
        block_root_watch(d->root, NULL);
    if (watched)
        block_root_open(d->root);
    if (!job)
        return false;
    m->job = job;
    for (guint i = 0; i < m->taken->len; i++)
        ((struct vm_node *)m->taken->pdata[i])->job = job_id(job);
    return true;
}

static bool new_dirty(struct merge *m, GError **error)
{
    const uint64_t size = m->top->disk->facts.size;
    m->dirty.shift = DIRTY_SHIFT;
    while (size >> m->dirty.shift >= DIRTY_BITS_MAX)
        m->dirty.shift++;
    m->dirty_words = (size >> m->dirty.shift) / 64 + 1;
    m->dirty.bits = g_try_malloc0(m->dirty_words * sizeof(*m->dirty.bits));
    m->watch.dirty = &m->dirty;
    return m->dirty.bits || hostel_fail(error, HOSTEL_ERROR_HOST, "the host has not enough memory");
}

/* The base has room for all of the topmost. */
static bool grow_base(struct merge *m, struct vm_device *d, GError **error)
{
    const uint64_t size = m->top->disk->facts.size;
    if (m->base->disk->facts.size >= size)
        return true;
    if (d)
        block_root_close(d->root);
    int status = block_resize(m->base->disk, size);
    if (d)
        block_root_open(d->root);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "node '%s': cannot make it larger: %s",
                                  m->base->name, g_strerror(-status));
}

#define MERGE_OPS(kind, dismiss)                                                                             \
    {                                                                                                        \
        .type = (kind), .run = run, .finish = finish, .complete = complete, .drop = drop,                    \
        .auto_dismiss = (dismiss)                                                                            \
    }

static bool find_commit(struct merge *m, struct vm_node *head, const struct vm_merge_request *r,
                        GError **error)
{
    struct vm_nodes *n = m->nodes;
    m->top = r->top ? vm_nodes_lookup(n, r->top, error) : head;
    m->base = !m->top ? NULL : r->base ? vm_nodes_lookup(n, r->base, error) : lowest(head);
    if (!m->base)
        return false;
    m->merge.end = layers(m->top, m->base);
    m->merge.zeroes = true;
    if (!m->merge.end || (head != m->top && !layers(head, m->top)))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "node '%s' does not lie over '%s', in the chain of '%s'; query-block shows it",
                           m->top->name, m->base->name, head->name);
    for (m->above = m->top == head ? NULL : head; m->above && vm_node_backing(m->above) != m->top;)
        m->above = vm_node_backing(m->above);
    return true;
}

bool vm_node_commit(struct vm_nodes *n, struct jobs *jobs, const struct vm_merge_request *r, GError **error)
{
    static const struct job_ops kept = MERGE_OPS("commit", false), gone = MERGE_OPS("commit", true);
    struct vm_node *head = vm_nodes_lookup(n, r->device, error);
    AUTO_FD fd = r->fd;
    if (!head)
        return false;
    struct merge *m = new_merge(n, r);
    if (!find_commit(m, head, r, error))
        return give_up(m);
    struct vm_device *d = vm_node_device(head);
    m->active = !m->above;
    struct vm_node *first = m->above ? m->above : m->top;
    /* The image above is only told what it lies over. */
    if (!check_writable(m->base, fd, error) || !check_header(first, error) ||
        !take_nodes(m, first, m->base, error))
        return give_up(m);
    if (m->active && !m->top->driver->image->empty)
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "node '%s': images of format %s cannot be emptied, so only those "
                    "below can be merged",
                    m->top->name, m->top->driver->name);
    else if (m->active && !d)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "node '%s' is no disk of the guest; nothing is to be merged",
                    head->name);
    else if (read_backing(m, r, error) && (m->silent || check_writable(first, -1, error)) &&
             take_target(m, &fd, error) && grow_base(m, d, error) && (!m->active || new_dirty(m, error)))
        return start_job(m, jobs, r, d, r->keep ? &kept : &gone, error);
    return give_up(m);
}

bool vm_node_stream(struct vm_nodes *n, struct jobs *jobs, const struct vm_merge_request *r, GError **error)
{
    static const struct job_ops kept = MERGE_OPS("stream", false), gone = MERGE_OPS("stream", true);
    struct vm_node *top = vm_nodes_lookup(n, r->device, error);
    struct vm_node *base = top && r->base ? vm_nodes_lookup(n, r->base, error) : NULL;
    AUTO_FD fd = r->fd;
    if (!top || (r->base && !base))
        return false;
    struct merge *m = new_merge(n, r);
    m->stream = true;
    m->top = top;
    m->base = base;
    m->merge.first = 1;
    m->merge.end = base ? layers(top, base) : UINT_MAX;
    m->merge.zeroes = base != NULL;
    m->watch.ranges = &m->ranges;
    if (base && !m->merge.end)
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "node '%s' does not lie over '%s'; query-block shows the chain", top->name, base->name);
    else if (!vm_node_backing(top))
        hostel_fail(error, HOSTEL_ERROR_USAGE, "node '%s' lies over nothing, so there is nothing to copy",
                    top->name);
    else if (check_writable(top, fd, error) && check_header(top, error) && check_snapshots(top, error) &&
             take_nodes(m, top, base, error) && read_backing(m, r, error) && take_target(m, &fd, error))
        return start_job(m, jobs, r, vm_node_device(top), r->keep ? &kept : &gone, error);
    return give_up(m);
}

/* --- asked --- */

bool vm_node_job_speed(struct vm_nodes *n, const char *id, uint64_t speed, GError **error)
{
    for (guint i = 0; i < n->merges->len; i++) {
        struct merge *m = n->merges->pdata[i];
        if (m->job && !strcmp(job_id(m->job), id)) {
            atomic_store(&m->speed, speed);
            return true;
        }
    }
    qmp_fail(error, QMP_ERROR_DEVICE_NOT_ACTIVE, "no job '%s' works on a disk; query-block-jobs lists them",
             id);
    return false;
}

void vm_node_jobs_told(struct vm_nodes *n, const json_t *data)
{
    const char *id = json_string_value(json_object_get(data, "id"));
    const char *status = json_string_value(json_object_get(data, "status"));
    for (guint i = 0; id && status && !strcmp(status, "ready") && i < n->merges->len; i++) {
        struct merge *m = n->merges->pdata[i];
        if (m->job && !strcmp(job_id(m->job), id))
            tell(m, "BLOCK_JOB_READY", NULL);
    }
}

json_t *vm_node_jobs_json(struct vm_nodes *n, const struct jobs *jobs)
{
    json_t *out = json_array(), *all = jobs_json(jobs), *row;
    size_t i;
    json_array_foreach(all, i, row)
    {
        const char *id = json_string_value(json_object_get(row, "id"));
        for (guint k = 0; k < n->merges->len; k++) {
            const struct merge *m = n->merges->pdata[k];
            if (strcmp(job_id(m->job), id) != 0)
                continue;
            const char *status = job_status_names[job_status(m->job)];
            json_array_append_new(out, json_pack("{s:s,s:s,s:O,s:O,s:b,s:b,s:I,s:s,s:b,s:s,s:b,s:b}", "type",
                                                 m->stream ? "stream" : "commit", "device", id, "offset",
                                                 json_object_get(row, "current-progress"), "len",
                                                 json_object_get(row, "total-progress"), "busy",
                                                 !strcmp(status, "running"), "paused",
                                                 !strcmp(status, "paused"), "speed", (json_int_t)m->speed,
                                                 "io-status", "ok", "ready", !strcmp(status, "ready"),
                                                 "status", status, "auto-finalize", 1, "auto-dismiss", 1));
        }
    }
    json_decref(all);
    return out;
}
