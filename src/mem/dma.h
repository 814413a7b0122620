/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Guest RAM by host address, for devices that move data themselves (system calls straight into it). */
#ifndef HOSTEL_MEM_DMA_H
#define HOSTEL_MEM_DMA_H

#include "mem/mem.h"

/* Host address of [addr, addr + size), size at least 1, when all of it lies in one block of RAM; for writing
 * not in a readonly one. NULL otherwise: devices' registers are never reached this way. Valid as long as m.
 * Any thread. Whoever writes calls mem_dma_wrote() behind it. */
void *mem_dma(const struct mem *m, struct gpa addr, uint64_t size, bool write);

/* Reports a store of size bytes to host, an address inside what mem_dma() returned. Any thread that holds no
 * lock that a vCPU waits for inside running code. */
void mem_dma_wrote(struct mem *m, const void *host, uint64_t size);

/* Copies between a buffer and guest RAM at host as mem_read() and mem_write() do: racing vCPUs never see an
 * aligned number half written. The write is reported. */
void mem_dma_read(const struct mem *m, const void *host, void *buffer, uint64_t size);
void mem_dma_write(struct mem *m, const void *host, const void *buffer, uint64_t size);

/* mem_discard() of the whole pages in [host, host + size), which lies inside what mem_dma() returned for
 * writing: how many bytes of them the host got back. */
uint64_t mem_dma_discard(struct mem *m, void *host, uint64_t size);

#endif
