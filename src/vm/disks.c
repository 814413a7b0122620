/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* From options to a guest's disks: images opened over the descriptors that were handed in. */
#include <errno.h>
#include <string.h>
#include <sys/param.h>
#include <unistd.h>

#include "base/error.h"
#include "block/block.h"
#include "os/fd.h"
#include "vm/functions.h"
#include "vm/nodes_int.h"

/* The longest serial number a virtio disk can tell; the longest passphrase; bytes. */
enum { DISK_SERIAL_MAX = 20, DISK_KEY_MAX = 64 * 1024 };

/* What an image refers to comes from the list of files, which is in the order of asking. */
struct handed {
    struct block_refs refs;
    struct option_list *files;
    const struct option_list *layers;
    unsigned disk; /* from 1 */
    unsigned next; /* in the list */
    struct vm_nodes *nodes;
    const char *id;       /* of the device */
    unsigned depth;       /* images of the chain that are being opened, or open */
    struct vm_link *link; /* to the last that was opened, until its overlay is */
};

/* What an image lies over becomes a node, and the image gets a link to it. */
static struct disk *new_backing(struct handed *h, const struct block_driver *driver, struct disk *disk,
                                unsigned depth, const char *place)
{
    g_autofree char *name = g_strdup_printf("%s-base%u", h->id, depth);
    struct vm_node *node = vm_node_new(h->nodes, name, driver, disk, STEAL(h->link), NULL);
    node->place = g_strdup(place);
    h->link = vm_link_new(h->nodes, node);
    vm_node_unref(node); /* the link has it */
    return h->link->edge;
}

static const struct block_driver *find_format(const char *key, const char *name, GError **error)
{
    const struct block_driver *driver = block_driver_find(name);
    if (driver && driver->kind == BLOCK_FORMAT)
        return driver;
    g_autofree char *names = block_driver_names();
    hostel_fail(error, HOSTEL_ERROR_USAGE, "%s=%s: there is no such format; there are: %s", key, name, names);
    return NULL;
}

static struct disk_file_options *next_file(struct handed *h, const char *reference)
{
    struct disk_file_options *files = h->files->items;
    for (; h->next < h->files->count; h->next++)
        if (files[h->next].disk == h->disk)
            return strcmp(files[h->next].reference, reference) ? NULL : &files[h->next++];
    return NULL;
}

static struct disk *open_handed(struct block_refs *refs, enum block_ref what, const char *reference,
                                const char *format, bool readonly, GError **error)
{
    struct handed *h = (struct handed *)(void *)refs;
    struct disk_file_options *file = next_file(h, reference);
    if (!file) {
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "the image refers to %s, and an image opens no file by itself; add follow=any to allow "
                    "what it names%s",
                    reference, what == BLOCK_REF_BACKING ? ", or name its backing file with base=" : "");
        return NULL;
    }
    const struct block_driver *driver =
        what == BLOCK_REF_DATA ? block_driver_find("file")
                               : find_format("the format of a backing file", format ? format : "", error);
    struct block_config config = {
        .name = file->file.name, .fd = fd_steal(&file->file.fd), .readonly = readonly, .refs = refs};
    const unsigned depth = what == BLOCK_REF_BACKING ? ++h->depth : 0;
    struct disk *b = driver ? block_open(driver, &config, error) : NULL;
    fd_close(&config.fd);
    return b && depth ? new_backing(h, driver, b, depth, file->file.name) : b;
}

/* The passphrase, without the end of its line. */
static bool read_key(struct option_file *file, GString *key, GError **error)
{
    if (!file->name)
        return true;
    g_string_set_size(key, DISK_KEY_MAX);
    ssize_t n = pread(file->fd, key->str, DISK_KEY_MAX, 0);
    if (n <= 0 || n == DISK_KEY_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "key=%s: holds no passphrase of 1 to %d bytes",
                           file->name, DISK_KEY_MAX - 1);
    g_string_set_size(key, (gsize)n - (key->str[n - 1] == '\n'));
    fd_close(&file->fd);
    return true;
}

static void free_key(GString *key)
{
    explicit_bzero(key->str, key->allocated_len);
    g_string_free(key, TRUE);
}

static struct disk *open_base(struct disk_options *o, struct handed *h, GError **error)
{
    const struct block_driver *driver = find_format("base-format", o->base_format, error);
    struct block_config base = {
        .name = o->base.name, .fd = fd_steal(&o->base.fd), .readonly = true, .refs = &h->refs};
    const unsigned depth = ++h->depth;
    struct disk *b = driver ? block_open(driver, &base, error) : NULL;
    fd_close(&base.fd);
    return b ? new_backing(h, driver, b, depth, o->base.name) : NULL;
}

/* The node that the device has. */
static struct vm_node *new_image(struct handed *h, const struct block_driver *driver, struct disk *disk,
                                 const char *place)
{
    g_autofree char *name = g_strdup_printf("%s-image", h->id);
    struct vm_node *node = vm_node_new(h->nodes, name, driver, disk, STEAL(h->link), NULL);
    node->place = g_strdup(place);
    return node;
}

/* --- layers --- */

/* The next --disk-layer of this disk at or behind *at; NULL = there is none. */
static struct disk_layer_options *next_layer(const struct handed *h, unsigned *at)
{
    struct disk_layer_options *layers = h->layers->items;
    for (; *at < h->layers->count; ++*at)
        if (layers[*at].disk == h->disk)
            return &layers[(*at)++];
    return NULL;
}

static bool has_layers(const struct handed *h)
{
    unsigned at = 0;
    return next_layer(h, &at) != NULL;
}

/* Takes the image, which is only read from now on. The last layer is the device's node. */
static struct vm_node *open_layers(struct handed *h, const struct block_driver *driver, struct disk *disk,
                                   const char *place, GError **error)
{
    const struct block_driver *qcow2 = block_driver_find("qcow2");
    unsigned at = 0;
    struct disk_layer_options *layer = next_layer(h, &at), *above;
    for (; disk && layer; layer = above) {
        above = next_layer(h, &at);
        struct block_config config = {.name = layer->file.name,
                                      .fd = fd_steal(&layer->file.fd),
                                      .readonly = above != NULL,
                                      .base = new_backing(h, driver, disk, ++h->depth, place)};
        disk = block_open(qcow2, &config, error);
        fd_close(&config.fd);
        driver = qcow2;
        place = layer->file.name;
    }
    return disk ? new_image(h, driver, disk, place) : NULL;
}

static struct vm_node *open_image(struct disk_options *o, struct handed *h, const GString *key,
                                  GError **error)
{
    const struct block_driver *driver = find_format("format", o->format, error);
    if (!driver)
        return NULL;
    struct block_config config = {.name = o->file.name,
                                  .fd = fd_steal(&o->file.fd),
                                  .readonly = o->readonly || has_layers(h),
                                  .refs = &h->refs,
                                  .key = o->key.name ? (const uint8_t *)key->str : NULL,
                                  .key_size = key->len};
    struct disk *disk = NULL;
    if (!o->base.name || (config.base = open_base(o, h, error)))
        disk = block_open(driver, &config, error);
    fd_close(&config.fd);
    return disk ? open_layers(h, driver, disk, o->file.name, error) : NULL;
}

/* The image, and the device's root over it; NULL with *error. */
static struct disk *open_disk(struct vm *vm, struct guest_options *options, unsigned i, GError **error)
{
    struct disk_options *o = (struct disk_options *)options->disks.items + i;
    const char *id = o->id;
    struct handed handed = {.refs = {.open = open_handed},
                            .files = &options->disk_files,
                            .layers = &options->disk_layers,
                            .disk = i + 1,
                            .nodes = vm->nodes,
                            .id = id};
    GString *key = g_string_new(NULL);
    struct vm_node *node = NULL;
    if (o->serial && strlen(o->serial) > DISK_SERIAL_MAX)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "serial=%s: has more than %d characters", o->serial,
                    DISK_SERIAL_MAX);
    else if (vm_node_name_check(vm->nodes, id, error) && read_key(&o->key, key, error))
        node = open_image(o, &handed, key, error);
    free_key(key);
    if (node)
        node->added = true; /* ours, until the device has it */
    struct disk *root = node ? vm_nodes_attach(vm->nodes, id, node->name, o->rerror, o->werror, error) : NULL;
    if (node)
        node->added = false;
    vm_node_unref(node);
    if (!root)
        g_prefix_error(error, "--disk ");
    return root;
}

/* A queue for each vCPU, within reason. */
static const struct device_value *disk_values(unsigned vcpus)
{
    static const struct device_value by_queues[][2] = {
        {{"queues", 1}, {0}}, {{"queues", 2}, {0}}, {{"queues", 3}, {0}}, {{"queues", 4}, {0}}};
    return by_queues[MIN(vcpus, G_N_ELEMENTS(by_queues)) - 1];
}

/* --- the graph's guest --- */

static void on_event(void *opaque, const char *name, json_t *data)
{
    vm_event(opaque, name, data);
}

static void on_error(void *opaque)
{
    struct vm *vm = opaque;
    vm_pause(vm);
    vm->paused_as = "io-error";
}

static void set_limits(struct disk *root, const struct disk_options *o)
{
    const struct block_throttle limits = {
        .bytes = {{.rate = o->bps}, {.rate = o->bps_read}, {.rate = o->bps_write}},
        .operations = {{.rate = o->iops}, {.rate = o->iops_read}, {.rate = o->iops_write}}};
    block_root_throttle(root, &limits);
}

bool vm_functions_add_disks(struct vm *vm, struct guest_options *o, struct vm_functions *f, GError **error)
{
    static const struct vm_nodes_ops ops = {.event = on_event, .stop = on_error};
    struct disk_options *items = o->disks.items;
    vm->nodes = vm_nodes_new(&ops, vm);
    for (unsigned i = 0; i < o->disks.count; i++) {
        g_autofree char *id = g_strdup_printf("disk%u", i);
        if (!items[i].id)
            items[i].id = option_list_keep(&o->disks, id);
        struct disk *root = open_disk(vm, o, i, error);
        if (!root)
            return false;
        set_limits(root, &items[i]);
        const struct device_wires wires = {.disk = root, .serial = items[i].serial};
        if (!vm_functions_add(f, "virtio-blk", disk_values(o->cpus), &wires, error))
            return false;
        f->row[f->count - 1].port = items[i].port;
        f->row[f->count - 1].id = items[i].id;
    }
    return true;
}
