/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The code cache: blocks by key and by page; making, linking, invalidating, evicting and freeing them. */
/*
 * Theory of operation
 *
 * A block is valid for its key {physical address, virtual address, mode} and the bytes it was made from. Before bytes of a page are read, the
 * page is marked CODE and every direct write permission to it is gone (mem_track_code), so from then on each store to it comes
 * to on_written(), which kills the blocks whose 64-byte granules it touches. A granule bitmap per page lets stores to data beside
 * code pass cheaply.
 *
 * To kill a block: mark it dead, take it out of the hash and page lists, unlink the exits that lead to it, have every vCPU
 * forget its jump cache. Running code that is in it may finish it (an instruction stream sees its own stores after fence.i, which leaves the
 * block); nobody can enter it again once its vCPU has served the request. It is freed when all have (code_collect).
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

enum { BUCKET_BITS = 15, GRANULE_BITS = 6, COLLECT_AT = 64 };
#define BUCKETS (1u << BUCKET_BITS)
#define DEFAULT_CODE_LIMIT (64 * MiB)

enum { OWNER_HASH, OWNER_PAGE, OWNER_PAGE2, OWNER_DEAD };

struct code_page {
    struct block *blocks;   /* that begin or end here, by the owner slot their list_slot() says */
    uint64_t granules;      /* bit per 64 bytes: a block was made from it */
};

static bool on_second_page(const struct block *b, struct gpa page)
{
    return b->gpa2 != UINT64_MAX && align_down(b->gpa, MEM_PAGE_SIZE) != page.v;
}

static unsigned list_slot(const struct block *b, struct gpa page)
{
    return on_second_page(b, page) ? OWNER_PAGE2 : OWNER_PAGE;
}

/* Bytes of block b inside the page, as [from, to) offsets. */
static void extent_in_page(const struct block *b, struct gpa page, unsigned *from, unsigned *to)
{
    unsigned first = (unsigned)(b->gpa & (MEM_PAGE_SIZE - 1)), on_first = MIN(b->bytes, (unsigned)MEM_PAGE_SIZE - first);
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
    const struct mem_block *first = mem_blocks(soft->set->config.mem, &n), *b = mem_find(soft->set->config.mem, addr);
    return &soft->pages[b - first][(addr.v - b->base.v) >> MEM_PAGE_BITS];
}

static unsigned hash(uint64_t gpa, uint32_t mode)
{
    uint64_t h = (gpa >> 1 ^ (uint64_t)mode << 40) * UINT64_C(0x9e3779b97f4a7c15);
    return (unsigned)(h >> (64 - BUCKET_BITS));
}

/* --- linking --- */

void code_link(struct soft *soft, struct block_exit *exit, struct block *block)
{
    g_mutex_lock(&soft->code_lock);
    if (!atomic_load(&exit->from->dead) && !atomic_load(&block->dead) && !atomic_load(&exit->to)) {
        exit->next = block->incoming;
        block->incoming = exit;
        atomic_store_explicit(&exit->to, block, memory_order_release);
    }
    g_mutex_unlock(&soft->code_lock);
}

static void unlink_incoming(struct block *b)
{
    for (struct block_exit *e = b->incoming, *next; e; e = next) {
        next = e->next;
        e->next = NULL;
        atomic_store(&e->to, NULL);
    }
    b->incoming = NULL;
}

/* Takes b's own exits off the incoming lists of the blocks they lead to. */
static void unlink_outgoing(struct block *b)
{
    for (unsigned i = 0; i < b->n_exits; i++) {
        struct block *to = atomic_load(&b->exits[i].to);
        if (!to)
            continue;
        struct block_exit **p = &to->incoming;
        while (*p != &b->exits[i])
            p = &(*p)->next;
        *p = b->exits[i].next;
        b->exits[i].next = NULL;
        atomic_store(&b->exits[i].to, NULL);
    }
}

/* --- killing (all with the code lock held) --- */

static void remove_from_list(struct block **head, struct block *b, unsigned (*slot)(const struct block *, struct gpa), struct gpa page)
{
    while (*head != b)
        head = (struct block **)(void *)&(*head)->owner[slot(*head, page)];
    *head = b->owner[slot(b, page)];
}

static unsigned hash_slot(const struct block *b, struct gpa page)
{
    (void)b;
    (void)page;
    return OWNER_HASH;
}

/* Takes b out of the page's list and recomputes what the page still holds. */
static void remove_from_page(struct soft *soft, struct block *b, struct gpa page)
{
    struct code_page *cp = *page_slot(soft, page);
    remove_from_list(&cp->blocks, b, list_slot, page);
    cp->granules = 0;
    for (struct block *o = cp->blocks; o; o = o->owner[list_slot(o, page)]) {
        unsigned from, to;
        extent_in_page(o, page, &from, &to);
        cp->granules |= granule_mask(from, to);
    }
    if (!cp->blocks)
        mem_untrack_code(mem_find(soft->set->config.mem, page), page);
}

static void kill_block(struct soft *soft, struct block *b)
{
    atomic_store(&b->dead, 1);
    remove_from_list(&soft->buckets[hash(b->gpa, b->mode)], b, hash_slot, GPA(0));
    remove_from_page(soft, b, GPA(align_down(b->gpa, MEM_PAGE_SIZE)));
    if (b->gpa2 != UINT64_MAX)
        remove_from_page(soft, b, GPA(b->gpa2));
    unlink_incoming(b);
    unlink_outgoing(b);
    b->owner[OWNER_DEAD] = soft->dead;
    soft->dead = b;
    soft->n_dead++;
}

/* After kills: nobody may find the dead through a jump cache. self (outside) serves at once, others soon. */
static void announce_deaths(struct soft *soft, struct soft_vcpu *self)
{
    static const struct request forget = {.kind = REQUEST_FORGET};
    for (unsigned i = 0; i < soft->set->count; i++)
        if (&soft->cpu[i] != self)
            soft_post(&soft->cpu[i], &forget);
    if (self)
        tlb_forget_jumps(self);
    atomic_fetch_add(&soft->deaths, 1);
}

/* Kills the blocks of the page that were made from bytes in [from, to); returns how many. */
static unsigned kill_in_page(struct soft *soft, struct gpa page, unsigned from, unsigned to)
{
    struct code_page *cp = *page_slot(soft, page);
    unsigned killed = 0;
    for (struct block *b = cp ? cp->blocks : NULL, *next; b; b = next) {
        next = b->owner[list_slot(b, page)];
        unsigned lo, hi;
        extent_in_page(b, page, &lo, &hi);
        if (lo < to && from < hi) {
            kill_block(soft, b);
            killed++;
        }
    }
    return killed;
}

void code_drop_page(struct soft *soft, struct soft_vcpu *self, struct gpa addr)
{
    g_mutex_lock(&soft->code_lock);
    if (kill_in_page(soft, GPA(align_down(addr.v, MEM_PAGE_SIZE)), 0, MEM_PAGE_SIZE)) {
        soft->invalidations++;
        announce_deaths(soft, self);
    }
    g_mutex_unlock(&soft->code_lock);
}

/* mem: bytes of one tracked page were written, by a vCPU (then the current one is among ours) or by a device. */
static void on_written(struct mem_listener *l, struct gpa start, uint64_t size)
{
    struct soft *soft = CONTAINER_OF(l, struct soft, listener);
    struct gpa page = GPA(align_down(start.v, MEM_PAGE_SIZE));
    unsigned from = (unsigned)(start.v - page.v), to = from + (unsigned)size;
    /* A racy look at the bitmap would have to be ordered against code being made; the lock is cheap beside what brought us here. */
    struct soft_vcpu *self = soft_current;
    bool was_inside = self && soft_leave(self);
    g_mutex_lock(&soft->code_lock);
    struct code_page *cp = *page_slot(soft, page);
    if (cp && cp->granules & granule_mask(from, to) && kill_in_page(soft, page, from, to)) {
        soft->invalidations++;
        announce_deaths(soft, self);
    }
    g_mutex_unlock(&soft->code_lock);
    if (was_inside)
        soft_enter(self);
}

/* mem: direct write permissions to the range must go, on every vCPU, before we return. */
static void on_revoke(struct mem_listener *l, struct gpa start, uint64_t size)
{
    struct soft *soft = CONTAINER_OF(l, struct soft, listener);
    const struct mem_block *b = mem_find(soft->set->config.mem, start);
    struct request r = {.kind = REQUEST_REVOKE, .start = (uintptr_t)b->host + (start.v - b->base.v), .size = size};
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
        b->exits[i] = (struct block_exit){
            .target = ir->exits[i].target, .from = b, .kind = ir->exits[i].kind, .hint = ir->exits[i].hint};
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

static void insert_block(struct soft *soft, struct block *b)
{
    struct block **bucket = &soft->buckets[hash(b->gpa, b->mode)];
    b->owner[OWNER_HASH] = *bucket;
    *bucket = b;
    add_to_page(soft, b, GPA(align_down(b->gpa, MEM_PAGE_SIZE)));
    if (b->gpa2 != UINT64_MAX)
        add_to_page(soft, b, GPA(b->gpa2));
    soft->blocks_made++;
}

static void kill_all(struct soft *soft)
{
    for (unsigned i = 0; i < BUCKETS; i++)
        while (soft->buckets[i])
            kill_block(soft, soft->buckets[i]);
}

static struct block *find(const struct soft *soft, uint64_t gpa, uint64_t pc, uint32_t mode, uint64_t gpa2)
{
    for (struct block *b = soft->buckets[hash(gpa, mode)]; b; b = b->owner[OWNER_HASH])
        if (b->gpa == gpa && b->pc == pc && b->mode == mode && (b->gpa2 == UINT64_MAX || gpa2 == UINT64_MAX || b->gpa2 == gpa2))
            return b;
    return NULL;
}

static void collect_locked(struct soft *soft);

/* Compiles soft->ir, making room when the code memory is full. NULL with *error: -E2BIG when the block is too large; -ENOSPC when
 * other vCPUs, which have been kicked, must leave the evicted code first. */
static struct block *compile(struct soft *soft, struct soft_vcpu *s, uint64_t gpa, uint64_t gpa2, int *error)
{
    struct block *b = new_block(soft->ir, gpa, gpa2);
    *error = soft->backend->compile(soft->backend_state, soft->ir, b);
    if (*error == -ENOSPC) {
        soft->evictions++;
        kill_all(soft);
        announce_deaths(soft, s);
        atomic_store(&s->seen, atomic_load(&soft->deaths)); /* this vCPU stands between blocks */
        collect_locked(soft);
        *error = soft->backend->compile(soft->backend_state, soft->ir, b);
    }
    if (!*error)
        return b;
    g_free(b);
    return NULL;
}

/* The page of gpa2 has been translated already when the block needs it. Called with the code lock, outside. */
static struct block *make(struct soft_vcpu *s, const struct isa_code *code, uint64_t gpa, uint64_t gpa2)
{
    struct soft *soft = s->soft;
    struct isa_code piece = *code;
    int error = 0;
    do {
        error = s->isa->lift(&piece, soft->ir);
        if (error)
            break;
        struct block *b = compile(soft, s, gpa, soft->ir->bytes > code->avail ? gpa2 : UINT64_MAX, &error);
        if (b) {
            insert_block(soft, b);
            return b;
        }
        piece.max_insns /= 2;
    } while (error == -E2BIG && piece.max_insns);
    errno = -error;
    return NULL;
}

/* --- finding --- */

/* Translates the fetch of pc. 0 with *gpa and its RAM block, or 1 with an exception recorded. */
static int fetch_address(struct soft_vcpu *s, uint64_t pc, uint64_t *gpa, const struct mem_block **block)
{
    struct isa_walk walk;
    if (tlb_translate(s, GVA(pc), ISA_FETCH, s->isa->fetch_mmu(s->env), &walk))
        return 1;
    *gpa = walk.gpa.v;
    *block = mem_find(s->vcpu->set->config.mem, walk.gpa);
    if (*block)
        return 0;
    s->isa->bus_error(s->env, GVA(pc), ISA_FETCH); /* code runs from RAM and ROM only */
    return 1;
}

struct block *code_find(struct soft_vcpu *s)
{
    struct soft *soft = s->soft;
    struct mem *mem = s->vcpu->set->config.mem;
    uint64_t pc = s->env->pc, gpa, gpa2 = UINT64_MAX;
    const struct mem_block *b, *b2 = NULL;
    s->lookups++;
    if (fetch_address(s, pc, &gpa, &b))
        return NULL;
    uint32_t room = (uint32_t)(ENV_PAGE_SIZE - (pc & ~ENV_PAGE_MASK));
    struct block *found = NULL;
    g_mutex_lock(&soft->code_lock);
    for (;;) {
        found = find(soft, gpa, pc, s->env->mode, gpa2);
        if (found && found->gpa2 != UINT64_MAX && gpa2 == UINT64_MAX)
            found = NULL; /* crosses into a page that must be translated first */
        else if (found)
            break;
        mem_track_code(mem, b, GPA(gpa));
        if (b2)
            mem_track_code(mem, b2, GPA(gpa2));
        struct isa_code code = {.pc = pc,
                                .mode = s->env->mode,
                                .bytes = b->host + (gpa - b->base.v),
                                .avail = room,
                                .next = b2 ? b2->host + (gpa2 - b2->base.v) : NULL,
                                .max_insns = IR_MAX_GUEST_INSNS};
        found = make(s, &code, gpa, gpa2);
        if (found || errno != EAGAIN || b2)
            break;
        g_mutex_unlock(&soft->code_lock);
        if (fetch_address(s, pc + room, &gpa2, &b2))
            return NULL;
        g_mutex_lock(&soft->code_lock);
    }
    g_mutex_unlock(&soft->code_lock);
    if (!found && errno == ENOSPC)
        sched_yield(); /* the dispatcher comes again */
    else if (!found)
        log_error(LOG_CODE, "no block can be made at 0x%" PRIx64 ": %s", pc, g_strerror(errno));
    return found;
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

void code_collect(struct soft *soft)
{
    if (__atomic_load_n(&soft->n_dead, __ATOMIC_RELAXED) < COLLECT_AT)
        return;
    g_mutex_lock(&soft->code_lock);
    collect_locked(soft);
    g_mutex_unlock(&soft->code_lock);
}

void code_flush_all(struct soft *soft)
{
    g_mutex_lock(&soft->code_lock);
    kill_all(soft);
    announce_deaths(soft, NULL);
    collect_locked(soft);
    g_mutex_unlock(&soft->code_lock);
}

/* --- set-up --- */

static void *map_table(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static size_t page_table_bytes(const struct mem_block *b)
{
    return (b->size >> MEM_PAGE_BITS) * sizeof(struct code_page *);
}

bool code_init(struct soft *soft, GError **error)
{
    unsigned n;
    const struct mem_block *blocks = mem_blocks(soft->set->config.mem, &n);
    g_mutex_init(&soft->code_lock);
    soft->listener = (struct mem_listener){.revoke = on_revoke, .written = on_written};
    soft->code_limit = soft->set->config.code_limit ? soft->set->config.code_limit : DEFAULT_CODE_LIMIT;
    soft->backend_state = soft->backend->init(soft->code_limit);
    soft->ir = map_table(sizeof(*soft->ir));
    soft->buckets = map_table(BUCKETS * sizeof(soft->buckets[0]));
    bool complete = soft->backend_state && soft->ir && soft->buckets;
    for (unsigned i = 0; i < n && complete; i++)
        complete = (soft->pages[i] = map_table(page_table_bytes(&blocks[i])));
    if (!complete)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "no host memory for translated code: %s", g_strerror(errno));
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
        munmap(soft->buckets, BUCKETS * sizeof(soft->buckets[0]));
    g_mutex_clear(&soft->code_lock);
}
