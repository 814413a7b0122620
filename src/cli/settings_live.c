/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Keys of `hostel set` that change a guest while it runs. */
/*
 * Limits of the host's are set on the guest's process from outside. Its control groups are named after the
 * run, so that no two guests share one, and noted in the runtime folder (`groups`): whoever ends the run
 * removes them, and after a crash whoever begins the next.
 */
#include "cli/settings_live.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/option.h"
#include "os/fd.h"
#include "os/proc_limits.h"

enum { THREADS_MAX = 512, NOTE_MAX = 16384, NICE_MIN = -20, NICE_MAX = 19 };

/* --- values --- */

static bool parse_number(const char *text, long least, long most, long *number, GError **error)
{
    char *end;
    *number = strtol(text, &end, 10);
    return (end != text && !*end && *number >= least && *number <= most) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "'%s' is no number from %ld to %ld", text, least, most);
}

static bool parse_size(const char *text, uint64_t *bytes, GError **error)
{
    enum { LEAST = 1 << 20 };
    return (option_parse_size(text, bytes) && *bytes >= LEAST) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "'%s' is no size of 1M or more, such as 512M", text);
}

bool live_check_size(const char *value, GError **error)
{
    uint64_t bytes;
    return parse_size(value, &bytes, error);
}

bool live_check_cpus(const char *value, GError **error)
{
    cpu_set_t cpus;
    return limits_parse_cpus(value, &cpus, error);
}

bool live_check_weight(const char *value, GError **error)
{
    long number;
    return parse_number(value, LIMITS_WEIGHT_MIN, LIMITS_WEIGHT_MAX, &number, error);
}

bool live_check_cap(const char *value, GError **error)
{
    long number;
    return parse_number(value, 1, LIMITS_CAP_MAX, &number, error);
}

bool live_check_nice(const char *value, GError **error)
{
    long number;
    return parse_number(value, NICE_MIN, NICE_MAX, &number, error);
}

/* --- through the guest's process --- */

static struct guest_call *call_of(struct setting_live *live, GError **error)
{
    if (!live->call)
        live->call = guest_call_open(live->name, GUEST_CALL_MS, error);
    return live->call;
}

bool live_set_memory_target(struct setting_live *live, const char *value, GError **error)
{
    uint64_t bytes = live->state->memory;
    return call_of(live, error) && (!value || parse_size(value, &bytes, error)) &&
           guest_call_do(live->call, "balloon", json_pack("{s:I}", "value", (json_int_t)bytes), error);
}

/* The threads of its vCPUs. It says their numbers, so each is looked for among its own. */
static bool find_threads(struct setting_live *live, pid_t *threads, unsigned *count, GError **error)
{
    json_t *cpus = call_of(live, error) ? guest_call(live->call, "query-cpus-fast", NULL, error) : NULL, *cpu;
    size_t i;
    *count = 0;
    json_array_foreach(cpus, i, cpu)
    {
        const pid_t thread = (pid_t)json_integer_value(json_object_get(cpu, "thread-id"));
        g_autofree char *path = g_strdup_printf("/proc/%d/task/%d", (int)live->state->vmm.pid, (int)thread);
        if (*count < THREADS_MAX && g_file_test(path, G_FILE_TEST_IS_DIR))
            threads[(*count)++] = thread;
    }
    json_decref(cpus);
    return cpus != NULL;
}

/* --- from outside --- */

/* Notes the groups, for live_forget(). */
static bool note_groups(const struct setting_live *live, const char *group, GError **error)
{
    g_auto(GStrv) groups = limits_groups(live->state->vmm.pid, group);
    g_autofree char *text = g_strjoinv("\n", groups), *folder = guest_runtime(live->name),
                    *path = g_build_filename(folder, "groups", NULL);
    return g_file_set_contents(path, text, -1, error);
}

static bool limit(const struct setting_live *live, const pid_t *threads, unsigned count,
                  const struct limits *limits, GError **error)
{
    const pid_t pid = live->state->vmm.pid;
    g_autofree char *group = g_strdup_printf("hostel-%s-%d", live->name, (int)pid);
    if (!guest_process_runs(&live->state->vmm))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "guest '%s' has ended", live->name);
    const bool good = limits_apply(pid, threads, count, group, limits, error);
    return note_groups(live, group, good ? error : NULL) && good; /* those that were made in any case */
}

bool live_set_affinity(struct setting_live *live, const char *value, GError **error)
{
    pid_t threads[THREADS_MAX];
    unsigned count;
    struct limits limits = {.what = LIMITS_AFFINITY};
    return limits_parse_cpus(value ? value : "", &limits.affinity, error) &&
           find_threads(live, threads, &count, error) && limit(live, threads, count, &limits, error);
}

bool live_set_weight(struct setting_live *live, const char *value, GError **error)
{
    long number = LIMITS_WEIGHT_DEFAULT;
    if (value && !parse_number(value, LIMITS_WEIGHT_MIN, LIMITS_WEIGHT_MAX, &number, error))
        return false;
    return limit(live, NULL, 0, &(struct limits){.what = LIMITS_WEIGHT, .weight = (unsigned)number}, error);
}

bool live_set_cap(struct setting_live *live, const char *value, GError **error)
{
    long number = 0;
    if (value && !parse_number(value, 1, LIMITS_CAP_MAX, &number, error))
        return false;
    return limit(live, NULL, 0, &(struct limits){.what = LIMITS_CAP, .cap = (unsigned)number}, error);
}

bool live_set_nice(struct setting_live *live, const char *value, GError **error)
{
    long number = 0;
    if (value && !parse_number(value, NICE_MIN, NICE_MAX, &number, error))
        return false;
    return limit(live, NULL, 0, &(struct limits){.what = LIMITS_NICE, .nice = (int)number}, error);
}

bool live_set_memory_limit(struct setting_live *live, const char *value, GError **error)
{
    uint64_t bytes = 0;
    if (value && !parse_size(value, &bytes, error))
        return false;
    return limit(live, NULL, 0, &(struct limits){.what = LIMITS_MEMORY, .memory = bytes}, error);
}

void live_forget(int runtime)
{
    char text[NOTE_MAX];
    AUTO_FD fd = openat(runtime, "groups", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (n < 0)
        return;
    text[n] = '\0';
    g_auto(GStrv) groups = g_strsplit(text, "\n", -1);
    limits_forget(groups);
    unlinkat(runtime, "groups", 0);
}
