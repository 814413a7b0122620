/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The contract of a guest machine: which chips at which address, firmware tables, boot. One row each in
 * boards.def. */
#ifndef HOSTEL_BOARD_BOARD_H
#define HOSTEL_BOARD_BOARD_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "accel/accel.h"
#include "base/cleanup.h"
#include "codec/saved.h"
#include "console/stream.h"
#include "device/device.h"

enum machine_power {
    MACHINE_OFF,   /* the guest powered off; code 0 */
    MACHINE_FAIL,  /* the guest reports failure; code 1..255 */
    MACHINE_RESET, /* the guest asks for a reset */
};

/* One virtio function: its type row, options (may be NULL) and back ends (`stream` and the like of wires; the
 * board fills in the rest). */
struct machine_virtio {
    const char *type; /* "virtio-rng" */
    const struct device_value *values;
    struct device_wires wires;
    bool optional; /* left out when there is no room for it */
    /* For whoever fills ports (ports.h), which number from 1 on; 0 = it has a slot of the board's own. */
    unsigned port;
    const char *id;
};

/* Which mode begins with what is in flash. */
enum machine_start { MACHINE_START_OFF, MACHINE_START_SUPERVISOR, MACHINE_START_MACHINE };

/* A bank of flash memory. */
struct machine_flash {
    bool given; /* there is a file; else the bank is volatile and erased */
    int fd;
    bool readonly;
    enum machine_start start; /* of one bank at most; a kernel is then only offered to it, by fw_cfg */
};

/* Bytes for firmware to find: string, or when that is NULL the file's. */
struct machine_fw_file {
    const char *name, *string; /* borrowed until machine_new() returns */
    int fd;
};

enum { MACHINE_FLASH = 2, MACHINE_FW_FILES = 32 };

/* What a guest is made of; descriptors are owned by the machine (-1 = none), strings copied. */
struct machine_config {
    const struct accel *accel;
    unsigned vcpus;
    uint64_t memory; /* bytes */
    int kernel_fd, initrd_fd, firmware_fd;
    const char *kernel_name, *initrd_name, *firmware_name; /* for messages only */
    const char *append;                                    /* kernel command line, NULL = empty */
    const char *cpu_features;                              /* isa_config.features */
    const char *tuning;                                    /* vcpus_tune(); NULL = none */
    struct machine_flash flash[MACHINE_FLASH];
    struct machine_fw_file fw_files[MACHINE_FW_FILES]; /* the first with a NULL name ends them */
    struct stream *console;                            /* borrowed; outlives the machine */
    /* The board's virtio slots are filled in this order: a disk keeps its name in the guest when disks come
     * first, then networks, then the rest. Borrowed, the array until machine_new() returns. */
    const struct machine_virtio *virtio;
    unsigned n_virtio;
    unsigned ports; /* for hot-plug: PCI Express root ports; 0 = no PCI */
    GMainContext *context;
    bool incoming; /* nothing is booted: machine_load() is going to say what the guest is in the middle of */
    /* Called on any thread, with no lock held. */
    void (*power)(void *opaque, enum machine_power what, int code);
    /* Makes a note, no more: called on any thread, locks of chips may be held. NULL: nobody cares. */
    void (*notice)(void *opaque, enum device_notice what);
    void *opaque;
};

struct machine;
struct machine_ports;

struct board {
    const char *name; /* "riscv-virt" */
    const char *help;
    const char *isa; /* name of the ISA it carries */
    unsigned max_vcpus;
    uint64_t min_memory, max_memory;
    /* Adds RAM and chips, creates vCPUs, wires interrupts. m has mem, bus, clock and its config. */
    bool (*build)(struct machine *m, GError **error);
    /* Puts firmware, kernel, device tree into RAM and sets the boot registers: at first start and at each
     * reset (then m->booted is set), after chips and vCPUs were reset. All vCPUs are parked. */
    bool (*boot)(struct machine *m, GError **error);
    /* machine_renew(). */
    void (*renew)(struct machine *m);
    void (*destroy)(struct machine *m);
};

struct machine {
    const struct board *board;
    const struct isa *isa;
    struct machine_config config;
    struct mem *mem;
    struct bus *bus;
    struct clock *clock;
    struct vcpus *vcpus; /* created by build */
    /* All chips (struct device), owned, in the order in which they are reset and their state is loaded: an
     * interrupt controller before whatever raises its lines. Their names (wires.name) are different. */
    GPtrArray *devices;
    bool booted;                 /* RAM may hold what an earlier boot left */
    struct machine_ports *ports; /* ports.h; NULL: no PCI */
    void *state;                 /* the board's */
};

extern const struct board *const boards[];
/* By name; or with name NULL the first board for the ISA. NULL when there is none. */
const struct board *board_find(const char *name, const char *isa);

/* How the configuration starts from flash, and the bank (0 when it does not). */
enum machine_start machine_flash_start(const struct machine_config *c, unsigned *bank);

/* Builds a machine, not yet running: checks the configuration (messages say what was found, expected, and
 * what to do), composes, boots. Takes the descriptors in any case. Main thread. */
struct machine *machine_new(const struct board *board, const struct machine_config *config, GError **error);
void machine_free(struct machine *m);
CLEANUP_DEFINE(machine, machine_free)

/* Main thread. start after new or pause; reset leaves it paused. */
void machine_start(struct machine *m);
void machine_pause(struct machine *m);
bool machine_reset(struct machine *m, GError **error);

/* --- state (machine_state.c); main thread, the machine is paused --- */

/* Adds everything but memory's contents to w. Requests under way in chips are finished, or put back to be
 * done again, and none begins before the machine goes on: so memory is complete behind this, and not before.
 */
void machine_save(struct machine *m, struct saved_writer *w);

/* Does s fit this machine? Nothing is changed. */
bool machine_can_load(struct machine *m, struct saved *s, GError **error);

/* Reads all of memory from s, where machine_can_load() has looked, for machine_load(). Without fill it only
 * finds out whether that is possible: all of it is there and has its checksums. False with *error, also when
 * *stop is set meanwhile (NULL = nobody does); with fill the machine is in no state to run then. Any one
 * thread. */
bool machine_read_memory(struct machine *m, struct saved *s, bool fill, const _Atomic bool *stop,
                         GError **error);

/* Makes of the machine the one that was saved in s. Memory is mapped from its file fd (borrowed), and stays
 * so; fd -1: machine_read_memory() has filled it. When it fails behind machine_can_load(), the machine is in
 * no state to run. */
bool machine_load(struct machine *m, struct saved *s, int fd, GError **error);

/* There may be other machines that were loaded from the same, now or later: tells the guest, when it goes on,
 * that it is one of several. */
void machine_renew(struct machine *m);

#endif
