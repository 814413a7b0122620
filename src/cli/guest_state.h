/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Where a guest is in its life: as its supervisor notes it down, and as it truly is. */
/*
 * Theory of operation
 *
 * Below the user's runtime folder every guest that ran since the host was started has one of its own:
 *
 *   control   socket that speaks QMP, for any number of clients; the VMM listens
 *   console   socket: the console's bytes; the supervisor listens
 *   state     JSON, replaced as a whole by the supervisor at every change
 *
 * A note is no proof. A supervisor that was killed cannot write that it was, and a number that was a process
 * is another one's later. So whoever reads the state asks two things besides: is the guest's lock held
 * (named.h), and are the processes that the note names, each by its number *and* the time when it was
 * started, those that run now? Nothing is written by readers, and nobody has to clean up after a crash.
 */
#ifndef HOSTEL_CLI_GUEST_STATE_H
#define HOSTEL_CLI_GUEST_STATE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A process that cannot be taken for another one with the same number. */
struct guest_process {
    pid_t pid;      /* 0 = none */
    uint64_t start; /* clock ticks after the host's start (proc(5), starttime) */
};

enum { GUEST_HELPERS = 32 };

struct guest_state {
    /* Live: "starting", then what QMP's query-status says, such as "running" and "paused"; "ending".
     * Else "off", "failed" (it ended with an exit code), "crashed", "saved"; "busy": somebody makes, changes
     * or removes it. Owned, as all below. */
    char *status;
    char *why; /* it ended; NULL = it did not, or it never ran */
    bool live; /* a supervisor has it */
    bool foreground;
    double started, since; /* of this run, of this status: seconds since 1970; 0 = never */
    struct guest_process supervisor, vmm;
    struct guest_process helpers[GUEST_HELPERS]; /* of its networks; the first without a number ends them */
    int exit_code;                               /* of the last run, as `hostel run` would end; -1 = none */
    int signal;                                  /* that ended the VMM; 0 = none did */
    char *isa;
    unsigned cpus;
    uint64_t memory; /* bytes */
};

void guest_state_fini(struct guest_state *s);
#define AUTO_STATE __attribute__((cleanup(guest_state_fini))) struct guest_state

/* The folder of a guest's sockets and state; owned by the caller. */
char *guest_runtime(const char *name);

/* Makes it, when it is not there, and opens it. -1 with *error. */
int guest_runtime_open(const char *name, GError **error);

/* Removes it with what is in it. */
void guest_runtime_remove(const char *name);

/* A socket in the open runtime folder that listens, and a connection to one of a guest's; -1 with errno. A
 * path may be longer than an address has room for, so both go through the folder's descriptor. */
int guest_runtime_listen(int folder, const char *file);
int guest_runtime_connect(const char *name, const char *file);

/* Replaces the note in the open runtime folder. */
bool guest_state_write(int folder, const struct guest_state *s, GError **error);

/* The truth about the guest called that, now. Waits for nobody. The guest need not be there. */
void guest_state_read(const char *name, struct guest_state *out);

/* Waits until nothing is left of a run whose supervisor was killed: the VMM dies with it, but not at once. We
 * hold the guest's lock. */
void guest_state_await_death(const char *name);

/* The process of this number as it is now. */
struct guest_process guest_process_of(pid_t pid);

/* Does it run? One that has ended and was not waited for does not. */
bool guest_process_runs(const struct guest_process *p);

/* A descriptor of it (pidfd_open(2)), which becomes readable when it ends; -1 when it has ended. */
int guest_process_open(const struct guest_process *p);

/* Sends it a signal. False when it has ended. */
bool guest_process_kill(const struct guest_process *p, int number);

#endif
