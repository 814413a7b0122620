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

/* The longest serial number a virtio disk can tell; the longest passphrase; bytes. */
enum { DISK_SERIAL_MAX = 20, DISK_KEY_MAX = 64 * 1024 };

/* What an image refers to comes from the list of files, which is in the order of asking. */
struct handed {
    struct block_refs refs;
    struct option_list *files;
    unsigned disk; /* from 1 */
    unsigned next; /* in the list */
};

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
    struct disk *b = driver ? block_open(driver, &config, error) : NULL;
    fd_close(&config.fd);
    return b;
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

static struct disk *open_base(struct disk_options *o, struct block_refs *refs, GError **error)
{
    const struct block_driver *driver = find_format("base-format", o->base_format, error);
    struct block_config base = {
        .name = o->base.name, .fd = fd_steal(&o->base.fd), .readonly = true, .refs = refs};
    struct disk *b = driver ? block_open(driver, &base, error) : NULL;
    fd_close(&base.fd);
    return b;
}

static struct disk *open_image(struct disk_options *o, struct block_refs *refs, const GString *key,
                               GError **error)
{
    const struct block_driver *driver = find_format("format", o->format, error);
    if (!driver)
        return NULL;
    struct block_config config = {.name = o->file.name,
                                  .fd = fd_steal(&o->file.fd),
                                  .readonly = o->readonly,
                                  .refs = refs,
                                  .key = o->key.name ? (const uint8_t *)key->str : NULL,
                                  .key_size = key->len};
    struct disk *disk = NULL;
    if (!o->base.name || (config.base = open_base(o, refs, error)))
        disk = block_open(driver, &config, error);
    fd_close(&config.fd);
    return disk;
}

static struct disk *open_disk(struct guest_options *options, unsigned i, GError **error)
{
    struct disk_options *o = (struct disk_options *)options->disks.items + i;
    struct handed handed = {.refs = {.open = open_handed}, .files = &options->disk_files, .disk = i + 1};
    GString *key = g_string_new(NULL);
    struct disk *disk = NULL;
    if (o->serial && strlen(o->serial) > DISK_SERIAL_MAX)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "serial=%s: has more than %d characters", o->serial,
                    DISK_SERIAL_MAX);
    else if (read_key(&o->key, key, error))
        disk = open_image(o, &handed.refs, key, error);
    if (!disk)
        g_prefix_error(error, "--disk ");
    free_key(key);
    return disk;
}

/* A queue for each vCPU, within reason. */
static const struct device_value *disk_values(unsigned vcpus)
{
    static const struct device_value by_queues[][2] = {
        {{"queues", 1}, {0}}, {{"queues", 2}, {0}}, {{"queues", 3}, {0}}, {{"queues", 4}, {0}}};
    return by_queues[MIN(vcpus, G_N_ELEMENTS(by_queues)) - 1];
}

static void free_disk(gpointer disk)
{
    block_free(disk);
}

bool vm_functions_add_disks(struct vm *vm, struct guest_options *o, struct vm_functions *f, GError **error)
{
    struct disk_options *items = o->disks.items;
    vm->disks = g_ptr_array_new_with_free_func(free_disk);
    for (unsigned i = 0; i < o->disks.count; i++) {
        struct disk *disk = open_disk(o, i, error);
        if (!disk)
            return false;
        g_ptr_array_add(vm->disks, disk);
        const struct device_wires wires = {.disk = disk, .serial = items[i].serial};
        if (!vm_functions_add(f, "virtio-blk", disk_values(o->cpus), &wires, error))
            return false;
    }
    return true;
}
