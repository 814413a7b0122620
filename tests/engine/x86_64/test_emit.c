/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Every integer instruction of the emitter, over registers, addresses and immediates, as objdump reads it. */
#include "listing.h"

#include <inttypes.h>

#include "base/bits.h"

/* Sizes as bits of a mask: each is its own bit. */
#define ALL (8 | 16 | 32 | 64)
#define WIDE (16 | 32 | 64)
#define BIG (32 | 64)

#define FOR_SIZES(size, mask)                                                                                \
    for (unsigned size = 8; size <= 64; size *= 2)                                                           \
        if ((mask)&size)
#define FOR_REGS(r) for (enum host_reg r = HOST_RAX; r <= HOST_R15; r++)
#define FOR_MEMS(i) for (unsigned i = 0; i < LISTING_MEMS; i++)

/* Registers with memory operands: each kind of REX and each special number once. */
#define FOR_SOME(r)                                                                                          \
    for (enum host_reg r = HOST_RAX; r <= HOST_R15; r = r == HOST_RAX   ? HOST_RSP                           \
                                                        : r == HOST_RSP ? HOST_RDI                           \
                                                                        : r + 4)

#define REG listing_reg
#define MEM listing_mem
#define MEM_TEXT listing_mem_text

typedef void rr_fn(struct emit *e, unsigned size, enum host_reg a, enum host_reg b);
typedef void rm_fn(struct emit *e, unsigned size, enum host_reg r, struct host_mem m);
typedef void mr_fn(struct emit *e, unsigned size, struct host_mem m, enum host_reg r);
typedef void ri_fn(struct emit *e, unsigned size, enum host_reg r, int32_t imm);
typedef void mi_fn(struct emit *e, unsigned size, struct host_mem m, int32_t imm);
typedef void ru_fn(struct emit *e, unsigned size, enum host_reg r, unsigned imm);
typedef void mu_fn(struct emit *e, unsigned size, struct host_mem m, unsigned imm);
typedef void r_fn(struct emit *e, unsigned size, enum host_reg r);
typedef void m_fn(struct emit *e, unsigned size, struct host_mem m);
typedef void rrr_fn(struct emit *e, unsigned size, enum host_reg a, enum host_reg b, enum host_reg c);

static const int32_t imms[] = {0,   1,     -1,     127,   128,     -128,      -129,      255,
                               256, 32767, -32768, 32768, 0x12345, INT32_MAX, INT32_MIN, 0x7fffff80};

/* --- Two operands --- */

static const struct two {
    const char *name;
    unsigned sizes;
    rr_fn *rr;
    rm_fn *rm;
    mr_fn *mr;
    ri_fn *ri;
    mi_fn *mi;
} twos[] = {
#define ALU(name)                                                                                            \
    {                                                                                                        \
#name, ALL, emit_##name##_rr, emit_##name##_rm, emit_##name##_mr, emit_##name##_ri, emit_##name##_mi \
    }
    ALU(add),
    ALU(or),
    ALU(adc),
    ALU(sbb),
    ALU(and),
    ALU(sub),
    ALU(xor),
    ALU(cmp),
#undef ALU
    {"mov", ALL, emit_mov_rr, emit_mov_rm, emit_mov_mr, NULL, emit_mov_mi},
    {"test", ALL, emit_test_rr, NULL, emit_test_mr, emit_test_ri, emit_test_mi},
    {"xchg", ALL, emit_xchg_rr, NULL, emit_xchg_mr, NULL, NULL},
    {"imul", WIDE, emit_imul_rr, emit_imul_rm, NULL, NULL, NULL},
    {"popcnt", WIDE, emit_popcnt_rr, emit_popcnt_rm, NULL, NULL, NULL},
    {"lzcnt", WIDE, emit_lzcnt_rr, emit_lzcnt_rm, NULL, NULL, NULL},
    {"tzcnt", WIDE, emit_tzcnt_rr, emit_tzcnt_rm, NULL, NULL, NULL},
    {"bsf", WIDE, emit_bsf_rr, emit_bsf_rm, NULL, NULL, NULL},
    {"bsr", WIDE, emit_bsr_rr, emit_bsr_rm, NULL, NULL, NULL},
    {"bt", WIDE, emit_bt_rr, NULL, NULL, NULL, NULL},
    {"bts", WIDE, emit_bts_rr, NULL, NULL, NULL, NULL},
    {"btr", WIDE, emit_btr_rr, NULL, NULL, NULL, NULL},
    {"btc", WIDE, emit_btc_rr, NULL, NULL, NULL, NULL},
    {"lock xadd", ALL, NULL, NULL, emit_lock_xadd_mr, NULL, NULL},
    {"lock cmpxchg", ALL, NULL, NULL, emit_lock_cmpxchg_mr, NULL, NULL},
};

static void two_registers(struct listing *l, const struct two *t, unsigned size)
{
    FOR_REGS(a)
    {
        FOR_REGS(b)
        {
            t->rr(&l->e, size, a, b);
            listing_expect(l, "%s %s,%s", t->name, REG(size, a), REG(size, b));
        }
    }
}

static void two_memory(struct listing *l, const struct two *t, unsigned size)
{
    FOR_MEMS(i)
    {
        FOR_SOME(r)
        {
            if (t->rm) {
                t->rm(&l->e, size, r, MEM(i));
                listing_expect(l, "%s %s,%s", t->name, REG(size, r), MEM_TEXT(size, i));
            }
            if (t->mr) {
                t->mr(&l->e, size, MEM(i), r);
                listing_expect(l, "%s %s,%s", t->name, MEM_TEXT(size, i), REG(size, r));
            }
        }
        for (unsigned k = 0; t->mi && k < ARRAY_SIZE(imms); k++) {
            g_autofree char *imm = listing_imm(size, imms[k]);

            t->mi(&l->e, size, MEM(i), imms[k]);
            listing_expect(l, "%s %s,%s", t->name, MEM_TEXT(size, i), imm);
        }
    }
}

static void two_immediate(struct listing *l, const struct two *t, unsigned size)
{
    FOR_REGS(r)
    {
        for (unsigned k = 0; k < ARRAY_SIZE(imms); k++) {
            g_autofree char *imm = listing_imm(size, imms[k]);

            t->ri(&l->e, size, r, imms[k]);
            listing_expect(l, "%s %s,%s", t->name, REG(size, r), imm);
        }
    }
}

static void test_two(void)
{
    struct listing l;

    if (!listing_begin(&l, 4 * MiB))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(twos); i++) {
        FOR_SIZES(size, twos[i].sizes)
        {
            if (twos[i].rr)
                two_registers(&l, &twos[i], size);
            if (twos[i].ri)
                two_immediate(&l, &twos[i], size);
            two_memory(&l, &twos[i], size);
        }
    }
    listing_end(&l);
}

/* --- One operand, shifts, bits --- */

static void test_unary(void)
{
#define UNARY(name)                                                                                          \
    {                                                                                                        \
#name, emit_##name##_r, emit_##name##_m                                                              \
    }
    static const struct {
        const char *name;
        r_fn *r;
        m_fn *m;
    } forms[] = {UNARY(not ), UNARY(neg),  UNARY(mul), UNARY(imul),
                 UNARY(div),  UNARY(idiv), UNARY(inc), UNARY(dec)};
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
        FOR_SIZES(size, ALL)
        {
            FOR_REGS(r)
            {
                forms[i].r(&l.e, size, r);
                listing_expect(&l, "%s %s", forms[i].name, REG(size, r));
            }
            FOR_MEMS(k)
            {
                forms[i].m(&l.e, size, MEM(k));
                listing_expect(&l, "%s %s", forms[i].name, MEM_TEXT(size, k));
            }
        }
    }
    listing_end(&l);
}

static void test_shifts(void)
{
#define SHIFT(name, op)                                                                                      \
    {                                                                                                        \
#name, emit_##name##_ri, emit_##name##_rc, op                                                        \
    }
    static const struct {
        const char *name;
        ru_fn *ri;
        r_fn *rc;
        enum host_shift op;
    } forms[] = {SHIFT(rol, HOST_ROL), SHIFT(ror, HOST_ROR), SHIFT(rcl, HOST_RCL), SHIFT(rcr, HOST_RCR),
                 SHIFT(shl, HOST_SHL), SHIFT(shr, HOST_SHR), SHIFT(sar, HOST_SAR)};
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
        FOR_SIZES(size, ALL)
        {
            FOR_REGS(r)
            {
                forms[i].ri(&l.e, size, r, 1);
                listing_expect(&l, "%s %s,1", forms[i].name, REG(size, r));
                forms[i].ri(&l.e, size, r, size - 1);
                listing_expect(&l, "%s %s,0x%x", forms[i].name, REG(size, r), size - 1);
                forms[i].rc(&l.e, size, r);
                listing_expect(&l, "%s %s,cl", forms[i].name, REG(size, r));
            }
            FOR_MEMS(k)
            {
                emit_shift_mi(&l.e, forms[i].op, size, MEM(k), 1);
                listing_expect(&l, "%s %s,1", forms[i].name, MEM_TEXT(size, k));
                emit_shift_mi(&l.e, forms[i].op, size, MEM(k), 5);
                listing_expect(&l, "%s %s,0x5", forms[i].name, MEM_TEXT(size, k));
                emit_shift_mc(&l.e, forms[i].op, size, MEM(k));
                listing_expect(&l, "%s %s,cl", forms[i].name, MEM_TEXT(size, k));
            }
        }
    }
    listing_end(&l);
}

static void test_bits(void)
{
#define BITS(name)                                                                                           \
    {                                                                                                        \
#name, emit_##name##_ri, emit_##name##_mi                                                            \
    }
    static const struct {
        const char *name;
        ru_fn *ri;
        mu_fn *mi;
    } forms[] = {BITS(bt), BITS(bts), BITS(btr), BITS(btc)};
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
        FOR_SIZES(size, WIDE)
        {
            FOR_REGS(r)
            {
                forms[i].ri(&l.e, size, r, size - 1);
                listing_expect(&l, "%s %s,0x%x", forms[i].name, REG(size, r), size - 1);
            }
            FOR_MEMS(k)
            {
                forms[i].mi(&l.e, size, MEM(k), 3);
                listing_expect(&l, "%s %s,0x3", forms[i].name, MEM_TEXT(size, k));
            }
        }
    }
    FOR_REGS(r)
    {
        emit_bswap(&l.e, 32, r);
        listing_expect(&l, "bswap %s", REG(32, r));
        emit_bswap(&l.e, 64, r);
        listing_expect(&l, "bswap %s", REG(64, r));
    }
    listing_end(&l);
}

/* --- BMI --- */

static void test_bmi(void)
{
    static const struct {
        const char *name;
        rrr_fn *rrr;
    } forms[] = {{"shlx", emit_shlx_rrr},
                 {"shrx", emit_shrx_rrr},
                 {"sarx", emit_sarx_rrr},
                 {"andn", emit_andn_rrr},
                 {"mulx", emit_mulx_rrr}};
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
        FOR_SIZES(size, BIG)
        {
            FOR_REGS(a)
            {
                FOR_REGS(b)
                {
                    FOR_SOME(c)
                    {
                        forms[i].rrr(&l.e, size, a, b, c);
                        listing_expect(&l, "%s %s,%s,%s", forms[i].name, REG(size, a), REG(size, b),
                                       REG(size, c));
                    }
                }
            }
        }
    }
    FOR_SIZES(size, BIG)
    {
        FOR_SOME(r)
        {
            FOR_REGS(b)
            {
                emit_rorx_rri(&l.e, size, r, b, size - 1);
                listing_expect(&l, "rorx %s,%s,0x%x", REG(size, r), REG(size, b), size - 1);
            }
            FOR_MEMS(k)
            {
                emit_shlx_rmr(&l.e, size, HOST_R9, MEM(k), r);
                listing_expect(&l, "shlx %s,%s,%s", REG(size, HOST_R9), MEM_TEXT(size, k), REG(size, r));
                emit_andn_rrm(&l.e, size, r, HOST_RDX, MEM(k));
                listing_expect(&l, "andn %s,%s,%s", REG(size, r), REG(size, HOST_RDX), MEM_TEXT(size, k));
            }
        }
    }
    listing_end(&l);
}

/* --- Moves --- */

static void mov_immediates(struct listing *l)
{
    static const uint64_t values[] = {0,
                                      1,
                                      0x7f,
                                      0x80,
                                      0xff,
                                      0x7fff,
                                      0x8000,
                                      INT32_MAX,
                                      0x80000000,
                                      UINT32_MAX,
                                      0x100000000,
                                      0xffffffff80000000,
                                      0xffffffff7fffffff,
                                      UINT64_MAX,
                                      INT64_MAX,
                                      0x8000000000000000,
                                      0x123456789abcdef0};

    FOR_REGS(r)
    {
        for (unsigned k = 0; k < ARRAY_SIZE(values); k++) {
            uint64_t v = values[k];
            g_autofree char *imm = listing_imm(64, (int64_t)v);

            FOR_SIZES(size, 8 | 16 | 32)
            {
                g_autofree char *cut = listing_imm(size, (int64_t)v);

                emit_mov_ri(&l->e, size, r, v);
                listing_expect(l, "mov %s,%s", REG(size, r), cut);
            }
            emit_mov_ri(&l->e, 64, r, v);
            if (v <= UINT32_MAX)
                listing_expect(l, "mov %s,%s", REG(32, r), imm);
            else if (v >= 0xffffffff80000000)
                listing_expect(l, "mov %s,%s", REG(64, r), imm);
            else
                listing_expect(l, "movabs %s,%s", REG(64, r), imm);
        }
    }
}

static void extensions_rr(struct listing *l)
{
    FOR_REGS(a)
    {
        FOR_REGS(b)
        {
            for (unsigned from = 8; from <= 32; from *= 2) {
                emit_movzx_rr(&l->e, from, a, b);
                listing_expect(l, "%s %s,%s", from == 32 ? "mov" : "movzx", REG(32, a), REG(from, b));
                emit_movsx_rr(&l->e, 64, from, a, b);
                listing_expect(l, "%s %s,%s", from == 32 ? "movsxd" : "movsx", REG(64, a), REG(from, b));
                if (from == 32)
                    continue;
                emit_movsx_rr(&l->e, 32, from, a, b);
                listing_expect(l, "movsx %s,%s", REG(32, a), REG(from, b));
            }
        }
    }
}

static void extensions_rm(struct listing *l)
{
    FOR_REGS(a)
    {
        FOR_MEMS(k)
        {
            for (unsigned from = 8; from <= 32; from *= 2) {
                emit_movzx_rm(&l->e, from, a, MEM(k));
                listing_expect(l, "%s %s,%s", from == 32 ? "mov" : "movzx", REG(32, a), MEM_TEXT(from, k));
                emit_movsx_rm(&l->e, 64, from, a, MEM(k));
                listing_expect(l, "%s %s,%s", from == 32 ? "movsxd" : "movsx", REG(64, a), MEM_TEXT(from, k));
                if (from == 32)
                    continue;
                emit_movsx_rm(&l->e, 32, from, a, MEM(k));
                listing_expect(l, "movsx %s,%s", REG(32, a), MEM_TEXT(from, k));
            }
        }
    }
}

static void test_moves(void)
{
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    mov_immediates(&l);
    extensions_rr(&l);
    extensions_rm(&l);
    FOR_REGS(r)
    {
        emit_push_r(&l.e, r);
        listing_expect(&l, "push %s", REG(64, r));
        emit_pop_r(&l.e, r);
        listing_expect(&l, "pop %s", REG(64, r));
    }
    FOR_MEMS(k)
    {
        emit_push_m(&l.e, MEM(k));
        listing_expect(&l, "push %s", MEM_TEXT(64, k));
        emit_pop_m(&l.e, MEM(k));
        listing_expect(&l, "pop %s", MEM_TEXT(64, k));
    }
    for (unsigned k = 0; k < ARRAY_SIZE(imms); k++) {
        emit_push_i(&l.e, imms[k]);
        listing_expect(&l, "push 0x%" PRIx64, (uint64_t)(int64_t)imms[k]);
    }
    listing_end(&l);
}

/* Every base with every index, scale and size of displacement, through LEA. */
static void test_addresses(void)
{
    static const int32_t disps[] = {0, 1, -1, 127, 128, -128, -129, INT32_MAX, INT32_MIN};
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    FOR_REGS(base)
    {
        for (unsigned k = 0; k < ARRAY_SIZE(disps); k++) {
            struct host_mem m = host_mem(base, disps[k]);

            emit_lea(&l.e, 64, base ^ 9, m);
            listing_expect(&l, "lea %s,%s", REG(64, base ^ 9), listing_address(0, m));
            FOR_REGS(index)
            {
                for (unsigned scale = 1; scale <= 8 && index != HOST_RSP; scale *= 2) {
                    m = host_mem_index(base, index, scale, disps[k]);
                    emit_lea(&l.e, 32, index, m);
                    listing_expect(&l, "lea %s,%s", REG(32, index), listing_address(0, m));
                }
            }
        }
    }
    listing_end(&l);
}

/* --- Conditions, multiplication by a constant, the rest --- */

static void test_conditions(void)
{
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    for (enum host_cond c = HOST_O; c <= HOST_G; c++) {
        FOR_REGS(a)
        {
            emit_setcc_r(&l.e, c, a);
            listing_expect(&l, "set%s %s", listing_cond(c), REG(8, a));
            FOR_REGS(b)
            {
                FOR_SIZES(size, WIDE)
                {
                    emit_cmovcc_rr(&l.e, c, size, a, b);
                    listing_expect(&l, "cmov%s %s,%s", listing_cond(c), REG(size, a), REG(size, b));
                }
            }
        }
        FOR_MEMS(k)
        {
            emit_setcc_m(&l.e, c, MEM(k));
            listing_expect(&l, "set%s %s", listing_cond(c), MEM_TEXT(8, k));
            emit_cmovcc_rm(&l.e, c, 64, HOST_R10, MEM(k));
            listing_expect(&l, "cmov%s r10,%s", listing_cond(c), MEM_TEXT(64, k));
        }
    }
    listing_end(&l);
}

static void test_imul_immediate(void)
{
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    FOR_SIZES(size, WIDE)
    {
        for (unsigned k = 0; k < ARRAY_SIZE(imms); k++) {
            g_autofree char *imm = listing_imm(size, imms[k]);

            FOR_SOME(a)
            {
                FOR_REGS(b)
                {
                    emit_imul_rri(&l.e, size, a, b, imms[k]);
                    listing_expect(&l, "imul %s,%s,%s", REG(size, a), REG(size, b), imm);
                }
                FOR_MEMS(i)
                {
                    emit_imul_rmi(&l.e, size, a, MEM(i), imms[k]);
                    listing_expect(&l, "imul %s,%s,%s", REG(size, a), MEM_TEXT(size, i), imm);
                }
            }
        }
    }
    listing_end(&l);
}

static void test_locked(void)
{
    static const struct {
        const char *name;
        enum host_alu op;
    } forms[] = {{"add", HOST_ADD}, {"or", HOST_OR}, {"and", HOST_AND}, {"sub", HOST_SUB}, {"xor", HOST_XOR}};
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    FOR_MEMS(i)
    {
        emit_lock_cmpxchg16b_m(&l.e, MEM(i));
        listing_expect(&l, "lock cmpxchg16b OWORD PTR %s", MEM_TEXT(0, i));
        for (unsigned k = 0; k < ARRAY_SIZE(forms); k++) {
            FOR_SIZES(size, ALL)
            {
                g_autofree char *imm = listing_imm(size, -2), *wide = listing_imm(size, 0x1234);

                emit_lock_alu_mr(&l.e, forms[k].op, size, MEM(i), HOST_RSI);
                listing_expect(&l, "lock %s %s,%s", forms[k].name, MEM_TEXT(size, i), REG(size, HOST_RSI));
                emit_lock_alu_mi(&l.e, forms[k].op, size, MEM(i), -2);
                listing_expect(&l, "lock %s %s,%s", forms[k].name, MEM_TEXT(size, i), imm);
                emit_lock_alu_mi(&l.e, forms[k].op, size, MEM(i), 0x1234);
                listing_expect(&l, "lock %s %s,%s", forms[k].name, MEM_TEXT(size, i), wide);
            }
        }
    }
    listing_end(&l);
}

static void test_control(void)
{
    static const struct {
        const char *name;
        void (*emit)(struct emit *e);
    } plain[] = {{"ret", emit_ret},       {"int3", emit_int3},
                 {"pause", emit_pause},   {"mfence", emit_mfence},
                 {"lfence", emit_lfence}, {"pushf", emit_pushfq},
                 {"popf", emit_popfq},    {"lock or DWORD PTR [rsp],0x0", emit_fence}};
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(plain); i++) {
        plain[i].emit(&l.e);
        listing_expect(&l, "%s", plain[i].name);
    }
    FOR_SIZES(size, WIDE)
    {
        emit_cdq(&l.e, size);
        listing_expect(&l, "%s", size == 16 ? "cwd" : size == 32 ? "cdq" : "cqo");
    }
    FOR_REGS(r)
    {
        emit_jmp_r(&l.e, r);
        listing_expect(&l, "jmp %s", REG(64, r));
        emit_call_r(&l.e, r);
        listing_expect(&l, "call %s", REG(64, r));
    }
    FOR_MEMS(k)
    {
        emit_jmp_m(&l.e, MEM(k));
        listing_expect(&l, "jmp %s", MEM_TEXT(64, k));
        emit_call_m(&l.e, MEM(k));
        listing_expect(&l, "call %s", MEM_TEXT(64, k));
    }
    listing_end(&l);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/engine/x86_64/emit/two-operands", test_two);
    g_test_add_func("/engine/x86_64/emit/unary", test_unary);
    g_test_add_func("/engine/x86_64/emit/shifts", test_shifts);
    g_test_add_func("/engine/x86_64/emit/bits", test_bits);
    g_test_add_func("/engine/x86_64/emit/bmi", test_bmi);
    g_test_add_func("/engine/x86_64/emit/moves", test_moves);
    g_test_add_func("/engine/x86_64/emit/addresses", test_addresses);
    g_test_add_func("/engine/x86_64/emit/conditions", test_conditions);
    g_test_add_func("/engine/x86_64/emit/imul-immediate", test_imul_immediate);
    g_test_add_func("/engine/x86_64/emit/locked", test_locked);
    g_test_add_func("/engine/x86_64/emit/control", test_control);
    return g_test_run();
}
