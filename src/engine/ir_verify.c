/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Is this block well-formed? Every rule that a backend relies on, checked in one pass in program order. */
#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/bits.h"
#include "engine/env.h"
#include "engine/ir.h"
#include "engine/ir_text.h"

struct verifier {
    const struct ir_block *b;
    uint32_t at;      /* the instruction looked at */
    unsigned markers; /* insn markers so far */
    unsigned args;    /* ARGs that wait for their call */
    ir_ref last_arg;  /* the latest of them */
    bool wrote;       /* the guest instruction has written state: it must not fault any more */
    char *message;
    size_t size;
};

/* Offsets of getenv and putenv: as far as a vCPU's state may reach. */
enum { STATE_LIMIT = 1 << 22 };

G_GNUC_PRINTF(2, 3) static int reject(struct verifier *v, const char *format, ...)
{
    const struct ir_insn *i = &v->b->insn[v->at];
    int used = snprintf(v->message, v->size, "%%%" PRIu32 " (%s): ", v->at,
                        i->op < IR_OP_COUNT ? ir_op_info[i->op].text : "?");
    va_list ap;

    if (used >= 0 && (size_t)used < v->size) {
        va_start(ap, format);
        vsnprintf(v->message + used, v->size - (size_t)used, format, ap);
        va_end(ap);
    }
    return -EINVAL;
}

/* --- Types an operation may have --- */

#define T(type) (1u << (type))
enum {
    INTS = T(IR_I8) | T(IR_I16) | T(IR_I32) | T(IR_I64),
    FLOATS = T(IR_F32) | T(IR_F64),
    PAIRS = T(IR_I128),
    NONE = T(IR_TYPE_NONE),
    SCALARS = T(IR_I1) | INTS | FLOATS,
};

/* The types of operations that differ from their neighbours; INTS for the rest. */
static unsigned types_of(enum ir_op op)
{
    switch (op) {
    case IR_GETREG:
    case IR_PUTREG:
    case IR_LD:
    case IR_ST: return INTS | FLOATS | PAIRS;
    case IR_GETENV:
    case IR_PUTENV: return INTS | FLOATS;
    case IR_TRUNC: return INTS | T(IR_I1);
    case IR_BITCAST: return INTS | FLOATS;
    case IR_SELECT: return SCALARS | T(IR_FL);
    case IR_AND:
    case IR_OR:
    case IR_XOR:
    case IR_NOT:
    case IR_ANDN:
    case IR_ORN:
    case IR_XNOR: return INTS | T(IR_I1);
    case IR_PAIR: return PAIRS;
    case IR_CMPXCHG: return INTS | PAIRS;
    case IR_CALL: return SCALARS | NONE;
    case IR_F2I: return T(IR_I32) | T(IR_I64);
    case IR_FUNBOX: return T(IR_F32);
    /* A fixed result and an operand of its own type: the type field says nothing. */
    case IR_PAIRLO:
    case IR_PAIRHI:
    case IR_FBOX:
    case IR_FL_BIT:
    case IR_FL_COND:
    case IR_FL_PACK:
    case IR_FL_UNPACK: return UINT32_MAX;
    case IR_FADD:
    case IR_FSUB:
    case IR_FMUL:
    case IR_FDIV:
    case IR_FSQRT:
    case IR_FMA:
    case IR_FMIN:
    case IR_FMAX:
    case IR_FEQ:
    case IR_FLT:
    case IR_FLE:
    case IR_FCLASS:
    case IR_FNEG:
    case IR_FABS:
    case IR_FSGNJ:
    case IR_FSGNJN:
    case IR_FSGNJX:
    case IR_FRINT:
    case IR_FCVT:
    case IR_I2F: return FLOATS;
    case IR_NOP:
    case IR_INSN:
    case IR_ARG:
    case IR_FENCE:
    case IR_EXIT_IF:
    case IR_EXIT:
    case IR_EXIT_REG:
    case IR_STOP:
    case IR_RAISE: return UINT32_MAX;
    default: return INTS;
    }
}

/* --- Operands --- */

static int check_value(struct verifier *v, ir_ref x, unsigned allowed)
{
    enum ir_type type = ir_value_type(v->b, x);

    if (!ir_is_const(x) && x >= v->at) {
        return reject(v, "operand %%%" PRIu32 " is not defined before", x);
    }
    if (type == IR_TYPE_NONE) {
        return reject(v, "operand %" PRIu32 " is no value", x & ~IR_CONST);
    }
    if (!(allowed & T(type))) {
        return reject(v, "operand of type %s", ir_type_name(type));
    }
    return 0;
}

/* Types of an operand of kind V: what each operation takes. */
static int check_free_operand(struct verifier *v, const struct ir_insn *i, ir_ref x)
{
    unsigned bits = ir_type_bits((enum ir_type)i->type);
    enum ir_type from = ir_value_type(v->b, x);
    unsigned have = ir_type_bits(from);

    switch (i->op) {
    case IR_ZEXT:
    case IR_SEXT:
        if (check_value(v, x, INTS | T(IR_I1))) {
            return -EINVAL;
        }
        return have < bits ? 0 : reject(v, "%s is not narrower", ir_type_name(from));
    case IR_TRUNC:
        if (check_value(v, x, INTS | PAIRS)) {
            return -EINVAL;
        }
        return have > bits ? 0 : reject(v, "%s is not wider", ir_type_name(from));
    case IR_BITCAST:
        if (check_value(v, x, INTS | FLOATS)) {
            return -EINVAL;
        }
        return have == bits ? 0 : reject(v, "%s is not as wide", ir_type_name(from));
    case IR_PAIRLO:
    case IR_PAIRHI: return check_value(v, x, PAIRS);
    case IR_FCVT: return check_value(v, x, FLOATS & ~T(i->type));
    case IR_F2I: return check_value(v, x, FLOATS);
    case IR_I2F: return check_value(v, x, T(IR_I32) | T(IR_I64));
    case IR_FBOX: return check_value(v, x, T(IR_F32));
    default: return check_value(v, x, SCALARS | PAIRS); /* ARG */
    }
}

static int check_register(struct verifier *v, const struct ir_insn *i, uint32_t r)
{
    const struct ir_target *t = v->b->target;

    if (!t || r >= t->nregs) {
        return reject(v, "no register %" PRIu32, r);
    }
    if (ir_type_bits((enum ir_type)i->type) > ir_type_bits((enum ir_type)t->regs[r].type)) {
        return reject(v, "%s is wider than %s", ir_type_name((enum ir_type)i->type), t->regs[r].name);
    }
    return 0;
}

static int check_mem(struct verifier *v, const struct ir_insn *i, uint32_t mem)
{
    unsigned bits = 8u << ir_mem_log2(mem), type_bits = ir_type_bits((enum ir_type)i->type);
    bool exact = i->type == IR_F32 || i->type == IR_F64 || i->type == IR_I128;

    if (mem >> 15 || ir_mem_mmu(mem) >= ENV_MMU_INDEXES) {
        return reject(v, "memory descriptor 0x%" PRIx32, mem);
    }
    if (bits > type_bits || (exact && bits != type_bits)) {
        return reject(v, "%u bytes for %s", bits / 8, ir_type_name((enum ir_type)i->type));
    }
    if (i->op == IR_ST && (mem & IR_MEM_SIGNED)) {
        return reject(v, "a signed store");
    }
    return 0;
}

static int check_operand(struct verifier *v, const struct ir_insn *i, enum ir_operand kind, uint32_t x)
{
    const struct ir_block *b = v->b;
    unsigned bits = ir_type_bits((enum ir_type)i->type);

    switch (kind) {
    case IR_OPERAND_NO: return x ? reject(v, "an operand that is not used") : 0;
    case IR_OPERAND_T: return check_value(v, x, T(i->type));
    case IR_OPERAND_V: return check_free_operand(v, i, x);
    case IR_OPERAND_I1: return check_value(v, x, T(IR_I1));
    case IR_OPERAND_I64: return check_value(v, x, T(IR_I64));
    case IR_OPERAND_FL: return check_value(v, x, T(IR_FL));
    case IR_OPERAND_REG: return check_register(v, i, x);
    case IR_OPERAND_OFS:
        return x < STATE_LIMIT && x % (bits / 8) == 0 ? 0 : reject(v, "offset %" PRIu32 " in the state", x);
    case IR_OPERAND_MEM: return check_mem(v, i, x);
    case IR_OPERAND_EXIT: return x < b->n_exits ? 0 : reject(v, "no exit @%" PRIu32, x);
    case IR_OPERAND_HELPER:
        return b->target && x < b->target->nhelpers ? 0 : reject(v, "no helper %" PRIu32, x);
    case IR_OPERAND_OPT: return x ? check_value(v, x, SCALARS | T(IR_FL)) : 0;
    default: return 0;
    }
}

static int check_aux(struct verifier *v, const struct ir_insn *i)
{
    enum ir_aux kind = (enum ir_aux)ir_op_info[i->op].aux;
    struct ir_words words = ir_text_aux(kind);
    unsigned value = i->aux;

    switch (kind) {
    case IR_AUX_FENCE:
    case IR_AUX_NARGS: return 0; /* any; against the helper in check_call */
    case IR_AUX_NO: return value ? reject(v, "aux %u", value) : 0;
    case IR_AUX_RM:
        for (const struct ir_text_bit *m = ir_text_modifiers((enum ir_op)i->op); m->bit; m++) {
            value &= ~m->bit;
        }
        break;
    default: break;
    }
    return value < words.n && words.word[value] ? 0 : reject(v, "aux %u", value);
}

/* --- Rules of single operations --- */

static int check_field(struct verifier *v, const struct ir_insn *i)
{
    unsigned bits = ir_type_bits((enum ir_type)i->type);
    uint64_t lo = i->op == IR_BFI ? i->c & 255 : i->b, n = i->op == IR_BFI ? i->c >> 8 : i->c;

    return n >= 1 && lo + n <= bits ? 0 : reject(v, "a field of %" PRIu64 " bits at bit %" PRIu64, n, lo);
}

static int check_call(struct verifier *v, const struct ir_insn *i)
{
    const struct ir_helper *h = &v->b->target->helpers[i->a];
    unsigned given = (i->b != 0) + (i->c != 0) + v->args;

    if (given != i->aux || given != h->nargs || (!i->b && i->c) || (v->args && !i->c)) {
        return reject(v, "%u operands, %u announced, %u taken by %s", given, i->aux, h->nargs, h->name);
    }
    v->args = 0;
    return 0;
}

static int check_cmpxchg(struct verifier *v, const struct ir_insn *i)
{
    if (v->args != 1 || ir_value_type(v->b, v->b->insn[v->last_arg].a) != (enum ir_type)i->type) {
        return reject(v, "needs one arg of its type before it");
    }
    v->args = 0;
    return 0;
}

/* Does the operation stop its guest instruction with an exception, sometimes? */
static bool may_fault(const struct verifier *v, const struct ir_insn *i)
{
    if (i->op == IR_CALL) {
        return v->b->target->helpers[i->a].effects & IR_HELPER_MAY_FAULT;
    }
    return (ir_op_info[i->op].effects & IR_EFFECT_M) || i->op == IR_RAISE;
}

static int check_order(struct verifier *v, const struct ir_insn *i)
{
    if (i->op == IR_INSN || (ir_op_info[i->op].effects & (IR_EFFECT_E | IR_EFFECT_X))) {
        if (v->args) {
            return reject(v, "an arg before it has no call");
        }
    }
    if (i->op == IR_INSN) {
        v->markers++;
        v->wrote = false;
    }
    if (may_fault(v, i)) {
        if (!v->markers) {
            return reject(v, "may fault outside a guest instruction");
        }
        if (v->wrote) {
            return reject(v, "may fault after its guest instruction has written state");
        }
    }
    if (i->op == IR_PUTREG || i->op == IR_PUTENV) {
        v->wrote = true;
    }
    return 0;
}

static int check_special(struct verifier *v, const struct ir_insn *i)
{
    switch (i->op) {
    case IR_ARG: v->last_arg = v->at; return ++v->args <= 2 ? 0 : reject(v, "more than two args");
    case IR_CALL: return check_call(v, i);
    case IR_CMPXCHG: return check_cmpxchg(v, i);
    case IR_UBFX:
    case IR_SBFX:
    case IR_BFI: return check_field(v, i);
    default: return 0;
    }
}

static int check_insn(struct verifier *v)
{
    const struct ir_insn *i = &v->b->insn[v->at];
    const uint32_t operand[3] = {i->a, i->b, i->c};

    if (i->op >= IR_OP_COUNT || i->type >= IR_TYPE_COUNT) {
        return reject(v, "operation %u, type %u", i->op, i->type);
    }
    if (!(types_of((enum ir_op)i->op) & T(i->type))) {
        return reject(v, "of type %s", ir_type_name((enum ir_type)i->type));
    }
    if (check_aux(v, i)) {
        return -EINVAL;
    }
    for (unsigned k = 0; k < 3; k++) {
        if (check_operand(v, i, (enum ir_operand)ir_op_info[i->op].operand[k], operand[k])) {
            return -EINVAL;
        }
    }
    bool ends = ir_op_info[i->op].effects & IR_EFFECT_X, last = v->at == v->b->n - 1;
    if (ends != last) {
        return reject(v, ends ? "ends the block before its end" : "is last but does not end the block");
    }
    return check_order(v, i) || check_special(v, i) ? -EINVAL : 0;
}

int ir_verify(const struct ir_block *b, char *message, size_t size)
{
    struct verifier v = {.b = b, .message = message, .size = size};

    if (b->overflow || b->n < 2 || b->n > IR_MAX_INSNS || b->n_consts > IR_MAX_CONSTS ||
        b->n_exits > IR_MAX_EXITS) {
        snprintf(message, size, "%s: %" PRIu32 " instructions, %" PRIu32 " constants, %" PRIu32 " exits",
                 b->overflow ? "overflow" : "limits", b->n, b->n_consts, b->n_exits);
        return -EINVAL;
    }
    for (v.at = 0; v.at < b->n; v.at++) {
        if (v.at == 0 ? b->insn[0].op != IR_NOP : check_insn(&v) != 0) {
            return v.at ? -EINVAL : reject(&v, "instruction 0 is not a nop");
        }
    }
    if (v.markers != b->n_guest || v.markers > IR_MAX_GUEST_INSNS) {
        snprintf(message, size, "%u insn markers, %" PRIu32 " guest instructions announced, at most %d",
                 v.markers, b->n_guest, IR_MAX_GUEST_INSNS);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < b->n_exits; i++) {
        if (b->exits[i].kind > IR_EXIT_FAR || b->exits[i].hint > IR_HINT_RETURN) {
            snprintf(message, size, "exit @%" PRIu32 ": kind %u, hint %u", i, b->exits[i].kind,
                     b->exits[i].hint);
            return -EINVAL;
        }
    }
    return 0;
}
