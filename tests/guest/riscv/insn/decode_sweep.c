/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Executes every 16-bit encoding and a structured sample of the 32-bit ones in U-mode: legality, operands,
 * traps. */
#include "lib/lib.h"

/*
 * Theory of operation
 *
 * U-mode sees one executable page full of c.ebreak and three data pages; all integer registers point into the
 * middle one, 8 bytes apart, so memory accesses land in it whatever registers and immediate they use, and
 * jumps end in an ebreak or a page fault. The encoding under test is written into the middle of the code
 * page; the trap that ends it, the register file and (for floating point) the f registers and fcsr enter the
 * hash of the line.
 */
#ifndef VERBOSE
#define VERBOSE 0
#endif

#define CODE_VA 0x10000ul
#define DATA_VA 0x20000ul
#define SPOT 0x800

void sweep_enter(u64 entry, const u64 *regs, u64 status);
u64 sweep_fold(const u64 *regs);
void sweep_load_fp(const u64 *f);
void sweep_store_fp(u64 *f);

static u16 code[2048] __attribute__((aligned(4096)));
static u64 data[3 * 512] __attribute__((aligned(4096)));
static u64 regs[32], fregs[32], fresult[33];
static u64 seed, hash, count, illegal;

static void trial(u32 insn, bool is_fp)
{
    struct hart *h = hart_self();
    code[SPOT / 2] = (u16)insn;
    code[SPOT / 2 + 1] = (insn & 3) == 3 ? (u16)(insn >> 16) : 0x9002;
    fence_i();
    if (is_fp) {
        sweep_load_fp(fregs);
        csr_write(fcsr, count % 5 << 5);
    }
    u64 status = csr_read(mstatus) & ~MSTATUS_MPP;
    sweep_enter(CODE_VA + SPOT, regs, status);
    u64 outcome = sweep_fold(h->regs);
    outcome = outcome * 31 + h->cause;
    outcome = outcome * 31 + h->epc;
    outcome = outcome * 31 + (h->cause == 3 ? 0 : h->tval);
    if (is_fp) {
        sweep_store_fp(fresult);
        fresult[32] = csr_read(fcsr);
        outcome = outcome * 31 + sweep_fold(fresult) * 31 + fresult[0] * 7 + fresult[32];
    }
    hash = hash_mix(hash, outcome);
    count++;
    illegal += h->cause == 2;
    if (VERBOSE) {
        print("%08x: cause=%lu epc=0x%lx tval=0x%lx fold=%016lx", insn, h->cause, h->epc,
              h->cause == 3 ? 0 : h->tval, outcome);
        for (int i = 1; i < 32; i++) {
            if (h->regs[i] != regs[i]) {
                print(" x%d=%lx", i, h->regs[i]);
            }
        }
        for (int i = 0; i < 32 && is_fp; i++) {
            if (fresult[i] != fregs[i]) {
                print(" f%d=%lx", i, fresult[i]);
            }
        }
        print("\n");
    }
}

static void line_begin(u64 id)
{
    hash = count = illegal = 0;
    seed = 0x123456789abcdef1ull + (id << 20);
    for (int i = 0; i < 3 * 512; i++) {
        data[i] = 0x3ff0000000000000ull + (u64)i * 0x0001000100010001ull;
    }
}

static void line_end(const char *what, u64 a, u64 b)
{
    for (int i = 0; i < 3 * 512; i++) {
        hash = hash_mix(hash, data[i]);
    }
    print("%s %02lx.%lx n=%lu illegal=%lu %016lx\n", what, a, b, count, illegal, hash);
}

/* A jump to itself would never end. */
static bool loops_16(u32 insn)
{
    u32 quadrant = insn & 3, f3 = insn >> 13;
    if (quadrant == 1 && f3 == 5) {
        return (insn & 0x1ffc) == 0;
    }
    return quadrant == 1 && f3 >= 6 && (insn & 0x1c7c) == 0;
}

static void sweep_16(void)
{
    for (u32 quadrant = 0; quadrant < 3; quadrant++) {
        for (u32 top = 0; top < 64; top++) {
            line_begin(quadrant << 8 | top);
            bool is_fp = quadrant != 1 && (top >> 3 & 3) == 1;
            for (u32 mid = 0; mid < 256; mid++) {
                u32 insn = top << 10 | mid << 2 | quadrant;
                if (!loops_16(insn)) {
                    trial(insn, is_fp);
                }
            }
            line_end("c", quadrant, top);
        }
    }
}

/*
 * Encodings whose meaning QEMU 7.2 does not know: Zicond and cache-block operations, which insn_formula has.
 * And SINVAL.VMA, which traps.c has.
 */
static bool newer(u32 opcode, u32 f3, u32 f7)
{
    return (opcode == 0x33 && f7 == 7 && (f3 == 5 || f3 == 7)) || (opcode == 0x0f && f3 == 2) ||
           (opcode == 0x73 && f3 == 0 && f7 == 0x0b);
}

static u32 random_fields(u32 opcode, u32 f3, u32 f7)
{
    u64 r = rng_next(&seed);
    u32 rd = r & 31, rs1 = r >> 8 & 31, rs2 = r >> 16 & 31;
    if (opcode == 0x2f) {
        rs1 |= 1; /* not x0: QEMU 7.2 calls the fault of an AMO at address 0 a load fault */
    }
    if (opcode == 0x63 || opcode == 0x6f) {
        rd |= 8; /* an offset of 0 or 2 would run the instruction's own second half */
        rs2 |= 4;
    }
    return f7 << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | rd << 7 | opcode;
}

/*
 * ecall, ebreak, returns, fences: no register fields. Not WFI and Zawrs, where the specification leaves a
 * choice, and not SFENCE.W.INVAL and SFENCE.INVAL.IR, which QEMU 7.2 wrongly lets pass
 * (and gives no encoding in the tval of SINVAL.VMA).
 */
static void sweep_privileged(void)
{
    for (u32 imm = 0; imm < 4096; imm++) {
        if (imm != 0x105 && imm != 0x00d && imm != 0x01d && imm != 0x180 && imm != 0x181 &&
            imm >> 5 != 0x0b) {
            trial(imm << 20 | 0x73, false);
        }
    }
}

static void sweep_32(void)
{
    for (u32 opcode = 3; opcode < 128; opcode += 4) {
        bool is_fp = opcode == 0x07 || opcode == 0x27 || (opcode >= 0x43 && opcode <= 0x53);
        bool defined = (opcode & 0x1f) != 0x1f && (opcode & 0x5f) != 0x0b && opcode != 0x57 &&
                       opcode != 0x5b && opcode != 0x6b && opcode != 0x77 && opcode != 0x7b;
        for (u32 f3 = 0; f3 < 8; f3++) {
            line_begin(opcode << 3 | f3 | 1u << 20);
            for (u32 f7 = 0; f7 < 128; f7 += defined ? 1 : 17) {
                if (newer(opcode, f3, f7)) {
                    continue;
                }
                trial(random_fields(opcode, f3, f7), is_fp);
                bool rs2_is_opcode =
                    ((opcode == 0x13 || opcode == 0x1b) && (f3 & 3) == 1) || (opcode == 0x73 && f3 == 0) ||
                    (opcode == 0x53 && (f7 & 0x20) && (f3 == 0 || f3 == 7)) || (opcode == 0x2f && f3 == 3);
                for (u32 rs2 = 0; rs2 < 32 && rs2_is_opcode; rs2++) {
                    trial((random_fields(opcode, f3, f7) & ~(31u << 20)) | rs2 << 20, is_fp);
                }
            }
            if (opcode == 0x73 && f3 == 0) {
                sweep_privileged();
            }
            line_end("w", opcode, f3);
        }
    }
}

int main(u64 fdt)
{
    (void)fdt;
    u64 *root = page_new();
    map_page(root, 3, CODE_VA, (u64)code, 0, PTE_V | PTE_R | PTE_X | PTE_U | PTE_A | PTE_D);
    for (u64 i = 0; i < 3; i++) {
        map_page(root, 3, DATA_VA + i * 4096, (u64)data + i * 4096, 0,
                 PTE_V | PTE_R | PTE_W | PTE_U | PTE_A | PTE_D);
    }
    satp_use(root, 3, 0);
    for (int i = 0; i < 2048; i++) {
        code[i] = 0x9002;
    }
    for (u64 i = 0; i < 32; i++) {
        regs[i] = i ? DATA_VA + 0x1800 - 128 + 8 * i : 0;
        fregs[i] = i & 1 ? 0x3ff8000000000000ull + (i << 48) : 0xffffffff3f800000ull + (i << 20);
    }
    csr_set(mstatus, MSTATUS_FS);
    csr_write(mcounteren, 0);
    csr_write(scounteren, 0);
    sweep_16();
    sweep_32();
    print("decode_sweep done\n");
    return 0;
}
