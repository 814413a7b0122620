/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Memory for translated code: two mappings of one memory file, arenas, nothing ever writable and executable.
 */
#include "engine/x86_64/codemem.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <unistd.h>

#include "base/bits.h"

enum { PAGE = 4096, BLOCK_ALIGN = 16 };

/* A mapping of the file with random bits of its own, so that one address does not tell the other. */
static void *map(int fd, size_t size, int prot)
{
    void *p = mmap(NULL, size, prot, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

int codemem_init(struct codemem *m, size_t size, size_t reserved)
{
    *m = (struct codemem){.reserved = align_up(reserved, BLOCK_ALIGN)};
    m->arenas = (unsigned)MAX(MIN(size / CODEMEM_LEAST, CODEMEM_ARENAS), CODEMEM_FEWEST);
    m->arena_size = align_up(MAX(size / m->arenas, CODEMEM_LEAST), PAGE);
    m->size = m->arena_size * m->arenas;
    if (m->reserved >= m->arena_size)
        return -EINVAL;
    int fd = memfd_create("translated code", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = ftruncate(fd, (off_t)m->size) ? errno : 0;
    uint8_t *rw = error ? NULL : map(fd, m->size, PROT_READ | PROT_WRITE);
    uint8_t *rx = rw ? map(fd, m->size, PROT_READ | PROT_EXEC) : NULL;
    if (!rx && !error)
        error = errno;
    close(fd);
    if (error) {
        if (rw)
            munmap(rw, m->size);
        return -error;
    }
    madvise(rw, m->size, MADV_DONTDUMP);
    m->rw = rw;
    m->rx_delta = (int64_t)((uintptr_t)rx - (uintptr_t)rw);
    m->at = rw + m->reserved;
    return 0;
}

void codemem_fini(struct codemem *m)
{
    if (!m->rw)
        return;
    munmap(m->rw + m->rx_delta, m->size);
    munmap(m->rw, m->size);
    m->rw = NULL;
}

static uint8_t *arena_start(const struct codemem *m, unsigned i)
{
    return m->rw + i * m->arena_size + (i ? 0 : m->reserved);
}

static uint8_t *arena_end(const struct codemem *m, unsigned i)
{
    return m->rw + (i + 1) * m->arena_size;
}

uint8_t *codemem_begin(struct codemem *m, size_t least, size_t *room)
{
    for (unsigned tries = 0; tries <= m->arenas; tries++) {
        *room = (size_t)(arena_end(m, m->current) - m->at);
        if (*room >= least)
            return m->at;
        unsigned next = (m->current + 1) % m->arenas;
        if (m->arena[next].live)
            return NULL; /* the oldest code is still in use */
        m->arena[next].used = 0;
        m->current = next;
        m->at = arena_start(m, next);
    }
    return NULL;
}

void codemem_commit(struct codemem *m, size_t bytes)
{
    bytes = align_up(bytes, BLOCK_ALIGN);
    m->at += bytes;
    m->arena[m->current].live++;
    m->arena[m->current].used += bytes;
}

void codemem_release(struct codemem *m, const uint8_t *rw)
{
    unsigned i = (unsigned)((size_t)(rw - m->rw) / m->arena_size);
    if (--m->arena[i].live)
        return;
    m->arena[i].used = 0;
    if (i == m->current)
        m->at = arena_start(m, i);
}

size_t codemem_used(const struct codemem *m)
{
    size_t used = m->reserved;
    for (unsigned i = 0; i < m->arenas; i++)
        used += m->arena[i].used;
    return used;
}
