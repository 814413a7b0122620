/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Extensions newer than the oracle, checked against formulas: Zicond, Zicboz, Zicbom, Zawrs. */
#include "lib/lib.h"
#include "lib/stub.h"

STUB(f_cbo_zero, ".4byte 0x0045200f");
STUB(f_cbo_inval, ".4byte 0x0005200f");
STUB(f_cbo_clean, ".4byte 0x0015200f");
STUB(f_cbo_flush, ".4byte 0x0025200f");
STUB(f_cbo_reserved, ".4byte 0x0035200f");
STUB(f_czero_eqz, ".4byte 0x0eb55533");
STUB(f_czero_nez, ".4byte 0x0eb57533");
STUB(f_ctzw, ".4byte 0x6015151b");
STUB(f_wrs_nto, ".4byte 0x00d00073");
STUB(f_wrs_sto, ".4byte 0x01d00073");
STUB(f_wrs_sto_reserved, "lr.d a1, (a0)\n.4byte 0x01d00073");

static u64 seed = 77;
static u8 block[16384] __attribute__((aligned(4096)));

static u64 call2(char *stub, u64 a0, u64 a1)
{
    struct hart *h = try_call(MODE_M, (u64)stub, a0, a1, 0);
    return h->cause == 11 ? h->regs[10] : ~h->cause;
}

static void zicond(void)
{
    static const u64 conditions[] = {0, 1, 2, ~0ul, 1ul << 63, 1ul << 32, 0x80000000};
    for (unsigned i = 0; i < 7; i++) {
        u64 v = rng_next(&seed), c = conditions[i];
        expect("self formula czero.eqz", call2(f_czero_eqz, v, c), c == 0 ? 0 : v);
        expect("self formula czero.nez", call2(f_czero_nez, v, c), c != 0 ? 0 : v);
    }
}

/* ctzw: QEMU 7.2 is wrong where the lower word is zero. */
static void ctzw(void)
{
    for (unsigned i = 0; i < 64; i++) {
        u64 upper = rng_next(&seed) << 32, v = upper | (i < 32 ? 1ul << i : 0);
        expect("self formula ctzw", call2(f_ctzw, v, 0), i < 32 ? i : 32);
    }
}

static void fill(void)
{
    for (unsigned i = 0; i < sizeof(block); i++) {
        block[i] = (u8)(i | 1);
    }
}

/* The bytes that became zero around `at`: one naturally aligned power of two; returns its size, 0 if not so.
 */
static u64 zeroed(u64 at)
{
    u64 first = ~0ul, n = 0;
    for (unsigned i = 0; i < sizeof(block); i++) {
        if (block[i] == 0) {
            first = first == ~0ul ? i : first;
            n++;
        }
    }
    bool good = n && !(n & (n - 1)) && first == (at & ~(n - 1));
    for (u64 i = first; good && i < first + n; i++) {
        good = block[i] == 0;
    }
    return good ? n : 0;
}

static void zicboz(void)
{
    fill();
    call2(f_cbo_zero, (u64)block + 8192, 0);
    u64 size = zeroed(8192);
    expect("self formula cbo.zero clears one aligned block", size != 0, 1);
    print("note cache block of %lu bytes\n", size);
    for (unsigned i = 1; i < 9; i++) {
        fill();
        u64 at = 8192 + rng_next(&seed) % 2048;
        expect("self formula cbo.zero ends well", call2(f_cbo_zero, (u64)block + at, 0), (u64)block + at);
        expect("self formula cbo.zero same size, any address", zeroed(at), size);
    }
    struct hart *h = try_call(MODE_M, (u64)f_cbo_zero, RAM_END, 0, 0);
    expect("self formula cbo.zero to a hole is a store fault", h->cause, 7);
    expect("self formula cbo reserved operation",
           try_call(MODE_M, (u64)f_cbo_reserved, (u64)block, 0, 0)->cause, 2);
}

/* menvcfg and senvcfg: CBIE bits 5:4, CBCFE bit 6, CBZE bit 7. */
static void envcfg_gates(void)
{
    static const struct {
        const char *name;
        char *stub;
        u64 bits;
    } ops[] = {{"cbo.zero", f_cbo_zero, 0x80},
               {"cbo.clean", f_cbo_clean, 0x40},
               {"cbo.flush", f_cbo_flush, 0x40},
               {"cbo.inval", f_cbo_inval, 0x10},
               {"cbo.inval", f_cbo_inval, 0x30}};
    for (unsigned i = 0; i < 5; i++) {
        for (unsigned gates = 0; gates < 4; gates++) {
            csr_write(menvcfg, gates & 1 ? ops[i].bits : 0);
            csr_write(senvcfg, gates & 2 ? ops[i].bits : 0);
            print("self formula M %u-", gates);
            expect(ops[i].name, try_call(MODE_M, (u64)ops[i].stub, (u64)block, 0, 0)->cause, 11);
            print("self formula S %u-", gates);
            expect(ops[i].name, try_call(MODE_S, (u64)ops[i].stub, (u64)block, 0, 0)->cause,
                   gates & 1 ? 9 : 2);
            print("self formula U %u-", gates);
            expect(ops[i].name, try_call(MODE_U, (u64)ops[i].stub, (u64)block, 0, 0)->cause,
                   gates == 3 ? 8 : 2);
        }
    }
    csr_write(menvcfg, 0);
    csr_write(senvcfg, 0);
}

/* cbo.clean and cbo.flush never change memory; cbo.inval must not either on a machine without caches that
 * lose data. */
static void zicbom(void)
{
    fill();
    static char *const ops[] = {f_cbo_clean, f_cbo_flush, f_cbo_inval};
    for (int i = 0; i < 3; i++) {
        call2(ops[i], (u64)block + 100, 0);
    }
    u64 changed = 0;
    for (unsigned i = 0; i < sizeof(block); i++) {
        changed += block[i] != (u8)(i | 1);
    }
    expect("self formula cache block management keeps memory", changed, 0);
}

/* WRS may stall only while a reservation stands; STO ends in any case, and a pending enabled interrupt ends
 * NTO. */
static void zawrs(void)
{
    static u64 word;
    expect("self formula wrs.nto without reservation", try_call(MODE_M, (u64)f_wrs_nto, 0, 0, 0)->cause, 11);
    expect("self formula wrs.sto without reservation", try_call(MODE_M, (u64)f_wrs_sto, 0, 0, 0)->cause, 11);
    expect("self formula wrs.sto with reservation",
           try_call(MODE_M, (u64)f_wrs_sto_reserved, (u64)&word, 0, 0)->cause, 11);
    expect("self formula wrs.sto in U", try_call(MODE_U, (u64)f_wrs_sto_reserved, (u64)&word, 0, 0)->cause,
           8);
    expect("self formula wrs.sto in U with TW", try_call(MODE_U, (u64)f_wrs_sto, 0, 0, MSTATUS_TW)->cause, 8);
    csr_clear(mstatus, MSTATUS_TW);
}

int main(u64 fdt)
{
    (void)fdt;
    zicond();
    ctzw();
    zicboz();
    zicbom();
    envcfg_gates();
    zawrs();
    print("insn_formula done\n");
    return 0;
}
