/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest's memory and registers as an ELF core file. */
/*
 * Theory of operation
 *
 *     ELF header | a PT_NOTE, and a PT_LOAD for each block of RAM | notes | memory, block by block
 *
 * Addresses are physical, and virtual ones equal to them, so a debugger shows memory without knowing the
 * guest's page tables. Each vCPU is a thread of the dump, with the notes that its ISA describes (isa.h): a
 * debugger shows their registers.
 *
 * The head is made on the main thread, with the guest standing still; memory is written on the worker's
 * thread. Where memory is zero, or was never touched, the file has a hole: it is made as long as it must be
 * first and only what is not zero is written into it. When writing fails the file is made empty: half a dump
 * is of no use.
 */
#include "vm/dump.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/error.h"
#include "os/fd.h"
#include "vm/save.h"
#include "vm/snapshot.h"
#include "vm/vm.h"
#include "vm/worker.h"

enum {
    DUMP_ALIGN = 4096, /* of blocks in the file */
    DUMP_PIECE = 1 << 20,
    NOTE_NAME_SIZE = 8, /* "CORE", padded */
};

/* A stretch of memory and its place in the file. */
struct segment {
    const struct mem_block *block;
    uint64_t offset, size; /* in the block */
    uint64_t place;
};

struct vm_dump {
    struct vm_work work;
    struct vm *vm;
    struct vm_dump_request request;
    bool go_on; /* the guest ran before */
    int fd;
    GByteArray *head;
    struct segment segment[MEM_MAX_BLOCKS];
    unsigned segments;
    uint64_t total;
    _Atomic uint64_t completed;
    _Atomic bool stop;
    enum vm_dump_status status;
    GError *error;
};

/* --- the head --- */

static void put_note(GByteArray *out, uint32_t type, const uint8_t *bytes, uint32_t size)
{
    static const uint8_t padding[4];
    uint8_t head[12 + NOTE_NAME_SIZE] = {0};
    st32le(head, sizeof("CORE"));
    st32le(head + 4, size);
    st32le(head + 8, type);
    memcpy(head + 12, "CORE", sizeof("CORE"));
    g_byte_array_append(out, head, sizeof(head));
    g_byte_array_append(out, bytes, size);
    g_byte_array_append(out, padding, -size & 3);
}

static GByteArray *make_notes(struct vm *vm)
{
    static const struct {
        enum isa_note kind;
        uint32_t type;
    } kinds[] = {{ISA_NOTE_STATUS, NT_PRSTATUS}, {ISA_NOTE_FP, NT_FPREGSET}};
    const struct machine *m = vm->machine;
    GByteArray *out = g_byte_array_new();
    for (unsigned i = 0; i < vcpus_count(m->vcpus); i++)
        for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
            uint8_t note[ISA_NOTE_MAX] = {0};
            const unsigned size = m->isa->core_note(vcpus_env(m->vcpus, i), kinds[k].kind, i + 1, note);
            if (size)
                put_note(out, kinds[k].type, note, size);
        }
    return out;
}

static void find_segments(struct vm_dump *d)
{
    unsigned n;
    const struct mem_block *b = mem_blocks(d->vm->machine->mem, &n);
    const struct vm_dump_request *r = &d->request;
    for (; n; n--, b++) {
        uint64_t first = b->base.v, end = b->base.v + b->size;
        if (r->part) {
            first = MAX(first, r->begin);
            end = MIN(end, r->begin + r->bytes);
        }
        if (first < end)
            d->segment[d->segments++] =
                (struct segment){.block = b, .offset = first - b->base.v, .size = end - first};
    }
}

static void put_program(GByteArray *out, uint32_t type, uint64_t place, uint64_t address, uint64_t size)
{
    uint8_t p[sizeof(Elf64_Phdr)] = {0};
    st32le(p + offsetof(Elf64_Phdr, p_type), type);
    st32le(p + offsetof(Elf64_Phdr, p_flags), type == PT_LOAD ? PF_R | PF_W | PF_X : 0);
    st64le(p + offsetof(Elf64_Phdr, p_offset), place);
    st64le(p + offsetof(Elf64_Phdr, p_vaddr), address);
    st64le(p + offsetof(Elf64_Phdr, p_paddr), address);
    st64le(p + offsetof(Elf64_Phdr, p_filesz), size);
    st64le(p + offsetof(Elf64_Phdr, p_memsz), type == PT_LOAD ? size : 0);
    st64le(p + offsetof(Elf64_Phdr, p_align), type == PT_LOAD ? DUMP_ALIGN : 4);
    g_byte_array_append(out, p, sizeof(p));
}

static void put_header(GByteArray *out, const struct isa *isa, unsigned programs)
{
    uint8_t h[sizeof(Elf64_Ehdr)] = {0};
    memcpy(h, ELFMAG, SELFMAG);
    h[EI_CLASS] = ELFCLASS64;
    h[EI_DATA] = ELFDATA2LSB;
    h[EI_VERSION] = EV_CURRENT;
    st16le(h + offsetof(Elf64_Ehdr, e_type), ET_CORE);
    st16le(h + offsetof(Elf64_Ehdr, e_machine), isa->elf_machine);
    st32le(h + offsetof(Elf64_Ehdr, e_version), EV_CURRENT);
    st64le(h + offsetof(Elf64_Ehdr, e_phoff), sizeof(h));
    st32le(h + offsetof(Elf64_Ehdr, e_flags), isa->elf_flags);
    st16le(h + offsetof(Elf64_Ehdr, e_ehsize), sizeof(h));
    st16le(h + offsetof(Elf64_Ehdr, e_phentsize), sizeof(Elf64_Phdr));
    st16le(h + offsetof(Elf64_Ehdr, e_phnum), (uint16_t)programs);
    g_byte_array_append(out, h, sizeof(h));
}

/* Everything before memory, and where memory goes. Returns the file's size. */
static uint64_t make_head(struct vm_dump *d)
{
    const unsigned programs = 1 + d->segments;
    g_autoptr(GByteArray) notes = make_notes(d->vm);
    uint64_t place = sizeof(Elf64_Ehdr) + programs * sizeof(Elf64_Phdr);
    d->head = g_byte_array_new();
    put_header(d->head, d->vm->machine->isa, programs);
    put_program(d->head, PT_NOTE, place, 0, notes->len);
    place += notes->len;
    for (unsigned i = 0; i < d->segments; i++) {
        struct segment *s = &d->segment[i];
        place = align_up(place, DUMP_ALIGN);
        s->place = place;
        put_program(d->head, PT_LOAD, place, s->block->base.v + s->offset, s->size);
        place += s->size;
        d->total += s->size;
    }
    g_byte_array_append(d->head, notes->data, notes->len);
    return place;
}

/* --- memory; on the worker's thread --- */

/* The first and all others equal to it. */
static bool is_zero(const uint8_t *bytes, uint64_t size)
{
    return !bytes[0] && !memcmp(bytes, bytes + 1, size - 1);
}

/* Bytes [from, end) of the block, which goes to the file at place + from; pages of zeroes are left out. */
static int write_stretch(struct vm_dump *d, const struct mem_block *b, uint64_t place, uint64_t from,
                         uint64_t end)
{
    int status = 0;
    for (uint64_t at = from; at < end && !status && !atomic_load(&d->stop);) {
        uint64_t stop = at, next = at;
        while (next < end && next - at < DUMP_PIECE) {
            stop = next;
            next = MIN(end, align_down(next, MEM_PAGE_SIZE) + MEM_PAGE_SIZE);
            if (is_zero(b->host + stop, next - stop))
                break;
            stop = next;
        }
        if (stop > at)
            status = fd_write_at(d->fd, b->host + at, stop - at, place + at);
        atomic_fetch_add(&d->completed, next - at);
        at = next;
    }
    return status;
}

static int write_segment(struct vm_dump *d, const struct segment *s)
{
    const uint64_t last = s->offset + s->size;
    uint64_t at = s->offset, from, end;
    int status = 0;
    while (!status && at < last && mem_next_data(s->block, align_down(at, MEM_PAGE_SIZE), &from, &end)) {
        from = MAX(from, at);
        end = MIN(end, last);
        if (from >= end)
            break;
        atomic_fetch_add(&d->completed, from - at);
        status = write_stretch(d, s->block, s->place - s->offset, from, end);
        at = end;
    }
    atomic_fetch_add(&d->completed, last - MIN(at, last));
    return status;
}

static void run(struct vm_work *work)
{
    struct vm_dump *d = (struct vm_dump *)(void *)work;
    int status = 0;
    for (unsigned i = 0; i < d->segments && !status; i++)
        status = write_segment(d, &d->segment[i]);
    /* Last, so that a file that was not finished is no dump. */
    if (!status && !atomic_load(&d->stop))
        status = fd_write_at(d->fd, d->head->data, d->head->len, 0);
    if (!status && atomic_load(&d->stop))
        status = -ECANCELED;
    if (!status)
        return;
    hostel_fail(&d->error, HOSTEL_ERROR_HOST,
                "cannot write the dump of the guest's memory: %s; give a file where there "
                "is room for it",
                g_strerror(-status));
    status = ftruncate(d->fd, 0); /* nothing more can be done */
}

/* --- life --- */

static void drop(struct vm_dump *d)
{
    if (d->request.drop)
        d->request.drop(d->request.opaque);
    d->request.drop = NULL;
}

static void finished(struct vm_work *work)
{
    struct vm_dump *d = (struct vm_dump *)(void *)work;
    struct vm *vm = d->vm;
    fd_close(&d->fd);
    g_clear_pointer(&d->head, g_byte_array_unref);
    d->status = d->error ? DUMP_FAILED : DUMP_COMPLETED;
    json_t *event = json_pack("{s:o}", "result", vm_dump_json(vm));
    if (d->error)
        json_object_set_new(event, "error", json_string(d->error->message));
    vm_event(vm, "DUMP_COMPLETED", event);
    if (d->request.done)
        d->request.done(d->request.opaque, d->error);
    drop(d);
    if (d->go_on)
        vm_resume(vm);
}

static bool check_file(int fd, GError **error)
{
    struct stat status;
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &status) || !S_ISREG(status.st_mode))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "a dump is written to a regular file, which this is not: it has holes");
    return ((flags & O_ACCMODE) != O_RDONLY && !(flags & O_APPEND)) ||
           hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "the dump's file is not open for writing, or only at its end; open it anew");
}

static bool begin(struct vm *vm, const struct vm_dump_request *request, GError **error)
{
    struct vm_save_progress saving;
    vm_save_progress(vm, &saving);
    if (saving.status == SAVE_ACTIVE || saving.status == SAVE_CANCELLING)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "the guest is being saved; wait for its end, or cancel it");
    if (!vm_dump_idle(vm, error) || !vm_snapshot_idle(vm, error) || !check_file(request->fd, error))
        return false;
    struct vm_dump *d = g_new0(struct vm_dump, 1);
    *d = (struct vm_dump){
        .work = {.run = run, .done = finished}, .vm = vm, .request = *request, .fd = request->fd};
    find_segments(d);
    if (!d->segments) {
        g_free(d);
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "none of these addresses is memory of the guest");
    }
    d->go_on = vm->state == VM_RUNNING;
    vm_pause(vm);
    const uint64_t size = make_head(d);
    if (ftruncate(d->fd, 0) || ftruncate(d->fd, (off_t)size)) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "the dump's file cannot have %" G_GUINT64_FORMAT " bytes: %s",
                    size, g_strerror(errno));
        if (d->go_on)
            vm_resume(vm);
        g_byte_array_unref(d->head);
        g_free(d);
        return false;
    }
    vm_dump_free(vm); /* the one before */
    d->status = DUMP_ACTIVE;
    vm->dump = d;
    vm_worker_submit(vm->worker, &d->work);
    return true;
}

bool vm_dump_start(struct vm *vm, const struct vm_dump_request *request, GError **error)
{
    int fd = request->fd;
    const bool begun = begin(vm, request, error);
    if (!begun)
        fd_close(&fd);
    return begun;
}

void vm_dump_progress(const struct vm *vm, struct vm_dump_progress *out)
{
    const struct vm_dump *d = vm->dump;
    *out = (struct vm_dump_progress){.status = DUMP_NONE};
    if (d)
        *out = (struct vm_dump_progress){.status = d->status,
                                         .completed = atomic_load(&d->completed),
                                         .total = d->total,
                                         .error = d->status == DUMP_FAILED ? d->error->message : NULL};
}

bool vm_dump_idle(const struct vm *vm, GError **error)
{
    return !vm->dump || vm->dump->status != DUMP_ACTIVE ||
           hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "the guest's memory is being dumped; wait for the event DUMP_COMPLETED");
}

void vm_dump_stop(struct vm *vm)
{
    if (vm->dump)
        atomic_store(&vm->dump->stop, true);
}

void vm_dump_free(struct vm *vm)
{
    struct vm_dump *d = g_steal_pointer(&vm->dump);
    if (!d)
        return;
    if (d->head) {
        g_byte_array_unref(d->head);
        fd_close(&d->fd);
    }
    drop(d);
    g_clear_error(&d->error);
    g_free(d);
}
