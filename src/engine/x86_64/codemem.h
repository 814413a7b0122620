/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Memory for translated code: one memory file mapped twice, writable here, executable there, never both. */
#ifndef HOSTEL_ENGINE_X86_64_CODEMEM_H
#define HOSTEL_ENGINE_X86_64_CODEMEM_H

#include <stddef.h>
#include <stdint.h>

#include "engine/arenas.h"

/* No arena is smaller than this; the size of the whole is rounded up accordingly. Blocks begin at multiples
 * of CODEMEM_ALIGN. */
enum { CODEMEM_LEAST = 4 * 1024, CODEMEM_ALIGN = 16 };

/* Blocks are cut from arenas (engine/arenas.h) one behind the other. Not thread-safe: the dispatcher's code
 * lock is held. */
struct codemem {
    uint8_t *rw;
    int64_t rx_delta;      /* executable address minus writable address */
    size_t size, reserved; /* bytes; `reserved` at the beginning are never given back */
    struct arenas arenas;
};

/* Maps about size bytes, `reserved` of them for code that stays. 0 or -errno. */
int codemem_init(struct codemem *m, size_t size, size_t reserved);
void codemem_fini(struct codemem *m);

/* Where the next block may be written: *room bytes from the result (writable address). When they are too few,
 * arenas_next() leads to others. */
uint8_t *codemem_begin(const struct codemem *m, size_t *room);
/* The block begun last has this many bytes; returns its arena, for arenas_give(). */
unsigned codemem_commit(struct codemem *m, size_t bytes);

/* Bytes handed out and not given back yet. */
size_t codemem_used(const struct codemem *m);

#endif
