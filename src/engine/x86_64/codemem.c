/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Memory for translated code: two mappings of one memory file, nothing ever writable and executable. */
#include "engine/x86_64/codemem.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"

enum { PAGE = 4096 };

/* A mapping of the file with random bits of its own, so that one address does not tell the other. */
static void *map(int fd, size_t size, int prot)
{
    void *p = mmap(NULL, size, prot, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

int codemem_init(struct codemem *m, size_t size, size_t reserved)
{
    *m = (struct codemem){.reserved = align_up(reserved, CODEMEM_ALIGN)};
    arenas_init(&m->arenas, size > m->reserved ? size - m->reserved : 0, CODEMEM_LEAST);
    m->arenas.size = align_down(m->arenas.size, CODEMEM_ALIGN);
    m->size = align_up(m->reserved + m->arenas.n * m->arenas.size, PAGE);
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

uint8_t *codemem_begin(const struct codemem *m, size_t *room)
{
    const struct arenas *a = &m->arenas;
    *room = arenas_room(a);
    return m->rw + m->reserved + a->current * a->size + a->arena[a->current].used;
}

unsigned codemem_commit(struct codemem *m, size_t bytes)
{
    return arenas_take(&m->arenas, align_up(bytes, CODEMEM_ALIGN));
}

size_t codemem_used(const struct codemem *m)
{
    return m->reserved + arenas_used(&m->arenas);
}
