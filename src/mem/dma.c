/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Guest RAM by host address: bounds, and the way back to the guest's address. */
#include "mem/dma.h"

#include "base/bits.h"
#include "base/checked.h"

void *mem_dma(const struct mem *m, struct gpa addr, uint64_t size, bool write)
{
    const struct mem_block *b = mem_find(m, addr);
    if (!b || (write && b->readonly) || !range_inside(addr.v, size, b->base.v, b->size))
        return NULL;
    return b->host + (addr.v - b->base.v);
}

/* The block that host lies in and its guest address. */
static const struct mem_block *block_at(const struct mem *m, const void *host, struct gpa *addr)
{
    unsigned n;
    const struct mem_block *b = mem_blocks(m, &n);
    for (; n; n--, b++) {
        uintptr_t at = (uintptr_t)host - (uintptr_t)b->host; /* huge when below */
        if (at < b->size) {
            addr->v = b->base.v + at;
            return b;
        }
    }
    g_assert_not_reached(); /* not an address of mem_dma() */
}

void mem_dma_wrote(struct mem *m, const void *host, uint64_t size)
{
    struct gpa addr;
    const struct mem_block *b = block_at(m, host, &addr);
    mem_wrote(m, b, addr, size);
}

uint64_t mem_dma_discard(struct mem *m, void *host, uint64_t size)
{
    struct gpa addr;
    block_at(m, host, &addr);
    const uint64_t first = align_up(addr.v, MEM_PAGE_SIZE), end = align_down(addr.v + size, MEM_PAGE_SIZE);
    return first < end && !mem_discard(m, GPA(first), end - first) ? end - first : 0;
}

void mem_dma_read(const struct mem *m, const void *host, void *buffer, uint64_t size)
{
    struct gpa addr;
    block_at(m, host, &addr);
    int status = mem_read(m, addr, buffer, size);
    g_assert(!status);
}

void mem_dma_write(struct mem *m, const void *host, const void *buffer, uint64_t size)
{
    struct gpa addr;
    block_at(m, host, &addr);
    int status = mem_write(m, addr, buffer, size);
    g_assert(!status);
}
