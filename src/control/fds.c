/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Descriptors that clients have handed in. */
#include "control/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "control/qmp.h"
#include "os/fd.h"

/* A descriptor in a set. */
struct member {
    int64_t set;
    int fd;
    char *opaque;
    const struct control_fds *client; /* who brought it and is still there; NULL once it has been opened */
};

struct control_fdsets {
    unsigned refs;
    GPtrArray *members; /* of struct member, owned; ordered by set */
};

struct control_fds {
    struct control_fdsets *sets;
    GHashTable *names; /* to descriptors, in pointers */
};

static void free_member(void *data)
{
    struct member *m = data;
    fd_close(&m->fd);
    g_free(m->opaque);
    g_free(m);
}

static void close_named(void *data)
{
    int fd = GPOINTER_TO_INT(data);
    fd_close(&fd);
}

struct control_fdsets *control_fdsets_new(void)
{
    struct control_fdsets *sets = g_new(struct control_fdsets, 1);
    *sets = (struct control_fdsets){.refs = 1, .members = g_ptr_array_new_with_free_func(free_member)};
    return sets;
}

void control_fdsets_unref(struct control_fdsets *sets)
{
    if (--sets->refs)
        return;
    g_ptr_array_unref(sets->members);
    g_free(sets);
}

struct control_fds *control_fds_new(struct control_fdsets *sets)
{
    struct control_fds *fds = g_new(struct control_fds, 1);
    *fds = (struct control_fds){.sets = sets,
                                .names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, close_named)};
    sets->refs++;
    return fds;
}

static struct member *member_at(const struct control_fdsets *sets, unsigned i)
{
    return sets->members->pdata[i];
}

void control_fds_free(struct control_fds *fds)
{
    if (!fds)
        return;
    for (unsigned i = fds->sets->members->len; i-- > 0;)
        if (member_at(fds->sets, i)->client == fds)
            g_ptr_array_remove_index(fds->sets->members, i);
    control_fdsets_unref(fds->sets);
    g_hash_table_unref(fds->names);
    g_free(fds);
}

/* --- names --- */

static bool no_name(const char *name, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "this client has no descriptor named '%.40s'; hand it in with getfd", name);
}

int control_fd_take(struct control_fds *fds, const char *name, GError **error)
{
    void *key, *value;
    if (!g_hash_table_steal_extended(fds->names, name, &key, &value)) {
        no_name(name, error);
        return -1;
    }
    g_free(key);
    return GPOINTER_TO_INT(value);
}

bool control_fds_name(struct control_fds *fds, const char *name, int fd, GError **error)
{
    AUTO_FD given = fd;
    if (!*name || g_ascii_isdigit(*name))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "the name '%.40s' cannot be had: a name is not empty and begins with no digit",
                           name);
    if (g_hash_table_size(fds->names) >= CONTROL_FDS_NAMES_MAX && !g_hash_table_contains(fds->names, name))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "this client has named %d descriptors; close some with closefd",
                           CONTROL_FDS_NAMES_MAX);
    g_hash_table_replace(fds->names, g_strdup(name), GINT_TO_POINTER(fd_steal(&given)));
    return true;
}

bool control_fds_close(struct control_fds *fds, const char *name, GError **error)
{
    return g_hash_table_remove(fds->names, name) || no_name(name, error);
}

/* --- sets --- */

static int64_t lowest_free_set(const struct control_fdsets *sets)
{
    int64_t id = 0;
    for (unsigned i = 0; i < sets->members->len && member_at(sets, i)->set <= id; i++)
        id = member_at(sets, i)->set + 1;
    return id;
}

bool control_fds_add(struct control_fds *fds, int64_t *id, const char *opaque, int fd, GError **error)
{
    AUTO_FD given = fd;
    GPtrArray *members = fds->sets->members;
    if (members->len >= CONTROL_FDS_MEMBERS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "the sets have %d descriptors; remove some with remove-fd",
                           CONTROL_FDS_MEMBERS_MAX);
    if (*id < 0)
        *id = lowest_free_set(fds->sets);
    struct member *m = g_new(struct member, 1);
    *m = (struct member){.set = *id, .fd = fd_steal(&given), .opaque = g_strdup(opaque), .client = fds};
    unsigned at = 0;
    while (at < members->len && member_at(fds->sets, at)->set <= m->set)
        at++;
    g_ptr_array_insert(members, (int)at, m);
    return true;
}

bool control_fds_remove(struct control_fds *fds, int64_t id, int64_t fd, GError **error)
{
    bool found = false;
    for (unsigned i = fds->sets->members->len; i-- > 0;) {
        const struct member *m = member_at(fds->sets, i);
        if (m->set != id || (fd >= 0 && m->fd != fd))
            continue;
        found = true;
        g_ptr_array_remove_index(fds->sets->members, i);
    }
    if (found)
        return true;
    if (fd < 0)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no set %" PRId64, id);
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no descriptor %" PRId64 " in set %" PRId64, fd,
                       id);
}

json_t *control_fdsets_json(const struct control_fdsets *sets)
{
    json_t *list = json_array(), *inner = NULL;
    for (unsigned i = 0; i < sets->members->len; i++) {
        const struct member *m = member_at(sets, i);
        if (!i || member_at(sets, i - 1)->set != m->set) {
            inner = json_array();
            json_array_append_new(list, json_pack("{s:I,s:o}", "fdset-id", (json_int_t)m->set, "fds", inner));
        }
        json_t *row = json_pack("{s:i}", "fd", m->fd);
        if (m->opaque)
            json_object_set_new(row, "opaque", json_string(m->opaque));
        json_array_append_new(inner, row);
    }
    return list;
}

static const char *access_word(int flags)
{
    switch (flags & O_ACCMODE) {
    case O_RDONLY: return "reading";
    case O_WRONLY: return "writing";
    default: return "reading and writing";
    }
}

static int open_set(struct control_fds *fds, int64_t id, int flags, GError **error)
{
    bool found = false;
    for (unsigned i = 0; i < fds->sets->members->len; i++) {
        struct member *m = member_at(fds->sets, i);
        if (m->set != id)
            continue;
        found = true;
        int has = fcntl(m->fd, F_GETFL);
        if (has < 0 || (has & O_ACCMODE) != (flags & O_ACCMODE))
            continue;
        int fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
            hostel_fail(error, HOSTEL_ERROR_HOST, "cannot duplicate a descriptor of set %" PRId64 ": %s", id,
                        g_strerror(errno));
        else
            m->client = NULL;
        return fd;
    }
    if (found)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "no descriptor of set %" PRId64 " is open for %s", id,
                    access_word(flags));
    else
        hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no set %" PRId64 "; make it with add-fd", id);
    return -1;
}

int control_fd_open(struct control_fds *fds, const char *path, int flags, GError **error)
{
    static const char set[] = "/dev/fdset/";
    guint64 id;
    if (g_str_has_prefix(path, "fd:"))
        return control_fd_take(fds, path + strlen("fd:"), error);
    if (g_str_has_prefix(path, set) &&
        g_ascii_string_to_unsigned(path + strlen(set), 10, 0, INT64_MAX, &id, NULL))
        return open_set(fds, (int64_t)id, flags, error);
    hostel_fail(
        error, HOSTEL_ERROR_USAGE,
        "'%.80s' cannot be opened: a guest's process opens no files; hand in a descriptor with add-fd and "
        "say /dev/fdset/N, or with getfd and say fd:NAME",
        path);
    return -1;
}
