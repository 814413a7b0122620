/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Memory operations that the interpreter does not do inline: ordered, big-endian, atomic, and every miss of
 * the TLB. */
/*
 * Theory of operation
 *
 * Single-copy atomicity: an aligned access of up to 8 bytes that hits the TLB is one host access of that
 * size, here as in interp.c. What env->ops does (devices, pages not yet seen, misaligned) is its own affair.
 *
 * Order: acquire loads and release stores use the host's own; with both bits they are sequentially
 * consistent. When such an access leaves for env->ops, fences around the call give the same guarantee.
 * Read-modify-write operations are always sequentially consistent: stronger than a guest asks at times, never
 * weaker.
 *
 * LL records address and value; SC compares both and writes with one compare-and-exchange. A value that
 * changed and changed back in between goes unnoticed, and so does a change beside the bytes that LL read:
 * guests use LL/SC to build a compare-and-exchange, which does not mind.
 */
#include "base/bits.h"
#include "engine/cell.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)

static unsigned bytes_of(uint32_t mem)
{
    return 1u << ir_mem_log2(mem);
}

/* Extends what a load of the descriptor's size read to 64 bits. */
static uint64_t extend(uint64_t value, uint32_t mem)
{
    unsigned bits = 8 * bytes_of(mem);

    return mem & IR_MEM_SIGNED ? (uint64_t)bits_sext(value, bits) : value & bits_mask(bits);
}

/* Turns a value of the descriptor's size between host order and big-endian. */
static uint64_t swapped(uint64_t value, uint32_t mem)
{
    return __builtin_bswap64(value) >> (64 - 8 * bytes_of(mem));
}

/* Host address of an aligned access that the TLB knows, or NULL. */
static void *tlb_hit(struct env *env, uint64_t va, uint32_t mem, bool store)
{
    struct env_tlb *tlb = &env->tlb[ir_mem_mmu(mem) % ENV_MMU_INDEXES];
    unsigned i = env_tlb_index(va);
    uint64_t tag = va & (ENV_PAGE_MASK | (bytes_of(mem) - 1));

    if ((store ? tlb->tag_w[i] : tlb->tag_r[i]) != tag) {
        return NULL;
    }
    return (void *)(uintptr_t)(va + tlb->addend[i]);
}

/* True, with the guest's exception recorded, when the access is misaligned and must not be. */
static bool refused(struct env *env, uint64_t va, uint32_t mem, bool store)
{
    if (!(mem & IR_MEM_ALIGNED) || !(va & (bytes_of(mem) - 1))) {
        return false;
    }
    env->ops->misaligned(env, va, store);
    return true;
}

/* --- Loads and stores --- */

/* One host load of the descriptor's size; order is a compile-time constant where the macro is used. */
#define LOAD(host, mem, order)                                                                               \
    (bytes_of(mem) == 1   ? __atomic_load_n((uint8_t *)(host), order)                                        \
     : bytes_of(mem) == 2 ? __atomic_load_n((uint16_t *)(host), order)                                       \
     : bytes_of(mem) == 4 ? __atomic_load_n((uint32_t *)(host), order)                                       \
                          : __atomic_load_n((uint64_t *)(host), order))

static uint64_t host_load(void *host, uint32_t mem)
{
    switch (mem & (IR_MEM_ACQUIRE | IR_MEM_RELEASE)) {
    case 0: return LOAD(host, mem, __ATOMIC_RELAXED);
    case IR_MEM_ACQUIRE: return LOAD(host, mem, __ATOMIC_ACQUIRE);
    default: return LOAD(host, mem, __ATOMIC_SEQ_CST);
    }
}

static void host_store_sized(void *host, uint32_t mem, uint64_t value, bool release, bool all)
{
    switch (bytes_of(mem)) {
#define STORE(type)                                                                                          \
    if (all) {                                                                                               \
        __atomic_store_n((type *)host, (type)value, __ATOMIC_SEQ_CST);                                       \
    } else if (release) {                                                                                    \
        __atomic_store_n((type *)host, (type)value, __ATOMIC_RELEASE);                                       \
    } else {                                                                                                 \
        __atomic_store_n((type *)host, (type)value, __ATOMIC_RELAXED);                                       \
    }                                                                                                        \
    break;
    case 1: STORE(uint8_t)
    case 2: STORE(uint16_t)
    case 4: STORE(uint32_t)
    default: STORE(uint64_t)
#undef STORE
    }
}

static void host_store(void *host, uint32_t mem, uint64_t value)
{
    bool release = mem & IR_MEM_RELEASE;

    host_store_sized(host, mem, value, release, release && (mem & IR_MEM_ACQUIRE));
}

static void fence_if(uint32_t asked)
{
    if (asked) {
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
}

int interp_load(struct env *env, uint64_t va, uint32_t mem, uint64_t *value)
{
    bool both = (mem & IR_MEM_ACQUIRE) && (mem & IR_MEM_RELEASE);
    uint64_t v[2] = {0, 0};
    void *host = tlb_hit(env, va, mem, false);

    if (LIKELY(host)) {
        v[0] = host_load(host, mem);
        v[0] = mem & IR_MEM_BIG ? swapped(v[0], mem) : v[0];
    } else {
        if (refused(env, va, mem, false)) {
            return 1;
        }
        fence_if(both);
        if (env->ops->load(env, va, mem, v)) {
            return 1;
        }
        fence_if(mem & IR_MEM_ACQUIRE);
    }
    *value = extend(v[0], mem);
    return 0;
}

int interp_store(struct env *env, uint64_t va, uint32_t mem, uint64_t value)
{
    bool both = (mem & IR_MEM_ACQUIRE) && (mem & IR_MEM_RELEASE);
    uint64_t v[2] = {value & bits_mask(8 * bytes_of(mem)), 0};
    void *host = tlb_hit(env, va, mem, true);

    if (LIKELY(host)) {
        host_store(host, mem, mem & IR_MEM_BIG ? swapped(v[0], mem) : v[0]);
        return 0;
    }
    if (refused(env, va, mem, true)) {
        return 1;
    }
    fence_if(mem & IR_MEM_RELEASE);
    if (env->ops->store(env, va, mem, v)) {
        return 1;
    }
    fence_if(both);
    return 0;
}

int interp_load_pair(struct env *env, uint64_t va, uint32_t mem, uint64_t value[2])
{
    if (refused(env, va, mem, false)) {
        return 1;
    }
    fence_if(mem & IR_MEM_ACQUIRE && mem & IR_MEM_RELEASE);
    if (env->ops->load(env, va, mem, value)) {
        return 1;
    }
    fence_if(mem & IR_MEM_ACQUIRE);
    return 0;
}

int interp_store_pair(struct env *env, uint64_t va, uint32_t mem, const uint64_t value[2])
{
    if (refused(env, va, mem, true)) {
        return 1;
    }
    fence_if(mem & IR_MEM_RELEASE);
    if (env->ops->store(env, va, mem, value)) {
        return 1;
    }
    fence_if(mem & IR_MEM_ACQUIRE && mem & IR_MEM_RELEASE);
    return 0;
}

/* --- Atomics --- */

/* Host address for an atomic access; a misaligned one is the guest's exception whatever the descriptor says.
 */
static int atomic_host(struct env *env, uint64_t va, uint32_t mem, void **host)
{
    *host = tlb_hit(env, va, mem, true);
    if (LIKELY(*host)) {
        return 0;
    }
    if (refused(env, va, mem | IR_MEM_ALIGNED, true)) {
        return 1;
    }
    return env->ops->atomic(env, va, mem, host);
}

/* If the memory holds expected, replaces it by desired; returns what it held. Values in memory's byte order.
 */
static uint64_t host_cmpxchg(void *host, uint32_t mem, uint64_t expected, uint64_t desired)
{
    switch (bytes_of(mem)) {
#define EXCHANGE(type)                                                                                       \
    {                                                                                                        \
        type e = (type)expected;                                                                             \
        __atomic_compare_exchange_n((type *)host, &e, (type)desired, false, __ATOMIC_SEQ_CST,                \
                                    __ATOMIC_SEQ_CST);                                                       \
        return e;                                                                                            \
    }
    case 1: EXCHANGE(uint8_t)
    case 2: EXCHANGE(uint16_t)
    case 4: EXCHANGE(uint32_t)
    default: EXCHANGE(uint64_t)
#undef EXCHANGE
    }
}

/* What a read-modify-write stores; old and operand as read and given, with junk above the size allowed in
 * operand. */
static uint64_t rmw_result(enum ir_rmw op, unsigned bits, uint64_t old, uint64_t operand)
{
    uint64_t x = old & bits_mask(bits), y = operand & bits_mask(bits);
    bool less_signed = bits_sext(x, bits) < bits_sext(y, bits);

    switch (op) {
    case IR_RMW_XCHG: return y;
    case IR_RMW_ADD: return x + y;
    case IR_RMW_AND: return x & y;
    case IR_RMW_OR: return x | y;
    case IR_RMW_XOR: return x ^ y;
    case IR_RMW_ANDN: return x & ~y;
    case IR_RMW_SMIN: return less_signed ? x : y;
    case IR_RMW_SMAX: return less_signed ? y : x;
    case IR_RMW_UMIN: return x < y ? x : y;
    case IR_RMW_UMAX: return x < y ? y : x;
    case IR_RMW_COUNT: break;
    }
    return x;
}

/* Any operation by compare-and-exchange. Returns the old value. */
static uint64_t rmw_loop(void *host, uint32_t mem, enum ir_rmw op, uint64_t operand)
{
    bool big = mem & IR_MEM_BIG;
    uint64_t raw = LOAD(host, mem, __ATOMIC_RELAXED), seen = raw;

    do {
        raw = seen;
        uint64_t old = big ? swapped(raw, mem) : raw;
        uint64_t next = rmw_result(op, 8 * bytes_of(mem), old, operand) & bits_mask(8 * bytes_of(mem));
        seen = host_cmpxchg(host, mem, raw, big ? swapped(next, mem) : next);
    } while (seen != raw);
    return big ? swapped(raw, mem) : raw;
}

/* The operations that hosts have. */
#define RMW_NATIVE(type)                                                                                     \
    static uint64_t rmw_##type(type *host, enum ir_rmw op, type operand)                                     \
    {                                                                                                        \
        switch (op) {                                                                                        \
        case IR_RMW_XCHG: return __atomic_exchange_n(host, operand, __ATOMIC_SEQ_CST);                       \
        case IR_RMW_ADD: return __atomic_fetch_add(host, operand, __ATOMIC_SEQ_CST);                         \
        case IR_RMW_AND: return __atomic_fetch_and(host, operand, __ATOMIC_SEQ_CST);                         \
        case IR_RMW_ANDN: return __atomic_fetch_and(host, (type)~operand, __ATOMIC_SEQ_CST);                 \
        case IR_RMW_OR: return __atomic_fetch_or(host, operand, __ATOMIC_SEQ_CST);                           \
        default: return __atomic_fetch_xor(host, operand, __ATOMIC_SEQ_CST);                                 \
        }                                                                                                    \
    }
RMW_NATIVE(uint8_t)
RMW_NATIVE(uint16_t)
RMW_NATIVE(uint32_t)
RMW_NATIVE(uint64_t)

static uint64_t host_rmw(void *host, uint32_t mem, enum ir_rmw op, uint64_t operand)
{
    if (op >= IR_RMW_SMIN || mem & IR_MEM_BIG) {
        return rmw_loop(host, mem, op, operand);
    }
    switch (bytes_of(mem)) {
    case 1: return rmw_uint8_t(host, op, (uint8_t)operand);
    case 2: return rmw_uint16_t(host, op, (uint16_t)operand);
    case 4: return rmw_uint32_t(host, op, (uint32_t)operand);
    default: return rmw_uint64_t(host, op, operand);
    }
}

int interp_rmw(struct env *env, uint64_t va, uint32_t mem, enum ir_rmw op, uint64_t operand, uint64_t *old)
{
    void *host;

    if (atomic_host(env, va, mem, &host)) {
        return 1;
    }
    *old = extend(host_rmw(host, mem, op, operand), mem);
    return 0;
}

int interp_cmpxchg(struct env *env, uint64_t va, uint32_t mem, uint64_t expected, uint64_t desired,
                   uint64_t *old)
{
    bool big = mem & IR_MEM_BIG;
    void *host;

    if (atomic_host(env, va, mem, &host)) {
        return 1;
    }
    if (big) {
        expected = swapped(expected, mem);
        desired = swapped(desired, mem);
    }
    uint64_t raw = host_cmpxchg(host, mem, expected, desired);
    *old = extend(big ? swapped(raw, mem) : raw, mem);
    return 0;
}

/* The host's instruction, without a library that may lock. x86-64 has it since 2005 (CX16), yet compilers use
 * it only when told that every host has. */
static unsigned __int128 host_cmpxchg16(void *host, unsigned __int128 expected, unsigned __int128 desired)
{
#if defined(__x86_64__)
    uint64_t lo = (uint64_t)expected, hi = (uint64_t)(expected >> 64);

    __asm__ volatile("lock cmpxchg16b %2"
                     : "+a"(lo), "+d"(hi), "+m"(*(unsigned __int128 *)host)
                     : "b"((uint64_t)desired), "c"((uint64_t)(desired >> 64))
                     : "cc", "memory");
    return (unsigned __int128)hi << 64 | lo;
#else
    return __sync_val_compare_and_swap((unsigned __int128 *)host, expected, desired);
#endif
}

int interp_cmpxchg_pair(struct env *env, uint64_t va, uint32_t mem, const uint64_t expected[2],
                        const uint64_t desired[2], uint64_t old[2])
{
    /* In big-endian memory the high half comes first, each half turned. */
    unsigned lo = mem & IR_MEM_BIG ? 1 : 0;
    uint64_t e[2] = {expected[lo], expected[!lo]}, d[2] = {desired[lo], desired[!lo]};
    void *host;

    if (atomic_host(env, va, mem, &host)) {
        return 1;
    }
    for (unsigned i = 0; i < 2 && lo; i++) {
        e[i] = __builtin_bswap64(e[i]);
        d[i] = __builtin_bswap64(d[i]);
    }
    unsigned __int128 raw =
        host_cmpxchg16(host, (unsigned __int128)e[1] << 64 | e[0], (unsigned __int128)d[1] << 64 | d[0]);
    uint64_t first = (uint64_t)raw, second = (uint64_t)(raw >> 64);
    old[lo] = lo ? __builtin_bswap64(first) : first;
    old[!lo] = lo ? __builtin_bswap64(second) : second;
    return 0;
}

/* --- Load-linked, store-conditional --- */

int interp_ll(struct env *env, uint64_t va, uint32_t mem, uint64_t *value)
{
    env->excl_addr = ENV_NO_RESERVATION;
    if (refused(env, va, mem | IR_MEM_ALIGNED, false) || interp_load(env, va, mem, value)) {
        return 1;
    }
    env->excl_addr = va;
    env->excl_value = *value & bits_mask(8 * bytes_of(mem));
    return 0;
}

int interp_sc(struct env *env, uint64_t va, uint32_t mem, uint64_t value, uint64_t *failed)
{
    bool reserved = env->excl_addr == va;
    uint64_t expected = env->excl_value & bits_mask(8 * bytes_of(mem)), old;

    if (refused(env, va, mem | IR_MEM_ALIGNED, true)) {
        return 1;
    }
    env->excl_addr = ENV_NO_RESERVATION;
    if (!reserved) {
        *failed = 1;
        return 0;
    }
    if (interp_cmpxchg(env, va, mem & ~IR_MEM_SIGNED, expected, value, &old)) {
        return 1;
    }
    *failed = old != expected;
    return 0;
}
