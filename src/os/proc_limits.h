/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* How much of the host a process may use, changed while it runs: processors, shares, caps, memory. */
#ifndef HOSTEL_OS_PROC_LIMITS_H
#define HOSTEL_OS_PROC_LIMITS_H

#include <glib.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What is to be changed; the rest stays as it is. */
enum limits_what {
    LIMITS_AFFINITY = 1,
    LIMITS_WEIGHT = 2,
    LIMITS_CAP = 4,
    LIMITS_NICE = 8,
    LIMITS_MEMORY = 16,
};

enum {
    LIMITS_WEIGHT_MIN = 1,
    LIMITS_WEIGHT_DEFAULT = 100,
    LIMITS_WEIGHT_MAX = 10000,
    LIMITS_CAP_MAX = 1000000, /* percent: ten thousand processors */
};

struct limits {
    unsigned what;      /* enum limits_what */
    cpu_set_t affinity; /* host processors that the threads may run on */
    unsigned weight;    /* share of the processors when they are short, relative to others' 100 */
    unsigned cap;       /* of processor time, in percent of one processor; 0 = none */
    int nice;           /* -20 .. 19, of all threads */
    uint64_t memory;    /* bytes beyond which the host takes memory back harder; 0 = no such limit */
};

/* "0-3,5"; "" or "all" = every one the calling process may use. False with *error. */
bool limits_parse_cpus(const char *text, cpu_set_t *out, GError **error);

/* Changes limits of process pid: affinity of the threads given (its vCPUs), everything else of all of it.
 * name, a plain file name, is that of the control groups. False with *error at the first that the host does
 * not allow; those before it, in the order weight, cap, memory, affinity, nice, are in force. Not from within
 * what is limited. */
bool limits_apply(pid_t pid, const pid_t *threads, unsigned count, const char *name,
                  const struct limits *limits, GError **error);

/* The paths of pid's control groups of that name, with which limits_forget() removes them when it has ended;
 * owned by the caller. */
char **limits_groups(pid_t pid, const char *name);
void limits_forget(char *const *groups);

#endif
