/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Emitted integer instructions run on this processor with random operands, against plain C. */
#include <string.h>

#include "base/bits.h"
#include "machine.h"

typedef unsigned __int128 u128;
typedef __int128 s128;

#define ROUNDS 40 /* random cases per instruction, size and form */
#define CODE (24 * MiB)
#define FOR_SIZES(size, from) for (unsigned size = (from); size <= 64; size *= 2)

/* --- What registers hold afterwards --- */

/* A result of `size` bits in a register that held `old`. */
static uint64_t written(unsigned size, uint64_t old, uint64_t v)
{
    return size >= 32 ? v & bits_mask(size) : (old & ~bits_mask(size)) | (v & bits_mask(size));
}

static uint64_t cut(unsigned size, uint64_t v)
{
    return v & bits_mask(size);
}

static s128 number(unsigned size, uint64_t v)
{
    return bits_sext(cut(size, v), size);
}

/* ZF, SF and PF of a result. */
static uint64_t flags_of(unsigned size, uint64_t v)
{
    return (cut(size, v) ? 0 : FLAG_ZF) | (bits_get(v, size - 1, 1) ? FLAG_SF : 0) |
           (__builtin_popcount((uint8_t)v) & 1 ? 0 : FLAG_PF);
}

struct expected {
    uint64_t value;
    uint64_t flags, known; /* flags with a meaning */
};

static void expect_flags(const struct machine *m, struct expected x)
{
    g_assert_cmphex(m->s.flags & x.known, ==, x.flags & x.known);
}

/* --- Two operands --- */

/* Sums and differences as numbers: the carry is what does not fit unsigned, the overflow what does not fit
 * signed. */
static struct expected alu(enum host_alu op, unsigned size, uint64_t a, uint64_t b, bool carry)
{
    bool minus = op == HOST_SUB || op == HOST_SBB || op == HOST_CMP,
         c = carry && (op == HOST_ADC || op == HOST_SBB);
    s128 u, s;
    uint64_t v;

    switch (op) {
    case HOST_AND: v = a & b; break;
    case HOST_OR: v = a | b; break;
    case HOST_XOR: v = a ^ b; break;
    default:
        u = (s128)cut(size, a) + (minus ? -(s128)cut(size, b) - c : (s128)cut(size, b) + c);
        s = number(size, a) + (minus ? -number(size, b) - c : number(size, b) + c);
        v = cut(size, (uint64_t)u);
        return (struct expected){.value = v,
                                 .flags = flags_of(size, v) | (u != (s128)v ? FLAG_CF : 0) |
                                          (s != number(size, v) ? FLAG_OF : 0),
                                 .known = FLAGS & ~FLAG_AF};
    }
    v = cut(size, v);
    return (struct expected){.value = v, .flags = flags_of(size, v), .known = FLAGS & ~FLAG_AF};
}

enum form { RR, RI, RM, MR, MI, N_FORMS };

static void alu_case(struct machine *m, enum host_alu op, unsigned size, enum form form)
{
    unsigned used = 0, first;
    enum host_reg a, b;
    bool to_mem = form == MR || form == MI;
    int32_t imm = (int32_t)machine_random();
    struct expected x;
    struct state was;
    uint64_t old, right;

    machine_randomize(m);
    a = machine_pick(&used);
    first = g_test_rand_int_range(0, 4) ? used : 0; /* now and then the same register twice */
    b = machine_pick(&first);
    was = m->s;
    machine_begin(m, used | first);
    switch (form) {
    case RR: emit_alu_rr(&m->e, op, size, a, b); break;
    case RI: emit_alu_ri(&m->e, op, size, a, imm); break;
    case RM: emit_alu_rm(&m->e, op, size, a, machine_mem(m, 1)); break;
    case MR: emit_alu_mr(&m->e, op, size, machine_mem(m, 1), b); break;
    default: emit_alu_mi(&m->e, op, size, machine_mem(m, 1), imm); break;
    }
    machine_run(m);

    old = to_mem ? was.mem[1] : was.gpr[a];
    right = form == RR || form == MR ? was.gpr[b] : form == RM ? was.mem[1] : (uint64_t)(int64_t)imm;
    x = alu(op, size, old, right, was.flags & FLAG_CF);
    expect_flags(m, x);
    if (to_mem)
        was.mem[1] = op == HOST_CMP ? old : (old & ~bits_mask(size)) | x.value;
    else if (op != HOST_CMP)
        was.gpr[a] = written(size, old, x.value);
    was.gpr[HOST_RSP] = m->s.gpr[HOST_RSP];
    was.gpr[m->pointer] = m->s.gpr[m->pointer];
    g_assert_cmpmem(m->s.gpr, sizeof(was.gpr), was.gpr, sizeof(was.gpr)); /* and nothing else changed */
    g_assert_cmpmem(m->s.mem, sizeof(was.mem), was.mem, sizeof(was.mem));
}

static void test_alu(void)
{
    struct machine m;

    machine_init(&m, CODE);
    for (enum host_alu op = HOST_ADD; op <= HOST_CMP; op++) {
        FOR_SIZES(size, 8)
        {
            for (enum form form = RR; form < N_FORMS; form++) {
                for (unsigned i = 0; i < ROUNDS; i++)
                    alu_case(&m, op, size, form);
            }
        }
    }
    machine_fini(&m);
}

static void test_test(void)
{
    struct machine m;

    machine_init(&m, CODE);
    FOR_SIZES(size, 8)
    {
        for (unsigned i = 0; i < 2 * ROUNDS; i++) {
            unsigned used = 0;
            enum host_reg a = machine_pick(&used), b = machine_pick(&used);
            int32_t imm = (int32_t)machine_random();

            machine_randomize(&m);
            machine_begin(&m, used);
            if (i & 1)
                emit_test_rr(&m.e, size, a, b);
            else
                emit_test_ri(&m.e, size, a, imm);
            machine_run(&m);
            expect_flags(&m,
                         alu(HOST_AND, size, m.s.gpr[a], i & 1 ? m.s.gpr[b] : (uint64_t)(int64_t)imm, false));
        }
    }
    machine_fini(&m);
}

/* --- One operand --- */

static void test_unary(void)
{
    static void (*const forms[])(struct emit * e, unsigned size, enum host_reg r) = {emit_not_r, emit_neg_r,
                                                                                     emit_inc_r, emit_dec_r};
    struct machine m;

    machine_init(&m, CODE);
    for (unsigned k = 0; k < ARRAY_SIZE(forms); k++) {
        for (unsigned i = 0; i < 4 * ROUNDS; i++) {
            unsigned used = 0, size = 8u << (i & 3);
            enum host_reg r = machine_pick(&used);
            struct expected x;
            uint64_t old, carry;

            machine_randomize(&m);
            old = m.s.gpr[r];
            carry = m.s.flags & FLAG_CF;
            machine_begin(&m, used);
            forms[k](&m.e, size, r);
            machine_run(&m);
            x = k == 0   ? (struct expected){.value = ~old}
                : k == 1 ? alu(HOST_SUB, size, 0, old, false)
                         : alu(k == 2 ? HOST_ADD : HOST_SUB, size, old, 1, false);
            if (k >= 2) /* INC and DEC keep the carry */
                x.flags = (x.flags & ~FLAG_CF) | carry;
            expect_flags(&m, x);
            g_assert_cmphex(m.s.gpr[r], ==, written(size, old, x.value));
        }
    }
    machine_fini(&m);
}

/* --- Shifts: one bit at a time --- */

static uint64_t shift(enum host_shift op, unsigned size, uint64_t v, unsigned count, bool carry)
{
    v = cut(size, v);
    for (count &= size == 64 ? 63 : 31; count; count--) {
        uint64_t top = bits_get(v, size - 1, 1), low = v & 1;

        switch (op) {
        case HOST_ROL: v = v << 1 | top; break;
        case HOST_ROR: v = v >> 1 | low << (size - 1); break;
        case HOST_RCL: v = v << 1 | carry; break;
        case HOST_RCR: v = v >> 1 | (uint64_t)carry << (size - 1); break;
        case HOST_SHL: v = v << 1; break;
        case HOST_SHR: v = v >> 1; break;
        default: v = v >> 1 | top << (size - 1); break;
        }
        carry = op == HOST_RCL ? top : low;
        v = cut(size, v);
    }
    return v;
}

static void shift_case(struct machine *m, enum host_shift op, unsigned size, unsigned form)
{
    unsigned used = 1u << HOST_RCX, count = (unsigned)g_test_rand_int_range(0, 256);
    enum host_reg r = machine_pick(&used);
    uint64_t old, want;
    bool carry;

    machine_randomize(m);
    m->s.gpr[HOST_RCX] = (m->s.gpr[HOST_RCX] & ~UINT64_C(0xff)) | count;
    carry = m->s.flags & FLAG_CF;
    old = form < 2 ? m->s.gpr[r] : m->s.mem[2];
    want = shift(op, size, old, count, carry);
    machine_begin(m, used);
    switch (form) {
    case 0: emit_shift_ri(&m->e, op, size, r, count); break;
    case 1: emit_shift_rc(&m->e, op, size, r); break;
    case 2: emit_shift_mi(&m->e, op, size, machine_mem(m, 2), count); break;
    default: emit_shift_mc(&m->e, op, size, machine_mem(m, 2)); break;
    }
    machine_run(m);
    if (form < 2)
        g_assert_cmphex(m->s.gpr[r], ==, written(size, old, want));
    else
        g_assert_cmphex(m->s.mem[2], ==, (old & ~bits_mask(size)) | want);
}

static void test_shift(void)
{
    struct machine m;

    machine_init(&m, CODE);
    for (enum host_shift op = HOST_ROL; op <= HOST_SAR; op++) {
        if (op == HOST_SHR + 1)
            continue; /* there is no operation of this number */
        FOR_SIZES(size, 8)
        {
            for (unsigned i = 0; i < 4 * ROUNDS; i++)
                shift_case(&m, op, size, i & 3);
        }
    }
    machine_fini(&m);
}

static void test_bmi(void)
{
    struct machine m;

    if (!host_features_get()->bmi1 || !host_features_get()->bmi2) {
        g_test_skip("this processor has no BMI1 and BMI2");
        return;
    }
    machine_init(&m, CODE);
    for (unsigned i = 0; i < 12 * ROUNDS; i++) {
        unsigned used = 1u << HOST_RDX, size = 32u << (i & 1), count;
        enum host_reg a = machine_pick(&used), b = machine_pick(&used), c = machine_pick(&used);
        uint64_t va, vb, vc, want;
        u128 product;

        machine_randomize(&m);
        va = m.s.gpr[a];
        vb = m.s.gpr[b];
        vc = m.s.gpr[c];
        count = (unsigned)vc & (size - 1);
        product = (u128)cut(size, m.s.gpr[HOST_RDX]) * cut(size, vc);
        want = va;
        machine_begin(&m, used);
        switch (i / 2 % 6) {
        case 0: emit_shlx_rrr(&m.e, size, a, b, c), want = shift(HOST_SHL, size, vb, count, false); break;
        case 1: emit_shrx_rrr(&m.e, size, a, b, c), want = shift(HOST_SHR, size, vb, count, false); break;
        case 2: emit_sarx_rrr(&m.e, size, a, b, c), want = shift(HOST_SAR, size, vb, count, false); break;
        case 3: emit_rorx_rri(&m.e, size, a, b, count), want = shift(HOST_ROR, size, vb, count, false); break;
        case 4: emit_andn_rrr(&m.e, size, a, b, c), want = cut(size, ~vb & vc); break;
        default:
            emit_mulx_rrr(&m.e, size, a, b, c);
            want = cut(size, (uint64_t)(product >> size));
            vb = cut(size, (uint64_t)product);
            break;
        }
        machine_run(&m);
        g_assert_cmphex(m.s.gpr[a], ==, want);
        g_assert_cmphex(m.s.gpr[b], ==, vb);
    }
    machine_fini(&m);
}

/* --- Multiplication and division --- */

/* RDX:RAX of `size` bits each; for 8 bits AX is both. */
static void set_pair(struct state *s, unsigned size, u128 v)
{
    if (size == 8) {
        s->gpr[HOST_RAX] = written(16, s->gpr[HOST_RAX], (uint64_t)v);
        return;
    }
    s->gpr[HOST_RAX] = written(size, s->gpr[HOST_RAX], (uint64_t)v);
    s->gpr[HOST_RDX] = written(size, s->gpr[HOST_RDX], (uint64_t)(v >> size));
}

static void mul_case(struct machine *m, unsigned size, bool is_signed)
{
    unsigned used = 1u << HOST_RDX | 1u << HOST_RAX;
    enum host_reg r = machine_pick(&used);
    struct state want;
    u128 product;

    machine_randomize(m);
    want = m->s;
    if (is_signed)
        product = (u128)(number(size, want.gpr[HOST_RAX]) * number(size, want.gpr[r]));
    else
        product = (u128)cut(size, want.gpr[HOST_RAX]) * cut(size, want.gpr[r]);
    set_pair(&want, size, product);
    machine_begin(m, used);
    (is_signed ? emit_imul_r : emit_mul_r)(&m->e, size, r);
    machine_run(m);
    g_assert_cmphex(m->s.gpr[HOST_RAX], ==, want.gpr[HOST_RAX]);
    g_assert_cmphex(m->s.gpr[HOST_RDX], ==, want.gpr[HOST_RDX]);
}

/* The dividend is made of a quotient, a divisor and a remainder, which must come back. */
static void div_case(struct machine *m, unsigned size, bool is_signed)
{
    unsigned used = 1u << HOST_RDX | 1u << HOST_RAX;
    enum host_reg r = machine_pick(&used);
    struct state want;
    uint64_t q, d, rest;

    machine_randomize(m);
    q = cut(size, machine_random());
    d = cut(size, machine_random() | 1);
    if (is_signed) {
        s128 sq = number(size, q), sd = number(size, d), sr = (s128)(machine_random() % 1000) % sd;

        if ((sq < 0) != (sd < 0)) /* the remainder has the dividend's sign */
            sr = -sr;
        if (sq == 0)
            sr = 0;
        rest = cut(size, (uint64_t)sr);
        set_pair(&m->s, size, (u128)(sq * sd + sr));
    } else {
        rest = machine_random() % d;
        set_pair(&m->s, size, (u128)q * d + rest);
    }
    m->s.gpr[r] = written(size, m->s.gpr[r], d);
    want = m->s;
    set_pair(&want, size, (u128)rest << size | q);
    machine_begin(m, used);
    (is_signed ? emit_idiv_r : emit_div_r)(&m->e, size, r);
    machine_run(m);
    g_assert_cmphex(m->s.gpr[HOST_RAX], ==, want.gpr[HOST_RAX]);
    g_assert_cmphex(m->s.gpr[HOST_RDX], ==, want.gpr[HOST_RDX]);
}

static void imul_case(struct machine *m, unsigned size)
{
    unsigned used = 0;
    enum host_reg a = machine_pick(&used), b = machine_pick(&used), c = machine_pick(&used);
    int32_t imm = (int32_t)machine_random();
    uint64_t va, vb, vc;

    machine_randomize(m);
    va = m->s.gpr[a], vb = m->s.gpr[b], vc = m->s.gpr[c];
    machine_begin(m, used);
    emit_imul_rr(&m->e, size, a, b);
    emit_imul_rri(&m->e, size, c, b, imm);
    machine_run(m);
    g_assert_cmphex(m->s.gpr[a], ==, written(size, va, va * vb));
    g_assert_cmphex(m->s.gpr[c], ==, written(size, vc, vb * (uint64_t)(int64_t)imm));
}

static void test_multiply_divide(void)
{
    struct machine m;

    machine_init(&m, CODE);
    FOR_SIZES(size, 8)
    {
        for (unsigned i = 0; i < 4 * ROUNDS; i++) {
            mul_case(&m, size, i & 1);
            div_case(&m, size, i & 1);
            if (size > 8)
                imul_case(&m, size);
        }
    }
    for (unsigned i = 0; i < 3 * ROUNDS; i++) { /* the sign that goes in front of a division */
        unsigned size = 16u << i % 3;
        struct state was;

        machine_randomize(&m);
        was = m.s;
        machine_begin(&m, 1u << HOST_RAX | 1u << HOST_RDX);
        emit_cdq(&m.e, size);
        machine_run(&m);
        g_assert_cmphex(
            m.s.gpr[HOST_RDX], ==,
            written(size, was.gpr[HOST_RDX], number(size, was.gpr[HOST_RAX]) < 0 ? UINT64_MAX : 0));
    }
    machine_fini(&m);
}

/* --- Bits --- */

static unsigned count_bits(unsigned size, uint64_t v)
{
    unsigned n = 0;

    for (unsigned i = 0; i < size; i++)
        n += (unsigned)bits_get(v, i, 1);
    return n;
}

/* Zeros below the lowest one, or above the highest; size when there is none. */
static unsigned zeros(unsigned size, uint64_t v, bool above)
{
    unsigned n = 0;

    while (n < size && !bits_get(v, above ? size - 1 - n : n, 1))
        n++;
    return n;
}

static void test_count(void)
{
    const struct host_features *f = host_features_get();
    struct machine m;

    machine_init(&m, CODE);
    for (unsigned i = 0; i < 18 * ROUNDS; i++) {
        unsigned used = 0, size = 16u << i % 3;
        enum host_reg a = machine_pick(&used), b = machine_pick(&used);
        uint64_t v, old, want;

        machine_randomize(&m);
        old = m.s.gpr[a], v = m.s.gpr[b];
        machine_begin(&m, used);
        switch (i / 3 % 6) {
        case 0: want = f->popcnt ? (emit_popcnt_rr(&m.e, size, a, b), count_bits(size, v)) : old; break;
        case 1: want = f->lzcnt ? (emit_lzcnt_rr(&m.e, size, a, b), zeros(size, v, true)) : old; break;
        case 2: want = f->bmi1 ? (emit_tzcnt_rr(&m.e, size, a, b), zeros(size, v, false)) : old; break;
        case 3: emit_bsf_rr(&m.e, size, a, b), want = zeros(size, v, false); break;
        case 4: emit_bsr_rr(&m.e, size, a, b), want = size - 1 - zeros(size, v, true); break;
        default:
            size = size == 16 ? 32 : size;
            emit_bswap(&m.e, size, a);
            want = size == 64 ? __builtin_bswap64(old) : __builtin_bswap32((uint32_t)old);
            break;
        }
        machine_run(&m);
        if (i / 3 % 6 == 3 || i / 3 % 6 == 4) {
            g_assert_cmpint(!!(m.s.flags & FLAG_ZF), ==, !cut(size, v));
            if (!cut(size, v))
                continue; /* undefined */
        }
        g_assert_cmphex(m.s.gpr[a], ==, written(size, old, want));
    }
    machine_fini(&m);
}

static void test_bit(void)
{
    struct machine m;

    machine_init(&m, CODE);
    for (unsigned i = 0; i < 24 * ROUNDS; i++) {
        unsigned used = 0, size = 16u << i % 3, op = i / 3 % 4, n;
        enum host_reg a = machine_pick(&used), b = machine_pick(&used);
        uint64_t old, mask;

        machine_randomize(&m);
        old = m.s.gpr[a];
        n = m.s.gpr[b] & (size - 1);
        mask = BIT(n);
        machine_begin(&m, used);
        if (i & 1)
            (op == 0   ? emit_bt_rr
             : op == 1 ? emit_bts_rr
             : op == 2 ? emit_btr_rr
                       : emit_btc_rr)(&m.e, size, a, b);
        else
            (op == 0   ? emit_bt_ri
             : op == 1 ? emit_bts_ri
             : op == 2 ? emit_btr_ri
                       : emit_btc_ri)(&m.e, size, a, n);
        machine_run(&m);
        g_assert_cmpint(!!(m.s.flags & FLAG_CF), ==, !!(old & mask));
        /* BT does not write, so it does not clear the upper half. */
        g_assert_cmphex(m.s.gpr[a], ==,
                        op == 0 ? old
                                : written(size, old,
                                          op == 1   ? old | mask
                                          : op == 2 ? old & ~mask
                                                    : old ^ mask));
    }
    machine_fini(&m);
}

/* --- Conditions --- */

static bool holds(enum host_cond c, uint64_t f)
{
    bool cf = f & FLAG_CF, zf = f & FLAG_ZF, sf = f & FLAG_SF, of = f & FLAG_OF, pf = f & FLAG_PF;

    switch (c) {
    case HOST_O: return of;
    case HOST_NO: return !of;
    case HOST_B: return cf;
    case HOST_AE: return !cf;
    case HOST_E: return zf;
    case HOST_NE: return !zf;
    case HOST_BE: return cf || zf;
    case HOST_A: return !cf && !zf;
    case HOST_S: return sf;
    case HOST_NS: return !sf;
    case HOST_P: return pf;
    case HOST_NP: return !pf;
    case HOST_L: return sf != of;
    case HOST_GE: return sf == of;
    case HOST_LE: return zf || sf != of;
    default: return !zf && sf == of;
    }
}

static void test_condition(void)
{
    struct machine m;

    machine_init(&m, CODE);
    for (enum host_cond c = HOST_O; c <= HOST_G; c++) {
        for (unsigned i = 0; i < 2 * ROUNDS; i++) {
            unsigned used = 0, size = 16u << i % 3;
            enum host_reg a = machine_pick(&used), b = machine_pick(&used), d = machine_pick(&used),
                          r = machine_pick(&used);
            struct emit_label over = {0};
            struct state was;
            bool yes;

            machine_randomize(&m);
            was = m.s;
            yes = holds(c, was.flags);
            machine_begin(&m, used);
            emit_setcc_r(&m.e, c, a);
            emit_cmovcc_rr(&m.e, c, size, b, d);
            (i & 1 ? emit_jcc : emit_jcc_short)(&m.e, c, &over);
            emit_mov_ri(&m.e, 64, r, 42);
            emit_bind(&m.e, &over);
            machine_run(&m);
            g_assert_cmphex(m.s.gpr[a], ==, written(8, was.gpr[a], yes));
            g_assert_cmphex(m.s.gpr[b], ==, written(size, was.gpr[b], yes ? was.gpr[d] : was.gpr[b]));
            g_assert_cmphex(m.s.gpr[r], ==, yes ? was.gpr[r] : 42);
        }
    }
    machine_fini(&m);
}

/* --- Moves --- */

static void test_move(void)
{
    struct machine m;

    machine_init(&m, CODE);
    for (unsigned i = 0; i < 12 * ROUNDS; i++) {
        unsigned used = 0, size = 8u << (i & 3), from = 8u << i % 3;
        enum host_reg a = machine_pick(&used), b = machine_pick(&used), c = machine_pick(&used),
                      d = machine_pick(&used), x = machine_pick(&used), y = machine_pick(&used);
        uint64_t imm = machine_random();
        struct state was;

        machine_randomize(&m);
        was = m.s;
        machine_begin(&m, used);
        emit_lea(&m.e, 64, y, host_mem_index(a, c, 4, (int32_t)imm));
        emit_mov_rr(&m.e, size, a, b);
        emit_movsx_rr(&m.e, 64, from, c, b);
        emit_movzx_rr(&m.e, from, d, b);
        emit_mov_ri(&m.e, size, x, imm);
        emit_mov_mr(&m.e, size, machine_mem(&m, 0), b);
        emit_mov_mi(&m.e, size, machine_mem(&m, 1), (int32_t)imm);
        emit_xchg_mr(&m.e, size, machine_mem(&m, 2), b);
        machine_run(&m);
        g_assert_cmphex(m.s.gpr[y], ==, was.gpr[a] + was.gpr[c] * 4 + (uint64_t)(int64_t)(int32_t)imm);
        g_assert_cmphex(m.s.gpr[a], ==, written(size, was.gpr[a], was.gpr[b]));
        g_assert_cmphex(m.s.gpr[c], ==, (uint64_t)number(from, was.gpr[b]));
        g_assert_cmphex(m.s.gpr[d], ==, cut(from, was.gpr[b]));
        g_assert_cmphex(m.s.gpr[x], ==, written(size, was.gpr[x], imm));
        g_assert_cmphex(cut(size, m.s.mem[0]), ==, cut(size, was.gpr[b]));
        g_assert_cmphex(cut(size, m.s.mem[1]), ==, cut(size, (uint64_t)(int64_t)(int32_t)imm));
        g_assert_cmphex(cut(size, m.s.mem[2]), ==, cut(size, was.gpr[b]));
        g_assert_cmphex(m.s.gpr[b], ==, written(size, was.gpr[b], was.mem[2]));
    }
    machine_fini(&m);
}

/* --- Atomics --- */

static void test_atomic(void)
{
    struct machine m;

    machine_init(&m, CODE);
    for (unsigned i = 0; i < 4 * ROUNDS; i++) {
        unsigned used = 1u << HOST_RAX, size = 8u << (i & 3);
        enum host_reg a = machine_pick(&used), b = machine_pick(&used);
        struct state was;
        bool same;

        machine_randomize(&m);
        if (i & 4)
            m.s.gpr[HOST_RAX] = m.s.mem[1];
        was = m.s;
        same = cut(size, was.gpr[HOST_RAX]) == cut(size, was.mem[1]);
        machine_begin(&m, used);
        emit_lock_xadd_mr(&m.e, size, machine_mem(&m, 0), a);
        emit_lock_alu_mr(&m.e, HOST_XOR, size, machine_mem(&m, 2), b);
        emit_fence(&m.e);
        emit_mfence(&m.e);
        emit_lock_cmpxchg_mr(&m.e, size, machine_mem(&m, 1), b);
        machine_run(&m);
        g_assert_cmphex(m.s.gpr[a], ==, written(size, was.gpr[a], was.mem[0]));
        g_assert_cmphex(cut(size, m.s.mem[0]), ==, cut(size, was.mem[0] + was.gpr[a]));
        g_assert_cmphex(cut(size, m.s.mem[2]), ==, cut(size, was.mem[2] ^ was.gpr[b]));
        g_assert_cmpint(!!(m.s.flags & FLAG_ZF), ==, same);
        g_assert_cmphex(cut(size, m.s.mem[1]), ==, cut(size, same ? was.gpr[b] : was.mem[1]));
        if (!same)
            g_assert_cmphex(m.s.gpr[HOST_RAX], ==, written(size, was.gpr[HOST_RAX], was.mem[1]));
    }
    machine_fini(&m);
}

static void test_cmpxchg16b(void)
{
    struct machine m;

    if (!host_features_get()->cx16) {
        g_test_skip("this processor has no CMPXCHG16B");
        return;
    }
    machine_init(&m, CODE);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct state was;

        machine_randomize(&m);
        if (i & 1) {
            m.s.gpr[HOST_RAX] = m.s.mem[0];
            m.s.gpr[HOST_RDX] = m.s.mem[1];
        }
        was = m.s;
        machine_begin(&m, 15);
        emit_lock_cmpxchg16b_m(&m.e, machine_mem(&m, 0));
        machine_run(&m);
        if (i & 1) {
            g_assert_cmphex(m.s.mem[0], ==, was.gpr[HOST_RBX]);
            g_assert_cmphex(m.s.mem[1], ==, was.gpr[HOST_RCX]);
        }
        g_assert_cmphex(m.s.gpr[HOST_RAX], ==, was.mem[0]);
        g_assert_cmphex(m.s.gpr[HOST_RDX], ==, was.mem[1]);
    }
    machine_fini(&m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/engine/x86_64/emit-run/alu", test_alu);
    g_test_add_func("/engine/x86_64/emit-run/test", test_test);
    g_test_add_func("/engine/x86_64/emit-run/unary", test_unary);
    g_test_add_func("/engine/x86_64/emit-run/shift", test_shift);
    g_test_add_func("/engine/x86_64/emit-run/bmi", test_bmi);
    g_test_add_func("/engine/x86_64/emit-run/multiply-divide", test_multiply_divide);
    g_test_add_func("/engine/x86_64/emit-run/count", test_count);
    g_test_add_func("/engine/x86_64/emit-run/bit", test_bit);
    g_test_add_func("/engine/x86_64/emit-run/condition", test_condition);
    g_test_add_func("/engine/x86_64/emit-run/move", test_move);
    g_test_add_func("/engine/x86_64/emit-run/atomic", test_atomic);
    g_test_add_func("/engine/x86_64/emit-run/cmpxchg16b", test_cmpxchg16b);
    return g_test_run();
}
