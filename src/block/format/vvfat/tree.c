/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is in a folder of the host, without ever leaving it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "block/format/vvfat/vvfat.h"
#include "os/fd.h"

#define FILE_SIZE_MAX UINT32_MAX

/* The path of node i from the folder on. False when it does not fit. */
static bool make_path(const struct vvfat_tree *t, uint32_t i, char path[PATH_MAX], const char **out)
{
    size_t at = PATH_MAX - 1;
    path[at] = '\0';
    for (; i; i = vvfat_node(t, i)->parent) {
        const char *name = vvfat_node(t, i)->name;
        const size_t size = strlen(name), slash = at != PATH_MAX - 1;
        if (size + slash > at)
            return false;
        if (slash)
            path[--at] = '/';
        at -= size;
        memcpy(path + at, name, size);
    }
    *out = path[at] ? path + at : ".";
    return true;
}

int vvfat_tree_open(const struct vvfat_tree *t, uint32_t i, bool folder)
{
    char buffer[PATH_MAX];
    const char *path;
    /* a pipe must not keep us waiting; what it is is looked at afterwards */
    const struct open_how how = {.flags = (uint64_t)(O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY |
                                                     O_NONBLOCK | (folder ? O_DIRECTORY : 0)),
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    if (!make_path(t, i, buffer, &path))
        return -ENAMETOOLONG;
    AUTO_FD fd = -1;
    for (unsigned tries = 0; fd < 0 && tries < 8; tries++) { /* something was renamed meanwhile */
        fd = (int)syscall(SYS_openat2, t->root, path, &how, sizeof(how));
        if (fd < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    struct stat status;
    if (fd < 0 || fstat(fd, &status))
        return fd < 0 ? -EAGAIN : -errno;
    if (!folder && !S_ISREG(status.st_mode))
        return -EIO;
    return fd_steal(&fd);
}

static int by_name(const void *a, const void *b)
{
    const struct vvfat_node *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* One entry of folder i. */
static bool add(struct vvfat_tree *t, const char *name, uint32_t i, int fd, const char *entry, GError **error)
{
    struct stat status;
    if (fstatat(fd, entry, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return true; /* gone meanwhile */
    const bool folder = S_ISDIR(status.st_mode);
    if (!folder && !S_ISREG(status.st_mode))
        return true;
    if (!folder && (uint64_t)status.st_size > FILE_SIZE_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the file %s has %" PRIu64 " bytes; FAT has room for files below 4 GiB", name,
                           entry, (uint64_t)status.st_size);
    if (t->nodes->len >= VVFAT_NODES_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the folder has more than %d files and folders",
                           name, VVFAT_NODES_MAX);
    const struct vvfat_node node = {.parent = i,
                                    .folder = folder,
                                    .size = folder ? 0 : (uint64_t)status.st_size,
                                    .modified = status.st_mtim.tv_sec,
                                    .name = g_strdup(entry)};
    g_array_append_val(t->nodes, node);
    return true;
}

/* Everything in folder i, sorted, so that the same folder makes the same volume. */
static bool scan(struct vvfat_tree *t, const char *name, uint32_t i, GError **error)
{
    int fd = vvfat_tree_open(t, i, true);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0)
            close(fd);
        if (i && (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP))
            return true; /* gone meanwhile: empty */
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot look into the folder %s: %s", name,
                           i ? vvfat_node(t, i)->name : ".", g_strerror(fd < 0 ? -fd : errno));
    }
    const uint32_t first = t->nodes->len;
    bool good = true;
    const struct dirent *entry;
    while (good && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            good = add(t, name, i, dirfd(dir), entry->d_name, error);
    closedir(dir);
    vvfat_node(t, i)->first_child = first;
    vvfat_node(t, i)->children = t->nodes->len - first;
    if (t->nodes->len > first)
        qsort(vvfat_node(t, first), t->nodes->len - first, sizeof(struct vvfat_node), by_name);
    return good;
}

bool vvfat_tree_init(struct vvfat_tree *t, const char *name, const char *path, GError **error)
{
    const struct vvfat_node root = {.folder = true};
    t->nodes = g_array_new(FALSE, FALSE, sizeof(struct vvfat_node));
    g_array_append_val(t->nodes, root);
    t->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->root < 0)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot open the folder %s: %s", name, path,
                           g_strerror(errno));
    for (uint32_t i = 0; i < t->nodes->len; i++)
        if (vvfat_node(t, i)->folder && !scan(t, name, i, error))
            return false;
    return true;
}

void vvfat_tree_fini(struct vvfat_tree *t)
{
    for (uint32_t i = 0; t->nodes && i < t->nodes->len; i++) {
        g_free(vvfat_node(t, i)->name);
        g_free(vvfat_node(t, i)->long_name);
    }
    if (t->nodes)
        g_array_free(t->nodes, TRUE);
    fd_close(&t->root);
}
