/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The graph of a guest's disks: nodes, links, devices, and what becomes of errors. */
#include <string.h>

#include "base/error.h"
#include "block/filter/edge.h"
#include "control/qmp.h"
#include "vm/nodes_int.h"

enum { QUIET_US = G_USEC_PER_SEC };

/* --- nodes --- */

struct vm_node *vm_node_find(struct vm_nodes *n, const char *name)
{
    for (guint i = 0; i < n->all->len; i++) {
        struct vm_node *node = n->all->pdata[i];
        if (!strcmp(node->name, name))
            return node;
    }
    return NULL;
}

bool vm_node_name_check(struct vm_nodes *n, const char *name, GError **error)
{
    if (!*name || strlen(name) > VM_NODE_NAME_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "node-name: must have 1 to %d characters",
                           VM_NODE_NAME_MAX);
    for (const char *c = name; *c; c++)
        if (!g_ascii_isalnum(*c) && (c == name || !strchr("-._", *c)))
            return hostel_fail(
                error, HOSTEL_ERROR_USAGE,
                "node-name '%s': has something else than letters, digits, '-', '.' and '_', or "
                "begins with one of these",
                name);
    if (vm_node_find(n, name))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is a node '%s' already; choose another name",
                           name);
    for (guint i = 0; i < n->devices->len; i++)
        if (!strcmp(((struct vm_device *)n->devices->pdata[i])->id, name))
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is a device '%s'; choose another name",
                               name);
    return n->all->len < VM_NODES_MAX ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "there are %d nodes, which is the most", VM_NODES_MAX);
}

struct vm_node *vm_node_new(struct vm_nodes *n, const char *name, const struct block_driver *driver,
                            struct disk *disk, struct vm_link *backing, struct vm_link *file)
{
    struct vm_node *node = g_new0(struct vm_node, 1);
    *node = (struct vm_node){.nodes = n,
                             .name = g_strdup(name),
                             .driver = driver,
                             .disk = disk,
                             .backing = backing,
                             .file = file,
                             .refs = 1};
    if (backing)
        backing->from = node;
    if (file)
        file->from = node;
    g_ptr_array_add(n->all, node);
    return node;
}

struct vm_node *vm_node_ref(struct vm_node *node)
{
    node->refs++;
    return node;
}

void vm_node_unref(struct vm_node *node)
{
    if (!node || --node->refs)
        return;
    g_ptr_array_remove(node->nodes->all, node);
    block_free(node->disk); /* and with its edges, what it lies on */
    g_free(node->name);
    g_free(node->place);
    g_free(node);
}

/* --- links --- */

static void link_gone(void *opaque)
{
    struct vm_link *link = opaque;
    vm_node_unref(link->to);
    g_free(link);
}

struct vm_link *vm_link_new(struct vm_nodes *n, struct vm_node *to)
{
    (void)n;
    struct vm_link *link = g_new0(struct vm_link, 1);
    link->to = to ? vm_node_ref(to) : NULL;
    link->edge = block_edge_new(to ? to->name : "nothing", to ? to->disk : NULL, link_gone, link);
    return link;
}

void vm_link_turn(struct vm_link *link, struct vm_node *to)
{
    struct vm_node *before = link->to;
    link->to = to ? vm_node_ref(to) : NULL;
    block_edge_turn(link->edge, to ? to->disk : NULL);
    vm_node_unref(before);
}

struct vm_node *vm_node_backing(const struct vm_node *node)
{
    return node->backing ? node->backing->to : NULL;
}

unsigned vm_node_depth(const struct vm_node *node)
{
    unsigned depth = 0;
    for (; node; node = vm_node_backing(node))
        depth++;
    return depth;
}

struct vm_device *vm_node_device(const struct vm_node *node)
{
    for (guint i = 0; i < node->nodes->devices->len; i++) {
        struct vm_device *d = node->nodes->devices->pdata[i];
        if (d->node == node)
            return d;
    }
    return NULL;
}

struct vm_device *vm_node_device_above(const struct vm_node *node)
{
    for (guint i = 0; i < node->nodes->devices->len; i++) {
        struct vm_device *d = node->nodes->devices->pdata[i];
        for (const struct vm_node *at = d->node; at; at = vm_node_backing(at))
            if (at == node)
                return d;
    }
    return NULL;
}

unsigned vm_node_parents(const struct vm_node *node)
{
    return node->refs - node->added;
}

bool vm_node_check_free(const struct vm_node *node, const char *what, GError **error)
{
    if (node->nodes->busy)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "cannot %s node '%s': %s", what, node->name,
                           node->nodes->busy);
    return !node->job || hostel_fail(error, HOSTEL_ERROR_USAGE,
                                     "cannot %s node '%s': the job '%s' works on it; wait for its end, or "
                                     "cancel it",
                                     what, node->name, node->job);
}

/* --- devices --- */

struct vm_device *vm_device_find(struct vm_nodes *n, const char *id, GError **error)
{
    for (guint i = 0; i < n->devices->len; i++) {
        struct vm_device *d = n->devices->pdata[i];
        if (!strcmp(d->id, id) || !strcmp(d->node->name, id))
            return d;
    }
    qmp_fail(error, QMP_ERROR_DEVICE_NOT_FOUND,
             "there is no disk '%s': neither a device of that id nor one on a node of that name; query-block "
             "lists them",
             id);
    return NULL;
}

struct vm_node *vm_nodes_lookup(struct vm_nodes *n, const char *id, GError **error)
{
    struct vm_node *node = vm_node_find(n, id);
    if (node)
        return node;
    struct vm_device *d = vm_device_find(n, id, NULL);
    if (d)
        return d->node;
    qmp_fail(
        error, QMP_ERROR_DEVICE_NOT_FOUND,
        "there is no node '%s', and no disk of that id; query-named-block-nodes and query-block list them",
        id);
    return NULL;
}

void vm_device_turn(struct vm_device *d, struct vm_node *node)
{
    struct vm_node *before = d->node;
    d->node = vm_node_ref(node);
    block_root_turn(d->root, node->disk);
    vm_node_unref(before);
}

static void device_free(gpointer device)
{
    struct vm_device *d = device;
    block_free(d->root);
    vm_node_unref(d->node);
    g_free(d->id);
    g_free(d);
}

/* --- errors --- */

struct trouble_source {
    GSource base;
    struct vm_nodes *nodes;
};

/* On the thread that failed. */
static void on_trouble(void *opaque, const struct block_trouble *t)
{
    struct vm_device *d = opaque;
    struct vm_nodes *n = d->nodes;
    pthread_mutex_lock(&n->lock);
    if (!d->stop) { /* what stops the guest is told first */
        d->trouble = *t;
        d->stop = t->verdict == BLOCK_VERDICT_KEEP;
    }
    d->troubled = true;
    pthread_mutex_unlock(&n->lock);
    g_source_set_ready_time(n->trouble_source, 0);
}

static const char *action_of(enum block_verdict verdict)
{
    switch (verdict) {
    case BLOCK_VERDICT_KEEP: return "stop";
    case BLOCK_VERDICT_IGNORE: return "ignore";
    case BLOCK_VERDICT_RETRY: return "x-wait";
    default: return "report";
    }
}

static void tell(struct vm_device *d, const struct block_trouble *t)
{
    struct vm_nodes *n = d->nodes;
    const int64_t now = g_get_monotonic_time();
    if (t->verdict != BLOCK_VERDICT_KEEP && now < d->quiet_until)
        return;
    d->quiet_until = now + QUIET_US;
    d->io_error |= t->verdict == BLOCK_VERDICT_KEEP;
    n->ops.event(n->opaque, "BLOCK_IO_ERROR",
                 json_pack("{s:s,s:s,s:s,s:s,s:b,s:s}", "device", d->id, "node-name", d->node->name,
                           "operation", t->write ? "write" : "read", "action", action_of(t->verdict),
                           "nospace", t->no_space, "reason", g_strerror(-t->status)));
}

static gboolean serve_trouble(GSource *base, GSourceFunc callback G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
    struct vm_nodes *n = ((struct trouble_source *)(void *)base)->nodes;
    bool stop = false;
    g_source_set_ready_time(base, -1);
    for (guint i = 0; i < n->devices->len; i++) {
        struct vm_device *d = n->devices->pdata[i];
        pthread_mutex_lock(&n->lock);
        const bool troubled = d->troubled;
        const struct block_trouble t = d->trouble;
        stop |= d->stop;
        d->troubled = d->stop = false;
        pthread_mutex_unlock(&n->lock);
        if (troubled)
            tell(d, &t);
    }
    if (stop)
        n->ops.stop(n->opaque);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs trouble_funcs = {.dispatch = serve_trouble};

void vm_nodes_again(struct vm_nodes *n)
{
    for (guint i = 0; i < n->devices->len; i++) {
        struct vm_device *d = n->devices->pdata[i];
        d->io_error = false;
        block_root_again(d->root);
    }
}

bool vm_nodes_io_error(const struct vm_nodes *n)
{
    for (guint i = 0; i < n->devices->len; i++)
        if (((const struct vm_device *)n->devices->pdata[i])->io_error)
            return true;
    return false;
}

/* --- life --- */

struct vm_nodes *vm_nodes_new(const struct vm_nodes_ops *ops, void *opaque)
{
    struct vm_nodes *n = g_new0(struct vm_nodes, 1);
    n->ops = *ops;
    n->opaque = opaque;
    n->all = g_ptr_array_new();
    n->devices = g_ptr_array_new_with_free_func(device_free);
    n->merges = g_ptr_array_new();
    pthread_mutex_init(&n->lock, NULL);
    n->trouble_source = g_source_new(&trouble_funcs, sizeof(struct trouble_source));
    ((struct trouble_source *)(void *)n->trouble_source)->nodes = n;
    g_source_attach(n->trouble_source, NULL);
    return n;
}

void vm_nodes_free(struct vm_nodes *n)
{
    if (!n)
        return;
    g_ptr_array_unref(n->devices);
    /* What blockdev-add made; one may lie on another, and goes with it then. */
    for (guint i = n->all->len; i-- > 0; i = MIN(i, n->all->len)) {
        struct vm_node *node = n->all->pdata[i];
        if (!node->added)
            continue;
        node->added = false;
        vm_node_unref(node);
    }
    g_ptr_array_unref(n->all);
    g_ptr_array_unref(n->merges);
    g_source_destroy(n->trouble_source);
    g_source_unref(n->trouble_source);
    pthread_mutex_destroy(&n->lock);
    g_free(n);
}

static bool find_policies(const char *rerror, const char *werror, enum block_policy *reading,
                          enum block_policy *writing, GError **error)
{
    *reading = BLOCK_REPORT;
    *writing = BLOCK_WAIT;
    if (werror && !block_policy_find(werror, writing))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "werror=%s: must be wait, enospc, stop, report or ignore", werror);
    return !rerror || block_policy_find(rerror, reading) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "rerror=%s: must be report, stop or ignore", rerror);
}

struct disk *vm_nodes_attach(struct vm_nodes *n, const char *id, const char *name, const char *rerror,
                             const char *werror, GError **error)
{
    enum block_policy reading, writing;
    struct vm_node *node = vm_nodes_lookup(n, name, error);
    if (!node || !find_policies(rerror, werror, &reading, &writing, error))
        return NULL;
    if (vm_node_parents(node)) {
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "node '%s' is in use: a disk or another image lies on it; use one of its own", name);
        return NULL;
    }
    if (vm_device_find(n, id, NULL)) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "there is a disk '%s' already; choose another id", id);
        return NULL;
    }
    struct vm_device *d = g_new0(struct vm_device, 1);
    d->nodes = n;
    d->id = g_strdup(id);
    d->node = vm_node_ref(node);
    d->root = block_root_new(node->disk->name, node->disk); /* people know it by its file */
    block_root_policy(d->root, reading, writing, on_trouble, d);
    g_ptr_array_add(n->devices, d);
    return d->root;
}

void vm_nodes_detach(struct vm_nodes *n, struct disk *root)
{
    for (guint i = 0; i < n->devices->len; i++)
        if (((struct vm_device *)n->devices->pdata[i])->root == root) {
            g_ptr_array_remove_index(n->devices, i);
            return;
        }
}
