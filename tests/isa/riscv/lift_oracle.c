/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A riscv64 Linux program: runs the vectors from its standard input on whatever hart it finds, and writes
 * what became of them. */
/*
 * All registers but tp are the vector's while its code runs; tp is where the code starts, and behind the code
 * a stub makes it point to the context, whose address is fixed so that one lui can do that.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lift_vector.h"

struct context {
    uint64_t leave;  /* address */
    uint64_t ra;     /* of the vector, after */
    uint64_t sp;     /* the runner's */
    uint64_t target; /* the vector's code */
    struct vector v;
};
_Static_assert(offsetof(struct context, v) == 32 && offsetof(struct vector, f) == 256 &&
                   offsetof(struct vector, fcsr) == 512,
               "the assembly's offsets");

void enter(void);

/* 256 bytes of stack hold the runner's registers; .ifnot skips those that stand for something else. */
__asm__(".option push\n"
        ".option norelax\n"
        ".text\n"
        ".globl enter\n"
        "enter:\n"
        "    addi sp, sp, -256\n"
        "    .irp r, 1,3,4,8,9,18,19,20,21,22,23,24,25,26,27\n"
        "    sd x\\r, 8*\\r(sp)\n"
        "    .endr\n"
        "    lui tp, 0x30000\n"
        "    sd sp, 16(tp)\n"
        "    la t0, leave\n"
        "    sd t0, 0(tp)\n"
        "    addi t0, tp, 544\n"
        "    sc.d zero, zero, (t0)\n" /* whatever was reserved is no more; what it stores, if it does, is
                                         fcsr's */
        "    ld t0, 1024(tp)\n"
        "    sd t0, 544(tp)\n"
        "    fscsr t0\n"
        "    .irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        "    fld f\\r, 288+8*\\r(tp)\n"
        "    .endr\n"
        "    .irp r, 1,2,3,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        "    ld x\\r, 32+8*\\r(tp)\n"
        "    .endr\n"
        "    ld tp, 24(tp)\n"
        "    jr tp\n"
        "leave:\n"
        "    .irp r, 2,3,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        "    sd x\\r, 32+8*\\r(tp)\n"
        "    .endr\n"
        "    .irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        "    fsd f\\r, 288+8*\\r(tp)\n"
        "    .endr\n"
        "    frcsr t0\n"
        "    sd t0, 544(tp)\n"
        "    ld t0, 8(tp)\n"
        "    sd t0, 40(tp)\n"
        "    ld sp, 16(tp)\n"
        "    .irp r, 1,3,4,8,9,18,19,20,21,22,23,24,25,26,27\n"
        "    ld x\\r, 8*\\r(sp)\n"
        "    .endr\n"
        "    addi sp, sp, 256\n"
        "    ret\n"
        ".option pop\n");

static void *map(uint64_t addr, size_t size, int prot)
{
    void *p = mmap((void *)addr, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (p == MAP_FAILED) {
        exit(1);
    }
    return p;
}

/* All of a chunk but at the end of the input. Returns the bytes read. */
static size_t read_all(void *buf, size_t size)
{
    size_t have = 0;
    ssize_t n;

    while (have < size && (n = read(0, (char *)buf + have, size - have)) > 0) {
        have += (size_t)n;
    }
    return have;
}

static void run(struct context *ctx, uint64_t *data, struct vector *v, uint64_t code)
{
    ctx->v = *v;
    ctx->target = code;
    *(uint64_t *)((char *)ctx + 1024) = v->fcsr;
    vector_fill(data, v->memory);
    enter();
    *v = ctx->v;
    v->memory = vector_digest(data);
}

int main(void)
{
    static const uint32_t stub[] = {
        0x30000237, /* lui tp, 0x30000 */
        0x00123423, /* sd ra, 8(tp) */
        0x00023083, /* ld ra, 0(tp) */
        0x00008067, /* jr ra */
    };
    static struct vector chunk[VECTOR_CHUNK];
    struct context *ctx = map(VECTOR_CONTEXT, 4096, PROT_READ | PROT_WRITE);
    uint64_t *data = map(VECTOR_DATA, 4096, PROT_READ | PROT_WRITE);
    char *code = map(VECTOR_CODE, VECTOR_CHUNK * VECTOR_SLOT, PROT_READ | PROT_WRITE | PROT_EXEC);
    size_t got;

    while ((got = read_all(chunk, sizeof(chunk))) != 0) {
        size_t n = got / sizeof(chunk[0]);
        for (size_t i = 0; i < n; i++) {
            memcpy(code + i * VECTOR_SLOT, chunk[i].code, VECTOR_CODE_BYTES);
            memcpy(code + i * VECTOR_SLOT + VECTOR_CODE_BYTES, stub, sizeof(stub));
        }
        __asm__ volatile("fence.i" ::: "memory");
        for (size_t i = 0; i < n; i++) {
            run(ctx, data, &chunk[i], VECTOR_CODE + i * VECTOR_SLOT);
        }
        if (write(1, chunk, n * sizeof(chunk[0])) != (ssize_t)(n * sizeof(chunk[0]))) {
            return 1;
        }
    }
    return 0;
}
