/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Emitted floating-point instructions run on this processor, in VEX and legacy form, against C. */
#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "engine/x86_64/emit_sse.h"
#include "machine.h"

#define ROUNDS 200
#define CODE (8 * MiB)

/* Legacy form when i is odd, or when there is no other. */
static void set_form(struct machine *m, unsigned i)
{
    m->e.avx = host_features_get()->avx && !(i & 1);
}

static enum host_xmm pick(void)
{
    return (enum host_xmm)g_test_rand_int_range(0, EMIT_SSE_SCRATCH);
}

static uint64_t raw(double v)
{
    uint64_t bits;

    memcpy(&bits, &v, 8);
    return bits;
}

static double from_raw(uint64_t bits)
{
    double v;

    memcpy(&v, &bits, 8);
    return v;
}

/* --- dst = a op b, whatever is equal to what --- */

static double c_add(double a, double b)
{
    return a + b;
}
static double c_sub(double a, double b)
{
    return a - b;
}
static double c_mul(double a, double b)
{
    return a * b;
}
static double c_div(double a, double b)
{
    return a / b;
}
static double c_min(double a, double b)
{
    return a < b ? a : b;
}
static double c_max(double a, double b)
{
    return a > b ? a : b;
}
static double c_and(double a, double b)
{
    return from_raw(raw(a) & raw(b));
}
static double c_andn(double a, double b)
{
    return from_raw(~raw(a) & raw(b));
}
static double c_or(double a, double b)
{
    return from_raw(raw(a) | raw(b));
}
static double c_xor(double a, double b)
{
    return from_raw(raw(a) ^ raw(b));
}
static double c_low(double a, double b)
{
    return (void)a, b;
}

static void test_binary(void)
{
    static const struct {
        void (*emit)(struct emit *e, enum host_xmm dst, enum host_xmm a, enum host_xmm b);
        double (*c)(double a, double b);
    } forms[] = {{emit_addsd_xxx, c_add}, {emit_subsd_xxx, c_sub},   {emit_mulsd_xxx, c_mul},
                 {emit_divsd_xxx, c_div}, {emit_minsd_xxx, c_min},   {emit_maxsd_xxx, c_max},
                 {emit_andps_xxx, c_and}, {emit_andnps_xxx, c_andn}, {emit_orps_xxx, c_or},
                 {emit_xorps_xxx, c_xor}, {emit_movsd_xxx, c_low}};
    struct machine m;

    machine_init(&m, CODE);
    for (unsigned k = 0; k < ARRAY_SIZE(forms); k++) {
        for (unsigned i = 0; i < ROUNDS; i++) {
            enum host_xmm d = pick(), a = i & 2 ? pick() : d, b = i & 4 ? pick() : d;
            struct state was;

            machine_randomize(&m);
            was = m.s;
            machine_begin(&m, 0);
            set_form(&m, i);
            forms[k].emit(&m.e, d, a, b);
            set_form(&m, 0);
            machine_run(&m);
            was.xmm[d] = forms[k].c(was.xmm[a], was.xmm[b]);
            g_assert_cmpmem(m.s.xmm, 15 * sizeof(double), was.xmm,
                            15 * sizeof(double)); /* all but the scratch */
        }
    }
    machine_fini(&m);
}

static void test_fma(void)
{
    struct machine m;

    if (!host_features_get()->fma) {
        g_test_skip("this processor has no FMA");
        return;
    }
    machine_init(&m, CODE);
    for (unsigned i = 0; i < ROUNDS; i++) {
        enum host_xmm x = HOST_XMM1, y = HOST_XMM10, z = HOST_XMM12;
        double a, b, c, want;

        machine_randomize(&m);
        a = m.s.xmm[x], b = m.s.xmm[y], c = m.s.xmm[z];
        machine_begin(&m, 0);
        switch (i % 6) {
        case 0: emit_fmadd213sd_xxx(&m.e, x, y, z), want = fma(b, a, c); break;
        case 1: emit_fmadd231sd_xxx(&m.e, x, y, z), want = fma(b, c, a); break;
        case 2: emit_fmadd132sd_xxx(&m.e, x, y, z), want = fma(a, c, b); break;
        case 3: emit_fmsub213sd_xxx(&m.e, x, y, z), want = fma(b, a, -c); break;
        case 4: emit_fnmadd213sd_xxx(&m.e, x, y, z), want = fma(-b, a, c); break;
        default: emit_fnmsub231sd_xxx(&m.e, x, y, z), want = fma(-b, c, -a); break;
        }
        machine_run(&m);
        g_assert_cmphex(raw(m.s.xmm[x]), ==, raw(want));
    }
    machine_fini(&m);
}

/* --- One operand, comparisons, conversions --- */

static void test_unary(void)
{
    struct machine m;

    machine_init(&m, CODE);
    for (unsigned i = 0; i < ROUNDS; i++) {
        enum host_xmm a = HOST_XMM3, b = HOST_XMM9, c = HOST_XMM7, d = HOST_XMM8;
        struct state was;

        machine_randomize(&m);
        was = m.s;
        machine_begin(&m, 1u << HOST_RBX | 1u << HOST_R9);
        set_form(&m, i);
        emit_sqrtsd_xx(&m.e, a, b);
        emit_movq_rx(&m.e, HOST_R9, b);
        emit_movd_rx(&m.e, HOST_RBX, b);
        emit_movq_xr(&m.e, HOST_XMM14, HOST_R9);
        if (host_features_get()->sse41)
            emit_roundsd_xxi(&m.e, c, b, HOST_ROUND_DOWN);
        emit_ucomisd_xx(&m.e, b, d);
        emit_cmpsd_xxxi(&m.e, d, d, b, HOST_CMP_LT);
        set_form(&m, 0);
        machine_run(&m);
        if (was.xmm[b] >= 0)
            g_assert_cmphex(raw(m.s.xmm[a]), ==, raw(sqrt(was.xmm[b])));
        else
            g_assert_true(isnan(m.s.xmm[a]));
        g_assert_cmphex(m.s.gpr[HOST_R9], ==, raw(was.xmm[b]));
        g_assert_cmphex(m.s.gpr[HOST_RBX], ==, (uint32_t)raw(was.xmm[b]));
        g_assert_cmphex(raw(m.s.xmm[14]), ==, raw(was.xmm[b]));
        if (host_features_get()->sse41)
            g_assert_cmphex(raw(m.s.xmm[c]), ==, raw(floor(was.xmm[b])));
        g_assert_cmpint(!!(m.s.flags & FLAG_CF), ==, was.xmm[b] < was.xmm[d]);
        g_assert_cmphex(raw(m.s.xmm[d]), ==, was.xmm[d] < was.xmm[b] ? UINT64_MAX : 0);
    }
    machine_fini(&m);
}

static void test_convert(void)
{
    struct machine m;

    machine_init(&m, CODE);
    for (unsigned i = 0; i < ROUNDS; i++) {
        enum host_xmm a = HOST_XMM3, b = HOST_XMM9, c = HOST_XMM7, d = HOST_XMM8, s = HOST_XMM11;
        struct state was;

        machine_randomize(&m);
        was = m.s;
        machine_begin(&m, 1u << HOST_RBX | 1u << HOST_R9 | 1u << HOST_R10 | 1u << HOST_R11);
        set_form(&m, i);
        emit_cvtsi2sd_xr(&m.e, 64, a, HOST_RBX);
        emit_cvtsi2sd_xr(&m.e, 32, b, HOST_RBX);
        emit_cvtsd2ss_xx(&m.e, s, c);
        emit_cvtss2sd_xx(&m.e, s, s);
        emit_cvttsd2si_rx(&m.e, 64, HOST_R9, c);
        emit_cvttsd2si_rx(&m.e, 32, HOST_R10, c);
        emit_cvtsd2si_rx(&m.e, 64, HOST_R11, c);
        emit_movaps_xx(&m.e, d, c);
        set_form(&m, 0);
        machine_run(&m);
        g_assert_cmphex(raw(m.s.xmm[a]), ==, raw((double)(int64_t)was.gpr[HOST_RBX]));
        g_assert_cmphex(raw(m.s.xmm[b]), ==, raw((double)(int32_t)was.gpr[HOST_RBX]));
        g_assert_cmphex(raw(m.s.xmm[s]), ==, raw((double)(float)was.xmm[c]));
        g_assert_cmphex(m.s.gpr[HOST_R9], ==, (uint64_t)(int64_t)was.xmm[c]);
        g_assert_cmphex(m.s.gpr[HOST_R10], ==, (uint32_t)(int32_t)was.xmm[c]);
        g_assert_cmphex(m.s.gpr[HOST_R11], ==, (uint64_t)llrint(was.xmm[c]));
        g_assert_cmphex(raw(m.s.xmm[d]), ==, raw(was.xmm[c]));
    }
    machine_fini(&m);
}

static void test_unsigned(void)
{
    struct machine m;

    if (!host_features_get()->avx512f) {
        g_test_skip("this processor has no AVX-512F");
        return;
    }
    machine_init(&m, CODE);
    for (unsigned i = 0; i < ROUNDS; i++) {
        enum host_xmm a = HOST_XMM3, b = HOST_XMM9, c = HOST_XMM7;
        struct state was;

        machine_randomize(&m);
        m.s.xmm[c] = fabs(m.s.xmm[c]) * 1e12;
        was = m.s;
        machine_begin(&m, 1u << HOST_RBX | 1u << HOST_R9);
        emit_vcvtusi2sd_xr(&m.e, 64, a, HOST_RBX);
        emit_vcvtusi2sd_xm(&m.e, 32, b, machine_mem(&m, 1));
        emit_vcvttsd2usi_rx(&m.e, 64, HOST_R9, c);
        machine_run(&m);
        g_assert_cmphex(raw(m.s.xmm[a]), ==, raw((double)was.gpr[HOST_RBX]));
        g_assert_cmphex(raw(m.s.xmm[b]), ==, raw((double)(uint32_t)was.mem[1]));
        g_assert_cmphex(m.s.gpr[HOST_R9], ==, (uint64_t)was.xmm[c]);
    }
    machine_fini(&m);
}

/* The rounding mode in MXCSR reaches an addition, and comes back out. */
static void test_mxcsr(void)
{
    struct machine m;

    machine_init(&m, CODE);
    for (unsigned mode = 0; mode < 4; mode++) {
        const double third = 1.0 / 3;
        uint32_t csr = 0x1f80 | mode << 13;

        machine_randomize(&m);
        m.s.xmm[0] = 1;
        m.s.xmm[1] = third;
        m.s.mem[0] = csr;
        m.s.mem[2] = 0x1f80;
        machine_begin(&m, 0);
        emit_ldmxcsr_m(&m.e, machine_mem(&m, 0));
        emit_addsd_xxx(&m.e, HOST_XMM2, HOST_XMM0, HOST_XMM1);
        emit_stmxcsr_m(&m.e, machine_mem(&m, 1));
        emit_ldmxcsr_m(&m.e, machine_mem(&m, 2));
        machine_run(&m);
        g_assert_cmphex((uint32_t)m.s.mem[1], ==, csr | 0x20); /* inexact */
        /* 4/3 is 1.0101...: the third's last two bits, 01, are cut off. */
        g_assert_cmphex(raw(m.s.xmm[2]), ==, raw(mode == HOST_ROUND_UP ? nextafter(4.0 / 3, 2) : 4.0 / 3));
    }
    machine_fini(&m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/engine/x86_64/emit-run-fp/binary", test_binary);
    g_test_add_func("/engine/x86_64/emit-run-fp/fma", test_fma);
    g_test_add_func("/engine/x86_64/emit-run-fp/unary", test_unary);
    g_test_add_func("/engine/x86_64/emit-run-fp/convert", test_convert);
    g_test_add_func("/engine/x86_64/emit-run-fp/unsigned", test_unsigned);
    g_test_add_func("/engine/x86_64/emit-run-fp/mxcsr", test_mxcsr);
    return g_test_run();
}
