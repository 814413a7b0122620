/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Every integer operation on every width, against references that know nothing of arith.def: sums of bits,
 * long division of magnitudes, comparisons of values. Each goes through folding, registers, a constant
 * operand and sign extension. */
#include "rig.h"

#include "base/bits.h"

typedef unsigned __int128 u128;
typedef __int128 s128;

static const enum ir_type types[] = {IR_I8, IR_I16, IR_I32, IR_I64};

/* --- References: on numbers, not on bits --- */

static u128 power(unsigned n)
{
    return (u128)1 << n;
}

/* The value as a signed number: minus two to the n when the top bit counts negative. */
static s128 number(uint64_t x, unsigned n)
{
    return x >= power(n - 1) ? (s128)x - (s128)power(n) : (s128)x;
}

/* Back to n bits. */
static uint64_t wrap(s128 v, unsigned n)
{
    s128 m = (s128)power(n);

    v %= m;
    return (uint64_t)(v < 0 ? v + m : v);
}

static unsigned bit(uint64_t x, unsigned i)
{
    return (unsigned)(x >> i) & 1;
}

/* Builds a value from a formula for each bit. */
#define BITWISE(formula)                                                                                     \
    do {                                                                                                     \
        uint64_t sum = 0;                                                                                    \
        for (unsigned i = 0; i < n; i++) {                                                                   \
            sum += (uint64_t)((formula)&1) << i;                                                             \
        }                                                                                                    \
        return sum;                                                                                          \
    } while (0)

static uint64_t carryless(uint64_t x, uint64_t y, unsigned n, unsigned from)
{
    uint64_t sum = 0;

    for (unsigned k = 0; k < n; k++) {
        unsigned parity = 0;
        for (unsigned i = 0; i < n; i++) {
            unsigned j = from + k - i;
            parity ^= j < n ? bit(x, i) & bit(y, j) : 0;
        }
        sum |= (uint64_t)parity << k;
    }
    return sum;
}

static uint64_t reference_logic(enum ir_op op, uint64_t x, uint64_t y, unsigned n)
{
    unsigned count = (unsigned)(y % n);

    switch (op) {
    case IR_AND: BITWISE(bit(x, i) * bit(y, i));
    case IR_OR: BITWISE(bit(x, i) + bit(y, i) > 0);
    case IR_XOR: BITWISE(bit(x, i) + bit(y, i));
    case IR_ANDN: BITWISE(bit(x, i) > bit(y, i));
    case IR_ORN: BITWISE(bit(x, i) >= bit(y, i));
    case IR_XNOR: BITWISE(bit(x, i) == bit(y, i));
    case IR_SHL: BITWISE(i >= count ? bit(x, i - count) : 0);
    case IR_SHR: BITWISE(i + count < n ? bit(x, i + count) : 0);
    case IR_SAR: BITWISE(bit(x, i + count < n ? i + count : n - 1));
    case IR_ROL: BITWISE(bit(x, (i + n - count) % n));
    case IR_ROR: BITWISE(bit(x, (i + count) % n));
    case IR_NOT: BITWISE(!bit(x, i));
    case IR_BSWAP: BITWISE(bit(x, n - 8 - i / 8 * 8 + i % 8));
    case IR_BREV: BITWISE(bit(x, n - 1 - i));
    case IR_CLMUL: return carryless(x, y, n, 0);
    case IR_CLMULH: return carryless(x, y, n, n);
    default: g_assert_not_reached();
    }
}

static unsigned count_zeros(uint64_t x, unsigned n, bool from_top)
{
    unsigned k = 0;

    while (k < n && !bit(x, from_top ? n - 1 - k : k)) {
        k++;
    }
    return k;
}

/* Quotient rounded towards zero, from magnitudes. */
static s128 divide(s128 a, s128 b)
{
    u128 q = (u128)(a < 0 ? -a : a) / (u128)(b < 0 ? -b : b);

    return (a < 0) != (b < 0) ? -(s128)q : (s128)q;
}

static uint64_t reference(enum ir_op op, uint64_t x, uint64_t y, unsigned n)
{
    s128 sx = number(x, n), sy = number(y, n), ones = (s128)power(n) - 1;
    unsigned count = 0;

    switch (op) {
    case IR_ADD: return wrap((s128)x + y, n);
    case IR_SUB: return wrap((s128)x - y, n);
    case IR_NEG: return wrap(-sx, n);
    case IR_MUL: return wrap(n == 64 ? (s128)(uint64_t)((u128)x * y) : (s128)x * y, n);
    case IR_MULHU: return (uint64_t)((u128)x * y / power(n));
    case IR_MULHS:
        return wrap((sx * sy - wrap(n == 64 ? (s128)(uint64_t)(sx * sy) : sx * sy, n)) / (s128)power(n), n);
    /* a negative a stands for a - 2^n: that takes y off the high half */
    case IR_MULHSU: return wrap((s128)((u128)x * y / power(n)) - (sx < 0 ? (s128)y : 0), n);
    case IR_DIVU: return y ? x / y : (uint64_t)ones;
    case IR_REMU: return y ? x - x / y * y : x;
    case IR_DIVS: return y ? wrap(divide(sx, sy), n) : (uint64_t)ones;
    case IR_REMS: return y ? wrap(sx - divide(sx, sy) * sy, n) : x;
    case IR_SMIN: return sx <= sy ? x : y;
    case IR_SMAX: return sx >= sy ? x : y;
    case IR_UMIN: return x <= y ? x : y;
    case IR_UMAX: return x >= y ? x : y;
    case IR_CLZ: return count_zeros(x, n, true);
    case IR_CTZ: return count_zeros(x, n, false);
    case IR_POPCNT:
        for (unsigned i = 0; i < n; i++) {
            count += bit(x, i);
        }
        return count;
    default: return reference_logic(op, x, y, n);
    }
}

static bool holds(enum ir_cond cond, uint64_t x, uint64_t y, unsigned n)
{
    s128 sx = number(x, n), sy = number(y, n);

    switch (cond) {
    case IR_EQ: return x == y;
    case IR_NE: return x != y;
    case IR_LTU: return x < y;
    case IR_GEU: return x >= y;
    case IR_LEU: return x <= y;
    case IR_GTU: return x > y;
    case IR_LTS: return sx < sy;
    case IR_GES: return sx >= sy;
    case IR_LES: return sx <= sy;
    default: return sx > sy;
    }
}

/* --- Operands --- */

enum { EDGES = 14, RANDOM = 60 };

static uint64_t operand(GRand *rand, unsigned k, unsigned n)
{
    const uint64_t edge[EDGES] = {
        0,    1, 2,    3, 7, 8, BIT(n - 1), BIT(n - 1) - 1, BIT(n - 1) + 1, bits_mask(n), bits_mask(n) - 1,
        0x55, n, n - 1};
    uint64_t v = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);

    if (k < EDGES) {
        return edge[k] & bits_mask(n);
    }
    /* Half of them short, so that quotients, counts and equal values come up. */
    return (k & 1 ? v : v >> (g_rand_int(rand) & 63)) & bits_mask(n);
}

/* --- Blocks: r1 op r2, or r1 op constant, to r3; with junk above the operands' widths --- */

static ir_ref read_register(struct ir_block *ir, uint32_t reg, enum ir_type type)
{
    ir_ref v = ir_emit(ir, IR_GETREG, IR_I64, 0, reg, 0, 0);

    return type == IR_I64 ? v : ir_emit(ir, IR_TRUNC, type, 0, v, 0, 0);
}

static void begin(struct ir_block *ir)
{
    ir_begin(ir, &rig_target, 0x1000, 0);
    ir->n_guest = 1;
    ir->bytes = 4;
    ir_emit(ir, IR_INSN, IR_TYPE_NONE, 0, 0, 4, 0);
}

static void end(struct ir_block *ir, ir_ref result, enum ir_type type, bool sext)
{
    if (type != IR_I64) {
        result = ir_emit(ir, sext ? IR_SEXT : IR_ZEXT, IR_I64, 0, result, 0, 0);
    }
    ir_emit(ir, IR_PUTREG, IR_I64, 0, 3, result, 0);
    ir_emit(ir, IR_EXIT, IR_TYPE_NONE, 0, ir_exit_to(ir, 0x2000, IR_HINT_JUMP), 0, 0);
}

static uint64_t run(struct rig *r, struct block *b, uint64_t x, uint64_t y, unsigned n)
{
    uint64_t junk = UINT64_C(0xa5c3f00d12345678) & ~bits_mask(n);

    r->env.reg[1] = x | junk;
    r->env.reg[2] = y | (junk >> 1 & ~bits_mask(n));
    g_assert_cmpint(rig_run(r, b), ==, ENGINE_NEXT);
    g_assert_cmphex(r->env.reg[1], ==, x | junk);
    return r->env.reg[3];
}

struct fixture {
    struct rig *rig[2]; /* fused and plain */
    struct ir_block *ir;
    GRand *rand;
};

static void expect(const struct fixture *f, enum ir_op op, unsigned n, uint64_t x, uint64_t y, uint64_t got,
                   uint64_t want)
{
    (void)f;
    if (got != want) {
        g_error("%s of %u bits: 0x%" G_GINT64_MODIFIER "x, 0x%" G_GINT64_MODIFIER
                "x gave 0x%" G_GINT64_MODIFIER "x, not 0x%" G_GINT64_MODIFIER "x",
                ir_op_info[op].text, n, x, y, got, want);
    }
}

static bool is_unary(enum ir_op op)
{
    return ir_op_info[op].operand[1] == IR_OPERAND_NO;
}

/* Registers as operands. */
static void check_registers(struct fixture *f, enum ir_op op, enum ir_type type, bool sext)
{
    unsigned n = ir_type_bits(type);

    begin(f->ir);
    ir_ref x = read_register(f->ir, 1, type), y = is_unary(op) ? 0 : read_register(f->ir, 2, type);
    end(f->ir, ir_emit(f->ir, op, type, 0, x, y, 0), type, sext);
    for (unsigned k = 0; k < 2; k++) {
        struct block *b = rig_compile(f->rig[k], f->ir);
        for (unsigned i = 0; i < EDGES + RANDOM; i++) {
            for (unsigned j = 0; j < EDGES; j++) {
                uint64_t vx = operand(f->rand, i, n), vy = operand(f->rand, i < EDGES ? j : EDGES, n);
                uint64_t want = reference(op, vx, vy, n);
                want = sext ? (uint64_t)number(want, n) : want;
                expect(f, op, n, vx, vy, run(f->rig[k], b, vx, vy, n), want);
            }
        }
    }
}

/* A constant as second operand, emitted and through the folding builder; and both constant. */
static void check_constants(struct fixture *f, enum ir_op op, enum ir_type type, bool sext)
{
    unsigned n = ir_type_bits(type);

    for (unsigned j = 0; j < EDGES + 4; j++) {
        uint64_t vy = operand(f->rand, j, n);
        for (unsigned built = 0; built < 2; built++) {
            begin(f->ir);
            ir_ref x = read_register(f->ir, 1, type), y = ir_const(f->ir, type, vy);
            end(f->ir, built ? ir_binary(f->ir, op, type, x, y) : ir_emit(f->ir, op, type, 0, x, y, 0), type,
                sext);
            struct block *b = rig_compile(f->rig[0], f->ir);
            for (unsigned i = 0; i < EDGES + 4; i++) {
                uint64_t vx = operand(f->rand, i, n), want = reference(op, vx, vy, n);
                expect(f, op, n, vx, vy, run(f->rig[0], b, vx, vy, n),
                       sext ? (uint64_t)number(want, n) : want);
                ir_ref both = ir_binary(f->ir, op, type, ir_const(f->ir, type, vx), y);
                g_assert_true(ir_is_const(both));
                expect(f, op, n, vx, vy, ir_const_value(f->ir, both), want);
            }
        }
    }
}

static void check_op(gconstpointer data)
{
    enum ir_op op = (enum ir_op)GPOINTER_TO_UINT(data);
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    struct fixture f = {.rig = {rig_new(false), rig_new(true)}, .ir = ir, .rand = g_rand_new_with_seed(op)};

    for (unsigned t = 0; t < G_N_ELEMENTS(types); t++) {
        for (unsigned sext = 0; sext < (types[t] == IR_I64 ? 1 : 2); sext++) {
            check_registers(&f, op, types[t], sext);
            if (!is_unary(op)) {
                check_constants(&f, op, types[t], sext);
            }
        }
    }
    g_rand_free(f.rand);
    rig_free(f.rig[0]);
    rig_free(f.rig[1]);
}

/* Each condition as a value and as a branch, registers and constants. */
static void check_cond(struct fixture *f, enum ir_cond cond, enum ir_type type, unsigned rig, int constant)
{
    unsigned n = ir_type_bits(type);
    uint64_t k = constant < 0 ? 0 : operand(f->rand, (unsigned)constant, n);

    begin(f->ir);
    ir_ref x = read_register(f->ir, 1, type);
    ir_ref y = constant < 0 ? read_register(f->ir, 2, type) : ir_const(f->ir, type, k);
    ir_ref set = ir_emit(f->ir, IR_SETCC, type, cond, x, y, 0);
    ir_emit(f->ir, IR_PUTREG, IR_I64, 0, 3, ir_emit(f->ir, IR_ZEXT, IR_I64, 0, set, 0, 0), 0);
    ir_ref again = ir_emit(f->ir, IR_SETCC, type, cond, x, y, 0);
    ir_emit(f->ir, IR_EXIT_IF, IR_TYPE_NONE, 0, again, ir_exit_to(f->ir, 0x1800, IR_HINT_JUMP), 0);
    ir_emit(f->ir, IR_EXIT, IR_TYPE_NONE, 0, ir_exit_to(f->ir, 0x1900, IR_HINT_JUMP), 0, 0);
    struct block *b = rig_compile(f->rig[rig], f->ir);
    for (unsigned i = 0; i < EDGES + 6; i++) {
        for (unsigned j = 0; j < (constant < 0 ? EDGES : 1); j++) {
            uint64_t vx = operand(f->rand, i, n), vy = constant < 0 ? operand(f->rand, j, n) : k;
            bool want = holds(cond, vx, vy, n);
            expect(f, IR_SETCC, n, vx, vy, run(f->rig[rig], b, vx, vy, n), want);
            g_assert_cmphex(f->rig[rig]->env.pc, ==, want ? 0x1800 : 0x1900);
            ir_ref both = ir_setcc(f->ir, cond, type, ir_const(f->ir, type, vx), ir_const(f->ir, type, vy));
            g_assert_cmpuint(ir_const_value(f->ir, both), ==, want);
        }
    }
}

static void check_conditions(void)
{
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    struct fixture f = {.rig = {rig_new(false), rig_new(true)}, .ir = ir, .rand = g_rand_new_with_seed(1)};

    for (unsigned cond = 0; cond < IR_COND_COUNT; cond++) {
        for (unsigned t = 0; t < G_N_ELEMENTS(types); t++) {
            for (int constant = -1; constant < EDGES; constant++) {
                check_cond(&f, (enum ir_cond)cond, types[t], 0, constant);
                check_cond(&f, (enum ir_cond)cond, types[t], 1, constant);
            }
        }
    }
    g_rand_free(f.rand);
    rig_free(f.rig[0]);
    rig_free(f.rig[1]);
}

int main(int argc, char **argv)
{
    static const enum ir_op ops[] = {
        IR_ADD,    IR_SUB,  IR_NEG,  IR_AND,  IR_OR,     IR_XOR,   IR_NOT,    IR_ANDN,  IR_ORN,
        IR_XNOR,   IR_SHL,  IR_SHR,  IR_SAR,  IR_ROL,    IR_ROR,   IR_MUL,    IR_MULHU, IR_MULHS,
        IR_MULHSU, IR_DIVU, IR_DIVS, IR_REMU, IR_REMS,   IR_SMIN,  IR_SMAX,   IR_UMIN,  IR_UMAX,
        IR_BSWAP,  IR_BREV, IR_CLZ,  IR_CTZ,  IR_POPCNT, IR_CLMUL, IR_CLMULH,
    };

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(ops); i++) {
        g_autofree char *path = g_strdup_printf("/engine/ops/%s", ir_op_info[ops[i]].text);
        g_test_add_data_func(path, GUINT_TO_POINTER(ops[i]), check_op);
    }
    g_test_add_func("/engine/ops/conditions", check_conditions);
    return g_test_run();
}
