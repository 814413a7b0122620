/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One guest's life: built, running, paused, reset, ended. */
/*
 * Theory of operation
 *
 * A guest is built from options whose files are descriptors already. It starts when the process has been
 * locked down and not before. From then on the main loop serves timers, console and control socket, and vCPU
 * threads run the guest.
 *
 *   STARTING -> RUNNING <-> PAUSED      RUNNING, PAUSED -> SAVED -> RUNNING      all of them -> ENDED
 *
 * SAVED is paused, with all there is of the guest in a file, from which it is to go on.
 *
 * Power events come from the guest, on any thread and with the guest running on. They are noted in one word
 * and the main loop is woken; the first event since it last looked counts. Everything that changes the state
 * happens on the main thread.
 */
#ifndef HOSTEL_VM_VM_H
#define HOSTEL_VM_VM_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "board/board.h"
#include "console/stream.h"
#include "control/guest_options.h"
#include "control/qmp.h"
#include "control/server.h"
#include "os/sandbox.h"
#include "vm/actions.h"
#include "vm/jobs.h"
#include "vm/nodes.h"
#include "vm/save.h"
#include "vm/worker.h"

enum vm_state { VM_STARTING, VM_RUNNING, VM_PAUSED, VM_SAVED, VM_ENDED };

/* Exit codes of the process besides what the guest says; hostel(1) lists them for users. */
enum { VM_EXIT_OK = 0, VM_EXIT_FAILURE = 1, VM_EXIT_USAGE = 2, VM_EXIT_SIGNAL = 128 /* plus its number */ };

struct vm {
    const struct guest_options *options; /* borrowed */
    GMainLoop *loop;
    struct machine *machine;
    struct stream *console;
    struct vm_nodes *nodes;    /* the disks; the machine borrows their roots */
    GPtrArray *channels;       /* of struct stream, likewise */
    struct device_port *ports; /* of the channels; the machine borrows them */
    GPtrArray *chardevs;       /* of struct vm_chardev: these streams by their names, and others */
    GPtrArray *nets;           /* of the network cards' back ends, likewise */
    struct vm_hotplug *hotplug;
    struct qmp_server *control;
    struct sandbox *sandbox;   /* borrowed: what is in force */
    struct vm_worker *worker;  /* does what takes long */
    struct jobs *jobs;         /* what takes long and clients follow */
    struct save *save;         /* the last saving, perhaps under way; NULL: there was none */
    struct snapshot *snapshot; /* inside images, that is being taken or loaded; NULL */
    GSource *power_source, *signal_source;
    struct vm_notices *notices;
    GSource
        *stats_source; /* asks for statistics of memory every so many seconds; NULL, 0 = nobody wants it */
    unsigned stats_seconds;
    struct vm_actions actions;
    struct vm_dump *dump;   /* of memory: the last one, perhaps under way; NULL: there was none */
    _Atomic unsigned power; /* 0, or POWER_SEEN | event << 8 | code */

    enum vm_state state;
    int exit_code;
    bool by_guest;         /* the guest ended itself */
    const char *reason;    /* of the end, in QMP's words */
    const char *paused_as; /* why it stands, in query-status' words; NULL = paused */
    bool broken;           /* it is half of a snapshot, and no guest that could go on */
};

/* Builds the guest. Takes the descriptors out of options in any case. Main thread, as all below. */
struct vm *vm_new(struct guest_options *options, struct sandbox *sandbox, GError **error);
void vm_free(struct vm *vm); /* NULL is fine */
CLEANUP_DEFINE(vm, vm_free)

/* Starts the guest and serves it to its end; the exit code. */
int vm_run(struct vm *vm);

/* For the control socket. pause and resume do nothing when it is so already. */
void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);
void vm_reset(struct vm *vm, bool by_guest);
/* A guest that stands has been saved, or become another. */
void vm_set_saved(struct vm *vm);
void vm_set_loaded(struct vm *vm);
/* A power event, or a notice, that came while a snapshot was under way is served now, or belongs to a guest
 * that is no more. */
void vm_power_again(struct vm *vm);
void vm_power_forget(struct vm *vm);
/* May it go on? False with *error: while something needs it to stand, or when there is nothing left of it. */
bool vm_can_run(const struct vm *vm, GError **error);
void vm_end(struct vm *vm, bool by_guest, const char *reason, int code);

/* Tells the control socket's clients, if there are any; data is taken (NULL = none). */
void vm_event(struct vm *vm, const char *name, json_t *data);

/* stats.c: the counters of a run, as --stats prints them and as x-query-stats tells them (owned by the
 * caller). */
void stats_print(struct vcpus *vcpus);
json_t *stats_json(struct vcpus *vcpus);

/* The commands of the control socket, a table for each area, and all of them (ends with NULL); their opaque
 * is the struct vm. */
extern const struct qmp_command vm_about_commands[];
extern const struct qmp_command vm_action_commands[];
extern const struct qmp_command vm_block_commands[];
extern const struct qmp_command vm_chardev_commands[];
extern const struct qmp_command vm_commands[];
extern const struct qmp_command vm_device_commands[];
extern const struct qmp_command vm_dump_commands[];
extern const struct qmp_command vm_job_commands[];
extern const struct qmp_command vm_memory_commands[];
extern const struct qmp_command vm_net_commands[];
extern const struct qmp_command vm_piece_commands[];
extern const struct qmp_command vm_qom_commands[];
extern const struct qmp_command vm_save_commands[];
extern const struct qmp_command vm_snapshot_commands[];
extern const struct qmp_command *const vm_command_tables[];

/* The whole program hostel-vmm: argv as main() has it; the exit code. */
int vmm_main(char **argv);

#endif
