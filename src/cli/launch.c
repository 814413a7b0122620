/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Opens a guest's files, connects sockets, starts its VMM. */
#include "cli/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/launch_disk.h"
#include "cli/launch_net.h"
#include "cli/saved_file.h"
#include "os/fd.h"
#include "os/process.h"

#define VMM_NAME "hostel-vmm"

char *launch_find_helper(const char *name, const char *variable, GError **error)
{
    const char *named = g_getenv(variable);
    if (named)
        return g_strdup(named);
    char *found = process_find_helper(name, X_OK);
    if (found)
        return found;
    hostel_fail(error, HOSTEL_ERROR_HOST,
                "cannot find the program %s beside hostel or in %s; install Hostel again", name,
                HOSTEL_LIBEXECDIR);
    return NULL;
}

char *launch_find_vmm(GError **error)
{
    return launch_find_helper(VMM_NAME, "HOSTEL_VMM", error);
}

static const char *advice(int why)
{
    switch (why) {
    case ENOENT: return "check its path";
    case EACCES: return "make it readable for you";
    default: return "give another file";
    }
}

bool launch_open_input(const char *option, struct option_file *file, GError **error)
{
    if (!file->name)
        return true;
    /* Non-blocking, so that a named pipe does not make us wait for a writer before it is refused. */
    file->fd = open(file->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    if (file->fd < 0 || fstat(file->fd, &status))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "--%s %s: cannot open it: %s; %s", option, file->name,
                           g_strerror(errno), advice(errno));
    if (!S_ISREG(status.st_mode))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "--%s %s: is %s; give a file", option, file->name,
                           S_ISDIR(status.st_mode) ? "a directory" : "not a regular file");
    if (status.st_size == 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "--%s %s: is empty; give another file", option,
                           file->name);
    return true;
}

/* A bank of flash: nobody else may write the file meanwhile, or read it while the guest may write. The lock
 * is the open file's, so the VMM holds it. */
static bool open_flash(const struct flash_options *flash, struct option_file *file, GError **error)
{
    struct stat status;
    int mode = flash->readonly ? O_RDONLY : O_RDWR;
    file->fd = open(file->name, mode | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file->fd < 0 || fstat(file->fd, &status))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "--flash file=%s: cannot open it%s: %s; %s", file->name,
                           flash->readonly ? "" : " for writing", g_strerror(errno),
                           errno == EACCES && !flash->readonly ? "make it writable or add readonly=on"
                                                               : advice(errno));
    if (!S_ISREG(status.st_mode))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "--flash file=%s: is %s; give a file", file->name,
                           S_ISDIR(status.st_mode) ? "a directory" : "not a regular file");
    if (flock(file->fd, (flash->readonly ? LOCK_SH : LOCK_EX) | LOCK_NB))
        return hostel_fail(error, HOSTEL_ERROR_HOST,
                           "--flash file=%s: another guest uses it; give a copy, or readonly=on to both",
                           file->name);
    return true;
}

/* A channel is connected before the guest starts; whoever listens is there first. */
static bool open_channel(const char *name, struct option_file *file, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(file->name) >= sizeof(address.sun_path))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "--channel socket=%s: a socket's path has at most %zu bytes", file->name,
                           sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, file->name, strlen(file->name));
    file->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return (file->fd >= 0 && !connect(file->fd, (struct sockaddr *)&address, sizeof(address))) ||
           hostel_fail(error, HOSTEL_ERROR_HOST,
                       "--channel socket=%s: cannot connect it: %s; start what listens "
                       "there for %s first",
                       file->name, g_strerror(errno), name);
}

static bool open_lists(struct guest_options *o, GError **error)
{
    struct flash_options *flash = o->flash.items;
    struct fw_cfg_options *fw_cfg = o->fw_cfg.items;
    struct channel_options *channels = o->channels.items;
    for (unsigned i = 0; i < o->flash.count; i++)
        if (!open_flash(&flash[i], &flash[i].file, error))
            return false;
    for (unsigned i = 0; i < o->fw_cfg.count; i++)
        if (!launch_open_input("fw-cfg", &fw_cfg[i].file, error))
            return false;
    for (unsigned i = 0; i < o->disks.count; i++)
        if (!launch_disk(o, i, error))
            return false;
    for (unsigned i = 0; i < o->channels.count; i++)
        if (!open_channel(channels[i].name, &channels[i].socket, error))
            return false;
    return true;
}

/* Last of the files, so that a wrong one among the others leaves no trace. */
static bool open_console_file(struct option_console *console, GError **error)
{
    if (console->kind != CONSOLE_FILE)
        return true;
    struct option_file *file = &console->file;
    file->fd = open(file->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
    return file->fd >= 0 ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "--console file=%s: cannot write it: %s; %s", file->name,
                       g_strerror(errno), errno == ENOENT ? "make its directory first" : "give another file");
}

/* Where a guest's memory would be written. What it holds is replaced only when that happens. */
static bool open_dump_file(struct option_file *file, GError **error)
{
    if (!file->name)
        return true;
    file->fd = open(file->name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    return file->fd >= 0 ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "--dump-file %s: cannot write it: %s; %s", file->name,
                       g_strerror(errno), errno == ENOENT ? "make its directory first" : "give another file");
}

/* A pair of connected sockets, one for each side; *theirs is owned by the options. */
static bool connect_pair(int *ours, int *theirs, GError **error)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make a socket: %s", g_strerror(errno));
    *ours = pair[0];
    *theirs = pair[1];
    return true;
}

/* More than a guest's memory and chips ever take. */
static uint64_t saved_limit(const struct guest_options *o)
{
    return o->memory + GiB;
}

static bool open_incoming(struct guest_options *o, GError **error)
{
    if (!launch_open_input("incoming", &o->incoming, error))
        return false;
    if (o->incoming.fd < 0 || saved_file_unpack(&o->incoming.fd, saved_limit(o), error))
        return true;
    g_prefix_error(error, "%s: ", o->incoming.name ? o->incoming.name : "--incoming");
    return false;
}

static bool open_everything(struct guest_options *o, struct vmm_process *out, GError **error)
{
    if (!open_incoming(o, error) || !launch_open_input("kernel", &o->kernel, error) ||
        !launch_open_input("initrd", &o->initrd, error) ||
        !launch_open_input("firmware", &o->firmware, error) || !open_lists(o, error) ||
        !open_console_file(&o->console, error) || !open_dump_file(&o->dump_file, error))
        return false;
    if (o->console.kind == CONSOLE_STDIO) {
        if (!connect_pair(&out->console, &o->console.file.fd, error))
            return false;
        fd_set_nonblock(out->console, true);
    }
    return connect_pair(&out->control, &o->control.fd, error);
}

/* errors: where the VMM writes what there is to say. */
static bool start(const char *path, const struct guest_options *o, int errors, struct vmm_process *out,
                  GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_ptr_array_add(argv, g_strdup(VMM_NAME));
    option_to_vmm(guest_option_rows, o, argv, fds);
    g_ptr_array_add(argv, NULL);
    struct process_start how = {
        .path = path,
        .argv = (char *const *)argv->pdata,
        .in = -1,
        .out = -1,
        .err = errors,
        .keep = (const int *)(const void *)fds->data,
        .n_keep = fds->len,
        .own_session = true,
        .die_with_parent = true,
    };
    out->pid = process_spawn(&how, error);
    return out->pid > 0;
}

/* The pipe that we read messages from; the end to write to is the caller's. -1 with *error. */
static int open_errors(struct vmm_process *out, GError **error)
{
    int errors[2];
    if (pipe2(errors, O_CLOEXEC)) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make a pipe: %s", g_strerror(errno));
        return -1;
    }
    out->errors = errors[0];
    return errors[1];
}

bool launch_vmm(struct guest_options *options, struct vmm_process *out, GError **error)
{
    *out = (struct vmm_process){.pid = -1, .console = -1, .control = -1, .errors = -1};
    g_autofree char *path = launch_find_vmm(error);
    AUTO_FD errors = path ? open_errors(out, error) : -1;
    if (errors >= 0 && open_everything(options, out, error) && launch_networks(options, errors, out, error) &&
        start(path, options, errors, out, error))
        return true;
    fd_close(&out->console);
    fd_close(&out->control);
    fd_close(&out->errors);
    return false;
}
