/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Starting another program with exactly the descriptors meant for it. */
#ifndef HOSTEL_OS_PROCESS_H
#define HOSTEL_OS_PROCESS_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

struct process_start {
    const char *path;     /* absolute */
    char *const *argv;    /* ends with NULL */
    int in, out, err;     /* become 0, 1 and 2; -1 = /dev/null */
    const int *keep;      /* descriptors that it gets under the numbers they have here, */
    size_t n_keep;        /* each at least 3 */
    bool own_session;     /* the terminal's signals do not reach it */
    bool die_with_parent; /* SIGKILL when the calling thread ends */
};

/* Starts a program with default signal handling and no signal blocked. Returns its id, or -1 with *error when
 * it could not be executed. All descriptors stay the caller's. A program with one thread. */
pid_t process_spawn(const struct process_start *start, GError **error);

/* The path of name, which may be a relative path, beside the running program, whichever link that was called
 * through; returned owned, NULL when /proc is not there. */
char *process_sibling(const char *name);

/* The path of what is installed for our programs only: beside the running one in a build's folder, else in
 * the folder of helpers, else NULL; owned. mode: as access() wants it. */
char *process_find_helper(const char *name, int mode);

#endif
