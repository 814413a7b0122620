/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands of the control socket that write a piece of a guest's memory into a file. */
/*
 * The worker's thread writes, while the guest goes on. By virtual addresses the pages are looked up first,
 * all of them as they are at one moment, for which the guest stands; what they hold is read later, as by
 * physical ones. Addresses of the upper half are negative numbers, since those of QMP have 64 bits with a
 * sign. To look up a page is what a load does: it is marked as accessed where page tables have such a mark.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "control/fds.h"
#include "os/fd.h"
#include "vm/vm.h"

enum { PIECE = 64 * 1024, SIZE_MAX_VIRTUAL = 1 << 30 /* bytes, looked up while the guest stands */ };

/* One command. */
struct piece {
    struct vm_work work; /* first */
    const struct mem *mem;
    struct gpa from;   /* of what is next */
    uint64_t size;     /* left */
    struct gpa *pages; /* NULL = by physical addresses; else where each page is, after that of from */
    int fd;
    struct qmp_request *request; /* held */
    GError *error;
};

static bool write_all(int fd, const char *bytes, size_t size, GError **error)
{
    while (size) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot write: %s", g_strerror(n ? errno : ENOSPC));
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

static bool write_range(struct piece *p, struct gpa from, uint64_t left)
{
    static char bytes[PIECE]; /* there is one worker */
    for (size_t size; left; from.v += size, left -= size, p->size -= size) {
        size = (size_t)MIN(left, sizeof(bytes));
        if (mem_read(p->mem, from, bytes, size))
            return hostel_fail(&p->error, HOSTEL_ERROR_USAGE,
                               "not all of it is memory: nothing else is at 0x%" PRIx64, from.v);
        if (!write_all(p->fd, bytes, size, &p->error))
            return false;
    }
    return true;
}

static void save_piece(struct vm_work *work)
{
    struct piece *p = (struct piece *)(void *)work;
    const uint64_t first = MEM_PAGE_SIZE - (p->from.v & (MEM_PAGE_SIZE - 1));
    bool good = write_range(p, p->from, p->pages ? MIN(first, p->size) : p->size);
    for (struct gpa *page = p->pages; good && p->size; page++)
        good = write_range(p, *page, MIN(p->size, (uint64_t)MEM_PAGE_SIZE));
}

static void piece_saved(struct vm_work *work)
{
    struct piece *p = (struct piece *)(void *)work;
    qmp_request_finish(p->request, p->error ? NULL : qmp_done(), p->error);
    fd_close(&p->fd);
    g_free(p->pages);
    g_free(p);
}

/* The file that args name; -1 with *error. */
static int open_file(struct vm *vm, json_t *args, GError **error)
{
    const char *name = json_string_value(json_object_get(args, "filename"));
    AUTO_FD fd = control_fd_open(qmp_request_fds(qmp_request(vm->control)), name, O_WRONLY, error);
    struct stat about;
    if (fd >= 0 && (fstat(fd, &about) || !S_ISREG(about.st_mode))) {
        qmp_fail(error, QMP_ERROR_GENERIC, "%.80s is no regular file", name);
        return -1;
    }
    return fd_steal(&fd);
}

/* Takes pages. Answered later. */
static json_t *begin(struct vm *vm, json_t *args, struct gpa from, struct gpa *pages, GError **error)
{
    const int fd = open_file(vm, args, error);
    if (fd < 0) {
        g_free(pages);
        return NULL;
    }
    struct piece *p = g_new0(struct piece, 1);
    *p = (struct piece){.work = {.run = save_piece, .done = piece_saved},
                        .mem = vm->machine->mem,
                        .from = from,
                        .size = (uint64_t)json_integer_value(json_object_get(args, "size")),
                        .pages = pages,
                        .fd = fd,
                        .request = qmp_request_hold(vm->control)};
    vm_worker_submit(vm->worker, &p->work);
    return NULL;
}

static json_t *pmemsave(void *opaque, json_t *args, GError **error)
{
    const struct gpa from = {(uint64_t)json_integer_value(json_object_get(args, "val"))};
    return begin(opaque, args, from, NULL, error);
}

/* --- by virtual addresses --- */

/* Where a byte is for that vCPU, which stands. Its registers are a copy: a fault is ours, not the guest's. */
static bool find_byte(const struct isa *isa, const struct env *env, uint64_t address, struct gpa *out,
                      GError **error)
{
    g_autofree struct env *copy = g_memdup2(env, isa->cpu_size);
    struct isa_walk walk;
    if (isa->walk(copy, (struct gva){address}, ISA_LOAD, isa->fetch_mmu(copy), &walk))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "nothing is mapped at the virtual address 0x%" PRIx64,
                           address);
    *out = walk.gpa;
    return true;
}

/* Of the first byte into *from, of the pages behind into what is returned; NULL with *error. */
static struct gpa *find_pages(struct vm *vm, unsigned cpu, uint64_t address, uint64_t size, struct gpa *from,
                              GError **error)
{
    const struct isa *isa = vm->machine->isa;
    const struct env *env = vcpus_env(vm->machine->vcpus, cpu);
    const uint64_t begin = address - (address & (MEM_PAGE_SIZE - 1)), last = address + size - 1;
    const uint64_t count = (last - begin) / MEM_PAGE_SIZE;
    struct gpa *pages = g_new(struct gpa, count + 1);
    bool good = find_byte(isa, env, address, from, error);
    for (uint64_t i = 0; good && i < count; i++)
        good = find_byte(isa, env, begin + (i + 1) * MEM_PAGE_SIZE, &pages[i], error);
    if (good)
        return pages;
    g_free(pages);
    return NULL;
}

static json_t *memsave(void *opaque, json_t *args, GError **error)
{
    struct vm *vm = opaque;
    const uint64_t address = (uint64_t)json_integer_value(json_object_get(args, "val")),
                   size = (uint64_t)json_integer_value(json_object_get(args, "size"));
    const json_int_t cpu = json_integer_value(json_object_get(args, "cpu-index"));
    struct gpa from;
    if (cpu < 0 || cpu >= vcpus_count(vm->machine->vcpus))
        return qmp_fail(error, QMP_ERROR_GENERIC, "cpu-index: there is no CPU %" JSON_INTEGER_FORMAT, cpu);
    if (!size || size > SIZE_MAX_VIRTUAL || address + size - 1 < address)
        return qmp_fail(error, QMP_ERROR_GENERIC,
                        "size: must be 1 to %d, and not lead beyond the last address", SIZE_MAX_VIRTUAL);
    if (vm->state == VM_SAVED) /* it must not change, not even by a mark */
        return qmp_fail(error, QMP_ERROR_GENERIC,
                        "the guest has been saved; give physical addresses (pmemsave)");
    const bool runs = vm->state == VM_RUNNING;
    if (runs)
        machine_pause(vm->machine);
    struct gpa *pages = find_pages(vm, (unsigned)cpu, address, size, &from, error);
    if (runs)
        machine_start(vm->machine);
    return pages ? begin(vm, args, from, pages, error) : NULL;
}

const struct qmp_command vm_piece_commands[] = {
    {"memsave", "val: int, size: size, filename: str, ?cpu-index: int", NULL, 0, memsave},
    {"pmemsave", "val: uint64, size: size, filename: str", NULL, 0, pmemsave},
    {0},
};
