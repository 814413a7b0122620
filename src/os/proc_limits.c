/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* How much of the host a process may use, changed while it runs. */
#include "os/proc_limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/error.h"
#include "os/cgroup.h"

static const char proc[] = "/proc";
static const char *const controllers[] = {"cpu", "memory"};

/* --- processors --- */

static bool fail_cpus(const char *text, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "'%.80s': is no list of processors; write it as in 0-3,5",
                       text);
}

/* One "3" or "0-3". */
static bool parse_range(const char *text, cpu_set_t *out)
{
    char *end;
    if (!g_ascii_isdigit(*text))
        return false;
    unsigned long first = strtoul(text, &end, 10), last = first;
    if (*end == '-') {
        if (!g_ascii_isdigit(end[1]))
            return false;
        last = strtoul(end + 1, &end, 10);
    }
    if (*end || first > last || last >= CPU_SETSIZE)
        return false;
    for (; first <= last; first++)
        CPU_SET(first, out);
    return true;
}

bool limits_parse_cpus(const char *text, cpu_set_t *out, GError **error)
{
    cpu_set_t ours;
    if (sched_getaffinity(0, sizeof(ours), &ours))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "the host does not tell its processors: %s",
                           g_strerror(errno));
    *out = ours;
    if (!*text || !strcmp(text, "all"))
        return true;
    CPU_ZERO(out);
    g_auto(GStrv) ranges = g_strsplit(text, ",", -1);
    for (char **range = ranges; *range; range++)
        if (!parse_range(*range, out))
            return fail_cpus(text, error);
    cpu_set_t both;
    CPU_AND(&both, out, &ours);
    return CPU_EQUAL(&both, out) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "'%.80s': not all of these processors are there for us",
                       text);
}

static bool set_affinity(const pid_t *threads, unsigned count, const cpu_set_t *cpus, GError **error)
{
    for (unsigned i = 0; i < count; i++)
        if (sched_setaffinity(threads[i], sizeof(*cpus), cpus) && errno != ESRCH)
            return hostel_fail(error, HOSTEL_ERROR_HOST,
                               "the host does not let thread %d run on these processors: %s", (int)threads[i],
                               g_strerror(errno));
    return true;
}

/* --- nice --- */

static bool set_nice(pid_t pid, int nice, GError **error)
{
    g_autofree char *path = g_strdup_printf("%s/%d/task", proc, (int)pid);
    g_autoptr(GDir) threads = g_dir_open(path, 0, error);
    if (!threads)
        return false;
    for (const char *name; (name = g_dir_read_name(threads));)
        if (setpriority(PRIO_PROCESS, (id_t)atoi(name), nice) && errno != ESRCH)
            return hostel_fail(
                error, HOSTEL_ERROR_HOST,
                "the host does not let us set nice to %d: %s; without rights it can only become higher", nice,
                g_strerror(errno));
    return true;
}

/* --- control groups --- */

static bool set_weight(const struct cgroup *g, unsigned weight, GError **error)
{
    g_autofree char *v1 = g_strdup_printf("%u", MAX(2, weight * 1024 / LIMITS_WEIGHT_DEFAULT)),
                    *v2 = g_strdup_printf("%u", weight);
    return cgroup_version(g) == 1 ? cgroup_write(g, "cpu.shares", v1, error)
                                  : cgroup_write(g, "cpu.weight", v2, error);
}

enum { CAP_PERIOD_US = 100000 };

static bool set_cap(const struct cgroup *g, unsigned percent, GError **error)
{
    const uint64_t quota = (uint64_t)percent * CAP_PERIOD_US / 100;
    g_autofree char *period = g_strdup_printf("%d", CAP_PERIOD_US),
                    *v1 = percent ? g_strdup_printf("%" G_GUINT64_FORMAT, quota) : g_strdup("-1"),
                    *v2 = percent ? g_strdup_printf("%" G_GUINT64_FORMAT " %d", quota, CAP_PERIOD_US)
                                  : g_strdup("max");
    if (cgroup_version(g) == 2)
        return cgroup_write(g, "cpu.max", v2, error);
    return cgroup_write(g, "cpu.cfs_period_us", period, error) &&
           cgroup_write(g, "cpu.cfs_quota_us", v1, error);
}

/* Version 1 has no limit that only slows down: its soft limit is what comes nearest. */
static bool set_memory(const struct cgroup *g, uint64_t bytes, GError **error)
{
    g_autofree char *number = g_strdup_printf("%" G_GUINT64_FORMAT, bytes);
    if (cgroup_version(g) == 2)
        return cgroup_write(g, "memory.high", bytes ? number : "max", error);
    return cgroup_write(g, "memory.soft_limit_in_bytes", bytes ? number : "-1", error);
}

static bool apply_groups(pid_t pid, const char *name, const struct limits *l, GError **error)
{
    if (l->what & (LIMITS_WEIGHT | LIMITS_CAP)) {
        AUTO(cgroup) cpu = cgroup_join(proc, pid, "cpu", name, error);
        if (!cpu || (l->what & LIMITS_WEIGHT && !set_weight(cpu, l->weight, error)) ||
            (l->what & LIMITS_CAP && !set_cap(cpu, l->cap, error)))
            return false;
    }
    if (l->what & LIMITS_MEMORY) {
        AUTO(cgroup) memory = cgroup_join(proc, pid, "memory", name, error);
        if (!memory || !set_memory(memory, l->memory, error))
            return false;
    }
    return true;
}

/* --- all --- */

static bool check(const struct limits *l, GError **error)
{
    if (l->what & LIMITS_WEIGHT && (l->weight < LIMITS_WEIGHT_MIN || l->weight > LIMITS_WEIGHT_MAX))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "a weight of %u: must be %d to %d", l->weight,
                           LIMITS_WEIGHT_MIN, LIMITS_WEIGHT_MAX);
    if (l->what & LIMITS_CAP && l->cap > LIMITS_CAP_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "a cap of %u %%: must be at most %d", l->cap,
                           LIMITS_CAP_MAX);
    if (l->what & LIMITS_NICE && (l->nice < -20 || l->nice > 19))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "nice %d: must be -20 to 19", l->nice);
    return true;
}

bool limits_apply(pid_t pid, const pid_t *threads, unsigned count, const char *name,
                  const struct limits *limits, GError **error)
{
    return check(limits, error) && apply_groups(pid, name, limits, error) &&
           (!(limits->what & LIMITS_AFFINITY) || set_affinity(threads, count, &limits->affinity, error)) &&
           (!(limits->what & LIMITS_NICE) || set_nice(pid, limits->nice, error));
}

char **limits_groups(pid_t pid, const char *name)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(controllers); i++) {
        AUTO(cgroup) g = cgroup_find(proc, pid, controllers[i], name);
        if (g)
            g_ptr_array_add(paths, g_strdup(cgroup_path(g)));
    }
    g_ptr_array_add(paths, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&paths), FALSE);
}

void limits_forget(char *const *groups)
{
    for (; groups && *groups; groups++)
        cgroup_remove(*groups); /* one that somebody is in stays */
}
