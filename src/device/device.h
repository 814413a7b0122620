/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The contract of a chip: what each row of devices.def provides, and the locking and interrupt pins all
 * share. */
/*
 * Theory of operation
 *
 * A chip is a struct that begins with `struct device`. Its type row says how big it is, which options it
 * takes, which registers it answers and what of it the guest can see (`state[]`). Whoever builds a machine
 * calls device_new() with the option values and the wires, maps type->ops on the bus, and connects other
 * chips' outputs to device_input().
 *
 * Locking. Each chip has one mutex, device_lock() .. device_release(). Register accesses come from several
 * vCPU threads, timers and stream input from the main thread. Interrupt pins are driven, streams written and
 * the power callback made with no device lock held, because they reach into other chips which lock
 * themselves.
 *
 * Interrupt pins. Under the lock a chip says what its output pins should be: device_pin(). device_release()
 * then compares with what was last driven and drives the difference with the lock dropped. So two threads may
 * be on their way to one line, and the later wish can be overtaken by the earlier. Each pin counts who is on
 * the way (`busy`); when two have overlapped, the last to come back cannot know in which order they arrived
 * and drives what the pin should be once more. Sinks do not mind a level they have. Thus:
 *   - the last wish always reaches the line;
 *   - a thread never waits for another one, and when its register access returns, its own change has been
 * driven. (Leaving it to the thread already on the way is not enough: that one may have lost the processor to
 * the very vCPU it has just woken, which then finds its interrupt still pending whenever it clears it.)
 *   - a line may show a level that is already history for a moment, as real wires do: a spurious interrupt,
 * which drivers expect.
 */
#ifndef HOSTEL_DEVICE_DEVICE_H
#define HOSTEL_DEVICE_DEVICE_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/state.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "console/stream.h"
#include "mem/mem.h"
#include "net/net.h"

enum { DEVICE_PINS_MAX = 64 };

/* One option of a chip: a number (or bool) stored at offset before init. */
struct device_option {
    const char *name;
    const char *help;
    enum state_type type;
    size_t offset;     /* in the chip's struct */
    uint64_t value;    /* default */
    uint64_t min, max; /* allowed, both inclusive */
};

/* What a guest asks of the power supply. */
enum device_power { DEVICE_POWER_OFF, DEVICE_POWER_FAIL, DEVICE_POWER_RESET };

/* What a chip lets the guest's keepers know. */
enum device_notice {
    DEVICE_NOTICE_BALLOON,      /* the balloon has another size */
    DEVICE_NOTICE_PANICKED,     /* the guest's kernel says that it cannot go on */
    DEVICE_NOTICE_CRASH_LOADED, /* the same, and another kernel takes care of it */
    DEVICE_NOTICE_WATCHDOG,     /* the guest did not feed its watchdog in time */
};

struct block_pool;
struct disk;
struct device;

/* A byte stream with a name that the guest sees, such as "org.example.agent.0". */
struct device_port {
    const char *name;
    struct stream *stream;
};

/* The wires of one chip, all borrowed. What a chip does not use may be left out. */
struct device_wires {
    const char *name; /* of this chip, for messages: "serial0" */
    struct clock *clock;
    struct mem *mem;                 /* guest RAM, for chips that do DMA */
    struct stream *stream;           /* NULL: not connected */
    struct net *net;                 /* the same, of a network card */
    struct disk *disk;               /* NULL: none */
    struct block_pool *pool;         /* threads for the disk; NULL: it makes its own */
    const char *serial;              /* the disk's serial number; NULL: none */
    const struct device_port *ports; /* more streams; for chips that can have them */
    unsigned port_count;
    const struct irq_line *outputs; /* copied; pins beyond output_count are not connected */
    unsigned output_count;
    /* Called on any thread with no lock held. code: 1..255 for DEVICE_POWER_FAIL, else 0. */
    void (*power)(void *opaque, enum device_power what, int code);
    /* Makes a note, no more: called on any thread, with the chip's lock held or not. */
    void (*notice)(void *opaque, enum device_notice what);
    void *opaque;
};

struct device_type {
    const char *name; /* "uart16550" */
    const char *help;
    size_t size;                         /* of the struct that begins with struct device */
    const struct device_option *options; /* ends with a NULL name; or NULL */
    const struct state_field *state;     /* ends with a NULL name; or NULL: no state */
    unsigned version;                    /* of state[] */
    const struct bus_ops *ops;           /* registers; the chip is the struct device */

    /* Options and wires are filled in, the rest is zero. May allocate. False with *error on a bad
     * combination. */
    bool (*init)(struct device *d, GError **error);
    /* Bytes of register space, by options. */
    uint64_t (*extent)(const struct device *d);
    /* To the state after power-on. The lock is held; no vCPU runs. */
    void (*reset)(struct device *d);
    /* Input pin changes (interrupt controllers); NULL when there are none. Called with no lock held, on any
     * thread. */
    void (*input)(void *device, unsigned pin, bool level);
    /* Puts state that is kept elsewhere where state[] finds it. The lock is held; no vCPU runs, no input or
     * output is under way. NULL: nothing to do. */
    void (*pre_save)(struct device *d);
    /* Checks state just loaded and rebuilds what is derived from it, pins included. The lock is held. NULL:
     * nothing to do. False: values that no guest could have produced. */
    bool (*post_load)(struct device *d);
    /* Frees what init made; NULL when it made nothing. No vCPU runs and no timer fires any more. */
    void (*destroy)(struct device *d);
};

/* The head of each chip. */
struct device {
    const struct device_type *type;
    struct device_wires wires;
    pthread_mutex_t lock;
    struct irq_line outputs[DEVICE_PINS_MAX];
    uint64_t want, driven; /* levels of output pins: as the chip says, as last driven or about to be */
    uint64_t overlapped;   /* pins that several threads were driving at once */
    uint8_t busy[DEVICE_PINS_MAX]; /* threads driving the pin now */
};

/* All chips (devices.def), NULL-terminated; and by name, NULL when unknown. */
extern const struct device_type *const device_types[];
const struct device_type *device_type_find(const char *name);

/* An option given to device_new. */
struct device_value {
    const char *option;
    uint64_t value;
};

/* Builds a chip in its reset state. values ends with a NULL option; or is NULL. NULL with *error on an
 * unknown option, a value out of range or what the type refuses. Set-up. */
struct device *device_new(const struct device_type *type, const struct device_wires *wires,
                          const struct device_value *values, GError **error);
void device_free(struct device *d); /* NULL is fine */
CLEANUP_DEFINE(device, device_free)

/* To the state after power-on, pins driven. No vCPU runs. */
void device_reset(struct device *d);

/* Builds the wire into input pin of d, whose type must have inputs. */
struct irq_line device_input(struct device *d, unsigned pin);

/* Maps the chip's registers. Set-up. */
bool device_map(struct device *d, struct bus *bus, struct gpa base, GError **error);

/* --- for chips --- */

static inline void device_lock(struct device *d)
{
    pthread_mutex_lock(&d->lock);
}

/* Without driving pins: for a pause in the middle of a change. */
static inline void device_unlock(struct device *d)
{
    pthread_mutex_unlock(&d->lock);
}

/* The lock is held: what output pin (< DEVICE_PINS_MAX) should be from now on. */
static inline void device_pin(struct device *d, unsigned pin, bool level)
{
    uint64_t bit = UINT64_C(1) << pin;
    d->want = level ? d->want | bit : d->want & ~bit;
}

/* Unlocks, and drives the output pins that changed. */
void device_release(struct device *d);

/* --- state, as data --- */

/* Bytes of the state in its plain form (base/state.h). */
size_t device_state_size(const struct device_type *type);
/* Copies the state out of or into the chip, which is reset before. load: false, with the chip reset, when the
 * values are impossible. No vCPU runs. */
void device_state_save(struct device *d, uint8_t *bytes);
bool device_state_load(struct device *d, const uint8_t *bytes);
/* The same of what an earlier version of the type's table was saved as. */
bool device_state_load_version(struct device *d, unsigned version, const uint8_t *bytes);

#endif
