/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest's networks before it starts. */
#include "cli/launch_net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "os/fd.h"
#include "os/process.h"

#define NETD_NAME "hostel-netd"
#define TUN_PATH "/dev/net/tun"

/* --- user --- */

/* The arguments: the keys of --net, and the socket. */
static char **netd_arguments(const struct net_options *n, int link)
{
    GPtrArray *argv = g_ptr_array_new();
    g_ptr_array_add(argv, g_strdup(NETD_NAME));
    g_ptr_array_add(argv, g_strdup_printf("link=%d", link));
    if (n->isolated)
        g_ptr_array_add(argv, g_strdup("isolated=on"));
    if (n->dns)
        g_ptr_array_add(argv, g_strconcat("dns=", n->dns, NULL));
    if (n->mtu)
        g_ptr_array_add(argv, g_strdup_printf("mtu=%u", n->mtu));
    for (unsigned i = 0; n->forwards && i < n->forwards->len; i++)
        g_ptr_array_add(argv, g_strconcat("forward=", n->forwards->pdata[i], NULL));
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(argv, FALSE);
}

/* What it says before it serves: "ready", or why not. Reads to the end of the pipe; owned. */
static char *read_report(int fd)
{
    GString *text = g_string_new(NULL);
    char bytes[512];
    for (;;) {
        ssize_t n = read(fd, bytes, sizeof(bytes));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return g_string_free(text, FALSE);
        g_string_append_len(text, bytes, n);
    }
}

static bool await_ready(pid_t pid, int report, GError **error)
{
    g_autofree char *said = read_report(report);
    if (!strcmp(said, "ready"))
        return true;
    int status = 0;
    waitpid(pid, &status, 0);
    bool usage = WIFEXITED(status) && WEXITSTATUS(status) == 2;
    return hostel_fail(error, usage ? HOSTEL_ERROR_USAGE : HOSTEL_ERROR_HOST, "--net user: %s",
                       *said ? said : "hostel-netd ended before it was ready");
}

static bool start_netd(struct net_options *n, int errors, bool outlive, pid_t *helper, GError **error)
{
    int link[2], report[2];
    g_autofree char *path = launch_find_helper(NETD_NAME, "HOSTEL_NETD", error);
    if (!path)
        return false;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make a socket: %s", g_strerror(errno));
    n->link.fd = link[0];
    AUTO_FD theirs = link[1];
    if (pipe2(report, O_CLOEXEC))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make a pipe: %s", g_strerror(errno));
    AUTO_FD said = report[0];
    g_auto(GStrv) argv = netd_arguments(n, theirs);
    const struct process_start how = {
        .path = path,
        .argv = argv,
        .in = -1,
        .out = report[1],
        .err = errors,
        .keep = &theirs,
        .n_keep = 1,
        .own_session = true,
        .die_with_parent = !outlive,
    };
    pid_t pid = process_spawn(&how, error);
    close(report[1]);
    if (pid > 0)
        *helper = pid;
    return pid > 0 && await_ready(pid, said, error);
}

/* --- tap --- */

static bool tap_fail(const char *name, int why, GError **error)
{
    const char *what = why == EPERM || why == EACCES
                           ? "permission denied: let its owner be you (ip tuntap add NAME mode tap user YOU)"
                       : why == EBUSY  ? "another program has it open"
                       : why == EINVAL ? "it is no tap interface of one queue"
                                       : g_strerror(why);
    return hostel_fail(error, HOSTEL_ERROR_HOST, "--net tap,name=%s: cannot use the interface: %s", name,
                       what);
}

static bool open_tap(struct net_options *n, GError **error)
{
    struct ifreq interface = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    if (strlen(n->tap) >= sizeof(interface.ifr_name) || !*n->tap)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "--net tap,name=%s: names of interfaces have 1 to %zu letters", n->tap,
                           sizeof(interface.ifr_name) - 1);
    /* TUNSETIFF would make a new one, without anything behind it. */
    if (!if_nametoindex(n->tap))
        return hostel_fail(
            error, HOSTEL_ERROR_HOST,
            "--net tap,name=%s: there is no such interface; make it first: ip tuntap add %s mode tap", n->tap,
            n->tap);
    n->link.fd = open(TUN_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (n->link.fd < 0)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "--net tap: cannot open %s: %s", TUN_PATH,
                           g_strerror(errno));
    g_strlcpy(interface.ifr_name, n->tap, sizeof(interface.ifr_name));
    return ioctl(n->link.fd, TUNSETIFF, &interface) == 0 || tap_fail(n->tap, errno, error);
}

static bool take_tap(struct net_options *n, GError **error)
{
    if (!n->tap == !n->fd)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--net tap: give either name=INTERFACE or fd=N");
    if (n->tap)
        return open_tap(n, error);
    n->link.fd = fcntl((int)n->fd, F_DUPFD_CLOEXEC, 3);
    return n->link.fd >= 0 ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "--net tap,fd=%u: is not an open descriptor", n->fd);
}

/* --- either --- */

/* Keys that mean nothing here are refused: whoever writes isolated=on wants it to be so. */
static bool check_keys(const struct net_options *n, GError **error)
{
    bool user = !strcmp(n->backend, "user"), tap = !strcmp(n->backend, "tap");
    const char *wrong = !user && n->forwards      ? "forward"
                        : !user && n->isolated    ? "isolated"
                        : !user && n->dns         ? "dns"
                        : !tap && n->tap          ? "name"
                        : !tap && n->fd           ? "fd"
                        : !tap && !user && n->mac ? "mac"
                        : !tap && !user && n->mtu ? "mtu"
                                                  : NULL;
    return !wrong || hostel_fail(error, HOSTEL_ERROR_USAGE, "--net %s: has no key %s", n->backend, wrong);
}

bool launch_network(struct net_options *n, int errors, bool outlive, pid_t *helper, GError **error)
{
    *helper = 0;
    return check_keys(n, error) &&
           (strcmp(n->backend, "user") != 0 || start_netd(n, errors, outlive, helper, error)) &&
           (strcmp(n->backend, "tap") != 0 || take_tap(n, error));
}

bool launch_networks(struct guest_options *options, int errors, struct vmm_process *vmm, GError **error)
{
    struct net_options *items = options->nets.items;
    for (unsigned i = 0; i < options->nets.count; i++) {
        pid_t helper;
        if (vmm->helper_count == LAUNCH_HELPERS_MAX)
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "--net: no guest has room for that many");
        const bool good = launch_network(&items[i], errors, false, &helper, error);
        if (helper)
            vmm->helpers[vmm->helper_count++] = helper;
        if (!good)
            return false;
    }
    return true;
}
