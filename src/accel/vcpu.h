/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One vCPU and the set of them, as accelerators see them: threads, parking, kicking, waiting. */
/*
 * Theory of operation
 *
 * vcpus.c owns the threads. A vCPU's thread loops: wait until it may run (the set runs and it is online),
 * then accel->run() until that returns, which it must do soon after ENV_EXIT_STOP is seen. "Parked" means the
 * thread stands in that wait, under the set's lock.
 *
 * Kicking is a bit in env->exit_request. A vCPU that waits for an interrupt sleeps on that very word (futex),
 * so no wake-up can be lost: the kicker sets the bit first and looks for a sleeper after, the sleeper
 * announces itself first and looks at the bit after.
 */
#ifndef HOSTEL_ACCEL_VCPU_H
#define HOSTEL_ACCEL_VCPU_H

#include <time.h>

#include "accel/accel.h"

struct vcpu {
    struct vcpus *set;
    struct env *env; /* the CPU structure: isa->cpu_size bytes */
    unsigned index;
    GThread *thread;
    pid_t thread_id;     /* the kernel's; 0 until it has started; under the set's lock, too */
    clockid_t cpu_clock; /* of the thread; under the set's lock, */
    bool has_clock;
    bool online, parked;       /* under the set's lock */
    _Atomic uint32_t sleeping; /* 1 while in the futex of vcpu_wait */
    uint64_t spin_ns;          /* how long vcpu_wait spins first: grows when waits are short */
    struct clock_timer *timer;
    _Atomic uint64_t deadline; /* guest ns of the timer, CLOCK_NEVER none */
    void *method;              /* the accelerator's, per vCPU */
    uint64_t waits;            /* statistics */
};

struct vcpus {
    const struct accel *accel;
    struct vcpus_config config;
    struct cpu_host_ops host_ops;
    GMutex lock;
    GCond changed;
    bool running, quit;
    unsigned count;
    struct vcpu *vcpu; /* count of them */
    void *method;      /* the accelerator's, for the set */
};

static inline struct vcpu *vcpu_of(const struct env *env)
{
    return env->owner;
}

/* Sets bits of exit_request and wakes the vCPU if it sleeps. Any thread. */
void vcpu_kick(struct vcpu *v, enum env_exit why);

/* Sleeps until exit_request is not zero or the timer's deadline has come (then ENV_EXIT_IRQ is set). The
 * vCPU's thread. */
void vcpu_wait(struct vcpu *v);

/* Sleeps for up to ns of guest time, less when exit_request is or becomes not zero or the timer's deadline
 * comes. The vCPU's thread. */
void vcpu_pause(struct vcpu *v, uint64_t ns);

#endif
