/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What tests of qcow2 images beside QEMU's programs share. */
#ifndef HOSTEL_TESTS_BLOCK_QCOW2_RIG_H
#define HOSTEL_TESTS_BLOCK_QCOW2_RIG_H

#include <glib/gstdio.h>

#include "base/option.h"
#include "peer.h"
#include "rig.h"

/* An image by path; NULL with *error. */
static inline struct disk *qcow2_try(const char *path, bool readonly, const char *snapshot, unsigned flags,
                                     GError **error)
{
    struct block_config config = {.name = "image",
                                  .fd = g_open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC),
                                  .readonly = readonly,
                                  .snapshot = snapshot,
                                  .key = rig_key,
                                  .key_size = sizeof(rig_key) - 1,
                                  .flags = flags};
    return block_open(block_driver_find("qcow2"), &config, error);
}

static inline struct disk *qcow2_at(const char *path, bool readonly, const char *snapshot)
{
    g_autoptr(GError) error = NULL;
    struct disk *b = qcow2_try(path, readonly, snapshot, 0, &error);
    g_assert_no_error(error);
    return b;
}

/* options: as on a command line, "--compat=0.10 --cluster_size=4K". */
static inline void qcow2_make(const char *path, uint64_t size, const char *options)
{
    g_autoptr(GError) error = NULL;
    const struct block_driver *driver = block_driver_find("qcow2");
    struct block_config config = {.name = "new",
                                  .fd = g_open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
    AUTO(disk) file = block_open(block_driver_find("file"), &config, &error);
    g_assert_no_error(error);
    g_auto(GStrv) argv = g_strsplit(options, " ", -1);
    g_autofree void *values = g_malloc0(driver->image->create_options_size);
    option_init(driver->image->create_options, values);
    option_parse(driver->image->create_options, OPTION_BOTH, *options ? argv : &(char *){NULL}, values,
                 &error);
    g_assert_no_error(error);
    const struct block_create create = {.name = "new",
                                        .file = file,
                                        .size = size,
                                        .options = values,
                                        .key = rig_key,
                                        .key_size = sizeof(rig_key) - 1};
    driver->image->create(&create, &error);
    g_assert_no_error(error);
}

/* How QEMU's programs open it. Owned by the caller. */
static inline char *qcow2_qemu(const char *path)
{
    uint8_t head[36] = {0};
    int fd = g_open(path, O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(read(fd, head, sizeof(head)), ==, sizeof(head));
    close(fd);
    if (!head[35]) /* the method of encryption */
        return g_strdup_printf("--image-opts driver=qcow2,file.filename=%s", path);
    return g_strdup_printf("--object secret,id=s,data='%s' --image-opts "
                           "driver=qcow2,file.filename=%s,encrypt.key-secret=s",
                           (const char *)rig_key, path);
}

/* qemu-img finds nothing wrong, not even a leak. */
static inline void qcow2_clean(const char *path)
{
    g_autofree char *how = qcow2_qemu(path);
    if (peer_has("qemu-img"))
        peer_run("qemu-img check -q %s", how);
}

#endif
