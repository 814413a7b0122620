/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Descriptors that clients have handed in, under the names that commands know them by. */
/*
 * Theory of operation
 *
 * A process that opens no path gets its files by SCM_RIGHTS on the control socket, with QMP's own commands.
 *
 * `getfd` gives a descriptor a name. The name is the client's own: two clients may use the same one. The
 * command that is told the name takes the descriptor, once.
 *
 * `add-fd` puts a descriptor in a set, which all clients see. What opens /dev/fdset/N gets a duplicate of the
 * member that is open for the same kind of access, as often as it likes.
 *
 * When a client goes, its names go, and those of its members of sets that nothing has opened. So a client
 * that ends in the middle of its work leaves nothing behind; members in use stay until they are removed.
 */
#ifndef HOSTEL_CONTROL_FDS_H
#define HOSTEL_CONTROL_FDS_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

/* At most so many names of a client, and members of all sets together. */
enum { CONTROL_FDS_NAMES_MAX = 64, CONTROL_FDS_MEMBERS_MAX = 64 };

struct control_fdsets;
struct control_fds;

/* The sets of a server. Main thread, as all below. */
struct control_fdsets *control_fdsets_new(void);
void control_fdsets_unref(struct control_fdsets *sets);

/* A client's, with the sets it sees. */
struct control_fds *control_fds_new(struct control_fdsets *sets);
void control_fds_free(struct control_fds *fds); /* NULL is fine */
CLEANUP_DEFINE(control_fds, control_fds_free)

/* --- for commands --- */

/* The descriptor of that name, now the caller's; -1 with *error. */
int control_fd_take(struct control_fds *fds, const char *name, GError **error);

/* Opens "/dev/fdset/N" for flags' kind of access (O_RDONLY, O_WRONLY, O_RDWR), or takes "fd:NAME". The
 * descriptor is the caller's; -1 with *error, which for any other path says what to do instead. */
int control_fd_open(struct control_fds *fds, const char *path, int flags, GError **error);

/* --- for getfd and its kind --- */

/* fd is taken in any case. A name that is there already gets the new one instead. */
bool control_fds_name(struct control_fds *fds, const char *name, int fd, GError **error);
bool control_fds_close(struct control_fds *fds, const char *name, GError **error);

/* Adds fd (taken in any case) to set *id, which comes into being; -1 = to a new one, told in *id. opaque is
 * a word of the client's about it (NULL = none). */
bool control_fds_add(struct control_fds *fds, int64_t *id, const char *opaque, int fd, GError **error);

/* The member fd of the set; -1 = the whole set. */
bool control_fds_remove(struct control_fds *fds, int64_t id, int64_t fd, GError **error);

/* [FdsetInfo], owned by the caller. */
json_t *control_fdsets_json(const struct control_fdsets *sets);

#endif
