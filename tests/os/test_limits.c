/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Control groups as fixtures describe them, in both versions; and, where the host lets us, limits of a
 * process. */
#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "os/cgroup.h"
#include "os/proc_limits.h"

/* --- fixtures: folders that look like a host's --- */

struct host {
    char *root, *proc;
};

static void host_new(struct host *h)
{
    h->root = g_dir_make_tmp("hostel-cgroup-XXXXXX", NULL);
    h->proc = g_build_filename(h->root, "proc", NULL);
    g_assert_nonnull(h->root);
}

static void host_free(struct host *h)
{
    const char *argv[] = {"rm", "-rf", h->root, NULL};
    g_assert_true(g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                               NULL, NULL, NULL));
    g_free(h->root);
    g_free(h->proc);
}

/* A file below the root, with its folders. */
static void __attribute__((format(printf, 3, 4)))
put(struct host *h, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *path = g_build_filename(h->root, name, NULL), *folder = g_path_get_dirname(path),
                    *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static char *get(struct host *h, const char *name)
{
    g_autofree char *path = g_build_filename(h->root, name, NULL);
    char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("(none)");
}

#define ASSERT_FILE(h, name, text)                                                                           \
    do {                                                                                                     \
        g_autofree char *assert_text = get(h, name);                                                         \
        g_assert_cmpstr(assert_text, ==, text);                                                              \
    } while (0)

/* A process with this place in the trees; mounts as %s/tree. */
static void put_process(struct host *h, const char *groups, const char *mounts)
{
    put(h, "proc/42/cgroup", "%s", groups);
    g_auto(GStrv) parts = g_strsplit(mounts, "@", -1);
    g_autofree char *text = g_strjoinv(h->root, parts);
    put(h, "proc/42/mountinfo", "%s", text);
}

static void test_version1(void)
{
    struct host h;
    g_autoptr(GError) error = NULL;
    host_new(&h);
    put_process(&h, "4:memory:/m\n3:cpu,cpuacct:/user/one\n1:name=systemd:/\n0::/\n",
                "20 1 0:5 / / rw - ext4 /dev/sda rw\n"
                "30 20 0:6 / @/v1/cpu\\040acct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n"
                "31 20 0:7 / @/v1/memory rw - cgroup cgroup rw,memory\n"
                "32 20 0:8 / @/v2 rw - cgroup2 cgroup2 rw\n");
    put(&h, "v1/cpu acct/user/one/hostel-web/cgroup.procs", "%s", "");
    AUTO(cgroup) g = cgroup_join(h.proc, 42, "cpu", "hostel-web", &error);
    g_assert_no_error(error);
    g_assert_cmpint(cgroup_version(g), ==, 1);
    g_assert_true(g_str_has_suffix(cgroup_path(g), "/v1/cpu acct/user/one/hostel-web"));
    ASSERT_FILE(&h, "v1/cpu acct/user/one/hostel-web/cgroup.procs", "42");
    g_assert_false(cgroup_write(g, "cpu.shares", "5", &error)); /* files of groups are never made */
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_HOST);
    host_free(&h);
}

/* In version 2 the group stands where the controller is handed on. */
static void test_version2(void)
{
    struct host h;
    g_autoptr(GError) error = NULL;
    host_new(&h);
    put_process(&h, "0::/user/session/deep\n", "32 20 0:8 / @/v2 rw,nosuid - cgroup2 cgroup2 rw\n");
    put(&h, "v2/user/session/deep/cgroup.controllers", "memory pids\n"); /* no cpu here, */
    put(&h, "v2/user/session/deep/cgroup.subtree_control", "\n");
    put(&h, "v2/user/session/cgroup.controllers", "cpu memory pids\n"); /* here it is not handed on, */
    put(&h, "v2/user/session/cgroup.subtree_control/is-a-folder", "and cannot be written\n");
    put(&h, "v2/user/cgroup.controllers", "cpuset cpu memory pids\n");
    put(&h, "v2/user/cgroup.subtree_control", "cpuset cpu memory\n"); /* but here */
    put(&h, "v2/user/hostel-web/cgroup.procs", "%s", "");
    put(&h, "v2/user/hostel-web/cpu.max", "%s", "");
    AUTO(cgroup) g = cgroup_join(h.proc, 42, "cpu", "hostel-web", &error);
    g_assert_no_error(error);
    g_assert_cmpint(cgroup_version(g), ==, 2);
    g_assert_true(g_str_has_suffix(cgroup_path(g), "/v2/user/hostel-web"));
    ASSERT_FILE(&h, "v2/user/hostel-web/cgroup.procs", "42");
    g_assert_true(cgroup_write(g, "cpu.max", "5 100", &error));
    ASSERT_FILE(&h, "v2/user/hostel-web/cpu.max", "5 100");
    /* There already: nothing is made below it. */
    put_process(&h, "0::/user/hostel-web\n", "32 20 0:8 / @/v2 rw,nosuid - cgroup2 cgroup2 rw\n");
    AUTO(cgroup) again = cgroup_join(h.proc, 42, "cpu", "hostel-web", &error);
    g_assert_cmpstr(cgroup_path(again), ==, cgroup_path(g));
    AUTO(cgroup) found = cgroup_find(h.proc, 42, "cpu", "hostel-web");
    g_assert_nonnull(found);
    AUTO(cgroup) other = cgroup_find(h.proc, 42, "cpu", "hostel-other");
    g_assert_null(other);
    host_free(&h);
}

/* A group that has the controller and nobody in it can be told to hand it on; of a container only a part is
 * seen. */
static void test_delegated(void)
{
    struct host h;
    g_autoptr(GError) error = NULL;
    host_new(&h);
    put_process(&h, "0::/box/scope\n", "32 20 0:8 /box @/v2 rw - cgroup2 cgroup2 rw\n");
    put(&h, "v2/scope/cgroup.controllers", "cpu\n");
    put(&h, "v2/scope/cgroup.subtree_control", "%s", "");
    put(&h, "v2/scope/hostel-a/cgroup.procs", "%s", "");
    AUTO(cgroup) g = cgroup_join(h.proc, 42, "cpu", "hostel-a", &error);
    g_assert_no_error(error);
    ASSERT_FILE(&h, "v2/scope/cgroup.subtree_control", "+cpu");
    g_assert_true(g_str_has_suffix(cgroup_path(g), "/v2/scope/hostel-a"));
    host_free(&h);
}

static void test_refusals(void)
{
    static const char *const names[] = {"", ".", "..", "a/b", ".x"};
    struct host h;
    GError *error = NULL;
    host_new(&h);
    g_assert_null(cgroup_join(h.proc, 42, "cpu", "hostel-a", &error)); /* no such process */
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_UNSUPPORTED);
    g_clear_error(&error);
    put_process(&h, "0::/x\nnonsense\n1:\n",
                "nonsense\n32 20 0:8 / @/v2 rw - cgroup2 cgroup2 rw\n1 2 3 - \n");
    put(&h, "v2/x/cgroup.controllers", "memory\n");
    g_assert_null(cgroup_join(h.proc, 42, "cpu", "hostel-a", &error));
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_HOST);
    g_assert_nonnull(strstr(error->message, "systemd-run"));
    g_clear_error(&error);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_assert_null(cgroup_join(h.proc, 42, "memory", names[i], &error));
        g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
        g_clear_error(&error);
    }
    host_free(&h);
}

static void test_cpu_lists(void)
{
    static const char *const bad[] = {"x",      "0-", "-1", "1-0", "0,,0", "0,", "99999999999999999999",
                                      "0-5000", "0 "};
    cpu_set_t ours, set;
    GError *error = NULL;
    sched_getaffinity(0, sizeof(ours), &ours);
    g_assert_true(limits_parse_cpus("", &set, &error) && CPU_EQUAL(&set, &ours));
    g_assert_true(limits_parse_cpus("all", &set, &error) && CPU_EQUAL(&set, &ours));
    int first = 0;
    while (!CPU_ISSET(first, &ours))
        first++;
    g_autofree char *one = g_strdup_printf("%d-%d,%d", first, first, first);
    g_assert_true(limits_parse_cpus(one, &set, &error));
    g_assert_true(CPU_COUNT(&set) == 1 && CPU_ISSET(first, &set));
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(limits_parse_cpus(bad[i], &set, &error));
        g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
        g_clear_error(&error);
    }
}

/* --- a real process --- */

static pid_t spinner(void)
{
    const pid_t pid = fork();
    if (!pid) {
        alarm(20);
        for (volatile unsigned i = 0;; i++)
            ;
    }
    g_assert_cmpint(pid, >, 0);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void test_nice_and_affinity(void)
{
    struct limits l = {.what = LIMITS_NICE | LIMITS_AFFINITY, .nice = 7};
    cpu_set_t now;
    g_autoptr(GError) error = NULL;
    const pid_t pid = spinner();
    sched_getaffinity(pid, sizeof(now), &now);
    CPU_ZERO(&l.affinity);
    for (int i = 0; !CPU_COUNT(&l.affinity); i++)
        if (CPU_ISSET(i, &now))
            CPU_SET(i, &l.affinity);
    g_assert_true(limits_apply(pid, &pid, 1, "hostel-test", &l, &error));
    sched_getaffinity(pid, sizeof(now), &now);
    g_assert_true(CPU_EQUAL(&now, &l.affinity));
    g_assert_cmpint(getpriority(PRIO_PROCESS, (id_t)pid), ==, 7);
    static const struct limits wrong[] = {{.what = LIMITS_NICE, .nice = 20},
                                          {.what = LIMITS_WEIGHT, .weight = 0},
                                          {.what = LIMITS_WEIGHT, .weight = 10001},
                                          {.what = LIMITS_CAP, .cap = 1000001}};
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_clear_error(&error);
        g_assert_false(limits_apply(pid, &pid, 1, "hostel-test", &wrong[i], &error));
        g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
    }
    end(pid);
}

/* Processor time of the child so far, s. */
static double cpu_seconds(pid_t pid)
{
    clockid_t clock;
    struct timespec t;
    g_assert_cmpint(clock_getcpuclockid(pid, &clock), ==, 0);
    g_assert_cmpint(clock_gettime(clock, &t), ==, 0);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A cap holds: whatever else runs here can only make it slower. */
static void test_cap(void)
{
    struct limits l = {.what = LIMITS_CAP | LIMITS_WEIGHT | LIMITS_MEMORY,
                       .cap = 10,
                       .weight = 50,
                       .memory = UINT64_C(1) << 30};
    GError *error = NULL;
    const pid_t pid = spinner();
    g_autofree char *name = g_strdup_printf("hostel-test-%d", (int)pid);
    if (!limits_apply(pid, &pid, 1, name, &l, &error)) {
        end(pid);
        g_test_skip(error->message);
        g_error_free(error);
        return;
    }
    g_auto(GStrv) groups = limits_groups(pid, name);
    g_assert_cmpuint(g_strv_length(groups), >=, 1);
    AUTO(cgroup) g = cgroup_find("/proc", pid, "cpu", name);
    const bool first = cgroup_version(g) == 1;
    g_autofree char *told = cgroup_read(g, first ? "cpu.cfs_quota_us" : "cpu.max", NULL);
    g_autofree char *share = cgroup_read(g, first ? "cpu.shares" : "cpu.weight", NULL);
    g_assert_cmpstr(told, ==, first ? "10000" : "10000 100000");
    g_assert_cmpstr(share, ==, first ? "512" : "50");
    const double from = cpu_seconds(pid);
    const gint64 began = g_get_monotonic_time();
    while (g_get_monotonic_time() < began + 1500000)
        g_usleep(10000);
    const double wall = (double)(g_get_monotonic_time() - began) / 1e6, used = cpu_seconds(pid) - from;
    g_assert_cmpfloat(used, <, 0.3 * wall);
    l = (struct limits){.what = LIMITS_CAP, .cap = 0};
    g_assert_true(limits_apply(pid, &pid, 1, name, &l, &error));
    g_auto(GStrv) same = limits_groups(pid, name);
    g_assert_cmpstr(same[0], ==, groups[0]); /* not one below the other */
    end(pid);
    limits_forget(groups);
    for (char **path = groups; *path; path++)
        g_assert_false(g_file_test(*path, G_FILE_TEST_EXISTS));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cgroup/version1", test_version1);
    g_test_add_func("/cgroup/version2", test_version2);
    g_test_add_func("/cgroup/delegated", test_delegated);
    g_test_add_func("/cgroup/refusals", test_refusals);
    g_test_add_func("/limits/cpu-lists", test_cpu_lists);
    g_test_add_func("/limits/nice-and-affinity", test_nice_and_affinity);
    g_test_add_func("/limits/cap", test_cap);
    return g_test_run();
}
