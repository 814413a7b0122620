/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a guest's process gives up, except the list of system calls: privileges, files, dumps, executable
 * memory. */
#include "os/sandbox.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "os/sandbox_int.h"

static bool fail(GError **error, const char *what)
{
    return hostel_fail(error, HOSTEL_ERROR_HOST, "sandbox: %s: %s", what, g_strerror(errno));
}

static bool drop_capabilities(struct sandbox *s, GError **error)
{
    /* Emptying the bounding set needs a capability; without it there is nothing to gain from a full one,
     * since no_new_privs forbids to. */
    for (int i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
        prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);

    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capset, &header, none))
        return fail(error, "cannot drop capabilities");
    s->no_capabilities = true;
    return true;
}

static bool set_limits(const struct sandbox_profile *p, GError **error)
{
    struct rlimit none = {0, 0}, files;
    if (setrlimit(RLIMIT_CORE, &none))
        return fail(error, "cannot forbid core files");
    if (getrlimit(RLIMIT_NOFILE, &files))
        return fail(error, "cannot read the limit of open files");
    files.rlim_cur = files.rlim_max = MIN(files.rlim_max, p->files);
    if (setrlimit(RLIMIT_NOFILE, &files))
        return fail(error, "cannot limit open files");
    return true;
}

/* --- Landlock: linux/landlock.h of the oldest host we build on lacks most of it --- */

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self 446
#endif

struct landlock_ruleset {
    uint64_t access_fs, access_net, scoped;
};

/* Rights to TCP ports. */
enum { LANDLOCK_BIND = 1, LANDLOCK_CONNECT = 2 };

/* Everything that a version of Landlock can forbid, but for what the process is for. Version 5 adds ioctl on
 * devices, 6 abstract sockets and signals. */
static struct landlock_ruleset landlock_everything(const struct sandbox_profile *p, int abi)
{
    unsigned fs_rights = abi >= 5 ? 16 : abi >= 3 ? 15 : abi >= 2 ? 14 : 13;
    return (struct landlock_ruleset){
        .access_fs = bits_mask(fs_rights),
        .access_net = abi < 4 ? 0 : LANDLOCK_BIND | (p->tcp_connect ? 0 : LANDLOCK_CONNECT),
        .scoped = abi >= 6 ? bits_mask(2) : 0,
    };
}

static bool landlock(struct sandbox *s, GError **error)
{
    enum { ASK_VERSION = 1 };
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, ASK_VERSION);
    if (abi <= 0) /* not built in, or switched off at boot */
        return true;
    struct landlock_ruleset rules = landlock_everything(s->profile, (int)abi);
    size_t size = abi >= 6   ? sizeof(rules)
                  : abi >= 4 ? offsetof(struct landlock_ruleset, scoped)
                             : offsetof(struct landlock_ruleset, access_net);
    long fd = syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0)
        return fail(error, "cannot make a Landlock ruleset");
    long status = syscall(SYS_landlock_restrict_self, (int)fd, 0);
    int why = errno;
    close((int)fd);
    errno = why;
    if (status)
        return fail(error, "Landlock");
    s->landlock_abi = (int)abi;
    return true;
}

bool sandbox_enter_as(struct sandbox *s, const struct sandbox_profile *profile, GError **error)
{
    *s = (struct sandbox){.profile = profile};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return fail(error, "no_new_privs");
    s->no_new_privileges = true;
    if (!drop_capabilities(s, error) || !set_limits(profile, error))
        return false;
    if (SANITIZED)
        return true;
    if (!landlock(s, error))
        return false;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        return fail(error, "dumpable");
    s->not_dumpable = true;
    return true;
}
