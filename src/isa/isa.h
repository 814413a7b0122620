/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The contract of a guest instruction set: state, lifting to IR, page walk, exceptions. One row each in
 * isas.def. */
#ifndef HOSTEL_ISA_ISA_H
#define HOSTEL_ISA_ISA_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/state.h"
#include "engine/env.h"
#include "engine/ir.h"
#include "isa/cpu_host.h"
#include "mem/addr.h"

enum isa_access { ISA_LOAD, ISA_STORE, ISA_FETCH };
enum { ISA_PROT_R = 1, ISA_PROT_W = 2, ISA_PROT_X = 4 };

/* Result of a page walk. */
struct isa_walk {
    struct gpa gpa; /* of the address asked for */
    uint64_t size;  /* the aligned power of two around it with one translation and one protection: 1 (cache
                       nothing: a PMP boundary inside the page) .. 1 GiB and more */
    uint64_t leaf;  /* bytes mapped by the page-table entry used: flushing any address in them drops this
                       translation */
    uint8_t prot;   /* ISA_PROT_*: what may be cached (W only when the dirty bit is set) */
    bool global;    /* the same in every address space */
    bool identity;  /* no page table was involved: flushing an address does not concern it */
};

/* How a CPU is configured; strings borrowed until init returns. */
struct isa_config {
    const char *features; /* the ISA's own syntax, NULL = all that is implemented */
    unsigned index;       /* vCPU number, also the hart id */
    unsigned vcpus;
    uint64_t timebase_hz;  /* of the guest-visible time counter */
    bool builtin_firmware; /* the board answers firmware calls: no M-mode software */
};

/* The code to lift: what the front end reads bytes from. */
struct isa_code {
    uint64_t pc;
    uint32_t mode;
    const uint8_t *bytes; /* at pc, */
    uint32_t avail;       /* up to the end of its page (at least 1) */
    const uint8_t *next;  /* the beginning of the next page, or NULL when not known yet */
    uint32_t max_insns;   /* at most IR_MAX_GUEST_INSNS */
};

/* Notes of an ELF core file that describe a CPU: NT_PRSTATUS and NT_FPREGSET, as Linux lays them out. */
enum isa_note { ISA_NOTE_STATUS, ISA_NOTE_FP };
enum { ISA_NOTE_MAX = 1024 /* bytes */ };

struct isa {
    const char *name; /* "riscv64", as --isa takes it */
    const char *help;
    size_t cpu_size;                /* bytes of the CPU structure that begins with struct env */
    const struct ir_target *target; /* register table and helpers */

    /* Fills a zeroed CPU structure; env->ops, owner and target are set by the accelerator before. False with
     * *error on unknown features. */
    bool (*init)(struct env *env, const struct isa_config *config, const struct cpu_host *host,
                 GError **error);

    /* The CPU as data, for saving, and the table's version. It holds no more than what parked vCPUs have. */
    const struct state_field *state;
    unsigned version;
    /* Behind reset and loading the state: checks it, and derives what follows from it. False: values that no
     * guest could have produced. The vCPU is parked. */
    bool (*loaded)(struct env *env);

    /* Architectural reset. The board sets pc and argument registers afterwards through reg tables. */
    void (*reset)(struct env *env);

    /* Lifts a block that begins at code->pc. 0; or -EAGAIN when the first instruction continues on the next
     * page and code->next is NULL (if that page cannot be fetched, the caller raises its fault). Undefined
     * instructions lift to `raise`. Never reads outside bytes[0..avail) and next. Pure: depends on code and
     * mode only. */
    int (*lift)(const struct isa_code *code, struct ir_block *out);

    /* The MMU index that instruction fetches use now. */
    unsigned (*fetch_mmu)(const struct env *env);

    /* Translates va for the access under the MMU index. 0 with *out; or 1 with the exception in env->exc.
     * Updates accessed and dirty bits as the architecture says. */
    int (*walk)(struct env *env, struct gva va, enum isa_access access, unsigned mmu, struct isa_walk *out);

    /* A physical access that nothing answers: records the access fault in env->exc. */
    void (*bus_error)(struct env *env, struct gva va, enum isa_access access);
    /* A misaligned access where alignment is required. */
    void (*misaligned)(struct env *env, struct gva va, enum isa_access access);

    /* Names the current address space (page-table root and identifier) for TLB and jump cache: equal values =
     * same space. */
    uint64_t (*address_space)(const struct env *env);
    uint32_t (*asid)(const struct env *env);

    /* Takes env->exc: enters the guest's handler (pc, mode, registers), clears pending. */
    void (*take_exception)(struct env *env);

    /* Takes an enabled pending interrupt if there is one; true when pc changed. At block boundaries. */
    bool (*poll_interrupt)(struct env *env);

    /* Would a waiting instruction end now (an interrupt pending and individually enabled)? */
    bool (*wakes)(struct env *env);

    /* Disassembles one instruction at bytes; returns its length, 0 when undefined or cut off. */
    unsigned (*disassemble)(uint64_t pc, const uint8_t *bytes, size_t avail, char *text, size_t size);

    /* Core files: e_machine and e_flags, and notes. core_note fills note, zeroed and ISA_NOTE_MAX bytes long,
     * for thread id; returns its bytes, 0 = there is none of that kind. The vCPU is parked. */
    uint16_t elf_machine;
    uint32_t elf_flags;
    unsigned (*core_note)(const struct env *env, enum isa_note kind, uint32_t id, uint8_t *note);
};

/* All of them (isas.def), NULL-terminated; and by name, NULL when unknown. */
extern const struct isa *const isas[];
const struct isa *isa_find(const char *name);

#endif
