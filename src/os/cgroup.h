/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Control groups of the host, version 1 and 2: where they are, and a group of its own for a process. */
/*
 * Theory of operation
 *
 * A host has one tree of groups (version 2), or one for each controller (version 1), or both, with each
 * controller in one of them. A process's place in each tree is in /proc/PID/cgroup, and where trees are
 * mounted in /proc/PID/mountinfo.
 *
 * A group for one process is made near the place the process has already, so that what the host's
 * administrator has limited stays limited. In version 1 that is right below. In version 2 a group that has
 * members cannot hand controllers to groups below it (except at the root), so the group is made beside, or
 * higher: at the nearest place that hands the controller on, or can be told to, and where we may make a group
 * and move the process to it. Which of these is allowed only trying tells. Without rights there is none; a
 * service manager that hands over ("delegates") a part of the tree gives them.
 *
 * A process in a group of the wanted name is there already.
 */
#ifndef HOSTEL_OS_CGROUP_H
#define HOSTEL_OS_CGROUP_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct cgroup;

/* The group called name (a plain file name) of a controller ("cpu", "memory") that process pid is in from now
 * on; made if need be. proc: "/proc", or what tests put in its place. NULL with *error: no such controller,
 * no rights (and what to do instead). Any thread, as below. */
struct cgroup *cgroup_join(const char *proc, pid_t pid, const char *controller, const char *name,
                           GError **error);
/* The one it is in already; NULL when it is in none of that name. */
struct cgroup *cgroup_find(const char *proc, pid_t pid, const char *controller, const char *name);
void cgroup_free(struct cgroup *g); /* NULL is fine; the host's group stays */
CLEANUP_DEFINE(cgroup, cgroup_free)

int cgroup_version(const struct cgroup *g);
const char *cgroup_path(const struct cgroup *g); /* of its folder */

/* Writes a value to a file of the group, or reads it (owned by the caller, without the end of line). False or
 * NULL with *error. */
bool cgroup_write(const struct cgroup *g, const char *file, const char *value, GError **error);
char *cgroup_read(const struct cgroup *g, const char *file, GError **error);

/* Removes the group, whose processes have ended; waits up to a second for whoever has to take note of that. 0
 * or -errno. */
int cgroup_remove(const char *path);

#endif
