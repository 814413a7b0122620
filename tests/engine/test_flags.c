/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Flag operations against the host's processor, where it is an x86; everywhere against a few values of the
 * manual. */
#include "rig.h"

#include "base/bits.h"
#include "engine/flags.h"

#if defined(__x86_64__)

/* Runs one instruction of the width with the flags given and returns the flags after it. */
#define HOST_BINARY(name, insn)                                                                              \
    static uint64_t host_##name(uint64_t x, uint64_t y, uint64_t flags, unsigned n)                          \
    {                                                                                                        \
        uint64_t out;                                                                                        \
        switch (n) {                                                                                         \
        case 8: HOST_ASM(insn "b %%dl, %%al"); break;                                                        \
        case 16: HOST_ASM(insn "w %%dx, %%ax"); break;                                                       \
        case 32: HOST_ASM(insn "l %%edx, %%eax"); break;                                                     \
        default: HOST_ASM(insn "q %%rdx, %%rax"); break;                                                     \
        }                                                                                                    \
        return out & FLAGS_ALL;                                                                              \
    }
#define HOST_SHIFT(name, insn)                                                                               \
    static uint64_t host_##name(uint64_t x, uint64_t y, uint64_t flags, unsigned n)                          \
    {                                                                                                        \
        uint64_t out;                                                                                        \
        switch (n) {                                                                                         \
        case 8: HOST_ASM(insn "b %%cl, %%al"); break;                                                        \
        case 16: HOST_ASM(insn "w %%cl, %%ax"); break;                                                       \
        case 32: HOST_ASM(insn "l %%cl, %%eax"); break;                                                      \
        default: HOST_ASM(insn "q %%cl, %%rax"); break;                                                      \
        }                                                                                                    \
        return out & FLAGS_ALL;                                                                              \
    }
#define HOST_UNARY(name, insn)                                                                               \
    static uint64_t host_##name(uint64_t x, uint64_t y, uint64_t flags, unsigned n)                          \
    {                                                                                                        \
        uint64_t out;                                                                                        \
        switch (n) {                                                                                         \
        case 8: HOST_ASM(insn "b %%al"); break;                                                              \
        case 16: HOST_ASM(insn "w %%ax"); break;                                                             \
        case 32: HOST_ASM(insn "l %%eax"); break;                                                            \
        default: HOST_ASM(insn "q %%rax"); break;                                                            \
        }                                                                                                    \
        return out & FLAGS_ALL;                                                                              \
    }
/* The stack below the pointer is the compiler's (red zone): step over it. */
#define HOST_ASM(text)                                                                                       \
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpush %[flags]\n\tpopfq\n\t" text                             \
                     "\n\tpushfq\n\tpop %[out]\n\tlea 128(%%rsp), %%rsp"                                     \
                     : [out] "=&r"(out), "+a"(x), "+d"(y)                                                    \
                     : [flags] "r"(flags), "c"(y)                                                            \
                     : "cc", "memory")

HOST_BINARY(add, "add")
HOST_BINARY(adc, "adc")
HOST_BINARY(sub, "sub")
HOST_BINARY(sbb, "sbb")
HOST_BINARY(logic, "and")
HOST_UNARY(inc, "inc")
HOST_UNARY(dec, "dec")
HOST_SHIFT(shl, "shl")
HOST_SHIFT(shr, "shr")
HOST_SHIFT(sar, "sar")
HOST_SHIFT(rol, "rol")
HOST_SHIFT(ror, "ror")

struct host_op {
    enum ir_op op;
    uint64_t (*host)(uint64_t x, uint64_t y, uint64_t flags, unsigned n);
};

static const struct host_op host_ops[] = {
    {IR_FL_ADD, host_add},     {IR_FL_ADC, host_adc}, {IR_FL_SUB, host_sub}, {IR_FL_SBB, host_sbb},
    {IR_FL_LOGIC, host_logic}, {IR_FL_INC, host_inc}, {IR_FL_DEC, host_dec}, {IR_FL_SHL, host_shl},
    {IR_FL_SHR, host_shr},     {IR_FL_SAR, host_sar}, {IR_FL_ROL, host_rol}, {IR_FL_ROR, host_ror},
};

/* Not compared: flags that the manual leaves undefined and in which processors need not agree. */
static uint64_t compared(enum ir_op op, uint64_t count, unsigned n)
{
    bool shift = op == IR_FL_SHL || op == IR_FL_SHR || op == IR_FL_SAR;
    uint64_t mask = FLAGS_ALL;

    if (shift && count) {
        mask &= ~BIT(IR_FLAG_A);
    }
    if (shift && count > n) {
        mask &= ~(BIT(IR_FLAG_C) | BIT(IR_FLAG_O));
    }
    return mask;
}

static const enum ir_type types[] = {IR_I8, IR_I16, IR_I32, IR_I64};

/* r3 = flags of (r1, r2), with the old flags in r4. */
static void build(struct ir_block *ir, enum ir_op op, enum ir_type type)
{
    ir_ref operand[3];

    ir_begin(ir, &rig_target, 0x1000, 0);
    for (unsigned i = 0; i < 2; i++) {
        ir_ref v = ir_emit(ir, IR_GETREG, IR_I64, 0, i + 1, 0, 0);
        operand[i] = type == IR_I64 ? v : ir_emit(ir, IR_TRUNC, type, 0, v, 0, 0);
    }
    operand[2] = ir_emit(ir, IR_FL_UNPACK, IR_TYPE_NONE, 0, ir_emit(ir, IR_GETREG, IR_I64, 0, 4, 0, 0), 0, 0);
    ir_ref carry = ir_emit(ir, IR_FL_BIT, IR_TYPE_NONE, IR_FLAG_C, operand[2], 0, 0);
    if (op == IR_FL_LOGIC) {
        operand[0] = ir_emit(ir, IR_AND, type, 0, operand[0], operand[1], 0);
    }
    uint8_t b = ir_op_info[op].operand[1], c = ir_op_info[op].operand[2];
    ir_ref f = ir_emit(ir, op, type, 0, operand[0],
                       b == IR_OPERAND_I1   ? carry
                       : b == IR_OPERAND_NO ? 0
                                            : operand[1],
                       c == IR_OPERAND_I1   ? carry
                       : c == IR_OPERAND_NO ? 0
                                            : operand[2]);
    ir_emit(ir, IR_PUTREG, IR_I64, 0, 3, ir_emit(ir, IR_FL_PACK, IR_TYPE_NONE, 0, f, 0, 0), 0);
    ir_emit(ir, IR_EXIT, IR_TYPE_NONE, 0, ir_exit_to(ir, 0x2000, IR_HINT_JUMP), 0, 0);
}

static uint64_t operand(GRand *rand, unsigned n)
{
    uint64_t v = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);

    switch (g_rand_int(rand) & 7) {
    case 0: v = 0; break;
    case 1: v = BIT(n - 1); break;
    case 2: v = UINT64_MAX; break;
    case 3: v &= 15; break;
    case 4: v = BIT(n - 1) - 1; break;
    default: break;
    }
    return v & bits_mask(n);
}

static void check_host(gconstpointer data)
{
    const struct host_op *h = data;
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    struct rig *rig[2] = {rig_new(false), rig_new(true)};
    GRand *rand = g_rand_new_with_seed(h->op);

    for (unsigned t = 0; t < G_N_ELEMENTS(types); t++) {
        unsigned n = ir_type_bits(types[t]);
        build(ir, h->op, types[t]);
        struct block *b[2] = {rig_compile(rig[0], ir), rig_compile(rig[1], ir)};
        for (unsigned i = 0; i < 4000; i++) {
            uint64_t x = operand(rand, n), y = operand(rand, n), flags = g_rand_int(rand) & FLAGS_ALL;
            bool shift = h->op >= IR_FL_SHL && h->op <= IR_FL_ROR;
            y = shift ? g_rand_int(rand) & 0xff : y;
            uint64_t want = h->host(x, y, flags | 2, n), mask = compared(h->op, flags_count(y, n), n);
            for (unsigned k = 0; k < 2; k++) {
                rig[k]->env.reg[1] = x;
                rig[k]->env.reg[2] = y;
                rig[k]->env.reg[4] = flags;
                rig_run(rig[k], b[k]);
                if ((rig[k]->env.reg[3] ^ want) & mask) {
                    g_error("%s of %u bits, %" G_GINT64_MODIFIER "x, %" G_GINT64_MODIFIER
                            "x, flags %" G_GINT64_MODIFIER "x: %" G_GINT64_MODIFIER
                            "x, the processor says %" G_GINT64_MODIFIER "x",
                            ir_op_info[h->op].text, n, x, y, flags, rig[k]->env.reg[3], want);
                }
            }
        }
    }
    g_rand_free(rand);
    rig_free(rig[0]);
    rig_free(rig[1]);
}

/* Conditions: setcc with each of the 64 settings of the flags. */
static void check_host_conditions(void)
{
#define HOST_COND(number, suffix)                                                                            \
    case number:                                                                                             \
        __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpush %1\n\tpopfq\n\tset" suffix                          \
                         " %b0\n\tlea 128(%%rsp), %%rsp"                                                     \
                         : "=q"(holds)                                                                       \
                         : "r"(flags | 2)                                                                    \
                         : "cc", "memory");                                                                  \
        break;
    for (uint64_t flags = 0; flags <= FLAGS_ALL; flags++) {
        for (unsigned cond = 0; cond < IR_FLCOND_COUNT && !(flags & ~(uint64_t)FLAGS_ALL); cond++) {
            uint8_t holds = 0;
            switch (cond) {
                HOST_COND(0, "o")
                HOST_COND(1, "no")
                HOST_COND(2, "b")
                HOST_COND(3, "nb")
                HOST_COND(4, "z")
                HOST_COND(5, "nz")
                HOST_COND(6, "be")
                HOST_COND(7, "nbe")
                HOST_COND(8, "s")
                HOST_COND(9, "ns")
                HOST_COND(10, "p")
                HOST_COND(11, "np")
                HOST_COND(12, "l")
                HOST_COND(13, "ge")
                HOST_COND(14, "le")
                HOST_COND(15, "g")
            }
            g_assert_cmpuint(flags_cond(flags, cond), ==, holds);
        }
    }
}

#endif

/* SDM volume 1, 3.4.3.1, by hand: any host. */
static void check_known(void)
{
    uint64_t c = BIT(IR_FLAG_C), z = BIT(IR_FLAG_Z), s = BIT(IR_FLAG_S), o = BIT(IR_FLAG_O),
             p = BIT(IR_FLAG_P);
    uint64_t a = BIT(IR_FLAG_A);

    g_assert_cmphex(flags_add(0xff, 1, 0, 8), ==, c | z | p | a);
    g_assert_cmphex(flags_add(0x7f, 1, 0, 8), ==, s | o | a);
    g_assert_cmphex(flags_add(0xff, 0xff, 1, 8), ==, c | s | p | a);
    g_assert_cmphex(flags_sub(0, 1, 0, 64), ==, c | s | p | a);
    g_assert_cmphex(flags_sub(0x8000, 1, 0, 16), ==, o | p | a);
    g_assert_cmphex(flags_sub(5, 5, 0, 32), ==, z | p);
    g_assert_cmphex(flags_shl(0x81, 1, 0, 8), ==, c | o);
    g_assert_cmphex(flags_shl(0x81, 32, s | z, 8), ==, s | z);
    g_assert_cmphex(flags_sar(0x80, 1, 0, 8), ==, s | p);
    g_assert_true(flags_cond(s, 12) && !flags_cond(s | o, 12) && flags_cond(z, 14) && flags_cond(0, 15));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/engine/flags/known", check_known);
#if defined(__x86_64__)
    for (unsigned i = 0; i < G_N_ELEMENTS(host_ops); i++) {
        g_autofree char *path = g_strdup_printf("/engine/flags/host/%s", ir_op_info[host_ops[i].op].text);
        g_test_add_data_func(path, &host_ops[i], check_host);
    }
    g_test_add_func("/engine/flags/host/conditions", check_host_conditions);
#endif
    return g_test_run();
}
