/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What QMP tells about a guest's disks. */
#include "vm/nodes_int.h"

static json_t *number(uint64_t n)
{
    return json_integer((json_int_t)MIN(n, (uint64_t)INT64_MAX));
}

static const char *name_of_file(const struct vm_node *node)
{
    return node->place ? node->place : "";
}

/* [SnapshotInfo] of those inside the image; NULL = none. */
static json_t *snapshots_info(const struct vm_node *node)
{
    const struct block_image *image = node->driver->image;
    g_autoptr(GPtrArray) all = image && image->snapshots ? image->snapshots(node->disk, NULL) : NULL;
    if (!all || !all->len)
        return NULL;
    enum { NS = 1000000000 };
    json_t *out = json_array();
    for (guint i = 0; i < all->len; i++) {
        const struct block_snapshot *s = all->pdata[i];
        g_autofree char *id = g_utf8_make_valid(s->id, -1), *name = g_utf8_make_valid(s->name, -1);
        json_t *row = json_pack("{s:s,s:s,s:o,s:I,s:I,s:I,s:I}", "id", id, "name", name, "vm-state-size",
                                number(s->vm_state_size), "date-sec", (json_int_t)s->seconds, "date-nsec",
                                (json_int_t)s->nanoseconds, "vm-clock-sec", (json_int_t)(s->vm_clock / NS),
                                "vm-clock-nsec", (json_int_t)(s->vm_clock % NS));
        if (s->icount != UINT64_MAX)
            json_object_set_new(row, "icount", number(s->icount));
        json_array_append_new(out, row);
    }
    return out;
}

/* ImageInfo, with those below unless flat. */
static json_t *image_info(const struct vm_node *node, bool flat)
{
    json_t *out = json_pack("{s:s,s:s,s:o}", "filename", name_of_file(node), "format", node->driver->name,
                            "virtual-size", number(node->disk->facts.size));
    const struct vm_node *backing = vm_node_backing(node);
    if (node->disk->facts.cluster)
        json_object_set_new(out, "cluster-size", number(node->disk->facts.cluster));
    if (backing)
        json_object_set_new(out, "backing-filename", json_string(name_of_file(backing)));
    json_t *snapshots = snapshots_info(node);
    if (snapshots)
        json_object_set_new(out, "snapshots", snapshots);
    if (backing && !flat)
        json_object_set_new(out, "backing-image", image_info(backing, false));
    return out;
}

static void set_limit(json_t *out, const char *name, const struct block_limit *l, bool always)
{
    if (always)
        json_object_set_new(out, name, number(l->rate));
    if (!l->burst)
        return;
    g_autofree char *most = g_strdup_printf("%s_max", name);
    g_autofree char *length = g_strdup_printf("%s_max_length", name);
    json_object_set_new(out, most, number(l->burst));
    json_object_set_new(out, length, number(MAX(l->burst_seconds, 1)));
}

/* The limits of a device, none for other nodes. */
static void set_limits(json_t *out, const struct vm_device *d)
{
    static const struct block_throttle none;
    static const char *const bytes[] = {"bps", "bps_rd", "bps_wr"},
                             *operations[] = {"iops", "iops_rd", "iops_wr"};
    const struct block_throttle *t = d ? block_root_limits(d->root) : &none;
    for (unsigned i = 0; i < BLOCK_THROTTLES; i++) {
        set_limit(out, bytes[i], &t->bytes[i], true);
        set_limit(out, operations[i], &t->operations[i], true);
    }
    if (t->operation_bytes)
        json_object_set_new(out, "iops_size", number(t->operation_bytes));
}

/* [BlockdevChild] */
static json_t *children(const struct vm_node *node)
{
    json_t *out = json_array();
    const struct vm_link *const links[] = {node->file, node->backing};
    static const char *const names[] = {"file", "backing"};
    for (unsigned i = 0; i < G_N_ELEMENTS(links); i++)
        if (links[i] && links[i]->to)
            json_array_append_new(out,
                                  json_pack("{s:s,s:s}", "child", names[i], "node-name", links[i]->to->name));
    return out;
}

/* BlockDeviceInfo. */
static json_t *device_info(const struct vm_node *node, bool flat)
{
    const struct vm_node *backing = vm_node_backing(node);
    json_t *out = json_pack("{s:s,s:s,s:b,s:s,s:i,s:b,s:s,s:{s:b,s:b,s:b},s:i,s:o}", "file",
                            name_of_file(node), "node-name", node->name, "ro", node->disk->facts.readonly,
                            "drv", node->driver->name, "backing_file_depth", (int)vm_node_depth(node) - 1,
                            "encrypted", 0, "detect_zeroes", "off", "cache", "writeback", 1, "direct", 0,
                            "no-flush", 0, "write_threshold", 0, "image", image_info(node, flat));
    if (backing)
        json_object_set_new(out, "backing_file", json_string(name_of_file(backing)));
    json_object_set_new(out, "children", children(node));
    set_limits(out, vm_node_device(node));
    return out;
}

json_t *vm_nodes_query_named(struct vm_nodes *n, bool flat)
{
    json_t *out = json_array();
    for (guint i = 0; i < n->all->len; i++)
        json_array_append_new(out, device_info(n->all->pdata[i], flat));
    return out;
}

json_t *vm_nodes_query_block(struct vm_nodes *n)
{
    json_t *out = json_array();
    for (guint i = 0; i < n->devices->len; i++) {
        const struct vm_device *d = n->devices->pdata[i];
        const char *status = !d->io_error ? "ok" : d->trouble.no_space ? "nospace" : "failed";
        json_array_append_new(out, json_pack("{s:s,s:s,s:s,s:b,s:b,s:s,s:o}", "device", d->id, "qdev", d->id,
                                             "type", "unknown", "removable", 0, "locked", 0, "io-status",
                                             status, "inserted", device_info(d->node, false)));
    }
    return out;
}

static json_t *stats(const struct block_counts *c)
{
    static const char *const names[] = {"rd", "wr", "flush", "unmap"};
    json_t *out = json_object();
    for (unsigned i = 0; i < BLOCK_COUNTS; i++) {
        g_autofree char *operations = g_strdup_printf("%s_operations", names[i]);
        g_autofree char *ns = g_strdup_printf("%s_total_time_ns", names[i]);
        g_autofree char *failed = g_strdup_printf("failed_%s_operations", names[i]);
        g_autofree char *invalid = g_strdup_printf("invalid_%s_operations", names[i]);
        g_autofree char *bytes = g_strdup_printf("%s_bytes", names[i]);
        g_autofree char *merged = g_strdup_printf("%s_merged", names[i]);
        json_object_set_new(out, operations, number(c->kind[i].operations));
        json_object_set_new(out, ns, number(c->kind[i].ns));
        json_object_set_new(out, failed, number(c->kind[i].failed));
        json_object_set_new(out, invalid, json_integer(0));
        if (i == BLOCK_COUNT_FLUSH)
            continue;
        json_object_set_new(out, bytes, number(c->kind[i].bytes));
        json_object_set_new(out, merged, json_integer(0));
    }
    json_object_set_new(out, "wr_highest_offset", number(c->highest));
    json_object_set_new(out, "account_invalid", json_false());
    json_object_set_new(out, "account_failed", json_true());
    json_object_set_new(out, "timed_stats", json_array());
    return out;
}

json_t *vm_nodes_query_stats(struct vm_nodes *n)
{
    json_t *out = json_array();
    for (guint i = 0; i < n->devices->len; i++) {
        const struct vm_device *d = n->devices->pdata[i];
        struct block_counts counts;
        block_root_counts(d->root, &counts);
        json_array_append_new(out, json_pack("{s:s,s:s,s:s,s:o}", "device", d->id, "qdev", d->id, "node-name",
                                             d->node->name, "stats", stats(&counts)));
    }
    return out;
}
