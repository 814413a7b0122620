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

/* What its process counts, since it was started. */
#define SAMPLE_COUNTERS(X)                                                                                   \
    X(disk_read, "disk-read-bytes")                                                                          \
    X(disk_written, "disk-written-bytes")                                                                    \
    X(disk_reads, "disk-reads")                                                                              \
    X(disk_writes, "disk-writes")                                                                            \
    X(net_received, "net-received-bytes")                                                                    \
    X(net_sent, "net-sent-bytes")                                                                            \
    X(instructions, "instructions")                                                                          \
    X(exits, "exits")                                                                                        \
    X(blocks, "blocks-made")                                                                                 \
    X(code, "code-bytes")

struct sample {
    double at;     /* seconds; of a clock that only runs forward */
    double cpu;    /* seconds of the host's processors: its process and its helpers */
    uint64_t rss;  /* bytes of the host's memory, what is shared counted whole; 0 = unknown */
    uint64_t pss;  /* the same, what is shared counted in parts; 0 = the host does not tell us */
    bool answered; /* the guest's process told its counters */
#define X(field, name) uint64_t field;
    SAMPLE_COUNTERS(X)
#undef X
};

/* Looks at a guest that runs. call: NULL = its process is not asked. What a VMM does not know stays 0. */
void sample_take(struct sample *s, const struct guest_state *state, struct guest_call *call);

/* {"cpu-seconds": ...}, owned by the caller; and what happened per second between two. */
json_t *sample_json(const struct sample *s);
json_t *sample_rates(const struct sample *before, const struct sample *after);

/* A counter's growth per second. */
double sample_rate(const struct sample *before, const struct sample *after, uint64_t first, uint64_t second);

#endif
