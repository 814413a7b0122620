/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Code that all blocks share: entering from C, leaving to it, slow memory accesses, single cells. */
/*
 * The stack inside translated code is aligned to 16 bytes between cells. A site is pushed before a thunk is
 * called, so a thunk that was called stands at alignment again and may call C. C keeps rbx, rbp and r12-r15
 * (System V ABI), so a slow memory access, which looks at no guest register, saves only the others; stepping
 * saves all.
 */
#include <stddef.h>

#include "engine/interp.h"
#include "engine/x86_64/t0.h"

static const enum host_reg callee_saved[] = {HOST_RBX, HOST_RBP, HOST_R12, HOST_R13, HOST_R14, HOST_R15};

bool t0_preserved_by_c(enum host_reg r)
{
    for (unsigned i = 0; i < sizeof(callee_saved) / sizeof(callee_saved[0]); i++)
        if (callee_saved[i] == r)
            return true;
    return false;
}

void t0_spill(struct emit *e, const struct t0 *t0, bool all, bool store)
{
    for (unsigned i = 0; i < ENV_REGS; i++) {
        if (t0->pin[i] == T0_NO_PIN || (!all && t0_preserved_by_c((enum host_reg)t0->pin[i])))
            continue;
        struct host_mem home = t0_home(T0_FIRST_CELL + i);
        if (store)
            emit_mov_mr(e, 64, home, (enum host_reg)t0->pin[i]);
        else
            emit_mov_rm(e, 64, (enum host_reg)t0->pin[i], home);
    }
}

static void enter(struct emit *e, const struct t0 *t0)
{
    emit_bytes(e, 0xfa1e0ff3, 4); /* endbr64: C calls it through a pointer */
    for (unsigned i = 0; i < 6; i++)
        emit_push_r(e, callee_saved[i]);
    emit_sub_ri(e, 64, HOST_RSP, 8);
    emit_lea(e, 64, (enum host_reg)T0_ENV, host_mem(HOST_RDI, T0_BIAS));
    emit_mov_rr(e, 64, HOST_RAX, HOST_RSI);
    t0_spill(e, t0, true, false);
    emit_jmp_r(e, HOST_RAX);
}

static void leave(struct emit *e, const struct t0 *t0)
{
    t0_spill(e, t0, true, true);
    emit_add_ri(e, 64, HOST_RSP, 8);
    for (unsigned i = 6; i-- > 0;)
        emit_pop_r(e, callee_saved[i]);
    emit_ret(e);
}

static void forget_exit(struct emit *e)
{
    emit_mov_mi(e, 64, t0_field(offsetof(struct env, last_exit)), 0);
}

static void leave_with(struct emit *e, const struct t0 *t0, enum engine_stop stop)
{
    emit_mov_ri(e, 32, HOST_RAX, stop);
    emit_jmp_to(e, t0->thunks.leave);
}

static void call_c(struct emit *e, const void *function)
{
    emit_mov_ri(e, 64, HOST_RAX, (uintptr_t)function);
    emit_call_r(e, HOST_RAX);
}

/* eax from C says whether the guest's exception is pending; *extra bytes lie above the return address and the
 * site. */
static void leave_if_fault(struct emit *e, const struct t0 *t0, bool all, int extra)
{
    struct emit_label fine = {0};
    emit_test_rr(e, 32, HOST_RAX, HOST_RAX);
    emit_jcc(e, HOST_E, &fine);
    t0_spill(e, t0, all, false);
    emit_add_ri(e, 64, HOST_RSP, extra + 8);
    emit_pop_r(e, HOST_RAX);
    emit_mov_mr(e, 64, t0_field(offsetof(struct env, temp)), HOST_RAX);
    forget_exit(e);
    leave_with(e, t0, ENGINE_EXCEPTION);
    emit_bind(e, &fine);
}

static void return_and_pop_site(struct emit *e)
{
    emit_bytes(e, 0x0008c2, 3); /* ret 8 */
}

static void load(struct emit *e, const struct t0 *t0)
{
    t0_spill(e, t0, false, true);
    emit_lea(e, 64, HOST_RDI, host_mem((enum host_reg)T0_ENV, -T0_BIAS));
    emit_mov_rr(e, 64, HOST_RSI, HOST_RAX);
    emit_mov_rr(e, 32, HOST_RDX, HOST_RCX);
    emit_sub_ri(e, 64, HOST_RSP, 16);
    emit_mov_rr(e, 64, HOST_RCX, HOST_RSP);
    call_c(e, (const void *)(uintptr_t)t0_load_in_c);
    leave_if_fault(e, t0, false, 16);
    emit_pop_r(e, HOST_RAX);
    emit_pop_r(e, HOST_RCX);
    t0_spill(e, t0, false, false);
    return_and_pop_site(e);
}

static void store(struct emit *e, const struct t0 *t0)
{
    t0_spill(e, t0, false, true);
    emit_lea(e, 64, HOST_RDI, host_mem((enum host_reg)T0_ENV, -T0_BIAS));
    emit_mov_rr(e, 64, HOST_RSI, HOST_RAX);
    emit_xchg_rr(e, 64, HOST_RDX, HOST_RCX); /* descriptor third, value fourth */
    call_c(e, (const void *)(uintptr_t)t0_store_in_c);
    leave_if_fault(e, t0, false, 0);
    t0_spill(e, t0, false, false);
    return_and_pop_site(e);
}

static void step(struct emit *e, const struct t0 *t0)
{
    t0_spill(e, t0, true, true);
    emit_lea(e, 64, HOST_RDI, host_mem((enum host_reg)T0_ENV, -T0_BIAS));
    emit_mov_rr(e, 64, HOST_RSI, HOST_RAX);
    call_c(e, (const void *)(uintptr_t)t0_step_in_c);
    leave_if_fault(e, t0, true, 0);
    t0_spill(e, t0, true, false);
    return_and_pop_site(e);
}

size_t t0_emit_thunks(struct t0 *t0, size_t room)
{
    struct t0_thunks *k = &t0->thunks;
    struct emit e;
    emit_init(&e, t0->mem.rw, room, (uintptr_t)t0->mem.rw + (uint64_t)t0->mem.rx_delta, false);
#define THUNK(name) (emit_align(&e, 16), k->name = emit_rx(&e))
    THUNK(enter);
    enter(&e, t0);
    THUNK(leave);
    leave(&e, t0);

    THUNK(unlinked);
    emit_mov_mr(&e, 64, t0_field(offsetof(struct env, last_exit)), HOST_RAX);
    emit_mov_rm(&e, 64, HOST_RAX, host_mem(HOST_RAX, offsetof(struct block_exit, target)));
    emit_mov_mr(&e, 64, t0_field(offsetof(struct env, pc)), HOST_RAX);
    leave_with(&e, t0, ENGINE_NEXT);

    THUNK(lost);
    emit_mov_mr(&e, 64, t0_field(offsetof(struct env, pc)), HOST_RAX);
    forget_exit(&e);
    leave_with(&e, t0, ENGINE_NEXT);

    THUNK(other_salt);
    struct emit_label hit = {0};
    emit_cmp_rm(&e, 64, HOST_RDX, t0_field(offsetof(struct env, salt)));
    emit_jcc(&e, HOST_E, &hit);
    emit_cmp_rm(&e, 64, HOST_RDX, t0_field(offsetof(struct env, salt_global)));
    emit_jcc_to(&e, HOST_NE, k->lost);
    emit_bind(&e, &hit);
    emit_jmp_m(&e, host_mem_index((enum host_reg)T0_ENV, HOST_RCX, 1,
                                  (int32_t)(offsetof(struct env, jump) + offsetof(struct env_jump, host)) -
                                      T0_BIAS));

    THUNK(poll);
    emit_mov_mr(&e, 64, t0_field(offsetof(struct env, pc)), HOST_RAX);
    forget_exit(&e);
    leave_with(&e, t0, ENGINE_POLL);

    THUNK(stop);
    emit_mov_mr(&e, 64, t0_field(offsetof(struct env, pc)), HOST_RAX);
    forget_exit(&e);
    emit_mov_rr(&e, 32, HOST_RAX, HOST_RCX);
    emit_jmp_to(&e, k->leave);

    THUNK(mxcsr);
    emit_bytes(&e, T0_MXCSR_DEFAULT, 4);
    THUNK(fault);
    emit_mov_mr(&e, 64, t0_field(offsetof(struct env, temp)), HOST_RAX);
    forget_exit(&e);
    leave_with(&e, t0, ENGINE_EXCEPTION);

    /* A tail call: C returns to the translated code. */
    THUNK(call_folded);
    emit_mov_ri(&e, 64, HOST_RAX, (uintptr_t)t0_call_folded);
    emit_jmp_r(&e, HOST_RAX);

    THUNK(load);
    load(&e, t0);
    THUNK(store);
    store(&e, t0);
    THUNK(step);
    step(&e, t0);
#undef THUNK
    return emit_ok(&e) ? (size_t)(e.at - e.start) : 0;
}
