/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Files of saved guests, read without trusting whoever made them. */
#include "cli/saved_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/named.h"
#include "cli/stop.h"
#include "codec/compress.h"
#include "codec/packed.h"
#include "codec/saved.h"
#include "os/fd.h"
#include "os/sandbox.h"

enum { ANSWER_MAX = 1 << 20, TICK_US = 100000 };

/* --- in a child --- */

/* What the child is to do: text, owned, or NULL with *error. */
struct task {
    char *(*act)(const struct task *task, GError **error);
    int fd, out;
    bool verify;
    uint64_t limit;
};

static const struct sandbox_profile parser = {.files = 64};

static void answer(int fd, char sign, const char *text)
{
    const size_t size = strlen(text);
    if (write(fd, &sign, 1) != 1)
        return;
    for (size_t done = 0; done < size;) {
        const ssize_t n = write(fd, text + done, size - done);
        if (n < 0 && errno != EINTR)
            return;
        done += n > 0 ? (size_t)n : 0;
    }
}

G_NORETURN static void child(const struct task *task, int fd)
{
    GError *error = NULL;
    struct sandbox sandbox;
    const int keep[] = {task->fd, task->out, fd};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fd_close_all_but(keep, G_N_ELEMENTS(keep));
    char *text = sandbox_enter_as(&sandbox, &parser, &error) ? task->act(task, &error) : NULL;
    if (text)
        answer(fd, '+', text);
    else
        answer(fd, '-', error->message);
    _exit(0);
}

/* All that comes through the pipe, NULL with *error when that is too much or nothing. */
static GString *listen_to(int fd, GError **error)
{
    g_autoptr(GString) said = g_string_new(NULL);
    char bytes[4096];
    for (ssize_t n; (n = read(fd, bytes, sizeof(bytes))) && said->len <= ANSWER_MAX;) {
        if (n < 0 && errno != EINTR)
            break;
        g_string_append_len(said, bytes, MAX(n, 0));
    }
    if (said->len && said->len <= ANSWER_MAX)
        return g_steal_pointer(&said);
    hostel_fail(error, HOSTEL_ERROR_INPUT, "the saved guest cannot be read: %s",
                said->len ? "it tells too much of itself" : "reading it ended with a crash");
    return NULL;
}

/* The text that the task made; owned, NULL with *error. */
static char *do_in_child(const struct task *task, GError **error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make a pipe: %s", g_strerror(errno));
        return NULL;
    }
    const pid_t pid = fork();
    if (!pid) {
        close(ends[0]);
        child(task, ends[1]);
    }
    close(ends[1]);
    if (pid < 0)
        hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make a process: %s", g_strerror(errno));
    g_autoptr(GString) said = pid < 0 ? NULL : listen_to(ends[0], error);
    close(ends[0]);
    if (pid > 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    if (!said)
        return NULL;
    if (said->str[0] == '+')
        return g_strdup(said->str + 1);
    hostel_fail(error, HOSTEL_ERROR_INPUT, "%s", said->str + 1);
    return NULL;
}

/* --- what is in it --- */

static int packed_io_read(void *opaque, void *bytes, size_t size, uint64_t at)
{
    return packed_read(opaque, bytes, size, at);
}

static int packed_io_size(void *opaque, uint64_t *size)
{
    *size = packed_size(opaque);
    return 0;
}

static const struct saved_ops packed_ops = {.read = packed_io_read, .size = packed_io_size};

static char *about_of(struct saved *s, bool verify, GError **error)
{
    if (verify && !saved_verify(s, error))
        return NULL;
    const struct saved_section *about = saved_look(s, SAVED_ABOUT, "guest");
    return about ? g_strndup((const char *)about->bytes, about->size) : g_strdup("");
}

static char *read_about(const struct task *task, GError **error)
{
    AUTO(packed) p = packed_is(task->fd) ? packed_open(task->fd, error) : NULL;
    if (!p && packed_is(task->fd))
        return NULL;
    AUTO(saved)
    s = p ? saved_open_io((struct saved_io){&packed_ops, p}, error) : saved_open(task->fd, error);
    char *text = s ? about_of(s, task->verify, error) : NULL;
    if (!text && p && packed_failed(p)) { /* that is why */
        g_clear_error(error);
        packed_fail(p, error);
    }
    return text;
}

char *saved_file_about(int fd, bool verify, GError **error)
{
    return do_in_child(&(struct task){.act = read_about, .fd = fd, .verify = verify}, error);
}

/* --- to map it --- */

static unsigned processors(void)
{
    return MIN(g_get_num_processors(), 32);
}

static char *unpack(const struct task *task, GError **error)
{
    const struct packed_work work = {.threads = processors()};
    AUTO(packed) p = packed_open(task->fd, error);
    if (!p)
        return NULL;
    if (packed_size(p) > task->limit) {
        hostel_fail(error, HOSTEL_ERROR_INPUT,
                    "the saved guest is %" G_GUINT64_FORMAT
                    " bytes long unpacked, and one of this memory at most "
                    "%" G_GUINT64_FORMAT,
                    packed_size(p), task->limit);
        return NULL;
    }
    return packed_unpack(p, task->out, &work, error) ? g_strdup("") : NULL;
}

int saved_file_scratch(GError **error)
{
    g_autofree char *folder = named_folder();
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        fd = memfd_create("saved", MFD_CLOEXEC);
    if (fd < 0)
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot make a file in it: %s", folder, g_strerror(errno));
    return fd;
}

bool saved_file_unpack(int *fd, uint64_t limit, GError **error)
{
    if (!packed_is(*fd))
        return true;
    AUTO_FD out = saved_file_scratch(error);
    if (out < 0)
        return false;
    g_autofree char *text =
        do_in_child(&(struct task){.act = unpack, .fd = *fd, .out = out, .limit = limit}, error);
    if (!text)
        return false;
    fd_close(fd);
    *fd = fd_steal(&out);
    return true;
}

/* --- making it small --- */

struct packer {
    struct packed_work work;
    _Atomic uint64_t done;
    _Atomic bool ended;
    int in, out;
    bool good;
    GError *error;
};

static void *pack(void *opaque)
{
    struct packer *p = opaque;
    p->good = packed_pack(p->in, p->out, &p->work, &p->error);
    atomic_store(&p->ended, true);
    return NULL;
}

bool saved_file_pack(int in, int out, enum progress_form form, GError **error)
{
    struct stat status = {0};
    struct progress progress;
    struct packer p = {.in = in, .out = out};
    p.work = (struct packed_work){
        .threads = processors(), .level = COMPRESS_LEVEL_DEFAULT, .stop = &cli_stopped, .progress = &p.done};
    fstat(in, &status);
    progress_begin(&progress, form, (uint64_t)status.st_size);
    GThread *thread = g_thread_new("pack", pack, &p);
    for (gint64 shown = g_get_monotonic_time(); !atomic_load(&p.ended); g_usleep(2000))
        if (g_get_monotonic_time() - shown > TICK_US) {
            progress_at(&progress, atomic_load(&p.done));
            shown = g_get_monotonic_time();
        }
    g_thread_join(thread);
    progress_end(&progress, p.good);
    if (p.error)
        g_propagate_error(error, p.error);
    return p.good;
}
