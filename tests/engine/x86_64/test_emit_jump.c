/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Labels, jumps that are redirected, padding, exact lengths, and what happens at the buffer's end. */
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "engine/x86_64/emit_sse.h"
#include "listing.h"

#define FILL 0xa5
#define NEAR 0x70 /* where the labels of test_forward are put */
#define FAR 0x300

static uint32_t offset(const struct emit *e)
{
    return (uint32_t)(e->at - e->start);
}

/* --- Labels, as objdump reads them --- */

static void pad_to(struct listing *l, uint32_t place)
{
    g_assert_cmpuint(offset(&l->e), <=, place);
    while (offset(&l->e) < place) {
        emit_int3(&l->e);
        listing_expect(l, "int3");
    }
}

/* Instructions with a RIP-relative operand and zero to four bytes of immediate behind it. */
static void rip_forms(struct listing *l, struct host_mem m, uint32_t place)
{
#define RIP(text, tail)                                                                                      \
    listing_expect(l, "%s[rip+0x%" PRIx64 "]%s # 0x%x", text, (uint64_t)(place - (int64_t)offset(&l->e)),    \
                   tail, place)

    emit_lea(&l->e, 64, HOST_R9, m);
    RIP("lea r9,", "");
    emit_cmp_mi(&l->e, 8, m, 0x12);
    RIP("cmp BYTE PTR ", ",0x12");
    emit_cmp_mi(&l->e, 16, m, 0x1234);
    RIP("cmp WORD PTR ", ",0x1234");
    emit_imul_rmi(&l->e, 32, HOST_RCX, m, 0x12345);
    RIP("imul ecx,DWORD PTR ", ",0x12345");
    emit_shift_mi(&l->e, HOST_SHL, 8, m, 3);
    RIP("shl BYTE PTR ", ",0x3");
    emit_addsd_xxm(&l->e, HOST_XMM1, HOST_XMM9, m);
    RIP("vaddsd xmm1,xmm9,QWORD PTR ", "");
    emit_vcvttsd2usi_rm(&l->e, 64, HOST_RCX, m);
    RIP("vcvttsd2usi rcx,QWORD PTR ", "");
}

static void test_forward(void)
{
    struct emit_label far = {0}, near = {0};
    struct listing l;

    if (!listing_begin(&l, 4 * KiB))
        return;
    for (unsigned i = 0; i < 4; i++) {
        emit_jmp(&l.e, &far);
        listing_expect(&l, "jmp 0x%x", FAR);
        emit_jcc(&l.e, HOST_LE, &far);
        listing_expect(&l, "jle 0x%x", FAR);
        emit_call(&l.e, &far);
        listing_expect(&l, "call 0x%x", FAR);
        emit_jmp_short(&l.e, &near);
        listing_expect(&l, "jmp 0x%x", NEAR);
        emit_jcc_short(&l.e, HOST_S, &near);
        listing_expect(&l, "js 0x%x", NEAR);
    }
    pad_to(&l, NEAR);
    g_assert_true(emit_label_pending(&far) && emit_label_pending(&near));
    emit_bind(&l.e, &near);
    g_assert_false(emit_label_pending(&near));
    rip_forms(&l, host_mem_label(&far), FAR);
    rip_forms(&l, host_mem_rip(FAR), FAR);
    pad_to(&l, FAR);
    emit_bind(&l.e, &far);
    g_assert_cmpuint(emit_label_rx(&l.e, &far), ==, FAR);
    rip_forms(&l, host_mem_label(&far), FAR);
    rip_forms(&l, host_mem_rip(FAR), FAR);
    listing_end(&l);
}

/* From odd places when `lead` is 1, so that both sides of the edge are met. */
static void backward(uint32_t lead)
{
    struct emit_label top = {0};
    struct listing l;

    if (!listing_begin(&l, 4 * KiB))
        return;
    emit_bind(&l.e, &top);
    pad_to(&l, lead);
    for (unsigned i = 0; i < 100; i++) { /* short ones as far as they reach, then long ones */
        uint32_t at = offset(&l.e);

        emit_jcc(&l.e, HOST_NE, &top);
        listing_expect(&l, "jne 0x0");
        g_assert_cmpuint(offset(&l.e) - at, ==, at + 2 <= 128 ? 2 : 6);
        at = offset(&l.e);
        emit_jmp(&l.e, &top);
        listing_expect(&l, "jmp 0x0");
        g_assert_cmpuint(offset(&l.e) - at, ==, at + 2 <= 128 ? 2 : 5);
    }
    emit_call(&l.e, &top);
    listing_expect(&l, "call 0x0");
    emit_jmp_to(&l.e, 0x1000);
    listing_expect(&l, "jmp 0x1000");
    emit_jcc_to(&l.e, HOST_A, 0x2000);
    listing_expect(&l, "ja 0x2000");
    emit_call_to(&l.e, 0x7fffffff);
    listing_expect(&l, "call 0x7fffffff");
    listing_end(&l);
}

static void test_backward(void)
{
    backward(0);
    backward(1);
}

static void test_nops(void)
{
    static const char *const text[] = {"nop",
                                       "xchg ax,ax",
                                       "nop DWORD PTR [rax]",
                                       "nop DWORD PTR [rax+0x0]",
                                       "nop DWORD PTR [rax+rax*1+0x0]",
                                       "nop WORD PTR [rax+rax*1+0x0]",
                                       "nop DWORD PTR [rax+0x0]",
                                       "nop DWORD PTR [rax+rax*1+0x0]",
                                       "nop WORD PTR [rax+rax*1+0x0]"};
    struct listing l;

    if (!listing_begin(&l, 4 * KiB))
        return;
    for (unsigned n = 1; n <= 9; n++) {
        uint32_t at = offset(&l.e);

        emit_nops(&l.e, n);
        listing_expect(&l, "%s", text[n - 1]);
        g_assert_cmpuint(offset(&l.e) - at, ==, n);
    }
    emit_nops(&l.e, 20);
    listing_expect(&l, "%s", text[8]);
    listing_expect_more(&l, "%s", text[8]);
    listing_expect_more(&l, "%s", text[1]);
    listing_end(&l);
}

/* --- Reach --- */

static void test_short_reach(void)
{
    static uint8_t code[KiB];

    for (unsigned between = 100; between < 300; between++) {
        struct emit_label label = {0};
        struct emit e;

        emit_init(&e, code, sizeof(code), 0, true);
        emit_jmp_short(&e, &label);
        emit_nops(&e, between);
        emit_bind(&e, &label);
        g_assert_cmpint(emit_ok(&e), ==, between <= 127);
        if (between <= 127)
            g_assert_cmpuint(code[1], ==, between);
    }
    for (unsigned between = 100; between < 300; between++) { /* the older of two is out of reach */
        struct emit_label label = {0};
        struct emit e;

        emit_init(&e, code, sizeof(code), 0, true);
        emit_jmp_short(&e, &label);
        emit_nops(&e, between);
        emit_jmp_short(&e, &label);
        emit_bind(&e, &label);
        g_assert_cmpint(emit_ok(&e), ==, between + 2 <= 127);
    }
}

static void test_far_reach(void)
{
    static uint8_t code[KiB];
    static const uint64_t base = UINT64_C(0x7f0000000000);
    static const struct {
        uint64_t target; /* from the end of a five-byte jump at the start */
        bool reaches;
    } cases[] = {{0, true},
                 {INT32_MAX, true},
                 {(uint64_t)INT32_MAX + 1, false},
                 {(uint64_t)INT32_MIN, true},
                 {(uint64_t)INT32_MIN - 1, false},
                 {BIT(40), false}};
    struct emit e;

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        int32_t rel;

        emit_init(&e, code, sizeof(code), base, true);
        g_assert_cmpuint(emit_rx(&e), ==, base);
        emit_jmp_to(&e, base + 5 + cases[i].target);
        memcpy(&rel, code + 1, 4);
        g_assert_cmpint(emit_ok(&e), ==, cases[i].reaches);
        if (cases[i].reaches)
            g_assert_cmpint(rel, ==, (int64_t)cases[i].target);
        emit_init(&e, code, sizeof(code), base, true);
        emit_mov_rm(&e, 32, HOST_RAX, host_mem_rip(base + 6 + cases[i].target));
        g_assert_cmpint(emit_ok(&e), ==, cases[i].reaches);
    }
    emit_init(&e, code, sizeof(code), base, true);
    g_assert_true(emit_reaches(&e, base));
    g_assert_true(emit_reaches(&e, base + INT32_MAX));
    g_assert_false(emit_reaches(&e, base + INT32_MAX + 1));
    g_assert_false(emit_reaches(&e, base + sizeof(code) + (uint64_t)INT32_MIN - 1));
}

/* --- Patching --- */

static void test_patch(void)
{
    static uint8_t code[KiB] __attribute__((aligned(64)));
    static const uint64_t base = UINT64_C(0x10000000);

    for (unsigned lead = 0; lead < 16; lead++) {
        struct emit_label label = {0};
        struct emit e;
        uint8_t *fields[3];

        emit_init(&e, code, sizeof(code), base, true);
        emit_nops(&e, lead);
        fields[0] = emit_jmp_patchable(&e, &label);
        fields[1] = emit_jcc_patchable(&e, HOST_E, &label);
        fields[2] = emit_call_patchable(&e, &label);
        emit_bind(&e, &label);
        g_assert_true(emit_ok(&e));
        g_assert_cmpuint(fields[0][-1], ==, 0xe9);
        g_assert_cmpuint(fields[1][-2], ==, 0x0f);
        g_assert_cmpuint(fields[1][-1], ==, 0x84);
        g_assert_cmpuint(fields[2][-1], ==, 0xe8);
        for (unsigned i = 0; i < 3; i++) {
            uint64_t next = base + (uint64_t)(fields[i] + 4 - code);

            g_assert_cmpuint((uintptr_t)fields[i] % 4, ==, 0);
            g_assert_cmpuint(emit_patch_target(fields[i], e.rx_delta), ==, emit_label_rx(&e, &label));
            g_assert_true(emit_patch(fields[i], e.rx_delta, base - 77));
            g_assert_cmpuint(emit_patch_target(fields[i], e.rx_delta), ==, base - 77);
            g_assert_true(emit_patch(fields[i], e.rx_delta, next + INT32_MAX));
            g_assert_cmpuint(emit_patch_target(fields[i], e.rx_delta), ==, next + INT32_MAX);
            g_assert_false(emit_patch(fields[i], e.rx_delta, next + INT32_MAX + 1));
            g_assert_cmpuint(emit_patch_target(fields[i], e.rx_delta), ==, next + INT32_MAX);
        }
    }
}

static void test_align(void)
{
    static uint8_t code[KiB] __attribute__((aligned(64)));

    for (size_t align = 1; align <= 64; align *= 2) {
        for (unsigned lead = 0; lead < 64; lead++) {
            struct emit e;

            emit_init(&e, code, sizeof(code), 0, true);
            emit_nops(&e, lead);
            emit_align(&e, align);
            g_assert_cmpuint(offset(&e), ==, align_up(lead, align));
        }
    }
}

/* --- The end of the buffer --- */

static void fill_with_everything(struct emit *e, struct emit_label *label)
{
    struct host_mem m = host_mem_index(HOST_R13, HOST_R12, 8, 0x12345678);

    emit_mov_ri(e, 64, HOST_R9, 0x123456789abcdef0);
    emit_mov_mi(e, 64, m, -1);
    emit_jmp(e, label);
    emit_jcc_short(e, HOST_E, label);
    emit_lock_alu_mi(e, HOST_ADD, 16, m, 0x1234);
    emit_vcvttsd2usi_rm(e, 64, HOST_R9, m);
    emit_pclmulqdq_xxxi(e, HOST_XMM9, HOST_XMM10, HOST_XMM11, 1);
    emit_jmp_patchable(e, label);
    emit_lea(e, 64, HOST_RAX, host_mem_label(label));
    emit_ret(e);
    emit_push_i(e, 1000);
    emit_align(e, 16);
}

static void test_overflow(void)
{
    struct emit_label unused = {0};
    uint8_t code[512];
    struct emit e;
    size_t full;

    emit_init(&e, code, sizeof(code), 0, true);
    fill_with_everything(&e, &unused);
    g_assert_true(emit_ok(&e));
    full = (size_t)(e.at - code);
    for (size_t room = 0; room <= full + EMIT_ROOM; room++) {
        struct emit_label label = {0};

        memset(code, FILL, sizeof(code));
        emit_init(&e, code, room, 0, true);
        fill_with_everything(&e, &label);
        emit_bind(&e, &label);
        g_assert_true(e.at <= e.end);
        g_assert_true(e.overflow || room >= full);
        for (size_t i = room; i < sizeof(code); i++)
            g_assert_cmpuint(code[i], ==, FILL);
    }
    g_assert_true(emit_ok(&e)); /* the last one had room */
}

/* An overflow stays, and what did not fit left no trace. */
static void test_overflow_stays(void)
{
    struct emit_label label = {0};
    uint8_t code[64];
    struct emit e;

    emit_init(&e, code, sizeof(code), 0, true);
    emit_nops(&e, 60);
    g_assert_true(emit_ok(&e));
    emit_ret(&e);
    g_assert_true(e.overflow);
    g_assert_cmpuint(offset(&e), ==, 60);
    g_assert_null(emit_jmp_patchable(&e, &label));
    emit_jmp_short(&e, &label);
    emit_mov_rm(&e, 64, HOST_RAX, host_mem_label(&label));
    g_assert_false(emit_label_pending(&label));
    emit_nops(&e, 4);
    g_assert_true(e.overflow);
}

/* --- Lengths: the shortest encoding is chosen --- */

static void test_lengths(void)
{
    static uint8_t code[64];
    struct emit e;

#define LENGTH(n, call)                                                                                      \
    emit_init(&e, code, sizeof(code), 0, true);                                                              \
    call;                                                                                                    \
    g_assert_cmpuint(offset(&e), ==, n)

    LENGTH(5, emit_mov_ri(&e, 64, HOST_RAX, UINT32_MAX));
    LENGTH(7, emit_mov_ri(&e, 64, HOST_RAX, UINT64_MAX));
    LENGTH(10, emit_mov_ri(&e, 64, HOST_RAX, 0x100000000));
    LENGTH(2, emit_mov_rr(&e, 32, HOST_RAX, HOST_RDI));
    LENGTH(3, emit_mov_rr(&e, 32, HOST_RAX, HOST_R8));
    LENGTH(2, emit_mov_rr(&e, 8, HOST_RAX, HOST_RBX));
    LENGTH(3, emit_mov_rr(&e, 8, HOST_RAX, HOST_RSI));
    LENGTH(4, emit_add_ri(&e, 64, HOST_RAX, -128));
    LENGTH(6, emit_add_ri(&e, 64, HOST_RAX, 128));
    LENGTH(7, emit_add_ri(&e, 64, HOST_RCX, 128));
    LENGTH(2, emit_add_ri(&e, 8, HOST_RAX, 128));
    LENGTH(4, emit_add_ri(&e, 16, HOST_RCX, 0xffff));
    LENGTH(5, emit_test_ri(&e, 32, HOST_RAX, 1));
    LENGTH(2, emit_shl_ri(&e, 32, HOST_RAX, 1));
    LENGTH(3, emit_shl_ri(&e, 32, HOST_RAX, 2));
    LENGTH(3, emit_shl_ri(&e, 8, HOST_RCX, 2)); /* the register field is no register: no REX */
    LENGTH(2, emit_mov_rm(&e, 32, HOST_RAX, host_mem(HOST_RBX, 0)));
    LENGTH(3, emit_mov_rm(&e, 32, HOST_RAX, host_mem(HOST_RBP, 0)));
    LENGTH(3, emit_mov_rm(&e, 32, HOST_RAX, host_mem(HOST_RSP, 0)));
    LENGTH(4, emit_mov_rm(&e, 32, HOST_RAX, host_mem(HOST_RSP, 127)));
    LENGTH(4, emit_addsd_xxx(&e, HOST_XMM0, HOST_XMM9, HOST_XMM1)); /* VEX of two bytes */
    LENGTH(5, emit_addsd_xxx(&e, HOST_XMM0, HOST_XMM1, HOST_XMM9));
    LENGTH(7, emit_vcvttsd2usi_rm(&e, 64, HOST_RCX, host_mem(HOST_RAX, 1016))); /* displacement / 8 */
    LENGTH(10, emit_vcvttsd2usi_rm(&e, 64, HOST_RCX, host_mem(HOST_RAX, 1017)));
    LENGTH(5, emit_fence(&e));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/engine/x86_64/emit-jump/forward", test_forward);
    g_test_add_func("/engine/x86_64/emit-jump/backward", test_backward);
    g_test_add_func("/engine/x86_64/emit-jump/nops", test_nops);
    g_test_add_func("/engine/x86_64/emit-jump/short-reach", test_short_reach);
    g_test_add_func("/engine/x86_64/emit-jump/far-reach", test_far_reach);
    g_test_add_func("/engine/x86_64/emit-jump/patch", test_patch);
    g_test_add_func("/engine/x86_64/emit-jump/align", test_align);
    g_test_add_func("/engine/x86_64/emit-jump/overflow", test_overflow);
    g_test_add_func("/engine/x86_64/emit-jump/overflow-stays", test_overflow_stays);
    g_test_add_func("/engine/x86_64/emit-jump/lengths", test_lengths);
    return g_test_run();
}
