/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Opening the images that a command line names, with the passphrase and the trust that it gives. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/image/image.h"
#include "os/fd.h"

const struct block_driver *image_format(const char *name, GError **error)
{
    const struct block_driver *driver = block_driver_find(name);
    if (driver && driver->kind == BLOCK_FORMAT)
        return driver;
    g_autofree char *names = block_driver_names();
    hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no format '%s'; there are %s", name, names);
    return NULL;
}

bool image_cannot(const struct image *image, const char *operation, GError **error)
{
    g_autofree char *what = g_strdelimit(g_strdup(operation), "_", ' ');
    return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: format %s has no '%s'", image->name,
                       image->format->name, what);
}

void image_close(struct image *image)
{
    block_free(STEAL(image->disk));
    g_free(STEAL(image->name));
    if (image->chain)
        g_ptr_array_unref(STEAL(image->chain));
}

/* --- the passphrase --- */

static bool read_key(struct image_args *args, int fd, const char *name, GError **error)
{
    enum { KEY_MAX = 4096 };
    args->key = g_malloc(KEY_MAX);
    while (args->key_size < KEY_MAX) {
        ssize_t n = read(fd, args->key + args->key_size, KEY_MAX - args->key_size);
        if (n < 0 && errno != EINTR)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", name, g_strerror(errno));
        if (n == 0)
            return true;
        args->key_size += n > 0 ? (size_t)n : 0;
    }
    return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: a passphrase has at most %d bytes", name, KEY_MAX - 1);
}

/* "secret,id=ID,file=FILE": the file. Texts and encodings of QEMU's secrets are refused: what stands in a
 * command line can be read by all users of the host. */
static bool secret_file(const char *text, char **file, GError **error)
{
    g_auto(GStrv) pieces = g_strsplit(text, ",", -1);
    for (unsigned i = 0; pieces[i]; i++) {
        if (g_str_has_prefix(pieces[i], "file="))
            *file = g_strdup(pieces[i] + strlen("file="));
        else if (g_str_has_prefix(pieces[i], "data="))
            return hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "--object secret: data= shows the passphrase to all users of this host; give "
                               "file=FILE, or --key-fd");
        else if (strcmp(pieces[i], "secret") != 0 && strcmp(pieces[i], "qom-type=secret") != 0 &&
                 strcmp(pieces[i], "format=raw") != 0 && !g_str_has_prefix(pieces[i], "id="))
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "--object %s: must be secret,id=ID,file=FILE",
                               text);
    }
    return *file || hostel_fail(error, HOSTEL_ERROR_USAGE, "--object %s: has no file=FILE", text);
}

bool image_load_key(struct image_args *args, GError **error)
{
    g_autofree char *file = g_strdup(args->key_file);
    if (args->key)
        return true;
    if (!file && args->objects && !secret_file(args->objects->pdata[0], &file, error))
        return false;
    if (args->objects && args->objects->len > 1)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--object: one passphrase can be given");
    if (file) {
        AUTO_FD fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", file, g_strerror(errno));
        return read_key(args, fd, file, error);
    }
    if (!args->key_fd)
        return true;
    char *end;
    const long number = strtol(args->key_fd, &end, 10);
    if (*end || end == args->key_fd || number < 0 || number > INT32_MAX || !fd_is_open((int)number))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--key-fd %s: is no open descriptor", args->key_fd);
    return read_key(args, (int)number, "--key-fd", error);
}

/* --- images --- */

static bool need_format(const char *name, GError **error)
{
    struct block_path file = {.name = name, .readonly = true, .flags = BLOCK_OPEN_SHARED};
    AUTO(disk) disk = block_path_open(&file, error);
    if (!disk)
        return false;
    const struct block_driver *like = block_path_looks_like(disk);
    return hostel_fail(
        error, HOSTEL_ERROR_USAGE,
        "%s: the format is not guessed, since a guest can write what it likes into its disk; give it: "
        "-f %s%s",
        name, like ? like->name : "raw", like ? ", which it looks like" : " if it is a raw image");
}

static bool guess(const struct image_args *args, const char *name, const struct block_driver **format,
                  GError **error)
{
    struct block_path file = {.name = name, .readonly = true, .flags = args->share ? BLOCK_OPEN_SHARED : 0};
    AUTO(disk) disk = block_path_open(&file, error);
    if (!disk)
        return false;
    const struct block_driver *like = block_path_looks_like(disk);
    *format = like ? like : block_driver_find("raw");
    return true;
}

static bool open_with(struct image_args *args, const char *name, const char *format, const char *snapshot,
                      struct disk *base, unsigned mode, struct image *out, GError **error)
{
    AUTO(disk) over = base;
    *out = (struct image){0};
    if (!image_load_key(args, error))
        return false;
    if (args->image_opts && format)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "--image-opts: says the format by driver=, leave out -f %s", format);
    if (args->image_opts && base)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--image-opts: cannot be used here; give a file");
    if (args->image_opts)
        return image_graph_open(args, name, snapshot, mode, out, error);
    if (format)
        out->format = image_format(format, error);
    else if (mode & IMAGE_GUESS ? !guess(args, name, &out->format, error) : !need_format(name, error))
        return false;
    if (!out->format)
        return false;
    out->chain = g_ptr_array_new_with_free_func((GDestroyNotify)block_path_link_free);
    out->name = image_shown(name);
    struct block_path path = {
        .name = name,
        .format = out->format,
        .chain = out->chain,
        .readonly = !(mode & IMAGE_WRITE),
        /* Who does not ask what it lies over does not ask what it holds. */
        .flags = (mode & IMAGE_ALONE ? BLOCK_OPEN_ALONE | BLOCK_OPEN_KEYLESS : 0u) |
                 (mode & IMAGE_REPAIR ? BLOCK_OPEN_REPAIR : 0u) | (args->share ? BLOCK_OPEN_SHARED : 0u),
        .follow = args->follow,
        .snapshot = snapshot,
        .key = args->key,
        .key_size = args->key_size,
        .base = STEAL(over),
    };
    out->disk = block_path_open(&path, error);
    return out->disk != NULL;
}

bool image_open(struct image_args *args, const char *name, const char *format, const char *snapshot,
                unsigned mode, struct image *out, GError **error)
{
    return open_with(args, name, format, snapshot, NULL, mode, out, error);
}

bool image_open_over(struct image_args *args, const char *name, const char *format, struct disk *base,
                     unsigned mode, struct image *out, GError **error)
{
    return open_with(args, name, format, NULL, base, mode, out, error);
}

bool image_lies_over(struct image *image, char **backing, GError **error)
{
    const struct block_image *f = image->format ? image->format->image : NULL;
    struct block_image_info info = {0};
    *backing = NULL;
    /* raw's disk is its file's. */
    if (!f || !f->info || !strcmp(image->format->name, "raw"))
        return true;
    if (!f->info(image->disk, &info, error))
        return false;
    *backing = STEAL(info.backing);
    block_image_info_clear(&info);
    return true;
}
