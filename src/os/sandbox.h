/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a guest's process gives up, and the account of what is in force. */
/*
 * Theory of operation
 *
 * Two steps, because some things can only be given up per thread and some only once everything is set up.
 *
 * sandbox_enter() comes first, before there is a second thread and before a byte of a kernel or firmware file
 * is looked at; threads started later inherit it. From then on the process has no capability and cannot get
 * any, opens no path (Landlock, where the kernel has it), leaves no core file and cannot be traced by its own
 * user.
 *
 * sandbox_lock() comes last, when all threads exist and stand still and before the guest's first instruction.
 * It refuses new executable memory (MDWE, where the kernel has it) and installs one list of system calls over
 * all threads (seccomp_list.def). What is not on the list ends the process. Executable memory is refused
 * twice, because kernels before 6.3 have no MDWE.
 *
 * A feature that the kernel does not have is left out and the account says so; a feature that the kernel has
 * and that fails is an error.
 * There is no switch to turn any of it off. Only builds with a sanitizer go without Landlock, the list of
 * system calls and the protection from being traced, since the sanitizer does such things itself.
 */
#ifndef HOSTEL_OS_SANDBOX_H
#define HOSTEL_OS_SANDBOX_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* One row of a list of system calls. */
struct sandbox_call {
    const char *name;
    int answer;           /* 0: allowed; else it is not done and the caller is told this errno */
    int arg;              /* -1: whatever the arguments are */
    bool unless;          /* another condition: the argument is outside of value .. last */
    uint64_t mask, value; /* the condition: (argument & mask) == value */
    uint64_t last;
};

/* What a kind of process keeps. */
struct sandbox_profile {
    const struct sandbox_call *calls;
    unsigned count;
    unsigned files;   /* descriptors it may have */
    bool tcp_connect; /* Landlock lets it connect; it never lets anybody listen on a new port */
};

/* A guest's process. */
extern const struct sandbox_profile sandbox_vmm;

/* What is in force. */
struct sandbox {
    const struct sandbox_profile *profile;
    bool no_new_privileges;
    bool no_capabilities;
    bool not_dumpable;
    int landlock_abi; /* 0 = the kernel has no Landlock */
    bool mdwe;        /* no new executable memory, by prctl */
    bool seccomp;
    unsigned syscalls;   /* that the list allows */
    const char *missing; /* why seccomp is false; or NULL */
};

/* The first step. Fills *s. The process's only thread. */
bool sandbox_enter_as(struct sandbox *s, const struct sandbox_profile *profile, GError **error);

static inline bool sandbox_enter(struct sandbox *s, GError **error)
{
    return sandbox_enter_as(s, &sandbox_vmm, error);
}

/* The second step. All other threads stand still outside of system calls that are not on the list. */
bool sandbox_lock(struct sandbox *s, GError **error);

#endif
