/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What one thread wants of another's vCPU: post, kick, serve, settle (software.h has the theory). */
#include <sched.h>

#include "accel/software/software.h"
#include "base/bits.h"

void soft_post(struct soft_vcpu *target, const struct request *request)
{
    struct request_queue *q = &target->requests;
    g_mutex_lock(&q->lock);
    if (q->n < REQUEST_QUEUE)
        q->item[q->n++] = *request;
    else
        q->overflow = true;
    atomic_fetch_add(&q->tail, 1);
    atomic_store(&q->posted, 1);
    g_mutex_unlock(&q->lock);
    env_kick(target->env, ENV_EXIT_FLUSH); /* no need to wake a sleeper: it is outside */
}

void soft_perform(struct soft_vcpu *s, const struct request *r)
{
    switch (r->kind) {
    case REQUEST_REVOKE: tlb_revoke(s, r->start, r->size, false); break;
    case REQUEST_REVOKE_READS: tlb_revoke(s, r->start, r->size, true); break;
    case REQUEST_FLUSH: tlb_flush(s, &r->flush); break;
    case REQUEST_FORGET: tlb_forget_jumps(s); break;
    case REQUEST_FORGET_BLOCK:
        tlb_forget_block(s, r->flush.va, (const struct block *)r->start); /* the address is only compared */
        break;
    }
}

void soft_serve(struct soft_vcpu *s)
{
    struct request_queue *q = &s->requests;
    if (!atomic_load(&q->posted))
        return;
    g_mutex_lock(&q->lock);
    if (q->overflow) {
        tlb_flush_all(s);
        tlb_forget_jumps(s);
    } else {
        for (unsigned i = 0; i < q->n; i++)
            soft_perform(s, &q->item[i]);
    }
    q->n = 0;
    q->overflow = false;
    atomic_store(&q->posted, 0);
    atomic_store(&q->served, atomic_load(&q->tail));
    g_mutex_unlock(&q->lock);
}

void soft_settle(struct soft_vcpu *target)
{
    uint64_t ticket = atomic_load(&target->requests.tail);
    while (!atomic_load(&target->outside) && atomic_load(&target->requests.served) < ticket)
        sched_yield();
}

bool soft_leave(struct soft_vcpu *s)
{
    return !atomic_exchange(&s->outside, 1);
}

void soft_enter(struct soft_vcpu *s)
{
    atomic_exchange(&s->outside, 0);
    soft_serve(s);
}

void soft_broadcast(struct soft *soft, struct soft_vcpu *self, uint64_t mask, const struct request *request)
{
    bool was_inside = self && soft_leave(self);
    for (unsigned i = 0; i < soft->set->count; i++) {
        if (!(mask >> i & 1))
            continue;
        if (&soft->cpu[i] == self)
            soft_perform(self, request);
        else
            soft_post(&soft->cpu[i], request);
    }
    for (unsigned i = 0; i < soft->set->count; i++)
        if ((mask >> i & 1) && &soft->cpu[i] != self)
            soft_settle(&soft->cpu[i]);
    if (was_inside)
        soft_enter(self);
}
