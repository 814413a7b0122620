/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a running guest uses, at one moment; two of them give rates. */
#ifndef HOSTEL_CLI_SAMPLE_H
#define HOSTEL_CLI_SAMPLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/guest_call.h"
#include "cli/guest_state.h"

/* What its process counts since it was started: X(what must be known, field, name). */
#define SAMPLE_COUNTERS(X)                                                                                   \
    X(disks, disk_read, "disk-read-bytes")                                                                   \
    X(disks, disk_written, "disk-written-bytes")                                                             \
    X(disks, disk_reads, "disk-reads")                                                                       \
    X(disks, disk_writes, "disk-writes")                                                                     \
    X(nets, net_received, "net-received-bytes")                                                              \
    X(nets, net_sent, "net-sent-bytes")                                                                      \
    X(counters, instructions, "instructions")                                                                \
    X(counters, exits, "exits")                                                                              \
    X(counters, blocks, "blocks-made")                                                                       \
    X(counters, code, "code-bytes")

struct sample {
    double at;     /* seconds; of a clock that only runs forward */
    double cpu;    /* seconds of the host's processors: its process and its helpers */
    uint64_t rss;  /* bytes of the host's memory, what is shared counted whole; 0 = unknown */
    uint64_t pss;  /* the same, what is shared counted in parts; 0 = the host does not tell us */
    bool answered; /* the guest's process did; and what it could tell: */
    bool disks, nets, counters;
#define X(group, field, name) uint64_t field;
    SAMPLE_COUNTERS(X)
#undef X
};

/* Looks at a guest that runs. call: NULL = its process is not asked. */
void sample_take(struct sample *s, const struct guest_state *state, struct guest_call *call);

/* {"cpu-seconds": ...}, owned by the caller; and what happened per second between two. */
json_t *sample_json(const struct sample *s);
json_t *sample_rates(const struct sample *before, const struct sample *after);

/* A counter's growth per second. */
double sample_rate(const struct sample *before, const struct sample *after, uint64_t first, uint64_t second);

#endif
