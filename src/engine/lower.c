/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Writes the cells of a block, instruction by instruction, where prepare.c has decided that values live. */
/*
 * Rules that keep the cells correct. An instruction's destination is allocated before its operands are
 * freed, so a temporary is never both, and what takes several cells may write the destination early. A
 * *register* may be both: there only the last cell that reads operands may write it (behind that, cutting
 * the result in place is fine).
 *
 * A cell that can fault writes nothing before it knows that it does not.
 */
#include "base/bits.h"
#include "engine/flags.h"
#include "engine/fp_ops.h"
#include "engine/prepare_int.h"

/* --- Cells and temporaries --- */

static struct cell *emit(struct prepare *p, unsigned op, unsigned dst, unsigned a, unsigned b, unsigned c,
                         uint64_t imm)
{
    static struct cell lost;

    if (p->n_cells == PREPARE_MAX_CELLS) {
        p->full = true;
        return &lost;
    }
    struct cell *cell = &p->cells[p->n_cells++];
    *cell = (struct cell){
        .handler = p->handlers[op],
        .dst = (uint16_t)dst,
        .a = (uint16_t)a,
        .b = (uint16_t)b,
        .c = (uint16_t)c,
        .imm = imm,
    };
    return cell;
}

/* n (1 or 2) neighbouring temporaries. */
static uint16_t temp_new(struct prepare *p, unsigned n)
{
    for (unsigned w = 0; w < ARRAY_SIZE(p->temps); w++) {
        uint64_t free = ~p->temps[w];
        uint64_t fit = n == 2 ? free & free >> 1 : free;
        if (fit) {
            unsigned bit = (unsigned)__builtin_ctzll(fit);
            p->temps[w] |= bits_mask(n) << bit;
            return (uint16_t)(PREPARE_TEMP + 64 * w + bit);
        }
    }
    p->full = true;
    return PREPARE_TEMP;
}

static void temp_free(struct prepare *p, uint16_t cell, unsigned n)
{
    unsigned at = cell - PREPARE_TEMP;

    p->temps[at / 64] &= ~(bits_mask(n) << at % 64);
}

/* n temporaries until the end of the instruction. */
static uint16_t scratch_new(struct prepare *p, unsigned n)
{
    uint16_t cell = temp_new(p, n);

    /* Room for every operand being a pair: four of them at most. */
    for (unsigned k = 0; k < n && !p->full; k++) {
        p->scratch[p->n_scratch++] = (uint16_t)(cell + k);
    }
    return cell;
}

static unsigned cells_of(enum ir_type type)
{
    return ir_type_bits(type) > 64 ? 2 : 1;
}

/* --- Operands --- */

static enum ir_type type_of(const struct prepare *p, ir_ref ref)
{
    return ir_value_type(p->ir, ref);
}

static bool constant(const struct prepare *p, ir_ref ref, uint64_t *value)
{
    *value = ir_const_value(p->ir, ref);
    return ir_is_const(ref) && !p->plain;
}

/* The cell that holds a value; the bits above its type's may be anything. */
static uint16_t use(struct prepare *p, ir_ref ref)
{
    if (ir_is_const(ref)) {
        unsigned n = cells_of(type_of(p, ref));
        uint16_t cell = scratch_new(p, n);
        emit(p, CELL_MOVK, cell, 0, 0, CELL_MOVK_FLEETING, ir_const_value(p->ir, ref));
        if (n == 2) {
            emit(p, CELL_MOVK, cell + 1u, 0, 0, 0, 0);
        }
        return cell;
    }
    return (uint16_t)(p->v[p->v[ref].root].cell + p->v[ref].part);
}

static unsigned zext_op(enum ir_type from)
{
    switch (ir_type_bits(from)) {
    case 1: return CELL_ZEXT_1;
    case 8: return CELL_ZEXT_8;
    case 16: return CELL_ZEXT_16;
    case 32: return CELL_ZEXT_32;
    default: return CELL_MOV;
    }
}

/* The same for users that look at all 64 bits. */
static uint16_t use_clean(struct prepare *p, ir_ref ref)
{
    uint16_t from = use(p, ref);

    if (ir_is_const(ref) || !p->v[ref].dirty) {
        return from;
    }
    uint16_t cell = scratch_new(p, 1);
    emit(p, zext_op(type_of(p, ref)), cell, from, 0, 0, 0);
    return cell;
}

/* Gives the value of instruction i a home, if it has none yet. */
static uint16_t define(struct prepare *p, uint32_t i)
{
    struct prepare_value *v = &p->v[i];

    if (!v->in_register) {
        unsigned n = cells_of(type_of(p, i));
        v->cell = temp_new(p, n);
    }
    return v->cell;
}

/* Cuts a result that an operation left extended by sign to 64 bits. */
static void cut(struct prepare *p, uint16_t cell, enum ir_type type)
{
    if (ir_type_bits(type) < 64) {
        emit(p, zext_op(type), cell, cell, 0, 0, 0);
    }
}

/* --- Integers --- */

/* Order of an operation's cells in cells.def, for each width: 8, 16, 32, (32S), 64. */
static unsigned width_index(enum ir_type type)
{
    switch (type) {
    case IR_I8: return 0;
    case IR_I16: return 1;
    case IR_I32: return 2;
    default: return 3;
    }
}

/* Cell operation for 8 bits of arith.def's operations. */
static unsigned arith_base(enum ir_op op, bool *binary)
{
    *binary = true;
    switch (op) {
#define ARITH_BINARY(id, expression)                                                                         \
    case IR_##id:                                                                                            \
        return CELL_##id##_8;
#define ARITH_UNARY(id, expression)
#include "engine/arith.def"
#undef ARITH_BINARY
#undef ARITH_UNARY
    default: break;
    }
    *binary = false;
    switch (op) {
#define ARITH_BINARY(id, expression)
#define ARITH_UNARY(id, expression)                                                                          \
    case IR_##id:                                                                                            \
        return CELL_##id##_8;
#include "engine/arith.def"
#undef ARITH_BINARY
#undef ARITH_UNARY
    default: return CELL_COUNT;
    }
}

/* The cells of an operation, in the order of cells.def. */
enum form { FORM_8, FORM_16, FORM_32, FORM_32S, FORM_64 };

static enum form form_of(const struct ir_insn *in)
{
    static const enum form forms[] = {FORM_8, FORM_16, FORM_32, FORM_64};

    return forms[width_index((enum ir_type)in->type)];
}

/* in is the operation; the result goes to dst. form: its own; for one of 32 bits also FORM_32S, which extends
 * the result by sign, or FORM_64, when that does the same (prepare_width.c). */
static void lower_arith(struct prepare *p, const struct ir_insn *in, uint16_t dst, enum form form)
{
    bool binary;
    unsigned base = arith_base((enum ir_op)in->op, &binary);
    uint16_t a = use(p, in->a);
    uint64_t k;

    if (!binary) {
        emit(p, base + form, dst, a, 0, 0, 0);
    } else if (constant(p, in->b, &k)) {
        k = form == FORM_64 && in->type == IR_I32 ? (uint64_t)bits_sext(k, 32) : k;
        emit(p, base + 2 * form + 1, dst, a, 0, 0, k);
    } else {
        emit(p, base + 2 * form, dst, a, use(p, in->b), 0, 0);
    }
}

/* Logic on i1, whose cells hold 0 or 1: that of i8, and the complements cut to the one bit. */
static void lower_logic1(struct prepare *p, const struct ir_insn *in, uint16_t dst)
{
    struct ir_insn wide = *in;

    wide.type = IR_I8;
    lower_arith(p, &wide, dst, FORM_8);
    if (in->op == IR_NOT || in->op == IR_ORN || in->op == IR_XNOR) {
        emit(p, CELL_ZEXT_1, dst, dst, 0, 0, 0);
    }
}

static void lower_carry(struct prepare *p, const struct ir_insn *in, uint16_t dst)
{
    unsigned base = in->op == IR_ADC ? CELL_ADC_8 : CELL_SBB_8;
    uint16_t a = use(p, in->a), b = use(p, in->b), c = use(p, in->c);

    emit(p, base + width_index((enum ir_type)in->type), dst, a, b, c, 0);
}

static void lower_field(struct prepare *p, const struct ir_insn *in, uint16_t dst)
{
    if (in->op == IR_BFI) {
        unsigned lo = in->c & 255, n = in->c >> 8;
        uint16_t a = use_clean(p, in->a), b = use(p, in->b);
        emit(p, CELL_BFI, dst, a, b, lo, bits_mask(n) << lo);
        return;
    }
    emit(p, in->op == IR_UBFX ? CELL_UBFX : CELL_SBFX, dst, use(p, in->a), 0, 0,
         in->b | (uint64_t)in->c << 8);
    if (in->op == IR_SBFX) {
        cut(p, dst, (enum ir_type)in->type);
    }
}

static void lower_sext(struct prepare *p, uint32_t i, const struct ir_insn *in, uint16_t dst)
{
    if (!ir_is_const(in->a) && p->v[in->a].absorbed) {
        lower_arith(p, &p->ir->insn[in->a], dst, p->v[i].wide ? FORM_64 : FORM_32S);
        return;
    }
    unsigned bits = ir_type_bits(type_of(p, in->a));
    unsigned op = bits == 1    ? CELL_SEXT_1
                  : bits == 8  ? CELL_SEXT_8
                  : bits == 16 ? CELL_SEXT_16
                               : CELL_SEXT_32;
    emit(p, op, dst, use(p, in->a), 0, 0, 0);
    cut(p, dst, (enum ir_type)in->type);
}

/* --- Conditions --- */

enum relation { EQ, NE, LTU, GEU, LTS, GES }; /* the conditions that cells have, in cells.def's order */

struct comparison {
    enum relation relation;
    ir_ref x, y;
    uint64_t k; /* y's value, when it is a constant */
    bool has_k;
    int known; /* 0 or 1 when the answer does not depend on x; else -1 */
};

/* x <= k is x < k + 1, unless k is the greatest value: then it always holds. */
static void step_up(struct comparison *c, enum ir_type type, bool is_signed, int known)
{
    unsigned n = ir_type_bits(type);
    uint64_t greatest = bits_mask(n) >> is_signed;

    if (c->k == greatest) {
        c->known = known;
    }
    c->k = (c->k + 1) & bits_mask(n);
}

/* Brings the ten conditions of the IR down to six, by swapping operands or stepping the constant. */
static struct comparison compare(struct prepare *p, const struct ir_insn *in)
{
    struct comparison c = {.x = in->a, .y = in->b, .known = -1};
    bool above = in->aux == IR_LEU || in->aux == IR_GTU || in->aux == IR_LES || in->aux == IR_GTS;

    c.has_k = constant(p, in->b, &c.k);
    if (above && !c.has_k) {
        c.x = in->b;
        c.y = in->a;
    }
    switch (in->aux) {
    case IR_EQ: c.relation = EQ; break;
    case IR_NE: c.relation = NE; break;
    case IR_LTU: c.relation = LTU; break;
    case IR_GEU: c.relation = GEU; break;
    case IR_LTS: c.relation = LTS; break;
    case IR_GES: c.relation = GES; break;
    case IR_LEU: c.relation = c.has_k ? LTU : GEU; break;
    case IR_GTU: c.relation = c.has_k ? GEU : LTU; break;
    case IR_LES: c.relation = c.has_k ? LTS : GES; break;
    default: c.relation = c.has_k ? GES : LTS; break;
    }
    if (above && c.has_k) {
        bool is_signed = in->aux == IR_LES || in->aux == IR_GTS;
        step_up(&c, (enum ir_type)in->type, is_signed, in->aux == IR_LEU || in->aux == IR_LES);
    }
    return c;
}

static unsigned set_base(enum relation relation)
{
    return CELL_SET_EQ_8 + (unsigned)relation * (CELL_SET_NE_8 - CELL_SET_EQ_8);
}

static void lower_setcc(struct prepare *p, const struct ir_insn *in, uint16_t dst)
{
    struct comparison c = compare(p, in);
    unsigned op = set_base(c.relation) + 2 * width_index((enum ir_type)in->type);

    if (c.known >= 0) {
        emit(p, CELL_MOVK, dst, 0, 0, 0, (uint64_t)c.known);
    } else if (c.has_k) {
        emit(p, op + 1, dst, use(p, c.x), 0, 0, c.k);
    } else {
        uint16_t x = use(p, c.x), y = use(p, c.y);
        emit(p, op, dst, x, y, 0, 0);
    }
}

static void lower_exit_if(struct prepare *p, const struct ir_insn *in)
{
    if (ir_is_const(in->a) || !p->v[in->a].absorbed) {
        emit(p, CELL_BR_NZ, p->n_marks, use(p, in->a), 0, in->b, 0);
        return;
    }
    const struct ir_insn *set = &p->ir->insn[in->a];
    struct comparison c = compare(p, set);
    unsigned op = set_base(c.relation) +
                  (set->type == IR_I32 ? CELL_BR_EQ_32 - CELL_SET_EQ_8 : CELL_BR_EQ_64 - CELL_SET_EQ_8);

    if (c.known == 1) {
        emit(p, CELL_EXIT, p->n_marks, 0, 0, in->b, 0);
    } else if (c.known < 0 && c.has_k) {
        emit(p, op + 1, p->n_marks, use(p, c.x), 0, in->b, c.k);
    } else if (c.known < 0) {
        uint16_t x = use(p, c.x), y = use(p, c.y);
        emit(p, op, p->n_marks, x, y, in->b, 0);
    }
}

static void lower_select(struct prepare *p, const struct ir_insn *in, uint16_t dst)
{
    uint16_t cond = use(p, in->a);
    uint64_t k;

    if (constant(p, in->c, &k)) {
        emit(p, CELL_SEL_K0, dst, cond, use_clean(p, in->b), 0, k);
    } else if (constant(p, in->b, &k)) {
        emit(p, CELL_SEL_K1, dst, cond, 0, use_clean(p, in->c), k);
    } else {
        uint16_t b = use_clean(p, in->b), c = use_clean(p, in->c);
        emit(p, CELL_SEL, dst, cond, b, c, 0);
    }
}

/* --- Guest state --- */

static void lower_getreg(struct prepare *p, const struct ir_insn *in, uint16_t dst)
{
    uint16_t reg = prepare_register(p->ir, in->a);

    emit(p, p->plain ? zext_op((enum ir_type)in->type) : CELL_MOV, dst, reg, 0, 0, 0);
    if (in->type == IR_I128) {
        emit(p, CELL_MOV, dst + 1u, reg + 1u, 0, 0, 0);
    }
}

static void lower_putreg(struct prepare *p, const struct ir_insn *in, bool sunk)
{
    uint16_t reg = prepare_register(p->ir, in->a);
    uint64_t k;

    if (sunk) {
        return;
    }
    if (in->type == IR_I128) {
        uint16_t from = use(p, in->b);
        emit(p, CELL_MOV, reg, from, 0, 0, 0);
        emit(p, CELL_MOV, reg + 1u, from + 1u, 0, 0, 0);
    } else if (!prepare_fills_register(p->ir, in, in->a)) {
        emit(p, CELL_MERGE, reg, use(p, in->b), 0, 0, bits_mask(ir_type_bits((enum ir_type)in->type)));
    } else if (constant(p, in->b, &k)) {
        emit(p, CELL_MOVK, reg, 0, 0, 0, k);
    } else {
        uint16_t from = use_clean(p, in->b);
        if (from != reg) {
            emit(p, CELL_MOV, reg, from, 0, 0, 0);
        }
    }
}

/* --- Memory --- */

/* Emits a memory cell. b and c are the operation's; tlb: it looks at the TLB inline, which c then tells. */
static void lower_mem(struct prepare *p, const struct ir_insn *in, unsigned op, uint16_t dst, uint16_t b,
                      uint16_t c, bool tlb, uint32_t mem)
{
    _Static_assert(offsetof(struct env, tlb) % 8 == 0 && sizeof(struct env_tlb) % 8 == 0,
                   "TLBs are whole cells");
    ir_ref base = in->a;
    int32_t displacement = 0;

    if (tlb) {
        c = (uint16_t)((offsetof(struct env, tlb) + ir_mem_mmu(mem) * sizeof(struct env_tlb)) / 8);
    }
    if (!ir_is_const(base) && p->v[base].absorbed) {
        displacement = (int32_t)ir_const_value(p->ir, p->ir->insn[base].b);
        base = p->ir->insn[base].a;
    }
    emit(p, op, dst, use(p, base), b, c, cell_mem(displacement, mem));
}

/* Only what cells do inline: the host's byte order, no ordering. */
static bool is_plain_access(uint32_t mem)
{
    return !(mem & (IR_MEM_ACQUIRE | IR_MEM_RELEASE | IR_MEM_BIG));
}

/* The descriptor without a sign extension that has nothing to extend. */
static uint32_t load_descriptor(const struct ir_insn *in)
{
    bool full = 8u << ir_mem_log2(in->c) >= ir_type_bits((enum ir_type)in->type);

    return full ? in->c & ~IR_MEM_SIGNED : in->c;
}

static void lower_load(struct prepare *p, const struct ir_insn *in, uint16_t dst)
{
    static const uint16_t unsigned_op[] = {CELL_LD_U8, CELL_LD_U16, CELL_LD_U32, CELL_LD_U64};
    static const uint16_t signed_op[] = {CELL_LD_S8, CELL_LD_S16, CELL_LD_S32, CELL_LD_U64};
    uint32_t mem = load_descriptor(in);
    unsigned log2 = ir_mem_log2(mem);

    if (log2 == 4) {
        lower_mem(p, in, CELL_LD_PAIR, dst, PREPARE_IDLE, PREPARE_IDLE, false, mem);
        return;
    }
    unsigned op = !is_plain_access(mem) ? CELL_LD_ANY
                  : mem & IR_MEM_SIGNED ? signed_op[log2]
                                        : unsigned_op[log2];
    lower_mem(p, in, op, dst, PREPARE_IDLE, 0, true, mem);
    if (mem & IR_MEM_SIGNED) {
        cut(p, dst, (enum ir_type)in->type);
    }
}

static void lower_store(struct prepare *p, const struct ir_insn *in)
{
    unsigned log2 = ir_mem_log2(in->c);
    uint64_t k;

    if (log2 == 4) {
        lower_mem(p, in, CELL_ST_PAIR, 0, use(p, in->b), PREPARE_IDLE, false, in->c);
        return;
    }
    if (is_plain_access(in->c) && constant(p, in->b, &k)) {
        int64_t value = bits_sext(k, 8u << log2);
        if (value == (int16_t)value) {
            lower_mem(p, in, CELL_ST_8K + log2, 0, (uint16_t)value, 0, true, in->c);
            return;
        }
    }
    lower_mem(p, in, is_plain_access(in->c) ? CELL_ST_8 + log2 : CELL_ST_ANY, 0, use(p, in->b), 0, true,
              in->c);
}

static void lower_atomic(struct prepare *p, const struct ir_insn *in, uint16_t dst)
{
    uint32_t mem = load_descriptor(in);
    uint16_t b = in->op == IR_LL ? PREPARE_IDLE : use(p, in->b);

    switch (in->op) {
    case IR_RMW: lower_mem(p, in, CELL_RMW, dst, b, in->aux, false, mem); break;
    case IR_CMPXCHG:
        lower_mem(p, in, in->type == IR_I128 ? CELL_CMPXCHG_PAIR : CELL_CMPXCHG, dst, b, use(p, p->arg[0]),
                  false, mem);
        p->n_args = 0;
        break;
    case IR_LL: lower_mem(p, in, CELL_LL, dst, b, PREPARE_IDLE, false, mem); break;
    default: lower_mem(p, in, CELL_SC, dst, b, PREPARE_IDLE, false, in->c); return;
    }
    if (mem & IR_MEM_SIGNED) {
        cut(p, dst, (enum ir_type)in->type);
    }
}

static void lower_fence(struct prepare *p, const struct ir_insn *in)
{
    /* Only stores before loads need more than acquire and release give; devices count as both. */
    bool full = (in->aux & (IR_FENCE_W | IR_FENCE_O)) && (in->aux >> 4 & (IR_FENCE_R | IR_FENCE_I));

    emit(p, full ? CELL_FENCE_FULL : CELL_FENCE, 0, 0, 0, 0, 0);
}

/* --- Flags, floating point, helpers --- */

static void lower_flags(struct prepare *p, const struct ir_insn *in, uint16_t dst)
{
    static const uint16_t base[] = {
        [IR_FL_ADD - IR_FL_ADD] = CELL_FL_ADD_8,     [IR_FL_ADC - IR_FL_ADD] = CELL_FL_ADC_8,
        [IR_FL_SUB - IR_FL_ADD] = CELL_FL_SUB_8,     [IR_FL_SBB - IR_FL_ADD] = CELL_FL_SBB_8,
        [IR_FL_LOGIC - IR_FL_ADD] = CELL_FL_LOGIC_8, [IR_FL_INC - IR_FL_ADD] = CELL_FL_INC_8,
        [IR_FL_DEC - IR_FL_ADD] = CELL_FL_DEC_8,     [IR_FL_SHL - IR_FL_ADD] = CELL_FL_SHL_8,
        [IR_FL_SHR - IR_FL_ADD] = CELL_FL_SHR_8,     [IR_FL_SAR - IR_FL_ADD] = CELL_FL_SAR_8,
        [IR_FL_ROL - IR_FL_ADD] = CELL_FL_ROL_8,     [IR_FL_ROR - IR_FL_ADD] = CELL_FL_ROR_8,
    };
    uint16_t a = use(p, in->a);
    uint16_t b = ir_op_info[in->op].operand[1] == IR_OPERAND_NO ? PREPARE_IDLE : use(p, in->b);
    uint16_t c = ir_op_info[in->op].operand[2] == IR_OPERAND_NO ? PREPARE_IDLE : use(p, in->c);

    emit(p, base[in->op - IR_FL_ADD] + width_index((enum ir_type)in->type), dst, a, b, c, 0);
}

static void lower_fp(struct prepare *p, const struct ir_insn *in, uint16_t dst)
{
    int index = fp_op_find((enum ir_op)in->op, (enum ir_type)in->type, type_of(p, in->a));
    uint16_t operand[3] = {PREPARE_IDLE, PREPARE_IDLE, PREPARE_IDLE};
    ir_ref ref[3];
    unsigned n = prepare_operands(in, ref);

    for (unsigned k = 0; k < n; k++) {
        operand[k] = use(p, ref[k]);
    }
    if (index < 0) {
        p->full = true; /* no such operation: the verifier refuses it */
        return;
    }
    emit(p, CELL_FP, dst, operand[0], operand[1], operand[2], (unsigned)index | (uint64_t)in->aux << 16);
}

static void lower_call(struct prepare *p, const struct ir_insn *in, uint16_t dst)
{
    const struct ir_helper *h = &p->ir->target->helpers[in->a];
    uint16_t operand[4] = {PREPARE_IDLE, PREPARE_IDLE, PREPARE_IDLE, PREPARE_IDLE};
    ir_ref ref[4];
    unsigned n = prepare_operands(in, ref);
    bool sync = h->effects & IR_HELPER_SYNC;
    uint64_t pc = p->ir->pc;

    for (unsigned k = 0; k < p->n_args && n < 4; k++) {
        ref[n++] = p->arg[k];
    }
    p->n_args = 0;
    for (unsigned k = 0; k < n; k++) {
        operand[k] = use_clean(p, ref[k]);
    }
    if (p->n_marks) {
        pc += (uint64_t)(int64_t)p->marks[p->n_marks - 1].pc;
    }
    emit(p,
         sync                               ? CELL_CALL_SYNC
         : h->effects & IR_HELPER_MAY_FAULT ? CELL_CALL_FAULT
                                            : CELL_CALL,
         dst, operand[0], operand[1], operand[2], pc);
    /* Data of the cell before; never run. */
    struct cell *more =
        emit(p, CELL_MOV, 0, operand[3], 0, p->n_marks ? p->n_marks - 1 : 0, (uintptr_t)h->fn);
    more->handler = NULL;
    if (in->type != IR_TYPE_NONE) {
        cut(p, dst, (enum ir_type)in->type);
    }
}

static void lower_pair(struct prepare *p, const struct ir_insn *in, uint16_t dst)
{
    uint16_t lo = use(p, in->a), hi = use(p, in->b);

    emit(p, CELL_MOV, dst, lo, 0, 0, 0);
    emit(p, CELL_MOV, dst + 1u, hi, 0, 0, 0);
}

/* --- Ends --- */

static void lower_end(struct prepare *p, const struct ir_insn *in)
{
    static const uint16_t stops[] = {CELL_STOP_NEXT, CELL_STOP_WAIT, CELL_STOP_YIELD};

    switch (in->op) {
    case IR_EXIT: emit(p, CELL_EXIT, p->n_marks, 0, 0, in->a, 0); break;
    case IR_EXIT_REG: emit(p, CELL_EXIT_REG, p->n_marks, use(p, in->a), 0, 0, 0); break;
    case IR_STOP: emit(p, stops[in->aux], p->n_marks, use(p, in->a), 0, 0, 0); break;
    default: emit(p, CELL_RAISE, 0, use(p, in->b), 0, 0, in->a); break;
    }
}

/* --- All of them --- */

static void lower_value(struct prepare *p, uint32_t i, const struct ir_insn *in)
{
    unsigned bits = ir_type_bits((enum ir_type)in->type);
    unsigned log2 = (unsigned)__builtin_ctz(bits | 512) - 3; /* of the bytes; not for i1 */
    uint16_t dst = define(p, i);

    switch (in->op) {
    case IR_GETREG: lower_getreg(p, in, dst); break;
    case IR_GETENV: emit(p, CELL_GETENV_8 + log2, dst, 0, 0, 0, in->a); break;
    case IR_ZEXT:
    case IR_BITCAST: emit(p, zext_op(type_of(p, in->a)), dst, use(p, in->a), 0, 0, 0); break;
    case IR_TRUNC: emit(p, zext_op((enum ir_type)in->type), dst, use(p, in->a), 0, 0, 0); break;
    case IR_SEXT: lower_sext(p, i, in, dst); break;
    case IR_PAIR: lower_pair(p, in, dst); break;
    case IR_PAIRLO:
    case IR_FL_PACK: emit(p, CELL_MOV, dst, use(p, in->a), 0, 0, 0); break;
    case IR_PAIRHI: emit(p, CELL_MOV, dst, use(p, in->a) + 1u, 0, 0, 0); break;
    case IR_ADC:
    case IR_SBB: lower_carry(p, in, dst); break;
    case IR_UBFX:
    case IR_SBFX:
    case IR_BFI: lower_field(p, in, dst); break;
    case IR_SETCC: lower_setcc(p, in, dst); break;
    case IR_SELECT: lower_select(p, in, dst); break;
    case IR_FL_BIT: emit(p, CELL_FL_BIT, dst, use(p, in->a), 0, 0, in->aux); break;
    case IR_FL_COND: emit(p, CELL_FL_COND, dst, use(p, in->a), 0, 0, in->aux); break;
    case IR_FL_UNPACK: emit(p, CELL_AND_64K, dst, use(p, in->a), 0, 0, FLAGS_ALL); break;
    case IR_LD: lower_load(p, in, dst); break;
    case IR_RMW:
    case IR_CMPXCHG:
    case IR_LL:
    case IR_SC: lower_atomic(p, in, dst); break;
    case IR_FBOX: emit(p, CELL_FBOX, dst, use(p, in->a), 0, 0, 0); break;
    case IR_FUNBOX: emit(p, CELL_FUNBOX, dst, use(p, in->a), 0, 0, 0); break;
    case IR_CALL: lower_call(p, in, dst); break;
    default:
        if (prepare_is_arith((enum ir_op)in->op)) {
            in->type == IR_I1 ? lower_logic1(p, in, dst) : lower_arith(p, in, dst, form_of(in));
        } else if (in->op >= IR_FL_ADD && in->op <= IR_FL_ROR) {
            lower_flags(p, in, dst);
        } else {
            lower_fp(p, in, dst);
        }
        break;
    }
}

static void lower_effect(struct prepare *p, uint32_t i, const struct ir_insn *in)
{
    unsigned log2 = (unsigned)__builtin_ctz(ir_type_bits((enum ir_type)in->type) | 512) - 3;

    switch (in->op) {
    case IR_INSN:
        p->marks[p->n_marks++] = (struct cell_mark){.cell = p->n_cells, .pc = (int32_t)in->a};
        break;
    case IR_ARG: p->arg[p->n_args++ % 2] = in->a; break;
    case IR_PUTREG: lower_putreg(p, in, p->v[i].sunk); break;
    case IR_PUTENV: emit(p, CELL_PUTENV_8 + log2, 0, use(p, in->b), 0, 0, in->a); break;
    case IR_ST: lower_store(p, in); break;
    case IR_FENCE: lower_fence(p, in); break;
    case IR_EXIT_IF: lower_exit_if(p, in); break;
    case IR_CALL: lower_call(p, in, scratch_new(p, 1)); break;
    case IR_NOP: break;
    default: lower_end(p, in); break;
    }
}

/* Frees the home of ref if the instruction at i was the last to need it. */
static void release(struct prepare *p, ir_ref ref, uint32_t i)
{
    if (ir_is_const(ref) || ref == 0) {
        return;
    }
    if (p->v[ref].absorbed) {
        release(p, p->ir->insn[ref].a, i);
        release(p, p->ir->insn[ref].b, i);
        return;
    }
    struct prepare_value *v = &p->v[p->v[ref].root];
    if (v->last <= i && !v->in_register && v->cell) {
        temp_free(p, v->cell, cells_of(type_of(p, p->v[ref].root)));
        v->cell = 0; /* freed once, whoever names it again */
    }
}

static void release_all(struct prepare *p, uint32_t i, const ir_ref arg[2], unsigned n_args)
{
    ir_ref ref[3];
    unsigned n = prepare_operands(&p->ir->insn[i], ref);

    for (unsigned k = 0; k < n; k++) {
        release(p, ref[k], i);
    }
    for (unsigned k = 0; k < n_args && k < 2; k++) {
        release(p, arg[k], i);
    }
    release(p, i, i);
    while (p->n_scratch) {
        temp_free(p, p->scratch[--p->n_scratch], 1);
    }
}

void prepare_lower(struct prepare *p)
{
    const struct ir_block *b = p->ir;

    for (unsigned w = 0; w < ARRAY_SIZE(p->temps); w++) {
        p->temps[w] = 0;
    }
    p->n_scratch = p->n_args = 0;
    p->n_cells = p->n_marks = 0;
    p->full = false;
    for (uint32_t i = 1; i < b->n && !p->full; i++) {
        const struct ir_insn *in = &b->insn[i];
        const struct prepare_value *v = &p->v[i];
        bool value = type_of(p, i) != IR_TYPE_NONE;
        bool takes_args = in->op == IR_CALL || in->op == IR_CMPXCHG;
        ir_ref arg[2] = {p->arg[0], p->arg[1]};
        unsigned n_args = takes_args ? p->n_args : 0;

        /* A getreg that stays in its register emits nothing either. */
        if (!v->live || v->absorbed || v->root != i || (in->op == IR_GETREG && v->in_register)) {
            continue;
        }
        if (value) {
            lower_value(p, i, in);
        } else {
            lower_effect(p, i, in);
        }
        if (in->op != IR_ARG) {
            release_all(p, i, arg, n_args);
        }
    }
}
