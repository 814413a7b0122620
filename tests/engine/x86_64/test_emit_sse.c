/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Every floating-point instruction of the emitter, in VEX and legacy form, as objdump reads it. */
#include "engine/x86_64/emit_sse.h"

#include <string.h>

#include "base/bits.h"
#include "listing.h"

#define FOR_REGS(r) for (enum host_reg r = HOST_RAX; r <= HOST_R15; r++)
#define FOR_XMMS(x) for (enum host_xmm x = HOST_XMM0; x <= HOST_XMM15; x++)
#define FOR_MEMS(i) for (unsigned i = 0; i < LISTING_MEMS; i++)
/* Legacy, then VEX: sets emit.avx and the prefix of names. */
#define FOR_FORMS(l, v)                                                                                      \
    for (const char *v = ((l)->e.avx = false, ""); v; v = *v ? NULL : ((l)->e.avx = true, "v"))

#define MEM listing_mem
#define MEM_TEXT listing_mem_text

typedef void xxx_fn(struct emit *e, enum host_xmm dst, enum host_xmm a, enum host_xmm b);
typedef void xxm_fn(struct emit *e, enum host_xmm dst, enum host_xmm a, struct host_mem b);
typedef void xx_fn(struct emit *e, enum host_xmm dst, enum host_xmm src);
typedef void xm_fn(struct emit *e, enum host_xmm dst, struct host_mem src);
typedef void mx_fn(struct emit *e, struct host_mem dst, enum host_xmm src);
typedef void rx_fn(struct emit *e, unsigned size, enum host_reg dst, enum host_xmm src);
typedef void rm_fn(struct emit *e, unsigned size, enum host_reg dst, struct host_mem src);
typedef void xr_fn(struct emit *e, unsigned size, enum host_xmm dst, enum host_reg src);
typedef void zxm_fn(struct emit *e, unsigned size, enum host_xmm dst, struct host_mem src);

/* Bits of memory an instruction reads, from its name. */
static unsigned element(const char *name)
{
    if (strstr(name, "ps"))
        return 128;
    if (g_str_has_prefix(name, "cvtss2sd") || g_str_has_prefix(name, "cvtss2si") || strstr(name, "tss2"))
        return 32;
    if (strstr(name, "sd2"))
        return 64;
    return g_str_has_suffix(name, "ss") ? 32 : 64;
}

/* --- Two sources --- */

/* What legacy SSE needs for dst = a op b; `tail` follows the operands. */
static void expect_legacy(struct listing *l, const char *name, unsigned dst, unsigned a, unsigned b,
                          const char *tail)
{
    bool begun = false;

    if (dst == b && a != b) {
        if (b != EMIT_SSE_SCRATCH) {
            listing_expect(l, "movaps xmm15,xmm%u", b);
            begun = true;
        }
        b = EMIT_SSE_SCRATCH;
    }
    if (dst != a) {
        (begun ? listing_expect_more : listing_expect)(l, "movaps xmm%u,xmm%u", dst, a);
        begun = true;
    }
    (begun ? listing_expect_more : listing_expect)(l, "%s xmm%u,xmm%u%s", name, dst, b, tail);
}

static void binary(struct listing *l, const char *name, xxx_fn *xxx)
{
    FOR_FORMS(l, v)
    {
        FOR_XMMS(d)
        {
            FOR_XMMS(a)
            {
                FOR_XMMS(b)
                {
                    if (((a * 5 + b) & 3) != 0 && d != a && d != b)
                        continue; /* a sample of those without aliases */
                    if (!*v && d == EMIT_SSE_SCRATCH && d == b && a != b)
                        continue; /* the scratch register is not the caller's */
                    xxx(&l->e, d, a, b);
                    if (*v)
                        listing_expect(l, "v%s xmm%u,xmm%u,xmm%u", name, d, a, b);
                    else
                        expect_legacy(l, name, d, a, b, "");
                }
            }
        }
    }
}

static void binary_memory(struct listing *l, const char *name, xxm_fn *xxm)
{
    FOR_FORMS(l, v)
    {
        FOR_MEMS(i)
        {
            FOR_XMMS(d)
            {
                enum host_xmm a = d & 1 ? d : d ^ 9;

                xxm(&l->e, d, a, MEM(i));
                if (*v) {
                    listing_expect(l, "v%s xmm%u,xmm%u,%s", name, d, a, MEM_TEXT(element(name), i));
                } else if (d == a) {
                    listing_expect(l, "%s xmm%u,%s", name, d, MEM_TEXT(element(name), i));
                } else {
                    listing_expect(l, "movaps xmm%u,xmm%u", d, a);
                    listing_expect_more(l, "%s xmm%u,%s", name, d, MEM_TEXT(element(name), i));
                }
            }
        }
    }
}

/* The rows of emit_sse.def of one shape; the others vanish. */
#define NONE(name, d)

static void test_binary(void)
{
    struct listing l;

    if (!listing_begin(&l, 8 * MiB))
        return;
#define SSE_BINARY(name, d)                                                                                  \
    binary(&l, #name, emit_##name##_xxx);                                                                    \
    binary_memory(&l, #name, emit_##name##_xxm);
#define SSE_UNARY NONE
#define SSE_COMPARE NONE
#define SSE_TO_INT NONE
#define SSE_FROM_INT NONE
#define SSE_FMA NONE
#include "engine/x86_64/emit_sse.def"
    binary(&l, "movss", emit_movss_xxx);
    binary(&l, "movsd", emit_movsd_xxx);
    listing_end(&l);
}

static void fma_forms(struct listing *l, const char *name, xxx_fn *xxx, xxm_fn *xxm)
{
    FOR_XMMS(a)
    {
        FOR_XMMS(b)
        {
            enum host_xmm c = (a * 7 + b * 3 + 1) & 15;

            xxx(&l->e, a, b, c);
            listing_expect(l, "v%s xmm%u,xmm%u,xmm%u", name, a, b, c);
        }
        FOR_MEMS(i)
        {
            xxm(&l->e, a, a ^ 8, MEM(i));
            listing_expect(l, "v%s xmm%u,xmm%u,%s", name, a, a ^ 8, MEM_TEXT(element(name), i));
        }
    }
}

static void test_fma(void)
{
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
#define SSE_BINARY NONE
#define SSE_UNARY NONE
#define SSE_COMPARE NONE
#define SSE_TO_INT NONE
#define SSE_FROM_INT NONE
#define SSE_FMA(name, d) fma_forms(&l, #name, emit_##name##_xxx, emit_##name##_xxm);
#include "engine/x86_64/emit_sse.def"
    listing_end(&l);
}

/* --- One source --- */

/* middle: VEX repeats an operand, the source's register or the destination's when the source is memory. */
static void one_source(struct listing *l, const char *name, unsigned bits, xx_fn *xx, xm_fn *xm, bool middle)
{
    FOR_FORMS(l, v)
    {
        FOR_XMMS(a)
        {
            g_autofree char *dst =
                middle && *v ? g_strdup_printf("xmm%u,xmm%u", a, a) : g_strdup_printf("xmm%u", a);

            FOR_XMMS(b)
            {
                if (!xx)
                    break;
                xx(&l->e, a, b);
                if (middle && *v)
                    listing_expect(l, "v%s xmm%u,xmm%u,xmm%u", name, a, b, b);
                else
                    listing_expect(l, "%s%s xmm%u,xmm%u", v, name, a, b);
            }
            FOR_MEMS(i)
            {
                xm(&l->e, a, MEM(i));
                listing_expect(l, "%s%s %s,%s", v, name, dst, MEM_TEXT(bits, i));
            }
        }
    }
}

static void test_unary(void)
{
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
#define SSE_BINARY NONE
#define SSE_UNARY(name, d) one_source(&l, #name, element(#name), emit_##name##_xx, emit_##name##_xm, true);
#define SSE_COMPARE(name, d)                                                                                 \
    one_source(&l, #name, g_str_has_suffix(#name, "ss") ? 32 : 64, emit_##name##_xx, emit_##name##_xm, false);
#define SSE_TO_INT NONE
#define SSE_FROM_INT NONE
#define SSE_FMA NONE
#include "engine/x86_64/emit_sse.def"
    one_source(&l, "movaps", 128, emit_movaps_xx, emit_movaps_xm, false);
    one_source(&l, "movups", 128, NULL, emit_movups_xm, false);
    one_source(&l, "movq", 64, emit_movq_xx, emit_movq_xm, false);
    one_source(&l, "movss", 32, NULL, emit_movss_xm, false);
    one_source(&l, "movsd", 64, NULL, emit_movsd_xm, false);
    listing_end(&l);
}

static void test_stores(void)
{
    static const struct {
        const char *name;
        unsigned bits;
        mx_fn *mx;
    } forms[] = {{"movss", 32, emit_movss_mx},
                 {"movsd", 64, emit_movsd_mx},
                 {"movq", 64, emit_movq_mx},
                 {"movaps", 128, emit_movaps_mx},
                 {"movups", 128, emit_movups_mx}};
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    FOR_FORMS(&l, v)
    {
        for (unsigned k = 0; k < ARRAY_SIZE(forms); k++) {
            FOR_XMMS(a)
            {
                FOR_MEMS(i)
                {
                    forms[k].mx(&l.e, MEM(i), a);
                    listing_expect(&l, "%s%s %s,xmm%u", v, forms[k].name, MEM_TEXT(forms[k].bits, i), a);
                }
            }
        }
    }
    listing_end(&l);
}

/* --- Between integers and floating point --- */

static void to_int(struct listing *l, const char *v, const char *name, rx_fn *rx, rm_fn *rm)
{
    for (unsigned size = 32; size <= 64; size *= 2) {
        FOR_REGS(r)
        {
            FOR_XMMS(x)
            {
                rx(&l->e, size, r, x);
                listing_expect(l, "%s%s %s,xmm%u", v, name, listing_reg(size, r), x);
            }
            FOR_MEMS(i)
            {
                rm(&l->e, size, r, MEM(i));
                listing_expect(l, "%s%s %s,%s", v, name, listing_reg(size, r), MEM_TEXT(element(name), i));
            }
        }
    }
}

static void from_int(struct listing *l, const char *v, const char *name, xr_fn *xr, zxm_fn *xm)
{
    for (unsigned size = 32; size <= 64; size *= 2) {
        FOR_XMMS(x)
        {
            g_autofree char *dst = *v ? g_strdup_printf("xmm%u,xmm%u", x, x) : g_strdup_printf("xmm%u", x);

            FOR_REGS(r)
            {
                xr(&l->e, size, x, r);
                listing_expect(l, "%s%s %s,%s", v, name, dst, listing_reg(size, r));
            }
            FOR_MEMS(i)
            {
                xm(&l->e, size, x, MEM(i));
                listing_expect(l, "%s%s %s,%s", v, name, dst, MEM_TEXT(size, i));
            }
        }
    }
}

static void test_convert(void)
{
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    FOR_FORMS(&l, v)
    {
#define SSE_BINARY NONE
#define SSE_UNARY NONE
#define SSE_COMPARE NONE
#define SSE_TO_INT(name, d) to_int(&l, v, #name, emit_##name##_rx, emit_##name##_rm);
#define SSE_FROM_INT(name, d) from_int(&l, v, #name, emit_##name##_xr, emit_##name##_xm);
#define SSE_FMA NONE
#include "engine/x86_64/emit_sse.def"
    }
    to_int(&l, "v", "cvttss2usi", emit_vcvttss2usi_rx, emit_vcvttss2usi_rm);
    to_int(&l, "v", "cvttsd2usi", emit_vcvttsd2usi_rx, emit_vcvttsd2usi_rm);
    to_int(&l, "v", "cvtss2usi", emit_vcvtss2usi_rx, emit_vcvtss2usi_rm);
    to_int(&l, "v", "cvtsd2usi", emit_vcvtsd2usi_rx, emit_vcvtsd2usi_rm);
    from_int(&l, "v", "cvtusi2ss", emit_vcvtusi2ss_xr, emit_vcvtusi2ss_xm);
    from_int(&l, "v", "cvtusi2sd", emit_vcvtusi2sd_xr, emit_vcvtusi2sd_xm);
    listing_end(&l);
}

/* EVEX scales 8-bit displacements: every displacement around the edges, with each unit. */
static void test_scaled_displacement(void)
{
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    for (int32_t disp = -1100; disp <= 1100; disp++) {
        struct host_mem m = host_mem_index(HOST_R13, HOST_RDX, 4, disp);

        emit_vcvtusi2sd_xm(&l.e, 32, HOST_XMM3, m);
        listing_expect(&l, "vcvtusi2sd xmm3,xmm3,%s", listing_address(32, m));
        emit_vcvttsd2usi_rm(&l.e, 32, HOST_RDX, m);
        listing_expect(&l, "vcvttsd2usi edx,%s", listing_address(64, m));
    }
    listing_end(&l);
}

static void test_transfer(void)
{
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    FOR_FORMS(&l, v)
    {
        FOR_REGS(r)
        {
            FOR_XMMS(x)
            {
                emit_movd_xr(&l.e, x, r);
                listing_expect(&l, "%smovd xmm%u,%s", v, x, listing_reg(32, r));
                emit_movd_rx(&l.e, r, x);
                listing_expect(&l, "%smovd %s,xmm%u", v, listing_reg(32, r), x);
                emit_movq_xr(&l.e, x, r);
                listing_expect(&l, "%smovq xmm%u,%s", v, x, listing_reg(64, r));
                emit_movq_rx(&l.e, r, x);
                listing_expect(&l, "%smovq %s,xmm%u", v, listing_reg(64, r), x);
            }
        }
    }
    listing_end(&l);
}

/* --- Immediates and state --- */

static void test_immediates(void)
{
    static const char *const preds[] = {"eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord"};
    static const char *const halves[] = {"lqlq", "hqlq", "lqhq", "hqhq"};
    struct listing l;

    if (!listing_begin(&l, MiB))
        return;
    FOR_FORMS(&l, v)
    {
        FOR_XMMS(a)
        {
            enum host_xmm b = *v ? (a + 5) & 15 : a, c = (a + 10) & 15;
            g_autofree char *first = *v ? g_strdup_printf("xmm%u,xmm%u", a, b) : g_strdup_printf("xmm%u", a);

            g_autofree char *rounded =
                *v ? g_strdup_printf("xmm%u,xmm%u", a, c) : g_strdup_printf("xmm%u", a);

            for (unsigned i = 0; i < 16; i++) {
                emit_roundss_xxi(&l.e, a, c, i);
                listing_expect(&l, "%sroundss %s,xmm%u,0x%x", v, rounded, c, i);
                emit_roundsd_xxi(&l.e, a, c, i);
                listing_expect(&l, "%sroundsd %s,xmm%u,0x%x", v, rounded, c, i);
            }
            for (unsigned i = 0; i < 8; i++) {
                g_autofree char *ss = g_strdup_printf("%scmp%sss", v, preds[i]);
                g_autofree char *sd = g_strdup_printf("%scmp%ssd", v, preds[i]);
                g_autofree char *clmul = g_strdup_printf("%spclmul%sdq", v, halves[i & 3]);

                emit_cmpss_xxxi(&l.e, a, b, c, (enum host_cmp)i);
                listing_expect(&l, "%s %s,xmm%u", ss, first, c);
                emit_cmpsd_xxxi(&l.e, a, b, c, (enum host_cmp)i);
                listing_expect(&l, "%s %s,xmm%u", sd, first, c);
                emit_pclmulqdq_xxxi(&l.e, a, b, c, (i & 1) | (i & 2) << 3);
                listing_expect(&l, "%s %s,xmm%u", clmul, first, c);
            }
        }
    }
    FOR_MEMS(i)
    {
        emit_ldmxcsr_m(&l.e, MEM(i));
        listing_expect(&l, "ldmxcsr %s", MEM_TEXT(32, i));
        emit_stmxcsr_m(&l.e, MEM(i));
        listing_expect(&l, "stmxcsr %s", MEM_TEXT(32, i));
    }
    emit_vzeroupper(&l.e);
    listing_expect(&l, "vzeroupper");
    listing_end(&l);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/engine/x86_64/emit-sse/binary", test_binary);
    g_test_add_func("/engine/x86_64/emit-sse/fma", test_fma);
    g_test_add_func("/engine/x86_64/emit-sse/unary", test_unary);
    g_test_add_func("/engine/x86_64/emit-sse/stores", test_stores);
    g_test_add_func("/engine/x86_64/emit-sse/convert", test_convert);
    g_test_add_func("/engine/x86_64/emit-sse/scaled-displacement", test_scaled_displacement);
    g_test_add_func("/engine/x86_64/emit-sse/transfer", test_transfer);
    g_test_add_func("/engine/x86_64/emit-sse/immediates", test_immediates);
    return g_test_run();
}
