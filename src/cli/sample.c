/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a running guest uses. */
#include "cli/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

enum { PIDS_MAX = 64 };

/* --- the host's view --- */

static char *read_proc(pid_t pid, const char *file)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, file);
    char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? text : NULL;
}

/* User and system time of a process and of its threads. */
static double cpu_of(pid_t pid)
{
    enum { STATE_FIELD = 3, USER_FIELD = 14 };
    g_autofree char *text = read_proc(pid, "stat");
    char *at = text ? strrchr(text, ')') : NULL;
    for (unsigned field = STATE_FIELD - 1; at && field < USER_FIELD; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return 0;
    const unsigned long long user = strtoull(at, &at, 10), system = strtoull(at, NULL, 10);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* A row in KiB of a file of /proc, in bytes; 0 when there is none. */
static uint64_t kib_of(pid_t pid, const char *file, const char *row)
{
    g_autofree char *text = read_proc(pid, file);
    const char *at = text ? strstr(text, row) : NULL;
    return at ? strtoull(at + strlen(row), NULL, 10) * 1024 : 0;
}

/* The VMM and its helpers: those that its supervisor started. */
static unsigned processes_of(const struct guest_state *state, pid_t pids[PIDS_MAX])
{
    unsigned count = 0;
    g_autofree char *file = g_strdup_printf("task/%d/children", (int)state->supervisor.pid);
    g_autofree char *text = read_proc(state->supervisor.pid, file);
    for (char *at = text; at && count < PIDS_MAX;) {
        char *end;
        const long pid = strtol(at, &end, 10);
        if (end == at)
            break;
        pids[count++] = (pid_t)pid;
        at = end;
    }
    if (!count) /* a host without that file */
        pids[count++] = state->vmm.pid;
    return count;
}

/* --- the VMM's view --- */

static uint64_t number(const json_t *object, const char *key)
{
    const json_int_t n = json_integer_value(json_object_get(object, key));
    return n > 0 ? (uint64_t)n : 0;
}

/* What a command returns, owned; NULL when this VMM has none such, or does not answer. */
static json_t *ask(struct guest_call *call, const char *command, bool *alive)
{
    g_autoptr(GError) error = NULL;
    json_t *value = *alive ? guest_call(call, command, NULL, &error) : NULL;
    *alive &= !g_error_matches(error, HOSTEL_ERROR, HOSTEL_ERROR_HOST);
    return value;
}

static void take_disks(struct sample *s, const json_t *disks)
{
    size_t i;
    json_t *disk;
    json_array_foreach(disks, i, disk)
    {
        const json_t *stats = json_object_get(disk, "stats");
        s->disk_read += number(stats, "rd_bytes");
        s->disk_written += number(stats, "wr_bytes");
        s->disk_reads += number(stats, "rd_operations");
        s->disk_writes += number(stats, "wr_operations");
    }
}

static void take_nets(struct sample *s, const json_t *nets)
{
    size_t i;
    json_t *net;
    json_array_foreach(nets, i, net)
    {
        s->net_received += number(net, "rx-bytes");
        s->net_sent += number(net, "tx-bytes");
    }
}

static void take_stats(struct sample *s, const json_t *stats)
{
    const char *key;
    json_t *value;
    s->instructions = number(stats, "instructions");
    s->blocks = number(stats, "blocks-made");
    s->code = number(stats, "code-bytes");
    json_object_foreach(json_object_get(stats, "returns"), key, value) s->exits +=
        (uint64_t)MAX(0, json_integer_value(value));
}

void sample_take(struct sample *s, const struct guest_state *state, struct guest_call *call)
{
    pid_t pids[PIDS_MAX];
    *s = (struct sample){.at = (double)g_get_monotonic_time() / G_USEC_PER_SEC};
    for (unsigned i = 0, n = processes_of(state, pids); i < n; i++) {
        s->cpu += cpu_of(pids[i]);
        s->rss += kib_of(pids[i], "status", "\nVmRSS:");
        s->pss += kib_of(pids[i], "smaps_rollup", "\nPss:");
    }
    bool alive = call != NULL;
    json_t *stats = ask(call, "x-query-stats", &alive), *disks = ask(call, "query-blockstats", &alive),
           *nets = ask(call, "x-query-net", &alive);
    take_stats(s, stats);
    take_disks(s, disks);
    take_nets(s, nets);
    s->answered = alive;
    s->counters = stats != NULL;
    s->disks = disks != NULL;
    s->nets = nets != NULL;
    json_decref(stats);
    json_decref(disks);
    json_decref(nets);
}

/* --- for programs --- */

double sample_rate(const struct sample *before, const struct sample *after, uint64_t first, uint64_t second)
{
    const double seconds = after->at - before->at;
    return second > first && seconds > 0 ? (double)(second - first) / seconds : 0;
}

json_t *sample_json(const struct sample *s)
{
    json_t *json = json_pack("{s:f}", "cpu-seconds", s->cpu);
    if (s->rss)
        json_object_set_new(json, "resident-bytes", json_integer((json_int_t)s->rss));
    if (s->pss)
        json_object_set_new(json, "proportional-bytes", json_integer((json_int_t)s->pss));
#define X(group, field, name)                                                                                \
    if (s->group)                                                                                            \
        json_object_set_new(json, name, json_integer((json_int_t)s->field));
    SAMPLE_COUNTERS(X)
#undef X
    return json;
}

json_t *sample_rates(const struct sample *before, const struct sample *after)
{
    const double seconds = after->at - before->at;
    json_t *json = json_pack("{s:f}", "cpu", seconds > 0 ? (after->cpu - before->cpu) / seconds : 0.0);
#define X(group, field, name)                                                                                \
    if (before->group && after->group)                                                                       \
        json_object_set_new(json, name, json_real(sample_rate(before, after, before->field, after->field)));
    SAMPLE_COUNTERS(X)
#undef X
    return json;
}
