/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel logs`: what a guest's process and its helpers had to say, or what the guest said on its console. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/guest.h"
#include "cli/journal.h"
#include "cli/named.h"
#include "os/fd.h"

enum { LOOK_MS = 100 };

struct log {
    char *path; /* of the journal */
    int fd;     /* -1 = it is not there (yet) */
};

/* Appends what there is behind the file's position, up to a bound. */
static void take(int fd, GString *out)
{
    char bytes[16384];
    while (fd >= 0 && out->len < 4 * JOURNAL_MAX) {
        const ssize_t n = read(fd, bytes, sizeof(bytes));
        if (n <= 0)
            return;
        g_string_append_len(out, bytes, n);
    }
}

static bool print(GString *text)
{
    const bool good = !text->len || (fwrite(text->str, 1, text->len, stdout) == text->len && !fflush(stdout));
    g_string_truncate(text, 0);
    return good;
}

/* Leaves the last lines only. */
static void keep_last(GString *text, unsigned lines)
{
    size_t at = text->len;
    for (unsigned seen = 0; at > 0; at--)
        if (text->str[at - 1] == '\n' && at != text->len && ++seen == lines)
            break;
    g_string_erase(text, 0, (gssize)at);
}

/* The journal may have become the older one meanwhile. */
static void follow_rotation(struct log *log, GString *out)
{
    struct stat mine, now;
    if (stat(log->path, &now) || (log->fd >= 0 && !fstat(log->fd, &mine) && mine.st_ino == now.st_ino))
        return;
    take(log->fd, out);
    fd_close(&log->fd);
    log->fd = open(log->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

static bool follow(struct log *log, const char *name, GString *text)
{
    for (;;) {
        AUTO_STATE state;
        guest_state_read(name, &state); /* before what it wrote last is read */
        take(log->fd, text);
        follow_rotation(log, text);
        take(log->fd, text);
        if (!print(text))
            return false;
        if (!state.live)
            return true;
        guest_await_end(&state, LOOK_MS);
    }
}

int cli_logs(char **argv)
{
    GError *error = NULL;
    AUTO_ARGS args = {.lines = UINT_MAX};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    const char *name = args.names[0];
    if (!named_exists(name)) {
        named_fail_unknown(name, &error);
        return cli_fail(error);
    }
    g_autofree char *all = named_folder();
    g_autofree char *path = g_build_filename(all, name, args.console ? "console.log" : "log", NULL);
    g_autofree char *old = g_strconcat(path, ".1", NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    AUTO_FD before = open(old, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct log log = {path, open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
    take(before, text);
    take(log.fd, text);
    if (args.lines == 0)
        g_string_truncate(text, 0);
    else if (args.lines != UINT_MAX)
        keep_last(text, args.lines);
    bool good = print(text);
    if (good && args.follow)
        good = follow(&log, name, text);
    fd_close(&log.fd);
    return good ? CLI_OK : CLI_FAILURE;
}
