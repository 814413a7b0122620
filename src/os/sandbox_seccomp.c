/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A list of system calls made into a filter over all threads of the process; and a VMM's (seccomp_list.def).
 */
#include <errno.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>

#include "base/bits.h"
#include "base/error.h"
#include "os/sandbox.h"
#include "os/sandbox_int.h"

/* Newer than the headers of the oldest host we build on. */
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#define MDWE_REFUSE_EXEC_GAIN 1

static const struct sandbox_call vmm_calls[] = {
#define ALLOW(call) {.name = #call, .arg = -1},
#define ALLOW_IF(call, number, bits, wanted)                                                                 \
    {.name = #call, .arg = (number), .mask = (bits), .value = (wanted)},
#define ANSWER(call, code) {.name = #call, .answer = (code), .arg = -1},
#define ANSWER_UNLESS(call, number, from, to, code)                                                          \
    {.name = #call, .answer = (code), .arg = (number), .unless = true, .value = (from), .last = (to)},
#include "os/seccomp_list.def"
#undef ALLOW
#undef ALLOW_IF
#undef ANSWER
#undef ANSWER_UNLESS
};

/* A VMM with the most devices has about 40 descriptors. */
const struct sandbox_profile sandbox_vmm = {.calls = vmm_calls, .count = ARRAY_SIZE(vmm_calls), .files = 256};

static int add_call(scmp_filter_ctx filter, const struct sandbox_call *c, unsigned *allowed)
{
    int number = seccomp_syscall_resolve_name(c->name);
    if (number < 0) /* not on this architecture */
        return 0;
    *allowed += !c->answer;
    uint32_t action = c->answer ? SCMP_ACT_ERRNO((uint32_t)c->answer) : SCMP_ACT_ALLOW;
    if (c->arg < 0)
        return seccomp_rule_add_array(filter, action, number, 0, NULL);
    struct scmp_arg_cmp cmp = {(unsigned)c->arg, SCMP_CMP_MASKED_EQ, c->mask, c->value};
    if (c->unless) {
        cmp = (struct scmp_arg_cmp){(unsigned)c->arg, SCMP_CMP_LT, c->value, 0};
        int status = seccomp_rule_add_array(filter, action, number, 1, &cmp);
        if (status)
            return status;
        cmp = (struct scmp_arg_cmp){(unsigned)c->arg, SCMP_CMP_GT, c->last, 0};
    }
    return seccomp_rule_add_array(filter, action, number, 1, &cmp);
}

static bool seccomp_lock(struct sandbox *s, GError **error)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "sandbox: no memory for the list of system calls");
    int status = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    /* A look-up by bisection: a call that a guest makes often does not walk the whole list. */
    if (!status)
        status = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    unsigned allowed = 0;
    for (unsigned i = 0; i < s->profile->count && !status; i++)
        status = add_call(filter, &s->profile->calls[i], &allowed);
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

bool sandbox_lock(struct sandbox *s, GError **error)
{
    if (SANITIZED) {
        s->missing = "built with a sanitizer";
        return true;
    }
    s->mdwe = prctl(PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0;
    return seccomp_lock(s, error);
}
