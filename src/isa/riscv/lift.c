/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Lifting RISC-V to IR: the loop over a block's instructions, and where a block ends. */
/*
 * Theory of operation
 *
 * lift.def gives every operation a function and an argument; this file fetches, decodes and calls it. A
 * function appends the IR of one instruction and, if control cannot go on behind it, a terminator (l->done).
 * A conditional branch leaves by a side exit when taken and the block goes on when not, so a block is the
 * longest straight path from its entry. It ends at a jump, at an instruction that may change what the block
 * assumes (mode, mappings, code), at the end of its page, at the number of instructions asked for, or when
 * the IR's arrays could not take another instruction (IR_HEADROOM). An instruction that lies across a page
 * boundary is lifted only as the first one, so that at most one block entry depends on two pages and fault
 * order is the architecture's.
 *
 * Registers known to hold a constant (lui, auipc, li) are remembered along the block: addresses and targets
 * built in two instructions become one constant, and a call through auipc + jalr becomes a direct exit.
 *
 * Floating point. Nothing checks mstatus.FS while running: the mode word holds it. Off lifts to an exception;
 * neither off nor dirty lifts the first instruction that would make it dirty to a call that does so and looks
 * up the block of the new mode. In that one the instruction is lifted plainly.
 */
#include "isa/riscv/lift.h"

#include <errno.h>

#include "base/byteorder.h"

/* What a row of lift.def needs of mstatus.FS. */
enum fs_use { FS_NO, FS_USE, FS_DIRTY };

static const struct row {
    riscv_lift_fn *fn;
    uint16_t arg;
    uint8_t fs; /* enum fs_use */
} rows[RISCV_OP_COUNT] = {
    [RISCV_OP_ILLEGAL] = {riscv_lift_illegal, 0, FS_NO},
#define RISCV_LIFT(name, fs, function, arg) [RISCV_OP_##name] = {riscv_lift_##function, arg, FS_##fs},
#include "isa/riscv/lift.def"
#undef RISCV_LIFT
};

/* As many rows as operations; that none is there twice is the compiler's warning about initializers. */
enum {
    ROWS = 1
#define RISCV_LIFT(name, fs, function, arg) +1
#include "isa/riscv/lift.def"
#undef RISCV_LIFT
};
_Static_assert((int)ROWS == (int)RISCV_OP_COUNT, "every row of insn.def has one in lift.def");

/* More constants than any one instruction makes. */
enum { CONST_HEADROOM = 32 };

void riscv_lift_illegal(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)arg;
    lift_raise(l, RISCV_EXC_ILLEGAL, i->raw);
}

enum fetch { FETCH_OK, FETCH_END, FETCH_NEED_NEXT };

/* The instruction word at the offset. Only the first instruction of a block may continue on the next page. */
static inline enum fetch fetch(const struct isa_code *code, uint32_t offset, uint32_t *bits)
{
    const uint8_t *p = code->bytes + offset;
    uint32_t left = code->avail - offset;

    if (left >= 4) {
        *bits = ld32le(p);
        return FETCH_OK;
    }
    if (left >= 2 && (p[0] & 3) != 3) {
        *bits = ld16le(p);
        return FETCH_OK;
    }
    if (offset != 0) {
        return FETCH_END;
    }
    if (code->next == NULL) {
        return FETCH_NEED_NEXT;
    }
    *bits = 0;
    for (uint32_t n = 0; n < 4; n++) {
        *bits |= (uint32_t)(n < left ? p[n] : code->next[n - left]) << 8 * n;
    }
    return FETCH_OK;
}

static inline bool full(const struct ir_block *b)
{
    return b->n + IR_HEADROOM > IR_MAX_INSNS || b->n_consts + CONST_HEADROOM > IR_MAX_CONSTS ||
           b->n_exits + 2 > IR_MAX_EXITS;
}

/* False when mstatus.FS does not let the instruction be lifted as it is: the block ends here. */
static inline bool fs_allows(struct lift *l, const struct row *row)
{
    unsigned fs = riscv_mode_fs(l->mode);

    if (row->fs == FS_NO || fs == 3 || (fs != 0 && row->fs == FS_USE)) {
        return true;
    }
    if (fs == 0) {
        return false;
    }
    /* The instruction does not begin here: it is counted when it runs in the new mode. */
    lift_call(l, RISCV_HELPER_FS_DIRTY, 0, 0);
    lift_stop(l, IR_STOP_NEXT, lift_const(l, l->pc));
    return false;
}

static inline void lift_one(struct lift *l, const struct riscv_insn *i, uint32_t offset)
{
    const struct row *row = &rows[i->op];

    l->pc = l->b->pc + offset;
    l->next = l->pc + i->len;
    l->b->bytes = offset + i->len;
    if (!fs_allows(l, row)) {
        if (l->done) {
            return;
        }
        row = &rows[RISCV_OP_ILLEGAL];
    }
    ir_emit(l->b, IR_INSN, IR_TYPE_NONE, 0, offset, i->len, 0);
    l->b->n_guest++;
    row->fn(l, i, row->arg);
}

int riscv_lift(const struct isa_code *code, struct ir_block *out)
{
    struct lift l = {
        .b = out,
        .mode = code->mode,
        .mmu = IR_MEM_MMU(riscv_mode_mmu(code->mode)),
    };
    uint32_t max = code->max_insns < IR_MAX_GUEST_INSNS ? code->max_insns : IR_MAX_GUEST_INSNS;
    uint32_t offset = 0;

    ir_begin(out, &riscv_target, code->pc, code->mode);
    l.known[0] = lift_const(&l, 0);
    do {
        struct riscv_insn insn;
        uint32_t bits;
        enum fetch got = fetch(code, offset, &bits);

        if (got == FETCH_NEED_NEXT) {
            return -EAGAIN;
        }
        if (got == FETCH_END) {
            break;
        }
        offset += (uint32_t)riscv_decode(bits, &insn);
        lift_one(&l, &insn, offset - insn.len);
    } while (!l.done && out->n_guest < max && offset < code->avail && !full(out));
    if (!l.done) {
        lift_exit(&l, out->pc + offset, IR_HINT_JUMP);
    }
    return 0;
}
