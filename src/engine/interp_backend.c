/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The method "emulation": the interpreter as a backend, with its account of code memory. */
#include <errno.h>
#include <stdlib.h>

#include "engine/arenas.h"
#include "engine/cell.h"
#include "engine/interp.h"

enum { LEAST = 512 }; /* bytes of the smallest arena */

struct interp {
    struct prepare *prepare;
    struct arenas arenas;
};

static void *interp_new(size_t limit, bool plain)
{
    struct interp *s = malloc(sizeof *s);

    if (s) {
        *s = (struct interp){.prepare = prepare_new(plain, interp_handlers())};
        arenas_init(&s->arenas, limit, LEAST);
        if (!s->prepare) {
            free(s);
            s = NULL;
        }
    }
    if (!s) {
        errno = ENOMEM;
    }
    return s;
}

static void *interp_init(size_t limit)
{
    return interp_new(limit, false);
}

void *interp_init_plain(size_t limit)
{
    return interp_new(limit, true);
}

static void interp_fini(void *state)
{
    struct interp *s = state;

    prepare_free(s->prepare);
    free(s);
}

static int interp_compile(void *state, const struct ir_block *ir, struct block *block)
{
    struct interp *s = state;
    struct prepared *code;
    int rc = prepare_block(s->prepare, ir, &code);

    if (rc) {
        /* Without host memory, giving up old blocks is what helps. */
        return rc == -ENOMEM ? -ENOSPC : rc;
    }
    while (!rc && code->bytes > arenas_room(&s->arenas))
        rc = arenas_next(&s->arenas);
    if (rc) {
        free(code);
        return rc;
    }
    block->arena = (uint8_t)arenas_take(&s->arenas, code->bytes);
    block->code = code;
    return 0;
}

static void interp_release(void *state, struct block *block)
{
    struct interp *s = state;
    struct prepared *code = block->code;

    if (code) {
        arenas_give(&s->arenas, block->arena);
        free(code);
        block->code = NULL;
    }
}

static unsigned interp_oldest(const void *state)
{
    const struct interp *s = state;

    return arenas_oldest(&s->arenas);
}

static size_t interp_used(void *state)
{
    const struct interp *s = state;

    return arenas_used(&s->arenas);
}

static void interp_view(void *state, const struct block *block, struct block_view *out)
{
    const struct prepared *code = block->code;

    (void)state;
    *out = (struct block_view){
        .cells = code->cells,
        .marks = code->marks,
        .handlers = interp_handlers(),
        .n_cells = code->n_cells,
        .n_marks = code->n_marks,
    };
}

static enum engine_stop interp_enter(void *state, struct env *env, struct block *block)
{
    (void)state;
    return interp_run(env, block);
}

const struct backend backend_interp = {
    .name = "emulation",
    .help = "portable interpreter",
    .init = interp_init,
    .fini = interp_fini,
    .compile = interp_compile,
    .oldest = interp_oldest,
    .release = interp_release,
    .used = interp_used,
    .view = interp_view,
    .run = interp_enter,
};
