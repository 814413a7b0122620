/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Blocks that are made for one use: the tail of an instruction budget, and what lockstep compares. */
/*
 * Theory of operation
 *
 * Running code looks at the instruction budget before each block and leaves when the block is longer than
 * what is left. The rest is a block of exactly as many instructions, lifted anew, run by the interpreter and
 * thrown away. With nothing left the vCPU waits, as if for an interrupt, until somebody parks it or gives it
 * more.
 *
 * Such a block must come back instead of going on in another. Its exits are linked to nothing; and while it
 * runs the salts are those of an identifier that no address space has, so the jump cache, which holds another
 * backend's blocks perhaps, knows nothing.
 */
#include <errno.h>
#include <inttypes.h>

#include "accel/software/software.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"

bool alone_init(struct soft *soft, GError **error)
{
    const struct vcpus_config *config = &soft->set->config;
    soft->unusual = config->check || config->tuning & ENGINE_COUNTED;
    if (!soft->unusual)
        return true;
    for (const struct backend *const *b = backends; *b; b++)
        soft->reference = *b; /* the interpreter is what every host has, so it comes last */
    soft->reference_state = soft->reference->init(SIZE_MAX);
    if (!soft->reference_state)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "no host memory for the interpreter: %s",
                           g_strerror(errno));
    soft->check = config->check ? check_new(soft, config->check, error) : NULL;
    return soft->check || !config->check;
}

void alone_fini(struct soft *soft)
{
    check_free(soft->check);
    if (soft->reference_state)
        soft->reference->fini(soft->reference_state);
}

void alone_free(struct soft *soft, const struct backend *backend, void *state, struct block *b)
{
    if (!b)
        return;
    g_mutex_lock(&soft->code_lock);
    backend->release(state, b);
    g_mutex_unlock(&soft->code_lock);
    g_free(b);
}

enum engine_stop alone_enter(struct soft_vcpu *s, struct env *env, const struct backend *backend, void *state,
                             struct block *b)
{
    env->salt = env->salt_global = ENV_SALT(UINT32_MAX, env->mode);
    enum engine_stop stop = backend->run(state, env, b);
    env->last_exit = NULL;
    if (env == s->env)
        tlb_follow_space(s);
    return stop;
}

/* Runs the next instructions, at most `max`. */
static enum engine_stop run_short(struct soft_vcpu *s, uint32_t max)
{
    struct soft *soft = s->soft;
    struct block *b = NULL;
    enum engine_stop stop = ENGINE_POLL;
    uint64_t served = atomic_load(&s->requests.served);
    soft_leave(s);
    int error = code_make_alone(s, max, soft->reference, soft->reference_state, &b);
    soft_enter(s);
    if (error == 1)
        stop = ENGINE_EXCEPTION;
    else if (error)
        log_error(LOG_CODE, "no block can be made at 0x%" PRIx64 ": %s", s->env->pc, g_strerror(-error));
    else if (atomic_load(&s->requests.served) == served)
        stop = alone_enter(s, s->env, soft->reference, soft->reference_state, b);
    soft_leave(s);
    alone_free(soft, soft->reference, soft->reference_state, b);
    soft_enter(s);
    return stop;
}

enum engine_stop alone_run(struct soft_vcpu *s, struct block *b)
{
    struct soft *soft = s->soft;
    uint64_t left = s->env->budget - s->env->icount;
    if (!left)
        return ENGINE_WAIT;
    if (left < b->n_guest)
        return run_short(s, (uint32_t)left);
    if (soft->check)
        return check_run(soft->check, s, b);
    return soft->backend->run(soft->backend_state, s->env, b);
}
