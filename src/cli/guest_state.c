/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Where a guest is in its life. */
#include "cli/guest_state.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/guest_saved.h"
#include "cli/named.h"
#include "os/fd.h"

enum { STATE_VERSION = 1, STATE_MAX = 8192, DEATH_MS = 10000 };

void guest_state_fini(struct guest_state *s)
{
    g_free(s->status);
    g_free(s->why);
    g_free(s->isa);
    *s = (struct guest_state){0};
}

/* --- processes --- */

/* The start time in /proc/PID/stat; 0 when there is no such process, or only its exit status is left. */
static uint64_t start_time(pid_t pid)
{
    enum { STATE_FIELD = 3, START_FIELD = 22 };
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    AUTO_FD fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (n <= 0)
        return 0;
    text[n] = '\0';
    char *at = strrchr(text, ')'); /* a program may be called anything */
    if (!at || !at[1] || strchr("ZXx", at[2]))
        return 0;
    for (unsigned field = STATE_FIELD - 1; at && field < START_FIELD; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

struct guest_process guest_process_of(pid_t pid)
{
    return (struct guest_process){pid, start_time(pid)};
}

bool guest_process_runs(const struct guest_process *p)
{
    return p->pid > 0 && p->start && start_time(p->pid) == p->start;
}

int guest_process_open(const struct guest_process *p)
{
    AUTO_FD fd = p->pid > 0 ? (int)syscall(SYS_pidfd_open, p->pid, 0) : -1;
    return guest_process_runs(p) ? fd_steal(&fd) : -1; /* asked when the number cannot change its owner */
}

bool guest_process_kill(const struct guest_process *p, int number)
{
    AUTO_FD fd = guest_process_open(p);
    return fd >= 0 && !syscall(SYS_pidfd_send_signal, fd, number, NULL, 0);
}

/* --- the folder --- */

/* Guests in another data folder than the usual one are others, even when they have the same names. */
static char *runtime_of_all(void)
{
    g_autofree char *usual = g_build_filename(g_get_home_dir(), ".local", "share", NULL);
    const char *data = g_get_user_data_dir();
    if (!strcmp(data, usual))
        return g_build_filename(g_get_user_runtime_dir(), "hostel", "guests", NULL);
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, data, -1);
    g_autofree char *folder = g_strdup_printf("guests-%.16s", sum);
    return g_build_filename(g_get_user_runtime_dir(), "hostel", folder, NULL);
}

char *guest_runtime(const char *name)
{
    g_autofree char *all = runtime_of_all();
    return g_build_filename(all, name, NULL);
}

int guest_runtime_open(const char *name, GError **error)
{
    g_autofree char *path = guest_runtime(name);
    int fd = -1;
    if (!g_mkdir_with_parents(path, 0700))
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make %s: %s", path, g_strerror(errno));
    return fd;
}

void guest_runtime_remove(const char *name)
{
    static const char *const files[] = {"control", "console", "state", "state.new", "groups"};
    g_autofree char *path = guest_runtime(name);
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *file = g_build_filename(path, files[i], NULL);
        unlink(file);
    }
    rmdir(path);
}

/* --- sockets --- */

enum { BACKLOG = 16 };

static int open_socket(int folder, const char *file, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s", folder, file);
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

int guest_runtime_listen(int folder, const char *file)
{
    struct sockaddr_un address;
    AUTO_FD fd = open_socket(folder, file, &address);
    if (fd < 0 || (unlinkat(folder, file, 0) && errno != ENOENT) ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, BACKLOG))
        return -1;
    return fd_steal(&fd);
}

int guest_runtime_connect(const char *name, const char *file)
{
    struct sockaddr_un address;
    g_autofree char *path = guest_runtime(name);
    AUTO_FD folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    AUTO_FD fd = folder >= 0 ? open_socket(folder, file, &address) : -1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
        return -1;
    return fd_steal(&fd);
}

/* --- the note --- */

/* This start of the host: numbers and start times of processes mean something within it. */
static const char *boot_id(void)
{
    static char id[64];
    if (*id)
        return id;
    AUTO_FD fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, id, sizeof(id) - 1) : 0;
    id[n > 0 ? n : 0] = '\0';
    return g_strchomp(id);
}

static json_t *process_json(const struct guest_process *p)
{
    return json_pack("{s:i,s:I}", "pid", (int)p->pid, "start", (json_int_t)p->start);
}

static char *note(const struct guest_state *s)
{
    json_t *json = json_pack("{s:i,s:s,s:s,s:b,s:f,s:f,s:o,s:o,s:i,s:i,s:i,s:I}", "version", STATE_VERSION,
                             "boot", boot_id(), "status", s->status, "foreground", s->foreground, "started",
                             s->started, "since", s->since, "supervisor", process_json(&s->supervisor), "vmm",
                             process_json(&s->vmm), "exit-code", s->exit_code, "signal", s->signal, "cpus",
                             (int)s->cpus, "memory", (json_int_t)s->memory);
    if (s->why)
        json_object_set_new(json, "why", json_string(s->why));
    if (s->isa)
        json_object_set_new(json, "isa", json_string(s->isa));
    json_t *helpers = json_array();
    for (unsigned i = 0; i < GUEST_HELPERS && s->helpers[i].pid; i++)
        json_array_append_new(helpers, process_json(&s->helpers[i]));
    json_object_set_new(json, "helpers", helpers);
    char *text = json_dumps(json, JSON_INDENT(2));
    json_decref(json);
    return text;
}

/* Not synced: after a power cut there are no guests, whatever it says. */
bool guest_state_write(int folder, const struct guest_state *s, GError **error)
{
    char *text = note(s);
    AUTO_FD fd = openat(folder, "state.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t size = text ? strlen(text) : 0;
    bool written = text && fd >= 0 && write(fd, text, size) == (ssize_t)size &&
                   !renameat(folder, "state.new", folder, "state");
    free(text);
    return written || hostel_fail(error, HOSTEL_ERROR_HOST, "cannot write the state of the guest: %s",
                                  g_strerror(errno));
}

static struct guest_process read_process(const json_t *p)
{
    return (struct guest_process){(pid_t)json_integer_value(json_object_get(p, "pid")),
                                  (uint64_t)json_integer_value(json_object_get(p, "start"))};
}

/* Owned; NULL when there is none. */
static json_t *load(const char *name)
{
    char text[STATE_MAX];
    g_autofree char *folder = guest_runtime(name), *path = g_build_filename(folder, "state", NULL);
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
    return n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
}

/* Takes over what the note says. False when there is none, or none that can be understood. */
static bool take_note(struct guest_state *s, const json_t *json)
{
    const char *status = json_string_value(json_object_get(json, "status"));
    if (!status || json_integer_value(json_object_get(json, "version")) != STATE_VERSION)
        return false;
    s->status = g_strdup(status);
    s->why = g_strdup(json_string_value(json_object_get(json, "why")));
    s->isa = g_strdup(json_string_value(json_object_get(json, "isa")));
    s->foreground = json_is_true(json_object_get(json, "foreground"));
    s->started = json_number_value(json_object_get(json, "started"));
    s->since = json_number_value(json_object_get(json, "since"));
    s->supervisor = read_process(json_object_get(json, "supervisor"));
    s->vmm = read_process(json_object_get(json, "vmm"));
    const json_t *helpers = json_object_get(json, "helpers");
    for (size_t i = 0; i < GUEST_HELPERS; i++)
        s->helpers[i] = read_process(json_array_get(helpers, i));
    s->exit_code = (int)json_integer_value(json_object_get(json, "exit-code"));
    s->signal = (int)json_integer_value(json_object_get(json, "signal"));
    s->cpus = (unsigned)json_integer_value(json_object_get(json, "cpus"));
    s->memory = (uint64_t)json_integer_value(json_object_get(json, "memory"));
    return true;
}

/* --- the truth --- */

static void become(struct guest_state *s, const char *status, const char *why)
{
    g_free(s->status);
    s->status = g_strdup(status);
    if (why) {
        g_free(s->why);
        s->why = g_strdup(why);
    }
}

static bool has_ended(const struct guest_state *s)
{
    return !strcmp(s->status, "off") || !strcmp(s->status, "failed") || !strcmp(s->status, "crashed");
}

/* Nobody has the guest, whatever the note says. */
static void judge_left(struct guest_state *s, const char *name, bool same_boot)
{
    if (!has_ended(s)) {
        become(s, "crashed", same_boot ? "its supervisor was killed" : "the host was restarted");
        s->exit_code = -1;
    }
    if (guest_saved_exists(name)) /* its memory lies in a file, and it goes on from there */
        become(s, "saved", NULL);
}

void guest_state_read(const char *name, struct guest_state *out)
{
    *out = (struct guest_state){.exit_code = -1};
    const bool busy = named_is_busy(name); /* before the note: whoever ends writes first, then unlocks */
    json_t *json = load(name);
    const char *boot = json_string_value(json_object_get(json, "boot"));
    const bool same_boot = boot && !strcmp(boot, boot_id());
    if (!take_note(out, json))
        become(out, "off", NULL);
    json_decref(json);
    out->live = busy && same_boot && !has_ended(out) && guest_process_runs(&out->supervisor);
    if (out->live) {
        if (out->vmm.pid && !guest_process_runs(&out->vmm))
            become(out, "ending", NULL);
    } else if (busy) {
        if (!has_ended(out))
            out->exit_code = -1;
        become(out, "busy", NULL);
    } else {
        judge_left(out, name, same_boot);
    }
}

static void await_end_of(const struct guest_process *p)
{
    AUTO_FD fd = guest_process_open(p);
    struct pollfd end = {fd, POLLIN, 0};
    if (fd >= 0)
        poll(&end, 1, DEATH_MS);
}

void guest_state_await_death(const char *name)
{
    AUTO_STATE s = {0};
    json_t *json = load(name);
    const char *boot = json_string_value(json_object_get(json, "boot"));
    if (take_note(&s, json) && boot && !strcmp(boot, boot_id())) {
        await_end_of(&s.vmm);
        for (unsigned i = 0; i < GUEST_HELPERS && s.helpers[i].pid; i++)
            await_end_of(&s.helpers[i]);
    }
    json_decref(json);
}
