/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The disks of a running guest while it writes: overlays, merges of both kinds and of every part of a chain,
 * holding still; all against a flat array of bytes. */
#include <string.h>
#include <unistd.h>

#include "../block/rig.h"
#include "block/filter/fault.h"
#include "block/pool.h"
#include "vm/node_jobs.h"
#include "vm/nodes_int.h"

enum { SIZE = 4 << 20, WRITERS = 3, STRIPE = 512, CLUSTER = 65536, IMAGES_MAX = 6 };

static bool slow(void)
{
    return g_getenv("HOSTEL_LONG") != NULL;
}

struct rig {
    struct vm_nodes *nodes;
    struct jobs *jobs;
    struct disk *root;
    GPtrArray *seen; /* of events' names and what they are about */
    unsigned made;   /* nodes */
    bool stopped;
};

static void on_event(void *opaque, const char *name, json_t *data)
{
    struct rig *g = opaque;
    const char *what = json_string_value(json_object_get(data, "error"));
    const char *action = json_string_value(json_object_get(data, "action"));
    g_ptr_array_add(g->seen, g_strdup_printf("%s %s", name, action ? action : what ? what : ""));
    json_decref(data);
}

static void on_stop(void *opaque)
{
    ((struct rig *)opaque)->stopped = true;
}

static bool saw(const struct rig *g, const char *what)
{
    for (guint i = 0; i < g->seen->len; i++)
        if (g_str_has_prefix(g->seen->pdata[i], what))
            return true;
    return false;
}

/* A qcow2 of its own over nothing, or as an image that lies over `over`. */
static struct vm_node *add(struct rig *g, struct vm_node *over, struct disk **fault)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup_printf("node%u", g->made++);
    const struct block_driver *driver = block_driver_find("qcow2");
    struct block_config file = {.name = name, .fd = rig_file(0)};
    rig_create(driver, file.fd, SIZE);
    struct disk *below = block_open(block_driver_find("file"), &file, &error);
    if (fault)
        below = *fault = block_fault_new(below);
    struct vm_link *link = vm_link_new(g->nodes, over);
    struct block_config config = {.name = name, .fd = -1, .file = below, .base = link->edge};
    struct disk *disk = block_open(driver, &config, &error);
    g_assert_no_error(error);
    struct vm_node *node = vm_node_new(g->nodes, name, driver, disk, link, NULL);
    node->added = true;
    return node;
}

static void rig_new(struct rig *g, struct disk **fault)
{
    static const struct vm_nodes_ops ops = {.event = on_event, .stop = on_stop};
    g_autoptr(GError) error = NULL;
    memset(g, 0, sizeof(*g));
    g->seen = g_ptr_array_new_with_free_func(g_free);
    g->nodes = vm_nodes_new(&ops, g);
    g->jobs = jobs_new(NULL, on_event, g, &error);
    struct vm_node *first = add(g, NULL, fault);
    g->root = vm_nodes_attach(g->nodes, "disk0", first->name, "report", "enospc", &error);
    g_assert_no_error(error);
}

static void rig_free(struct rig *g)
{
    jobs_free(g->jobs);
    vm_nodes_free(g->nodes);
    g_ptr_array_unref(g->seen);
}

static struct vm_node *top_of(struct rig *g)
{
    return vm_device_find(g->nodes, "disk0", NULL)->node;
}

static void snapshot(struct rig *g)
{
    g_autoptr(GError) error = NULL;
    struct vm_node *over = add(g, NULL, NULL);
    const struct vm_disk_switch s = {.disk = "disk0", .overlay = over->name};
    vm_disks_switch(g->nodes, &s, 1, &error);
    g_assert_no_error(error);
    g_assert_true(top_of(g) == over);
}

/* Lets the job go on to its end. The nodes that nothing lies on any more are deleted. */
static void finish(struct rig *g, bool complete)
{
    while (jobs_busy(g->jobs)) {
        struct job *job = jobs_find(g->jobs, "job", NULL);
        if (complete && job && job_status(job) == JOB_READY)
            job_complete(job, NULL);
        g_main_context_iteration(NULL, TRUE);
    }
    for (guint i = g->nodes->all->len; i-- > 0; i = MIN(i, g->nodes->all->len)) {
        const struct vm_node *node = g->nodes->all->pdata[i];
        if (!vm_node_parents(node))
            g_assert_true(vm_node_delete(g->nodes, node->name, NULL));
    }
}

static void must(bool ok, GError *error)
{
    g_assert_no_error(error);
    g_assert_true(ok);
}

static void commit(struct rig *g, const char *top, const char *base)
{
    g_autoptr(GError) error = NULL;
    const struct vm_merge_request r = {
        .fd = -1, .id = "job", .device = "disk0", .top = top, .base = base, .backing_file = "below.qcow2"};
    bool ok = vm_node_commit(g->nodes, g->jobs, &r, &error);
    must(ok, error);
}

static void stream(struct rig *g, const char *base)
{
    g_autoptr(GError) error = NULL;
    const struct vm_merge_request r = {
        .fd = -1, .id = "job", .device = "disk0", .base = base, .backing_file = base ? "below.qcow2" : NULL};
    bool ok = vm_node_stream(g->nodes, g->jobs, &r, &error);
    must(ok, error);
}

/* --- guests that write --- */

/* Each has every WRITERS-th stripe of the disk's first half for itself, and every WRITERS-th cluster of the
 * second, and checks what it reads there. */
struct writer {
    struct disk *root;
    unsigned number;
    uint32_t seed;
    uint8_t *flat; /* SIZE bytes, shared: no two have the same */
    _Atomic bool *end;
    _Atomic unsigned done;
    GThread *thread;
};

static void change_or_check(struct writer *w, GRand *rand, int what, uint64_t offset, uint64_t size)
{
    g_autofree uint8_t *bytes = g_malloc(size);
    int status;
    if (what < 5) {
        memset(w->flat + offset, (int)g_rand_int(rand), size);
        memcpy(bytes, w->flat + offset, size);
        status = block_pwrite(w->root, bytes, size, offset);
    } else if (what < 6) {
        memset(w->flat + offset, 0, size);
        status = block_zero(w->root, offset, size, g_rand_boolean(rand) ? BLOCK_MAY_UNMAP : 0);
    } else {
        status = block_pread(w->root, bytes, size, offset);
        g_assert_cmpmem(bytes, size, w->flat + offset, size);
    }
    g_assert_cmpint(status, ==, 0);
}

static void some_stripes(struct writer *w, GRand *rand, int what)
{
    const uint64_t stripes = SIZE / 2 / STRIPE / WRITERS;
    uint64_t at = (uint64_t)g_rand_int_range(rand, 0, (gint32)stripes);
    for (int i = g_rand_int_range(rand, 1, 24); i && at < stripes; i--, at++)
        change_or_check(w, rand, what, (at * WRITERS + w->number) * STRIPE, STRIPE);
}

static void some_of_a_cluster(struct writer *w, GRand *rand, int what)
{
    const int clusters = SIZE / 2 / CLUSTER / WRITERS, sectors = CLUSTER / 512;
    const uint64_t at =
        SIZE / 2 + ((uint64_t)g_rand_int_range(rand, 0, clusters) * WRITERS + w->number) * CLUSTER;
    const int from = what == 5 ? 0 : g_rand_int_range(rand, 0, sectors);
    const int to = what == 5 ? sectors : g_rand_int_range(rand, from + 1, sectors + 1);
    change_or_check(w, rand, what, at + (uint64_t)from * 512, (uint64_t)(to - from) * 512);
}

static gpointer write_on(gpointer opaque)
{
    struct writer *w = opaque;
    GRand *rand = g_rand_new_with_seed(w->seed);
    while (!atomic_load(w->end)) {
        const int what = g_rand_int_range(rand, 0, 10);
        (g_rand_boolean(rand) ? some_stripes : some_of_a_cluster)(w, rand, what);
        if (what == 9)
            g_assert_cmpint(block_flush(w->root), ==, 0);
        w->done++;
    }
    g_rand_free(rand);
    return NULL;
}

struct writers {
    struct writer writer[WRITERS];
    uint8_t *flat;
    _Atomic bool end;
};

static void writers_begin(struct writers *w, struct disk *root)
{
    memset(w, 0, sizeof(*w));
    w->flat = g_malloc0(SIZE);
    for (unsigned i = 0; i < WRITERS; i++) {
        w->writer[i] = (struct writer){
            .root = root, .number = i, .seed = (uint32_t)g_test_rand_int(), .flat = w->flat, .end = &w->end};
        w->writer[i].thread = g_thread_new("writer", write_on, &w->writer[i]);
    }
}

static void assert_flat(struct disk *b, const uint8_t *flat)
{
    g_autofree uint8_t *bytes = g_malloc(SIZE);
    g_assert_cmpint(block_pread(b, bytes, SIZE, 0), ==, 0);
    for (unsigned i = 0; i < SIZE; i++)
        if (bytes[i] != flat[i])
            g_error("byte %u is %#x, not %#x", i, bytes[i], flat[i]);
}

static void writers_end(struct writers *w, struct disk *root)
{
    atomic_store(&w->end, true);
    for (unsigned i = 0; i < WRITERS; i++) {
        g_thread_join(w->writer[i].thread);
        g_assert_cmpuint(w->writer[i].done, >, 0);
    }
    assert_flat(root, w->flat);
    g_free(w->flat);
}

/* Lets the guests do something. */
static void let(struct writers *w, unsigned operations)
{
    const unsigned before = w->writer[0].done;
    while (w->writer[0].done - before < operations)
        g_thread_yield();
}

/* --- under load --- */

static void test_switch(void)
{
    struct rig g;
    struct writers w;
    rig_new(&g, NULL);
    writers_begin(&w, g.root);
    for (unsigned i = 1; i < IMAGES_MAX; i++) {
        let(&w, 20);
        snapshot(&g);
    }
    let(&w, 20);
    writers_end(&w, g.root);
    g_assert_cmpuint(vm_node_depth(top_of(&g)), ==, IMAGES_MAX);
    rig_free(&g);
}

static struct vm_node *nth(struct rig *g, unsigned n)
{
    struct vm_node *node = top_of(g);
    while (n--)
        node = vm_node_backing(node);
    return node;
}

/* One merge of some part of the chain, chosen by chance; or another overlay; or a pause. */
static void some_change(struct rig *g)
{
    const unsigned depth = vm_node_depth(top_of(g));
    const bool cancel = !g_test_rand_int_range(0, 5);
    const unsigned top = (unsigned)g_test_rand_int_range(0, (gint32)depth);
    const unsigned base = (unsigned)g_test_rand_int_range((gint32)top, (gint32)depth);
    if (depth < 2 || (depth < IMAGES_MAX && !g_test_rand_int_range(0, 2))) {
        snapshot(g);
        return;
    }
    if (base > top && g_test_rand_bit())
        commit(g, nth(g, top)->name, nth(g, base)->name);
    else
        stream(g, base > 0 && base < depth && g_test_rand_bit() ? nth(g, MAX(base, 1))->name : NULL);
    if (cancel)
        job_cancel(jobs_find(g->jobs, "job", NULL), NULL);
    finish(g, true);
}

static void test_merges(void)
{
    struct rig g;
    struct writers w;
    rig_new(&g, NULL);
    writers_begin(&w, g.root);
    for (unsigned i = 0; i < (slow() ? 400 : 40); i++) {
        let(&w, 5);
        some_change(&g);
        if (i % 8 == 7) {
            vm_disks_hold(g.nodes);
            vm_disks_release(g.nodes);
        }
    }
    writers_end(&w, g.root);
    /* And the images by themselves. */
    g_assert_cmpint(block_flush(g.root), ==, 0);
    for (struct vm_node *at = top_of(&g); at; at = vm_node_backing(at)) {
        g_autoptr(GError) error = NULL;
        struct block_check check = {0};
        at->driver->image->check(at->disk, 0, &check, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(check.corruptions, ==, 0);
    }
    rig_free(&g);
}

/* --- step by step --- */

static void fill(struct rig *g, uint64_t offset, uint64_t size, int value)
{
    g_autofree uint8_t *bytes = g_malloc(size);
    memset(bytes, value, size);
    g_assert_cmpint(block_pwrite(g->root, bytes, size, offset), ==, 0);
}

static void assert_filled(struct disk *b, uint64_t offset, uint64_t size, int value)
{
    g_autofree uint8_t *bytes = g_malloc(size);
    g_assert_cmpint(block_pread(b, bytes, size, offset), ==, 0);
    for (uint64_t i = 0; i < size; i++)
        g_assert_cmpint(bytes[i], ==, value);
}

/* The topmost is merged: it is empty afterwards, so whoever opens it sees the base. */
static void test_active(void)
{
    struct rig g;
    rig_new(&g, NULL);
    struct vm_node *base = top_of(&g);
    fill(&g, 0, 65536, 1);
    fill(&g, 65536, 65536, 2);
    snapshot(&g);
    struct vm_node *over = vm_node_ref(top_of(&g));
    fill(&g, 65536, 65536, 3);
    commit(&g, NULL, NULL);
    while (job_status(jobs_find(g.jobs, "job", NULL)) != JOB_READY)
        g_main_context_iteration(NULL, TRUE);
    fill(&g, 131072, 4096, 4); /* after all was copied */
    g_assert_cmpint(block_zero(g.root, 0, 4096, BLOCK_MAY_UNMAP), ==, 0);
    g_autoptr(GError) error = NULL;
    const struct vm_disk_switch again = {.disk = "disk0", .overlay = over->name};
    g_assert_false(vm_disks_switch(g.nodes, &again, 1, &error)); /* a job has it */
    g_assert_true(strstr(error->message, "job") != NULL);
    finish(&g, true);
    g_assert_true(top_of(&g) == base);
    struct disk *const both[] = {g.root, over->disk};
    for (unsigned i = 0; i < 2; i++) {
        assert_filled(both[i], 0, 4096, 0);
        assert_filled(both[i], 4096, 61440, 1);
        assert_filled(both[i], 65536, 65536, 3);
        assert_filled(both[i], 131072, 4096, 4);
    }
    fill(&g, 0, 4096, 9);
    assert_filled(over->disk, 0, 4096, 9);
    g_assert_true(saw(&g, "BLOCK_JOB_COMPLETED"));
    vm_node_unref(over);
    rig_free(&g);
}

/* A base that finds no room: the job fails, the chain is as it was. */
static void test_full_base(void)
{
    struct rig g;
    struct disk *fault;
    rig_new(&g, &fault);
    fill(&g, 0, 65536, 1);
    snapshot(&g);
    fill(&g, 0, SIZE / 2, 2);
    block_fault_set(fault, BLOCK_FAULT_WRITE, 1, 1, -ENOSPC,
                    0); /* of data; of metadata it would be the end */
    commit(&g, NULL, NULL);
    finish(&g, true);
    g_assert_true(saw(&g, "BLOCK_JOB_COMPLETED No space"));
    g_assert_cmpuint(vm_node_depth(top_of(&g)), ==, 2);
    assert_filled(g.root, 0, SIZE / 2, 2);
    block_fault_set(fault, BLOCK_FAULT_WRITE, 0, 0, 0, 0);
    commit(&g, NULL, NULL);
    finish(&g, true);
    g_assert_cmpuint(vm_node_depth(top_of(&g)), ==, 1);
    assert_filled(g.root, 0, SIZE / 2, 2);
    rig_free(&g);
}

struct deep {
    struct block_job job;
    struct disk *root;
    int status;
};

static void read_deep(struct block_job *job)
{
    struct deep *d = (struct deep *)(void *)job;
    static uint8_t bytes[BLOCK_IOV_MAX * 512];
    struct iovec iov[BLOCK_IOV_MAX];
    for (unsigned i = 0; i < BLOCK_IOV_MAX; i++)
        iov[i] = (struct iovec){bytes + 512 * i, 512};
    d->status = block_read(d->root, iov, BLOCK_IOV_MAX, 0, 0);
}

/* A chain as long as may be is read through to its end by a thread of a disk; a longer one is not made. */
static void test_deep(void)
{
    struct rig g;
    g_autoptr(GError) error = NULL;
    rig_new(&g, NULL);
    AUTO(block_pool) pool = block_pool_new(1, &error);
    while (vm_node_depth(top_of(&g)) < VM_CHAIN_MAX)
        snapshot(&g);
    const struct vm_disk_switch s = {.disk = "disk0", .overlay = add(&g, NULL, NULL)->name};
    g_assert_false(vm_disks_switch(g.nodes, &s, 1, &error));
    g_assert_true(strstr(error->message, "block-commit") != NULL);
    struct deep deep = {.job.run = read_deep, .root = g.root, .status = 1};
    block_pool_submit(pool, &deep.job);
    block_pool_drain(pool);
    g_assert_cmpint(deep.status, ==, 0);
    rig_free(&g);
}

static enum block_verdict fail(struct rig *g, int status)
{
    const struct block_trouble t = block_root_judge(g->root, true, status);
    block_root_tell(g->root, &t);
    return t.verdict;
}

/* An error that stops the guest is told, and only then; what stopped it is known until it goes on. */
static void test_trouble(void)
{
    struct rig g;
    rig_new(&g, NULL);
    g_assert_cmpint(fail(&g, -EIO), ==, BLOCK_VERDICT_REPORT);
    g_assert_cmpint(fail(&g, -EINVAL), ==, BLOCK_VERDICT_REPORT);
    g_assert_cmpint(fail(&g, -ENOSPC), ==, BLOCK_VERDICT_KEEP);
    while (!g.stopped)
        g_main_context_iteration(NULL, TRUE);
    g_assert_true(saw(&g, "BLOCK_IO_ERROR stop"));
    g_assert_true(vm_nodes_io_error(g.nodes));
    vm_nodes_again(g.nodes);
    g_assert_false(vm_nodes_io_error(g.nodes));
    rig_free(&g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nodes/switch", test_switch);
    g_test_add_func("/nodes/merges", test_merges);
    g_test_add_func("/nodes/active", test_active);
    g_test_add_func("/nodes/full-base", test_full_base);
    g_test_add_func("/nodes/deep", test_deep);
    g_test_add_func("/nodes/trouble", test_trouble);
    return g_test_run();
}
