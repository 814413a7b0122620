/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The program hostel-netd from its arguments to the end of its link. */
#include "net/netd/netd.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "net/netd/hosts.h"
#include "net/netd/outbox.h"
#include "net/netd/stack.h"
#include "os/fd.h"
#include "os/sandbox.h"

enum { EXIT_USAGE = 2 };

/* The guest's flows are descriptors; with libslirp's buffers of 256 KiB for each the worst guest costs that
 * much, and one that finds another way to make libslirp collect memory ends its own network. */
enum { FLOWS_MAX = 1024, FILES_MAX = FLOWS_MAX + 32 + NETD_FORWARDS_MAX };
#define MEMORY_MAX (768 * MiB)

static const struct sandbox_call calls[] = {
#define ALLOW(call) {.name = #call, .arg = -1},
#define ALLOW_IF(call, number, bits, wanted)                                                                 \
    {.name = #call, .arg = (number), .mask = (bits), .value = (wanted)},
#define ANSWER(call, code) {.name = #call, .answer = (code), .arg = -1},
#include "net/netd/calls.def"
#undef ALLOW
#undef ALLOW_IF
#undef ANSWER
};

static const struct sandbox_profile profile = {
    .calls = calls, .count = ARRAY_SIZE(calls), .files = FILES_MAX, .tcp_connect = true};

struct netd {
    struct netd_config config;
    struct netd_hosts hosts;
    struct netd_outbox *out;
    struct netd_stack *stack;
    GArray *fds;     /* of struct pollfd: the link, the watch of addresses, libslirp's */
    uint8_t *memory; /* of a batch of messages */
};

/* --- frames of the guest --- */

/* False: the link is gone. */
static bool read_link(struct netd *d)
{
    struct mmsghdr messages[NET_BATCH];
    struct iovec pieces[NET_BATCH];
    for (unsigned i = 0; i < NET_BATCH; i++) {
        pieces[i] = (struct iovec){d->memory + i * (size_t)NET_MESSAGE_MAX, NET_MESSAGE_MAX};
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &pieces[i], .msg_iovlen = 1}};
    }
    int got = recvmmsg(d->config.link, messages, NET_BATCH, MSG_DONTWAIT, NULL);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    for (int i = 0; i < got; i++) {
        if (!messages[i].msg_len) /* the end: nobody sends empty messages */
            return false;
        if (!(messages[i].msg_hdr.msg_flags & MSG_TRUNC))
            netd_stack_input(d->stack, pieces[i].iov_base, messages[i].msg_len);
    }
    return true;
}

/* --- the loop --- */

enum { FD_LINK, FD_WATCH, FD_COUNT };

/* One turn. False: the link is gone. */
static bool turn(struct netd *d)
{
    unsigned waiting = netd_outbox_count(d->out);
    g_array_set_size(d->fds, FD_COUNT);
    struct pollfd *fixed = (struct pollfd *)(void *)d->fds->data;
    fixed[FD_LINK] =
        (struct pollfd){.fd = d->config.link, .events = (short)(POLLIN | (waiting ? POLLOUT : 0))};
    fixed[FD_WATCH] = (struct pollfd){.fd = d->hosts.watch, .events = POLLIN};
    int timeout = netd_stack_wait(d->stack, d->fds, waiting > NETD_OUTBOX_HIGH);
    int ready = poll((struct pollfd *)(void *)d->fds->data, d->fds->len, timeout);
    if (ready < 0)
        return errno == EINTR || errno == EAGAIN;
    fixed = (struct pollfd *)(void *)d->fds->data;
    if (fixed[FD_WATCH].revents)
        netd_hosts_changed(&d->hosts);
    if (fixed[FD_LINK].revents & (POLLIN | POLLHUP | POLLERR) && !read_link(d))
        return false;
    netd_stack_serve(d->stack, d->fds);
    return netd_outbox_flush(d->out);
}

/* --- bringing up --- */

static void prepare_process(void)
{
    /* A frame is a block of 64 KiB for libslirp: not to be given back to the host each time. A flow has two
     * buffers of 128 KiB and more, of which most is never touched, and they are made bigger before they are
     * used: from the host, which moves them without a copy. */
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    signal(SIGPIPE, SIG_IGN);
}

static bool limit_memory(GError **error)
{
#ifndef HOSTEL_SANITIZED
    const struct rlimit limit = {MEMORY_MAX, MEMORY_MAX};
    if (setrlimit(RLIMIT_DATA, &limit))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot limit memory: %s", g_strerror(errno));
#endif
    (void)error;
    return true;
}

/* Everything before the first frame. */
static bool bring_up(struct netd *d, char **argv, GError **error)
{
    struct sandbox sandbox;
    if (!netd_config_parse(argv + 1, &d->config, error))
        return false;
    if (d->config.link < 0)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "link= is missing; 'hostel run --net user' starts this program");
    fd_close_all_but(&d->config.link, 1);
    int bytes = 1 << 20;
    setsockopt(d->config.link, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    fd_set_nonblock(d->config.link, true);
    if (!netd_hosts_init(&d->hosts, error))
        return false;
    d->out = netd_outbox_new(d->config.link);
    d->stack = netd_stack_new(&d->config, &d->hosts, d->out, error);
    if (!d->stack)
        return false;
    d->fds = g_array_new(FALSE, FALSE, sizeof(struct pollfd));
    d->memory = g_malloc(NET_BATCH * (size_t)NET_MESSAGE_MAX);
    const char *message = g_strerror(EIO); /* reads files when it is first used */
    g_assert(message);
    if (!limit_memory(error) || !sandbox_enter_as(&sandbox, &profile, error) ||
        !sandbox_lock(&sandbox, error))
        return false;
    log_debug(LOG_SANDBOX, "landlock %d, seccomp %d (%u system calls)", sandbox.landlock_abi, sandbox.seccomp,
              sandbox.syscalls);
    return true;
}

/* Tells whoever started us, and lets go of the pipe. */
static void report(const char *text)
{
    if (write(STDOUT_FILENO, text, strlen(text)) < 0)
        log_debug(LOG_NET, "nobody hears: %s", text);
    close(STDOUT_FILENO);
}

static void take_down(struct netd *d)
{
    netd_stack_free(d->stack);
    netd_outbox_free(d->out);
    netd_hosts_fini(&d->hosts);
    if (d->fds)
        g_array_unref(d->fds);
    g_free(d->memory);
    fd_close(&d->config.link);
}

int netd_main(char **argv)
{
    struct netd d = {.config.link = -1, .hosts.watch = -1};
    g_autoptr(GError) error = NULL;
    log_set_program("hostel-netd");
    prepare_process();
    if (!bring_up(&d, argv, &error)) {
        report(error->message);
        take_down(&d);
        return g_error_matches(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE) ? EXIT_USAGE : EXIT_FAILURE;
    }
    report("ready");
    while (turn(&d))
        continue;
    take_down(&d);
    return EXIT_SUCCESS;
}
