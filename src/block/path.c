/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Opening images by name; see path.h. */
#include "block/path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "block/file.h"
#include "block/image.h"
#include "block/module.h"
#include "os/fd.h"

/* One image of a chain, while it is being opened. */
struct link {
    struct block_refs refs; /* must be first */
    const struct block_path *path;
    const struct link *above; /* the image that refers to it */
    unsigned depth;
    dev_t device; /* which file it is */
    ino_t inode;
};

static struct disk *open_link(struct block_path *path, const struct link *above, int fd, GError **error);

char *block_path_resolve(const char *name, const char *reference)
{
    if (g_path_is_absolute(reference) || strstr(reference, "://"))
        return g_strdup(reference);
    g_autofree char *folder = g_path_get_dirname(name);
    return strcmp(folder, ".") != 0 ? g_build_filename(folder, reference, NULL) : g_strdup(reference);
}

void block_path_link_free(struct block_path_link *link)
{
    if (!link)
        return;
    g_free(link->name);
    g_free(link);
}

const struct block_driver *block_path_looks_like(struct disk *file)
{
    uint8_t head[64 * 1024] = {0};
    const size_t size = MIN(file->facts.size, sizeof(head));
    if (block_pread(file, head, size, 0))
        return NULL;
    for (unsigned i = 0; block_drivers[i]; i++) {
        const struct block_image *image = block_drivers[i]->image;
        if (image && image->looks_like && image->looks_like(head, size))
            return block_drivers[i];
    }
    return NULL;
}

/* --- what an image refers to --- */

/* A file in the folder of the image, or below it. -1 with errno. */
static int open_beneath(const char *image, const char *reference, bool readonly)
{
    g_autofree char *folder = g_path_get_dirname(image);
    AUTO_FD dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -1;
    struct open_how how = {
        .flags = (unsigned)((readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, dir, reference, &how, sizeof(how));
}

/* An absolute reference to a file below the folder of the image, as one relative to it; else as it is. */
static char *relative_to(const char *image, const char *reference)
{
    g_autofree char *folder = g_path_get_dirname(image);
    g_autofree char *real = realpath(folder, NULL);
    const size_t length = real ? strlen(real) : 0;
    if (length && g_str_has_prefix(reference, real) && reference[length] == '/')
        return g_strdup(reference + length + strspn(reference + length, "/"));
    return g_strdup(reference);
}

static int open_in_folder(const struct link *l, const char *reference, bool readonly, GError **error)
{
    g_autofree char *relative = relative_to(l->path->name, reference);
    int fd = open_beneath(l->path->name, relative, readonly);
    if (fd >= 0)
        return fd;
    if (errno == EXDEV)
        hostel_fail(
            error, HOSTEL_ERROR_INPUT,
            "%s: refers to %s, which is outside of its folder; --follow=any allows that, if you know who "
            "made the image",
            l->path->name, reference);
    else
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: refers to %s: %s", l->path->name, reference,
                    g_strerror(errno));
    return -1;
}

/* Which driver reads it. An image names it for a backing file; a file with data is plain bytes. */
static bool find_format(const struct link *l, enum block_ref what, const char *reference, const char *format,
                        const struct block_driver **driver, GError **error)
{
    *driver = NULL;
    if (what == BLOCK_REF_DATA && !format)
        return true;
    if (!format)
        return hostel_fail(
            error, HOSTEL_ERROR_INPUT,
            "%s: does not say which format its backing file %s has, and formats are not guessed; "
            "record it: hostel image rebase -u -b %s -F FORMAT",
            l->path->name, reference, reference);
    *driver = block_driver_find(format);
    if (*driver && (*driver)->kind == BLOCK_FORMAT)
        return true;
    g_autofree char *names = block_driver_names();
    return hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "%s: says that its backing file %s has format %s; known are %s", l->path->name,
                       reference, format, names);
}

static struct disk *refs_open(struct block_refs *refs, enum block_ref what, const char *reference,
                              const char *format, bool readonly, GError **error)
{
    struct link *l = (struct link *)(void *)refs;
    const char *kind = what == BLOCK_REF_BACKING ? "backing file" : "data file";
    const struct block_driver *driver;
    if (l->path->follow == BLOCK_FOLLOW_NONE) {
        hostel_fail(error, HOSTEL_ERROR_INPUT,
                    "%s: refers to its %s %s, and an image opens no file by itself; allow it with --follow",
                    l->path->name, kind, reference);
        return NULL;
    }
    if (l->depth + 1 >= BLOCK_PATH_DEPTH) {
        hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: its chain of backing files has more than %d images",
                    l->path->name, BLOCK_PATH_DEPTH);
        return NULL;
    }
    if (strstr(reference, "://") || g_str_has_prefix(reference, "json:")) {
        hostel_fail(error, HOSTEL_ERROR_INPUT,
                    "%s: its %s is %s; only files are opened because an image says so", l->path->name, kind,
                    reference);
        return NULL;
    }
    if (!find_format(l, what, reference, format, &driver, error))
        return NULL;
    g_autofree char *name = block_path_resolve(l->path->name, reference);
    const bool only_read = readonly && !(what == BLOCK_REF_DATA && l->path->writable);
    int fd = l->path->follow == BLOCK_FOLLOW_ANY ? block_file_open(name, only_read, error)
                                                 : open_in_folder(l, reference, only_read, error);
    if (fd < 0)
        return NULL;
    if (l->path->opened)
        l->path->opened(l->path->opaque, reference, name, fd);
    struct block_path next = {
        .name = name,
        .format = driver,
        .readonly = readonly,
        .flags = l->path->flags & BLOCK_OPEN_SHARED,
        .follow = l->path->follow,
        .key = l->path->key,
        .key_size = l->path->key_size,
        .chain = what == BLOCK_REF_BACKING ? l->path->chain : NULL,
        .opened = l->path->opened,
        .opaque = l->path->opaque,
    };
    if (next.chain) { /* before what lies below it */
        struct block_path_link *link = g_new(struct block_path_link, 1);
        *link = (struct block_path_link){g_strdup(name), driver};
        g_ptr_array_add(next.chain, link);
    }
    return open_link(&next, l, fd, error);
}

/* --- one image --- */

/* Is the file the one of an image above? */
static bool check_cycle(struct link *l, int fd, GError **error)
{
    struct stat status;
    if (fstat(fd, &status))
        return true; /* what is wrong is found when it is claimed */
    l->device = status.st_dev;
    l->inode = status.st_ino;
    for (const struct link *up = l->above; up; up = up->above)
        if (up->device == l->device && up->inode == l->inode)
            return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: its backing files go round in a circle",
                               l->path->name);
    return true;
}

static bool is_plain(const struct block_driver *format)
{
    return !format || !strcmp(format->name, "raw");
}

/* Says also what the file looks like when it is not what it was said to be. */
static void add_advice(const struct block_path *path, int fd, GError **error)
{
    struct block_config config = {.name = path->name, .fd = fd, .readonly = true, .flags = BLOCK_OPEN_SHARED};
    AUTO(disk) file = fd < 0 ? NULL : block_open(block_driver_find("file"), &config, NULL);
    const struct block_driver *like = file ? block_path_looks_like(file) : NULL;
    if (!like || like == path->format || !error || !*error)
        return;
    char *more = g_strdup_printf("%s; it looks like %s: -f %s", (*error)->message, like->name, like->name);
    g_free((*error)->message);
    (*error)->message = more;
}

static struct disk *open_format(struct block_path *path, struct link *l, int fd, GError **error)
{
    AUTO_FD again = path->flags & BLOCK_OPEN_REPAIR || fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    struct block_config config = {
        .name = path->name,
        .fd = fd,
        .file = STEAL(path->file),
        .base = STEAL(path->base),
        .refs = &l->refs,
        .readonly = path->readonly,
        .flags = path->flags,
        .snapshot = path->snapshot,
        .options = path->options,
        .key = path->key,
        .key_size = path->key_size,
    };
    if (is_plain(path->format) && config.file)
        return STEAL(config.file);
    const struct block_driver *driver = is_plain(path->format) ? block_driver_find("file") : path->format;
    struct disk *b = block_open(driver, &config, error);
    if (!b && !is_plain(path->format))
        add_advice(path, fd_steal(&again), error);
    return b;
}

static struct disk *open_link(struct block_path *path, const struct link *above, int fd, GError **error)
{
    AUTO_FD owned = fd;
    struct link l = {
        .refs = {.open = refs_open},
        .path = path,
        .above = above,
        .depth = above ? above->depth + 1 : 0,
    };
    if (owned >= 0 && !check_cycle(&l, owned, error))
        return NULL;
    return open_format(path, &l, fd_steal(&owned), error);
}

/* A URI as messages have it: without who we are and what may be a password. Owned by the caller. */
static char *uri_for_messages(const char *uri)
{
    const char *host = strstr(uri, "://") + 3, *at = NULL;
    for (const char *c = host; *c && *c != '/'; c++)
        at = *c == '@' ? c : at;
    return at ? g_strdup_printf("%.*s%s", (int)(host - uri), uri, at + 1) : g_strdup(uri);
}

/* Only whoever calls us can name a server; what stands in images cannot, see refs_open(). */
static struct disk *open_remote(const struct block_path *path, GError **error)
{
    const struct block_driver *driver = block_driver_for_uri(path->name);
    g_autofree char *name = uri_for_messages(path->name);
    struct block_config config = {.name = name, .fd = -1, .readonly = path->readonly, .uri = path->name};
    if (driver)
        return block_open(driver, &config, error);
    hostel_fail(error, HOSTEL_ERROR_USAGE,
                "%s: nothing here speaks that protocol; if it is a file, write ./%s", name, name);
    return NULL;
}

struct disk *block_path_open(struct block_path *path, GError **error)
{
    int fd = -1;
    if (!path->file && block_is_uri(path->name)) {
        path->file = open_remote(path, error);
        if (!path->file)
            return NULL;
        path->name = g_intern_string(path->file->name); /* for all messages */
    }
    if (!path->file && (!path->format || path->format->needs_file)) {
        fd = block_file_open(path->name, path->readonly, error);
        if (fd < 0)
            return NULL;
    }
    return open_link(path, NULL, fd, error);
}
