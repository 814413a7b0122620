/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The code cache: blocks by key and by page; making, linking, invalidating, evicting and freeing them. */
/*
 * Theory of operation
 *
 * A block is valid for its key {physical address, virtual address, mode} and the bytes it was made from.
 * Before bytes of a page are read, the page is marked CODE and every direct write permission to it is gone
 * (mem_track_code), so from then on each store to it comes to on_written(), which kills the blocks whose
 * 64-byte granules it touches. A granule bitmap per page lets stores to data beside code pass cheaply.
 *
 * To kill a block: mark it dead, take it out of the hash and page lists, unlink the exits that lead to it,
 * have every vCPU forget its jump cache. Running code that is in it may finish it (an instruction stream sees
 * its own stores after fence.i, which leaves the block); nobody can enter it again once its vCPU has served
 * the request. It is freed when all have (code_collect).
 *
 * Links outlive changes of mappings, so they are made only where no mapping matters: between blocks that
 * begin on one physical page, and not to a block whose first instruction continues on another page. Nor do
 * they know of physical protection that ends inside a page (soft_vcpu.partial); there each block is looked
 * up, and replaced when it is longer than what may be fetched.
 *
 * owner[] of a block: 0 hash chain, 1 list of its first page, 2 list of its second page, 3 list of the dead.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "accel/software/software.h"
#include "base/bits.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"

enum { FIRST_BUCKET_BITS = 14, GRANULE_BITS = 6, COLLECT_AT = 64, MAX_NAMED_DEATHS = 8 };
/* Room for the code of a guest: a quarter of its memory, within these. It is taken as it is needed. */
#define LEAST_CODE_LIMIT (64 * MiB)
#define MOST_CODE_LIMIT (256 * MiB)

enum { OWNER_HASH, OWNER_PAGE, OWNER_PAGE2, OWNER_DEAD };

struct code_page {
    struct block *blocks; /* that begin or end here, by the owner slot their list_slot() says */
    uint64_t granules;    /* bit per 64 bytes: a block was made from it */
};

static struct gpa page_of(uint64_t addr)
{
    return GPA(align_down(addr, MEM_PAGE_SIZE));
}

/* False also when the second virtual page is the first physical one once more. */
static bool two_pages(const struct block *b)
{
    return b->gpa2 != UINT64_MAX && b->gpa2 != page_of(b->gpa).v;
}

static bool on_second_page(const struct block *b, struct gpa page)
{
    return two_pages(b) && page_of(b->gpa).v != page.v;
}

static unsigned list_slot(const struct block *b, struct gpa page)
{
    return on_second_page(b, page) ? OWNER_PAGE2 : OWNER_PAGE;
}

/* Bytes of block b inside the page, as [from, to) offsets. */
static void extent_in_page(const struct block *b, struct gpa page, unsigned *from, unsigned *to)
{
    if (b->gpa2 == page.v && !two_pages(b)) { /* its end and its beginning: rare enough to say all of it */
        *from = 0;
        *to = MEM_PAGE_SIZE;
        return;
    }
    unsigned first = (unsigned)(b->gpa & (MEM_PAGE_SIZE - 1)),
             on_first = MIN(b->bytes, (unsigned)MEM_PAGE_SIZE - first);
    *from = on_second_page(b, page) ? 0 : first;
    *to = on_second_page(b, page) ? b->bytes - on_first : first + on_first;
}

static uint64_t granule_mask(unsigned from, unsigned to)
{
    unsigned lo = from >> GRANULE_BITS, hi = (to - 1) >> GRANULE_BITS;
    return bits_mask(hi - lo + 1) << lo;
}

static struct code_page **page_slot(const struct soft *soft, struct gpa addr)
{
    unsigned n;
    const struct mem_block *first = mem_blocks(soft->set->config.mem, &n),
                           *b = mem_find(soft->set->config.mem, addr);
    return &soft->pages[b - first][(addr.v - b->base.v) >> MEM_PAGE_BITS];
}

/* The program counter is part of it: each process has a library's page at an address of its own. */
static struct block **bucket(const struct soft *soft, uint64_t gpa, uint64_t pc, uint32_t mode)
{
    uint64_t h = (gpa >> 1 ^ (uint64_t)mode << 40 ^ (pc >> 12) * UINT64_C(0xff51afd7ed558ccd)) *
                 UINT64_C(0x9e3779b97f4a7c15);
    return &soft->buckets[h >> (64 - soft->bucket_bits)];
}

/* --- linking --- */

static bool may_link(struct block_exit *exit, const struct block *to)
{
    const struct block *from = block_exit_from(exit);
    return exit->target == to->pc && from->mode == to->mode && page_of(from->gpa).v == page_of(to->gpa).v &&
           to->gpa2 == UINT64_MAX && !atomic_load(&from->dead) && !atomic_load(&to->dead) &&
           !atomic_load(&exit->to);
}

void code_link(struct soft *soft, struct block_exit *exit, struct block *block)
{
    g_mutex_lock(&soft->code_lock);
    if (may_link(exit, block)) {
        exit->next = block->incoming;
        block->incoming = exit;
        atomic_store_explicit(&exit->to, block, memory_order_release);
        if (soft->backend->link)
            soft->backend->link(soft->backend_state, exit);
        soft->links++;
        const struct block *from = block_exit_from(exit);
        if (log_on_at(LOG_CODE, from->pc, from->bytes))
            log_debug(LOG_CODE, "link 0x%" PRIx64 " exit %u -> 0x%" PRIx64, from->pc, exit->index, block->pc);
    }
    g_mutex_unlock(&soft->code_lock);
}

static void unlink_exit(struct soft *soft, struct block_exit *exit)
{
    exit->next = NULL;
    atomic_store(&exit->to, NULL);
    if (soft->backend->unlink)
        soft->backend->unlink(soft->backend_state, exit);
}

static void unlink_incoming(struct soft *soft, struct block *b)
{
    for (struct block_exit *e = b->incoming, *next; e; e = next) {
        next = e->next;
        unlink_exit(soft, e);
    }
    b->incoming = NULL;
}

/* Takes b's own exits off the incoming lists of the blocks they lead to. */
static void unlink_outgoing(struct soft *soft, struct block *b)
{
    for (unsigned i = 0; i < b->n_exits; i++) {
        struct block *to = atomic_load(&b->exits[i].to);
        if (!to)
            continue;
        struct block_exit **p = &to->incoming;
        while (*p != &b->exits[i])
            p = &(*p)->next;
        *p = b->exits[i].next;
        unlink_exit(soft, &b->exits[i]);
    }
}

/* --- killing (all with the code lock held) --- */

static unsigned hash_slot(const struct block *b, struct gpa page)
{
    (void)b;
    (void)page;
    return OWNER_HASH;
}

static void remove_from_list(struct block **head, struct block *b,
                             unsigned (*slot)(const struct block *, struct gpa), struct gpa page)
{
    while (*head != b)
        head = (struct block **)(void *)&(*head)->owner[slot(*head, page)];
    *head = b->owner[slot(b, page)];
}

/* A page that no block was made from needs no tracking. */
static void untrack_if_empty(const struct soft *soft, struct gpa page)
{
    const struct code_page *cp = *page_slot(soft, page);
    if (!cp || !cp->blocks)
        mem_untrack_code(mem_find(soft->set->config.mem, page), page);
}

/* After blocks left the page: what it still holds. */
static void page_changed(struct soft *soft, struct gpa page)
{
    struct code_page *cp = *page_slot(soft, page);
    cp->granules = 0;
    for (struct block *o = cp->blocks; o; o = o->owner[list_slot(o, page)]) {
        unsigned from, to;
        extent_in_page(o, page, &from, &to);
        cp->granules |= granule_mask(from, to);
    }
    untrack_if_empty(soft, page);
}

static void bury(struct soft *soft, struct block *b)
{
    if (log_on_at(LOG_CODE, b->pc, b->bytes))
        log_debug(LOG_CODE, "dead 0x%" PRIx64 " mode 0x%" PRIx32, b->pc, b->mode);
    atomic_store(&b->dead, 1);
    b->owner[OWNER_DEAD] = soft->dead;
    soft->dead = b;
    soft->n_dead++;
}

/* Kills a block that the list of `page` does not hold any more. */
static void kill_block(struct soft *soft, struct block *b, struct gpa page)
{
    remove_from_list(bucket(soft, b->gpa, b->pc, b->mode), b, hash_slot, GPA(0));
    soft->n_blocks--;
    if (two_pages(b)) {
        struct gpa other = page.v == b->gpa2 ? page_of(b->gpa) : GPA(b->gpa2);
        remove_from_list(&(*page_slot(soft, other))->blocks, b, list_slot, other);
        page_changed(soft, other);
    }
    unlink_incoming(soft, b);
    unlink_outgoing(soft, b);
    bury(soft, b);
}

/* After kills: nobody may find the dead through a jump cache. A few are forgotten one by one; with NULL,
 * everything. self (outside) forgets at once, the others soon. */
static void announce_deaths(struct soft *soft, struct soft_vcpu *self, struct block *const *dead, unsigned n)
{
    struct request forget[MAX_NAMED_DEATHS] = {{.kind = REQUEST_FORGET}};
    unsigned requests = dead ? n : 1;
    for (unsigned i = 0; dead && i < n; i++)
        forget[i] = (struct request){
            .kind = REQUEST_FORGET_BLOCK, .start = (uintptr_t)dead[i], .flush = {.va = dead[i]->pc}};
    for (unsigned r = 0; r < requests; r++) {
        for (unsigned i = 0; i < soft->set->count; i++)
            if (&soft->cpu[i] != self)
                soft_post(&soft->cpu[i], &forget[r]);
        if (self)
            soft_perform(self, &forget[r]);
    }
    atomic_fetch_add(&soft->deaths, 1);
    /* Who served the request before it was counted is in code again, perhaps a loop that nothing else ends.
     */
    for (unsigned i = 0; i < soft->set->count; i++)
        if (&soft->cpu[i] != self)
            env_kick(soft->cpu[i].env, ENV_EXIT_FLUSH);
}

/* Kills the blocks of the page that were made from bytes in [from, to), and tells. */
static void kill_in_page(struct soft *soft, struct soft_vcpu *self, struct gpa page, unsigned from,
                         unsigned to, enum vcpus_drop why)
{
    struct code_page *cp = *page_slot(soft, page);
    struct block *dead[MAX_NAMED_DEATHS];
    unsigned killed = 0;
    for (struct block **p = &cp->blocks, *b; (b = *p);) {
        struct block **next = (struct block **)(void *)&b->owner[list_slot(b, page)];
        unsigned lo, hi;
        extent_in_page(b, page, &lo, &hi);
        if (lo >= to || from >= hi) {
            p = next;
            continue;
        }
        *p = *next;
        kill_block(soft, b, page);
        if (killed < MAX_NAMED_DEATHS)
            dead[killed] = b;
        killed++;
    }
    if (!killed)
        return;
    page_changed(soft, page);
    soft->invalidated[why]++;
    log_debug(LOG_CODE, "invalidated by %s: %u blocks made from [0x%" PRIx64 ", 0x%" PRIx64 ")",
              vcpus_drop_names[why], killed, page.v + from, page.v + to);
    announce_deaths(soft, self, killed <= MAX_NAMED_DEATHS ? dead : NULL, killed);
}

void code_drop_page(struct soft *soft, struct soft_vcpu *self, struct gpa addr)
{
    g_mutex_lock(&soft->code_lock);
    if (*page_slot(soft, addr))
        kill_in_page(soft, self, page_of(addr.v), 0, MEM_PAGE_SIZE, VCPUS_DROP_ATOMIC);
    untrack_if_empty(soft, page_of(addr.v));
    g_mutex_unlock(&soft->code_lock);
}

/* mem: bytes of one tracked page were written, by a vCPU (then the current one is among ours) or by a device.
 */
static void on_written(struct mem_listener *l, struct gpa start, uint64_t size)
{
    struct soft *soft = CONTAINER_OF(l, struct soft, listener);
    struct gpa page = page_of(start.v);
    unsigned from = (unsigned)(start.v - page.v), to = from + (unsigned)size;
    /* A racy look at the bitmap would have to be ordered against code being made; the lock is cheap beside
     * what brought us here. */
    struct soft_vcpu *self = soft_current;
    bool was_inside = self && soft_leave(self);
    g_mutex_lock(&soft->code_lock);
    struct code_page *cp = *page_slot(soft, page);
    if (cp && cp->granules & granule_mask(from, to))
        kill_in_page(soft, self, page, from, to, self ? VCPUS_DROP_STORE : VCPUS_DROP_DEVICE);
    g_mutex_unlock(&soft->code_lock);
    if (was_inside)
        soft_enter(self);
}

/* mem: direct permissions to the range must go, on every vCPU, before we return. To readonly blocks there are
 * none but to read. */
static void on_revoke(struct mem_listener *l, struct gpa start, uint64_t size)
{
    struct soft *soft = CONTAINER_OF(l, struct soft, listener);
    const struct mem_block *b = mem_find(soft->set->config.mem, start);
    struct request r = {.kind = b->readonly ? REQUEST_REVOKE_READS : REQUEST_REVOKE,
                        .start = (uintptr_t)b->host + (start.v - b->base.v),
                        .size = size};
    soft_broadcast(soft, soft_current, UINT64_MAX, &r);
}

/* --- making --- */

static struct block *new_block(const struct ir_block *ir, uint64_t gpa, uint64_t gpa2)
{
    struct block *b = g_malloc0(sizeof(*b) + ir->n_exits * sizeof(b->exits[0]));
    b->pc = ir->pc;
    b->gpa = gpa;
    b->gpa2 = gpa2;
    b->mode = ir->mode;
    b->bytes = (uint16_t)ir->bytes;
    b->n_guest = (uint16_t)ir->n_guest;
    b->n_exits = ir->n_exits;
    for (unsigned i = 0; i < ir->n_exits; i++)
        b->exits[i] = (struct block_exit){.target = ir->exits[i].target,
                                          .index = (uint8_t)i,
                                          .kind = ir->exits[i].kind,
                                          .hint = ir->exits[i].hint};
    return b;
}

static void add_to_page(struct soft *soft, struct block *b, struct gpa page)
{
    struct code_page **slot = page_slot(soft, page);
    if (!*slot)
        *slot = g_new0(struct code_page, 1);
    unsigned from, to;
    extent_in_page(b, page, &from, &to);
    (*slot)->granules |= granule_mask(from, to);
    b->owner[list_slot(b, page)] = (*slot)->blocks;
    (*slot)->blocks = b;
}

static size_t bucket_bytes(unsigned bits)
{
    /* A table of pointers. */
    return sizeof(struct block *) << bits; /* NOLINT(bugprone-sizeof-expression) */
}

static void *map_table(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Twice as many chains, when the host has the memory: a step along a chain is a miss of the host's caches. */
static void more_buckets(struct soft *soft)
{
    struct block **old = soft->buckets, **table = map_table(bucket_bytes(soft->bucket_bits + 1));
    size_t n = (size_t)1 << soft->bucket_bits;
    if (!table)
        return;
    soft->buckets = table;
    soft->bucket_bits++;
    for (size_t i = 0; i < n; i++) {
        for (struct block *b = old[i], *next; b; b = next) {
            struct block **head = bucket(soft, b->gpa, b->pc, b->mode);
            next = b->owner[OWNER_HASH];
            b->owner[OWNER_HASH] = *head;
            *head = b;
        }
    }
    munmap(old, bucket_bytes(soft->bucket_bits - 1));
}

static void insert_block(struct soft *soft, struct block *b)
{
    if (soft->n_blocks++ >> soft->bucket_bits)
        more_buckets(soft);
    struct block **head = bucket(soft, b->gpa, b->pc, b->mode);
    b->owner[OWNER_HASH] = *head;
    *head = b;
    add_to_page(soft, b, page_of(b->gpa));
    if (two_pages(b))
        add_to_page(soft, b, GPA(b->gpa2));
    soft->blocks_made++;
    if (log_on_at(LOG_CODE, b->pc, b->bytes))
        log_debug(LOG_CODE,
                  "made 0x%" PRIx64 " physical 0x%" PRIx64 " mode 0x%" PRIx32 ": %u instructions, %u exits",
                  b->pc, b->gpa, b->mode, b->n_guest, b->n_exits);
}

static void empty_page(struct soft *soft, struct gpa page)
{
    struct code_page *cp = *page_slot(soft, page);
    cp->blocks = NULL;
    cp->granules = 0;
    untrack_if_empty(soft, page);
}

/* Kills every block: links between them may stay, since nobody enters any and all polls leave. Returns
 * whether there was one. */
static bool kill_all(struct soft *soft)
{
    bool any = false;
    for (size_t i = 0; i >> soft->bucket_bits == 0; i++) {
        for (struct block *b = soft->buckets[i]; b; b = b->owner[OWNER_HASH]) {
            empty_page(soft, page_of(b->gpa));
            if (two_pages(b))
                empty_page(soft, GPA(b->gpa2));
            b->incoming = NULL;
            bury(soft, b);
            any = true;
        }
        soft->buckets[i] = NULL;
    }
    soft->n_blocks = 0;
    return any;
}

static void collect_locked(struct soft *soft);

/* Kills all blocks of an arena that begin or end in a page, in one walk along its list: code that many
 * processes have mapped, each at its own address, makes such a list long. */
static unsigned kill_arena_in_page(struct soft *soft, unsigned arena, struct gpa page)
{
    unsigned killed = 0;
    for (struct block **p = &(*page_slot(soft, page))->blocks, *b; (b = *p);) {
        struct block **next = (struct block **)(void *)&b->owner[list_slot(b, page)];
        if (b->arena != arena) {
            p = next;
            continue;
        }
        *p = *next;
        kill_block(soft, b, page);
        killed++;
    }
    page_changed(soft, page);
    return killed;
}

static unsigned kill_arena(struct soft *soft, unsigned arena)
{
    unsigned killed = 0;
    for (size_t i = 0; i >> soft->bucket_bits == 0; i++) {
        for (struct block *b = soft->buckets[i]; b;) {
            if (b->arena != arena) {
                b = b->owner[OWNER_HASH];
                continue;
            }
            killed += kill_arena_in_page(soft, arena, page_of(b->gpa));
            b = soft->buckets[i];
        }
    }
    return killed;
}

/* Gives up the oldest code for vCPU s, which stands between blocks. What other vCPUs are in is freed when
 * they have left: deaths are counted only when there were some, so that vCPUs which come here in turn do not
 * wait for each other forever. False: there is nothing to give up. */
static bool evict(struct soft *soft, struct soft_vcpu *s)
{
    /* While its dead are waited for, an arena gets no new blocks: there is no need to look again. */
    unsigned oldest = soft->backend->oldest(soft->backend_state),
             killed = soft->n_dead && soft->evicted == oldest ? 0 : kill_arena(soft, oldest);
    soft->evicted = oldest;
    if (killed) {
        soft->evictions++;
        log_debug(LOG_CODE, "evicted arena %u: %u blocks", oldest, killed);
        announce_deaths(soft, s, NULL, 0);
    }
    bool any = soft->n_dead;
    atomic_store(&s->seen, atomic_load(&soft->deaths));
    collect_locked(soft);
    return any;
}

/* --- finding --- */

/* Bytes that may be fetched: from addr, in RAM, to the end of the page or of what is protected alike. */
struct fetch {
    uint64_t gpa;
    const struct mem_block *block;
    uint32_t room;
    bool global;
};

/* Translates the fetch of pc. 0, or 1 with an exception recorded. */
static int fetch_at(struct soft_vcpu *s, uint64_t pc, struct fetch *f)
{
    struct isa_walk walk;
    if (tlb_translate(s, GVA(pc), ISA_FETCH, s->isa->fetch_mmu(s->env), &walk))
        return 1;
    f->gpa = walk.gpa.v;
    f->global = walk.global;
    f->block = mem_find(s->vcpu->set->config.mem, walk.gpa);
    uint64_t alike = MIN(walk.size, ENV_PAGE_SIZE);
    s->partial |= alike < ENV_PAGE_SIZE;
    f->room = (uint32_t)(alike - (pc & (alike - 1)));
    if (f->block && !mem_is_chip(f->block, false))
        return 0;
    s->isa->bus_error(s->env, GVA(pc), ISA_FETCH); /* code runs from memory only */
    return 1;
}

/* The second page of a block whose first instruction continues at next; UINT64_MAX when it is the same page
 * going on. */
static uint64_t second_page(const struct fetch *next)
{
    return next && next->gpa % MEM_PAGE_SIZE == 0 ? next->gpa : UINT64_MAX;
}

/* What code_find() is about to run: from first on, the first instruction perhaps continuing at next (NULL:
 * not known). */
static struct block *find(const struct soft_vcpu *s, const struct fetch *first, const struct fetch *next)
{
    const struct env *env = s->env;
    uint64_t gpa2 = second_page(next);
    for (struct block *b = *bucket(s->soft, first->gpa, env->pc, env->mode); b; b = b->owner[OWNER_HASH])
        if (b->gpa == first->gpa && b->pc == env->pc && b->mode == env->mode &&
            (b->gpa2 == UINT64_MAX || b->gpa2 == gpa2))
            return b;
    return NULL;
}

/* Lifts and compiles what the bytes are now; its pages are tracked. Only a first instruction reaches beyond
 * first->room. */
static int make(struct soft_vcpu *s, const struct fetch *first, const struct fetch *next, uint32_t max,
                const struct backend *backend, void *state, struct block **out)
{
    enum { FIRST_MAX = IR_MAX_GUEST_INSNS * 16, NEXT_MAX = 16 };
    struct soft *soft = s->soft;
    const struct mem *mem = s->vcpu->set->config.mem;
    /* A copy, so that all of lifting sees the same bytes; who changes them meanwhile waits for the lock to
     * kill the block. */
    uint8_t bytes[FIRST_MAX], more[NEXT_MAX] = {0};
    struct isa_code code = {.pc = s->env->pc,
                            .mode = s->env->mode,
                            .bytes = bytes,
                            .avail = MIN(first->room, FIRST_MAX),
                            .next = next ? more : NULL,
                            .max_insns = max};
    int error = mem_read(mem, GPA(first->gpa), bytes, code.avail);
    if (!error && next)
        error = mem_read(mem, GPA(next->gpa), more, MIN(next->room, NEXT_MAX));
    for (; !error; code.max_insns /= 2) {
        error = code.max_insns ? s->isa->lift(&code, soft->ir) : -E2BIG;
        if (error)
            break;
        *out =
            new_block(soft->ir, first->gpa, soft->ir->bytes > first->room ? second_page(next) : UINT64_MAX);
        error = backend->compile(state, soft->ir, *out);
        if (!error) {
            if (log_on_at(LOG_TRANSLATE, code.pc, soft->ir->bytes))
                trace_block(s, &code, soft->ir, *out);
            return 0;
        }
        g_free(*out);
        *out = NULL;
        if (error == -E2BIG)
            error = 0; /* once more, with half the instructions */
    }
    return error;
}

/* Finds or makes the block. 0; -EAGAIN: its first instruction continues and next is NULL; -ENOSPC: other
 * vCPUs must leave evicted code first; other errors: it cannot be made. The code lock is held. */
static int find_or_make(struct soft_vcpu *s, const struct fetch *first, const struct fetch *next,
                        struct block **out)
{
    struct soft *soft = s->soft;
    struct mem *mem = s->vcpu->set->config.mem;
    struct block *b = find(s, first, next);
    if (b && (b->bytes <= first->room || (next && b->n_guest <= 1))) {
        if (s->partial)
            unlink_outgoing(soft, b); /* made when more could be executed, perhaps */
        *out = b;
        return 0;
    }
    if (b && b->n_guest > 1) { /* made when more of the page could be executed */
        struct gpa page = page_of(b->gpa);
        remove_from_list(&(*page_slot(soft, page))->blocks, b, list_slot, page);
        kill_block(soft, b, page);
        page_changed(soft, page);
        soft->invalidated[VCPUS_DROP_LONGER]++;
        announce_deaths(soft, s, &b, 1);
    }
    for (;;) {
        mem_track_code(mem, first->block, GPA(first->gpa));
        if (next)
            mem_track_code(mem, next->block, GPA(next->gpa));
        int error = make(s, first, next, IR_MAX_GUEST_INSNS, soft->backend, soft->backend_state, out);
        if (!error) {
            insert_block(soft, *out);
            return 0;
        }
        bool room = error == -ENOSPC && evict(soft, s); /* also ends the tracking of these pages */
        untrack_if_empty(soft, page_of(first->gpa));
        if (next)
            untrack_if_empty(soft, page_of(next->gpa));
        if (error == -ENOSPC && !room)
            return -ENOMEM;
        if (error != -ENOSPC || soft->n_dead)
            return error;
    }
}

struct block *code_find(struct soft_vcpu *s, bool *global)
{
    struct soft *soft = s->soft;
    struct fetch first, next;
    struct block *found = NULL;
    s->lookups++;
    if (fetch_at(s, s->env->pc, &first))
        return NULL;
    *global = first.global;
    g_mutex_lock(&soft->code_lock);
    int error = find_or_make(s, &first, NULL, &found);
    g_mutex_unlock(&soft->code_lock);
    if (error == -EAGAIN) {
        if (fetch_at(s, s->env->pc + first.room, &next))
            return NULL;
        *global = first.global && next.global;
        g_mutex_lock(&soft->code_lock);
        error = find_or_make(s, &first, &next, &found);
        g_mutex_unlock(&soft->code_lock);
    }
    if (!error)
        return found;
    if (error == -ENOSPC)
        sched_yield(); /* the dispatcher comes again */
    else
        log_error(LOG_CODE, "no block can be made at 0x%" PRIx64 ": %s", s->env->pc, g_strerror(-error));
    return NULL;
}

int code_make_alone(struct soft_vcpu *s, uint32_t max, const struct backend *backend, void *state,
                    struct block **out)
{
    struct soft *soft = s->soft;
    struct fetch first, next;
    if (fetch_at(s, s->env->pc, &first))
        return 1;
    g_mutex_lock(&soft->code_lock);
    int error = make(s, &first, NULL, max, backend, state, out);
    g_mutex_unlock(&soft->code_lock);
    if (error != -EAGAIN)
        return error;
    if (fetch_at(s, s->env->pc + first.room, &next))
        return 1;
    g_mutex_lock(&soft->code_lock);
    error = make(s, &first, &next, max, backend, state, out);
    g_mutex_unlock(&soft->code_lock);
    return error;
}

/* --- freeing --- */

/* Frees the dead if every vCPU that may hold a block has been between blocks since the last death. */
static void collect_locked(struct soft *soft)
{
    uint64_t deaths = atomic_load(&soft->deaths);
    for (unsigned i = 0; i < soft->set->count; i++)
        if (atomic_load(&soft->cpu[i].in_use) && atomic_load(&soft->cpu[i].seen) < deaths)
            return;
    for (struct block *b = soft->dead, *next; b; b = next) {
        next = b->owner[OWNER_DEAD];
        soft->backend->release(soft->backend_state, b);
        g_free(b);
        soft->blocks_freed++;
    }
    soft->dead = NULL;
    soft->n_dead = 0;
}

void code_collect(struct soft_vcpu *s)
{
    struct soft *soft = s->soft;
    if (atomic_load_explicit(&soft->n_dead, memory_order_relaxed) < COLLECT_AT)
        return;
    soft_leave(s);
    g_mutex_lock(&soft->code_lock);
    collect_locked(soft);
    g_mutex_unlock(&soft->code_lock);
    soft_enter(s);
}

void code_flush_all(struct soft *soft)
{
    g_mutex_lock(&soft->code_lock);
    if (kill_all(soft))
        announce_deaths(soft, NULL, NULL, 0);
    collect_locked(soft);
    g_mutex_unlock(&soft->code_lock);
}

/* --- set-up --- */

static size_t default_code_limit(const struct mem_block *blocks, unsigned n)
{
    uint64_t ram = 0;
    for (unsigned i = 0; i < n; i++)
        ram += blocks[i].size;
    return MAX(LEAST_CODE_LIMIT, MIN(ram / 4, MOST_CODE_LIMIT));
}

static size_t page_table_bytes(const struct mem_block *b)
{
    /* A table of pointers. */
    return (b->size >> MEM_PAGE_BITS) * sizeof(struct code_page *); /* NOLINT(bugprone-sizeof-expression) */
}

bool code_init(struct soft *soft, GError **error)
{
    unsigned n;
    const struct mem_block *blocks = mem_blocks(soft->set->config.mem, &n);
    g_mutex_init(&soft->code_lock);
    soft->listener = (struct mem_listener){.revoke = on_revoke, .written = on_written};
    size_t limit =
        soft->set->config.code_limit ? soft->set->config.code_limit : default_code_limit(blocks, n);
    soft->backend_state = soft->backend->init(limit);
    if (soft->backend_state && soft->backend->tune)
        soft->backend->tune(soft->backend_state, soft->set->config.tuning);
    soft->ir = map_table(sizeof(*soft->ir));
    soft->bucket_bits = FIRST_BUCKET_BITS;
    soft->buckets = map_table(bucket_bytes(soft->bucket_bits));
    bool complete = soft->backend_state && soft->ir && soft->buckets;
    for (unsigned i = 0; i < n && complete; i++)
        complete = (soft->pages[i] = map_table(page_table_bytes(&blocks[i])));
    if (!complete)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "no host memory for translated code: %s",
                           g_strerror(errno));
    mem_listen(soft->set->config.mem, &soft->listener);
    return true;
}

static void free_page_table(struct code_page **pages, const struct mem_block *b)
{
    for (uint64_t i = 0; i < b->size >> MEM_PAGE_BITS; i++)
        g_free(pages[i]);
    munmap(pages, page_table_bytes(b));
}

void code_fini(struct soft *soft)
{
    unsigned n;
    const struct mem_block *blocks = mem_blocks(soft->set->config.mem, &n);
    if (soft->backend_state && soft->buckets) {
        code_flush_all(soft);
        soft->backend->fini(soft->backend_state);
    }
    for (unsigned i = 0; i < n; i++)
        if (soft->pages[i])
            free_page_table(soft->pages[i], &blocks[i]);
    if (soft->ir)
        munmap(soft->ir, sizeof(*soft->ir));
    if (soft->buckets)
        munmap(soft->buckets, bucket_bytes(soft->bucket_bits));
    mem_unlisten(soft->set->config.mem, &soft->listener);
    g_mutex_clear(&soft->code_lock);
}
