/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* New nodes from the words of blockdev-add, and their end. */
/*
 * The process opens no path: files come as descriptors (control/fds.h), and what an image names is never
 * followed. What it lies over is a node that is there, or with "backing": null nothing as yet; a format that
 * can lie over another image gets a link in any case, so that it can be made an overlay later.
 */
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "os/fd.h"
#include "vm/nodes_int.h"

/* Where its bytes are. */
struct source {
    int fd;               /* -1 = none */
    struct vm_link *file; /* a node; or NULL */
    char *place;
};

static const char *text(json_t *args, const char *name)
{
    return json_string_value(json_object_get(args, name));
}

static const struct block_driver *find_driver(const char *name, GError **error)
{
    const struct block_driver *driver = block_driver_find(strcmp(name, "null-co") ? name : "null");
    if (!driver) {
        g_autofree char *names = block_driver_names();
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "driver '%s': there is none of that name; there are: file, memory, null, %s", name,
                    names);
        return NULL;
    }
    if (driver->kind == BLOCK_FILTER || driver->module || driver->schemes || driver->needs_base) {
        hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                    "driver '%s' is not for nodes of a running guest; use a format over a file", name);
        return NULL;
    }
    return driver;
}

/* The descriptor of "filename". */
static bool open_named(struct control_fds *fds, const char *name, bool readonly, struct source *s,
                       GError **error)
{
    s->fd = control_fd_open(fds, name, readonly ? O_RDONLY : O_RDWR, error);
    s->place = g_strdup(name);
    return s->fd >= 0;
}

/* "file" of a format: the name of a node, or {"driver": "file", "filename": ...}. */
static bool find_file(struct vm_nodes *n, struct control_fds *fds, json_t *file, bool readonly,
                      struct source *s, GError **error)
{
    if (!file)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "file is missing: where the image is, as in {\"driver\": \"file\", \"filename\": "
                           "\"/dev/fdset/1\"}");
    if (json_is_object(file)) {
        const char *driver = text(file, "driver"), *name = text(file, "filename");
        if (!driver || strcmp(driver, "file") != 0 || !name)
            return hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "file: must be the name of a node or {\"driver\": \"file\", \"filename\": "
                               "\"/dev/fdset/N\"}; add others as nodes of their own first");
        return open_named(fds, name, readonly, s, error);
    }
    struct vm_node *node = vm_nodes_lookup(n, json_string_value(file), error);
    if (!node || !vm_node_check_free(node, "use", error))
        return false;
    if (vm_node_parents(node))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "node '%s' is in use: a disk or another image lies on it; use one of its own",
                           node->name);
    s->file = vm_link_new(n, node);
    s->place = g_strdup(node->place);
    return true;
}

static bool find_source(struct vm_nodes *n, struct control_fds *fds, const struct block_driver *driver,
                        json_t *args, bool readonly, struct source *s, GError **error)
{
    const char *filename = text(args, "filename");
    json_t *file = json_object_get(args, "file");
    const bool format = driver->kind == BLOCK_FORMAT;
    if (!driver->needs_file || (format ? filename : json_string_value(file)))
        return (!filename && !file) || hostel_fail(error, HOSTEL_ERROR_USAGE, "driver '%s' takes no %s",
                                                   driver->name, filename ? "filename" : "file");
    if (format)
        return find_file(n, fds, file, readonly, s, error);
    return filename ? open_named(fds, filename, readonly, s, error)
                    : hostel_fail(error, HOSTEL_ERROR_USAGE,
                                  "filename is missing: which file, as in /dev/fdset/1");
}

static bool can_lie_over(const struct block_driver *driver)
{
    return driver->image && driver->image->set_backing;
}

/* *link NULL when its format lies over nothing. */
static bool find_backing(struct vm_nodes *n, const struct block_driver *driver, json_t *args,
                         struct vm_link **link, GError **error)
{
    json_t *backing = json_object_get(args, "backing");
    const char *name = json_string_value(backing);
    struct vm_node *node = name ? vm_nodes_lookup(n, name, error) : NULL;
    *link = NULL;
    if (name && !node)
        return false;
    if (node && !can_lie_over(driver))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "an image of format %s lies over no other",
                           driver->name);
    if (node && vm_node_depth(node) >= VM_CHAIN_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%d images lie over each other below '%s', which is the most", VM_CHAIN_MAX, name);
    if (node && vm_node_device(node) && !node->disk->facts.readonly)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "node '%s' is written to by the guest, so no other image can lie over it; take a "
                           "snapshot first",
                           name);
    /* Without a word, an image that names a backing file is refused when it is opened. */
    if (can_lie_over(driver) && (node || json_is_null(backing)))
        *link = vm_link_new(n, node);
    return true;
}

static struct vm_node *open_node(struct vm_nodes *n, const struct block_driver *driver, json_t *args,
                                 bool readonly, struct source *s, struct vm_link *backing, GError **error)
{
    const char *name = text(args, "node-name");
    struct block_config config = {.name = s->place ? s->place : name,
                                  .fd = fd_steal(&s->fd),
                                  .file = s->file ? s->file->edge : NULL,
                                  .base = backing ? backing->edge : NULL,
                                  .readonly = readonly,
                                  .size = (uint64_t)json_integer_value(json_object_get(args, "size"))};
    struct disk *disk = block_open(driver, &config, error);
    if (!disk)
        return NULL;
    struct vm_node *node = vm_node_new(n, name, driver, disk, backing, s->file);
    node->place = STEAL(s->place);
    return node;
}

bool vm_node_add(struct vm_nodes *n, struct control_fds *fds, json_t *args, GError **error)
{
    const char *name = text(args, "node-name");
    const bool readonly = json_is_true(json_object_get(args, "read-only"));
    struct source source = {.fd = -1};
    struct vm_link *backing = NULL;
    struct vm_node *node = NULL;
    const struct block_driver *driver = find_driver(text(args, "driver"), error);
    if (!name)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "node-name is missing: what the node is to be called");
    if (driver && name && vm_node_name_check(n, name, error) &&
        find_backing(n, driver, args, &backing, error)) {
        if (find_source(n, fds, driver, args, readonly, &source, error))
            node = open_node(n, driver, args, readonly, &source, backing, error); /* takes both links */
        else if (backing)
            block_free(backing->edge);
    }
    fd_close(&source.fd);
    g_free(source.place);
    if (!node)
        return false;
    node->added = true;
    return true;
}

bool vm_node_delete(struct vm_nodes *n, const char *name, GError **error)
{
    struct vm_node *node = vm_node_find(n, name);
    if (!node)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "there is no node '%s'; query-named-block-nodes lists them", name);
    if (!vm_node_check_free(node, "delete", error))
        return false;
    if (!node->added || vm_node_parents(node))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "node '%s' is in use by %s", name,
                           vm_node_device(node) ? "a disk of the guest" : "another image");
    node->added = false;
    vm_node_unref(node);
    return true;
}
