/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Memory for translated code: one memory file mapped twice, writable here, executable there, never both. */
#ifndef HOSTEL_ENGINE_X86_64_CODEMEM_H
#define HOSTEL_ENGINE_X86_64_CODEMEM_H

#include <stddef.h>
#include <stdint.h>

/*
 * Blocks are cut from a bump pointer in *arenas* of equal size; an arena whose blocks are all released is
 * used again. So invalidated blocks cost nothing to give back, and the dispatcher, which kills everything
 * when no arena is free, rarely has to. Not thread-safe: the dispatcher's code lock is held.
 */
enum {
    CODEMEM_ARENAS = 16,       /* at most: */
    CODEMEM_LEAST = 32 * 1024, /* none is smaller than this */
    CODEMEM_FEWEST = 2,        /* room for less is rounded up */
};

struct codemem {
    uint8_t *rw;
    int64_t rx_delta;                  /* executable address minus writable address */
    size_t size, arena_size, reserved; /* bytes; `reserved` at the beginning are never given back */
    unsigned arenas, current;
    uint8_t *at; /* next free byte of the current arena */
    struct {
        uint32_t live; /* blocks not released */
        size_t used;   /* bytes handed out since it was last empty */
    } arena[CODEMEM_ARENAS];
};

/* Maps size bytes (rounded up to whole pages per arena, and to CODEMEM_FEWEST of the least), `reserved` of
 * them for code that stays. 0 or -errno. */
int codemem_init(struct codemem *m, size_t size, size_t reserved);
void codemem_fini(struct codemem *m);

/* Where the next block may be written: *room bytes from the result (writable address), at least `least`. NULL
 * when there is no arena with so much: release blocks first. */
uint8_t *codemem_begin(struct codemem *m, size_t least, size_t *room);
/* The block begun last has this many bytes. */
void codemem_commit(struct codemem *m, size_t bytes);
/* The block at the writable address is not needed any more. */
void codemem_release(struct codemem *m, const uint8_t *rw);

/* Bytes handed out and not given back yet. */
size_t codemem_used(const struct codemem *m);

#endif
