/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The list of system calls (seccomp_list.def) made into a filter over all threads of the process. */
#include <errno.h>
#include <seccomp.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/error.h"
#include "os/sandbox_int.h"

struct rule {
    const char *name;
    uint32_t action;
    int arg; /* -1: whatever the arguments are */
    uint64_t mask, value;
};

static const struct rule rules[] = {
#define ALLOW(name) {#name, SCMP_ACT_ALLOW, -1, 0, 0},
#define ALLOW_IF(name, arg, mask, value) {#name, SCMP_ACT_ALLOW, arg, mask, value},
#define ANSWER(name, code) {#name, SCMP_ACT_ERRNO(code), -1, 0, 0},
#include "os/seccomp_list.def"
#undef ALLOW
#undef ALLOW_IF
#undef ANSWER
};

static int add_rule(scmp_filter_ctx filter, const struct rule *r, unsigned *allowed)
{
    int number = seccomp_syscall_resolve_name(r->name);
    if (number < 0) /* not on this architecture */
        return 0;
    *allowed += r->action == SCMP_ACT_ALLOW;
    if (r->arg < 0)
        return seccomp_rule_add_array(filter, r->action, number, 0, NULL);
    struct scmp_arg_cmp cmp = {(unsigned)r->arg, SCMP_CMP_MASKED_EQ, r->mask, r->value};
    return seccomp_rule_add_array(filter, r->action, number, 1, &cmp);
}

bool seccomp_lock(struct sandbox *s, GError **error)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "sandbox: no memory for the list of system calls");
    int status = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    /* A look-up by bisection: a call that a guest makes often does not walk the whole list. */
    if (!status)
        status = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    unsigned allowed = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(rules) && !status; i++)
        status = add_rule(filter, &rules[i], &allowed);
    if (!status)
        status = seccomp_load(filter);
    seccomp_release(filter);
    if (status == -EINVAL || status == -ENOSYS) {
        s->missing = "the kernel has no seccomp filters";
        return true;
    }
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "sandbox: cannot install the list of system calls: %s",
                           g_strerror(-status));
    s->seccomp = true;
    s->syscalls = allowed;
    return true;
}
