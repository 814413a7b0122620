/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a guest's disks have become (layers.h has the theory). */
#include "cli/layers.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "block/block.h"
#include "cli/guest_run.h"
#include "cli/image/image.h"
#include "cli/inside.h"
#include "os/fd.h"

#define FILE_NAME "layers.json"

enum { LOCK_US = G_USEC_PER_SEC };

/* --- the file --- */

static json_t *empty(void)
{
    return json_pack("{s:[],s:[],s:[],s:n,s:{}}", "disks", "sizes", "images", "current", "snapshots");
}

/* A file of the folder, not a way out of it. */
static bool is_file(const json_t *value)
{
    const char *name = json_string_value(value);
    return name && *name && *name != '.' && !strchr(name, '/');
}

static bool are_disks(const json_t *owner)
{
    const json_t *disks = json_object_get(owner, "disks"), *sizes = json_object_get(owner, "sizes");
    if (!json_is_array(disks) || !json_is_array(sizes) || json_array_size(disks) != json_array_size(sizes))
        return false;
    size_t i, k;
    json_t *disk, *file;
    json_array_foreach(disks, i, disk)
    {
        if (!json_is_array(disk) || !json_is_integer(json_array_get(sizes, i)))
            return false;
        json_array_foreach(disk, k, file)
        {
            if (!is_file(file))
                return false;
        }
    }
    return true;
}

static bool is_whole(json_t *layers)
{
    const char *name;
    json_t *snapshot, *snapshots = json_object_get(layers, "snapshots");
    if (!are_disks(layers) || !json_is_object(snapshots) || !json_is_array(json_object_get(layers, "images")))
        return false;
    json_object_foreach(snapshots, name, snapshot)
    {
        const json_t *devices = json_object_get(snapshot, "devices");
        if (!named_is_valid(name) || !are_disks(snapshot) || (devices && !json_is_array(devices)))
            return false;
    }
    return true;
}

static json_t *load(const struct named *guest, GError **error)
{
    g_autofree char *path = named_path(guest, FILE_NAME);
    json_error_t why;
    if (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) && errno == ENOENT)
        return empty();
    json_t *layers = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (layers && is_whole(layers))
        return layers;
    json_decref(layers);
    hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is damaged: %s", path,
                layers ? "not what Hostel writes" : why.text);
    return NULL;
}

bool layers_store(const struct named *guest, const json_t *layers, GError **error)
{
    g_autofree char *path = named_path(guest, FILE_NAME);
    char *text = json_dumps(layers, JSON_INDENT(1) | JSON_SORT_KEYS);
    const bool written = g_file_set_contents_full(
        path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600, error);
    free(text);
    AUTO_FD folder = written ? open(guest->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    return written && ((folder >= 0 && !fsync(folder)) ||
                       hostel_fail(error, HOSTEL_ERROR_HOST, "cannot write %s: %s", path, g_strerror(errno)));
}

char *layers_path(const struct named *guest, const char *file)
{
    return g_build_filename(guest->folder, "layers", file, NULL);
}

char *layers_snapshot_path(const struct named *guest, const char *snapshot)
{
    return g_build_filename(guest->folder, "snapshots", snapshot, NULL);
}

static int open_lock(const struct named *guest, GError **error)
{
    g_autofree char *path = named_path(guest, ".layers.lock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        hostel_fail(error, HOSTEL_ERROR_HOST, "guest '%s': its layers cannot be locked: %s", guest->name,
                    g_strerror(errno));
    return fd;
}

int layers_lock(const struct named *guest, GError **error)
{
    AUTO_FD fd = open_lock(guest, error);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    for (const int64_t end = g_get_monotonic_time() + LOCK_US; fd >= 0; g_usleep(LOCK_US / 100)) {
        if (!fcntl(fd, F_OFD_SETLK, &whole))
            return fd_steal(&fd);
        if ((errno == EAGAIN || errno == EACCES) && g_get_monotonic_time() < end)
            continue;
        hostel_fail(error, HOSTEL_ERROR_HOST,
                    "guest '%s': another hostel changes its snapshots; wait for it (%s)", guest->name,
                    g_strerror(errno));
        break;
    }
    return -1;
}

int layers_lock_shared(const struct named *guest, GError **error)
{
    AUTO_FD fd = open_lock(guest, error);
    struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    while (fd >= 0 && fcntl(fd, F_OFD_SETLKW, &whole)) {
        if (errno == EINTR)
            continue;
        hostel_fail(error, HOSTEL_ERROR_HOST, "guest '%s': its layers cannot be locked: %s", guest->name,
                    g_strerror(errno));
        return -1;
    }
    return fd_steal(&fd);
}

/* --- sweeping --- */

static void keep_files(GHashTable *kept, const json_t *owner)
{
    size_t i, k;
    json_t *disk, *file;
    json_array_foreach(json_object_get(owner, "disks"), i, disk)
    {
        json_array_foreach(disk, k, file)
        {
            g_hash_table_add(kept, (gpointer)(uintptr_t)json_string_value(file));
        }
    }
}

static void remove_others(const struct named *guest, const char *folder, GHashTable *kept)
{
    g_autofree char *path = named_path(guest, folder);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        if (!g_hash_table_contains(kept, name))
            unlink(file);
    }
}

void layers_sweep(const struct named *guest, const json_t *layers)
{
    g_autoptr(GHashTable) files = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) states = g_hash_table_new(g_str_hash, g_str_equal);
    json_t *snapshots = json_object_get(layers, "snapshots"), *snapshot;
    const char *name;
    keep_files(files, layers);
    json_object_foreach(snapshots, name, snapshot)
    {
        keep_files(files, snapshot);
        g_hash_table_add(states, (gpointer)(uintptr_t)name);
    }
    remove_others(guest, "layers", files);
    remove_others(guest, "snapshots", states);
}

/* --- layers --- */

/* That of disk i, which comes into being. */
static json_t *disk_at(json_t *layers, size_t i)
{
    json_t *disks = json_object_get(layers, "disks"), *sizes = json_object_get(layers, "sizes");
    while (json_array_size(disks) <= i) {
        json_array_append_new(disks, json_array());
        json_array_append_new(sizes, json_integer(0));
    }
    return json_array_get(disks, i);
}

json_t *layers_moment(const json_t *disks, const json_t *sizes)
{
    json_t *all = json_deep_copy(disks);
    while (json_array_size(all) < json_array_size(sizes))
        json_array_append_new(all, json_array());
    return json_pack("{s:o,s:o}", "disks", all, "sizes", json_deep_copy(sizes));
}

void layers_forget(json_t *layers, const char *snapshot)
{
    json_t *snapshots = json_object_get(layers, "snapshots"), *other;
    json_t *parent = json_incref(json_object_get(json_object_get(snapshots, snapshot), "parent"));
    const char *name;
    json_object_foreach(snapshots, name, other)
    {
        if (!g_strcmp0(json_string_value(json_object_get(other, "parent")), snapshot))
            json_object_set(other, "parent", parent);
    }
    if (!g_strcmp0(json_string_value(json_object_get(layers, "current")), snapshot))
        json_object_set(layers, "current", parent);
    json_decref(parent);
    json_object_del(snapshots, snapshot);
}

/* A path as seen from the guest's folder, which may get another name. */
static const char *from_folder(const struct named *guest, const char *path)
{
    const size_t length = strlen(guest->folder);
    return g_str_has_prefix(path, guest->folder) && path[length] == '/' ? path + length + 1 : path;
}

static json_t *image_name(const struct named *guest, const char *path)
{
    g_autofree char *valid = g_utf8_make_valid(from_folder(guest, path), -1);
    return json_string(valid);
}

/* -1 = none is of that image. */
static gssize find_row(const struct named *guest, const json_t *layers, const char *path)
{
    json_t *name = image_name(guest, path), *image;
    gssize found = -1;
    size_t i;
    json_array_foreach(json_object_get(layers, "images"), i, image)
    {
        if (found < 0 && json_equal(image, name))
            found = (gssize)i;
    }
    json_decref(name);
    return found;
}

size_t layers_row(const struct named *guest, json_t *layers, const char *path)
{
    json_t *images = json_object_get(layers, "images");
    const gssize found = find_row(guest, layers, path);
    if (found >= 0)
        return (size_t)found;
    const size_t row = MAX(json_array_size(images), json_array_size(json_object_get(layers, "disks")));
    while (json_array_size(images) < row)
        json_array_append_new(images, json_null());
    json_array_append_new(images, image_name(guest, path));
    return row;
}

bool layers_has_changes(const struct named *guest, const json_t *layers, const char *path)
{
    const gssize row = find_row(guest, layers, path);
    return row >= 0 && json_array_size(json_array_get(json_object_get(layers, "disks"), (size_t)row));
}

const char *layers_over(const struct named *guest, const json_t *layers, const char *path)
{
    const gssize row = find_row(guest, layers, path);
    const char *name;
    json_t *snapshot;
    json_object_foreach(json_object_get(layers, "snapshots"), name, snapshot)
    {
        const json_t *size = row < 0 ? NULL : json_array_get(json_object_get(snapshot, "sizes"), (size_t)row);
        if (json_integer_value(size) > 0)
            return name;
    }
    return NULL;
}

bool layers_drop(const struct named *guest, json_t *layers, const char *path)
{
    json_object_del(layers, "losing");
    json_t *disks = json_object_get(layers, "disks");
    const gssize row = find_row(guest, layers, path);
    if (row < 0 || (size_t)row >= json_array_size(disks))
        return false;
    json_array_set_new(disks, (size_t)row, json_array());
    json_array_set_new(json_object_get(layers, "sizes"), (size_t)row, json_integer(0));
    return true;
}

void layers_note_loss(json_t *layers, const char *image)
{
    json_object_set_new(layers, "losing", json_string(image));
}

/* Has the definition lost what it was to lose? Whoever did that may have been killed before it told us. */
static void drop_lost(const struct named *guest, json_t *layers)
{
    json_t *note = json_incref(json_object_get(layers, "losing"));
    const char *image = json_string_value(note);
    if (!image)
        return json_decref(note);
    g_autoptr(GPtrArray) images = guest_images(guest);
    const gssize row = find_row(guest, layers, image);
    bool there = false;
    for (guint i = 0; i < images->len; i++)
        there |= find_row(guest, layers, images->pdata[i]) == row;
    if (!there)
        layers_drop(guest, layers, image);
    json_object_del(layers, "losing");
    json_decref(note);
}

json_t *layers_load(const struct named *guest, GError **error)
{
    json_t *layers = load(guest, error);
    if (layers)
        drop_lost(guest, layers);
    return layers;
}

char *layers_image(const struct named *guest, const json_t *layers, size_t i)
{
    const char *image = json_string_value(json_array_get(json_object_get(layers, "images"), i));
    return !image || g_path_is_absolute(image) ? g_strdup(image) : named_path(guest, image);
}

static bool make_layer(const char *path, uint64_t size, GError **error)
{
    const struct image_make make = {.format = block_driver_find("qcow2"), .size = size};
    AUTO(image_output) output = image_output_new(path, error);
    return output && image_make(output, path, &make, NULL, NULL, error) &&
           image_output_publish(output, true, error);
}

bool layers_push(const struct named *guest, json_t *layers, size_t i, uint64_t size, GError **error)
{
    g_autofree char *folder = named_path(guest, "layers");
    g_autofree char *file = NULL, *path = NULL;
    json_t *disk = disk_at(layers, i);
    if (g_mkdir_with_parents(folder, 0700))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be made: %s", folder, g_strerror(errno));
    do { /* a number that no file has */
        g_free(file);
        g_free(path);
        file = g_strdup_printf("disk%zu-%08x.qcow2", i, g_random_int());
        path = layers_path(guest, file);
    } while (!faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW));
    if (!make_layer(path, size, error))
        return false;
    json_array_append_new(disk, json_string(file));
    json_array_set_new(json_object_get(layers, "sizes"), i, json_integer((json_int_t)size));
    return true;
}

const char *layers_top(const json_t *layers, size_t i)
{
    const json_t *disk = json_array_get(json_object_get(layers, "disks"), i);
    return json_string_value(json_array_get(disk, json_array_size(disk) - 1));
}

/* --- for a run --- */

static const struct option_row *option_row_of_layers(void)
{
    const struct option_row *row = guest_option_rows;
    while (strcmp(row->name, "disk-layer") != 0)
        row++;
    return row;
}

/* The disk, from 1, with the image of that row. Layers over another one would be nonsense: 0 with *error. */
static unsigned find_disk(const struct named *guest, const json_t *layers, size_t row,
                          const struct guest_options *options, GError **error)
{
    const struct disk_options *disks = options->disks.items;
    const json_t *image = json_array_get(json_object_get(layers, "images"), row);
    for (unsigned i = 0; i < options->disks.count; i++) {
        json_t *name = image_name(guest, disks[i].file.name);
        const bool same = json_equal(name, image);
        json_decref(name);
        if (same)
            return i + 1;
    }
    hostel_fail(error, HOSTEL_ERROR_USAGE,
                "guest '%s': disk %zu has snapshots or is a clone's, over %s, and is given %s; give it its "
                "image, or choose another --name",
                guest->name, row + 1, json_is_string(image) ? json_string_value(image) : "another image",
                row < options->disks.count ? from_folder(guest, disks[row].file.name) : "no image");
    return 0;
}

static void add_option(const struct named *guest, struct guest_options *options, unsigned disk,
                       const char *file)
{
    g_autofree char *path = layers_path(guest, file);
    struct disk_layer_options *o = option_list_add(option_row_of_layers(), &options->disk_layers);
    o->disk = disk;
    o->file = (struct option_file){.name = option_list_keep(&options->disk_layers, path), .fd = -1};
}

bool layers_apply(const struct named *guest, struct guest_options *options, GError **error)
{
    json_t *layers = layers_load(guest, error), *disk, *file;
    bool good = layers;
    size_t i, k;
    json_array_foreach(json_object_get(layers, "disks"), i, disk)
    {
        const unsigned number =
            good && json_array_size(disk) ? find_disk(guest, layers, i, options, error) : 0;
        good &= number || !json_array_size(disk);
        for (k = 0; number && k < json_array_size(disk); k++) {
            file = json_array_get(disk, k);
            add_option(guest, options, number, json_string_value(file));
        }
    }
    good = good && !inside_is_torn(guest, layers, error);
    json_decref(layers);
    return good;
}
