/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is special about virtio-balloon: the host says how much memory it wants back, and asks how much is
 * used. */
#ifndef HOSTEL_DEVICE_VIRTIO_BALLOON_H
#define HOSTEL_DEVICE_VIRTIO_BALLOON_H

#include "device/device.h"

extern const struct device_type device_virtio_balloon;

enum { BALLOON_PAGE_SIZE = 4096 };

/* Statistics of the guest's memory by tag (5.5.6.3), and those that came behind version 1.2. */
#define BALLOON_STATS(X)                                                                                     \
    X(SWAP_IN, "stat-swap-in")                                                                               \
    X(SWAP_OUT, "stat-swap-out")                                                                             \
    X(MAJOR_FAULTS, "stat-major-faults")                                                                     \
    X(MINOR_FAULTS, "stat-minor-faults")                                                                     \
    X(FREE, "stat-free-memory")                                                                              \
    X(TOTAL, "stat-total-memory")                                                                            \
    X(AVAILABLE, "stat-available-memory")                                                                    \
    X(CACHES, "stat-disk-caches")                                                                            \
    X(HUGE_PAGES, "stat-htlb-pgalloc")                                                                       \
    X(HUGE_PAGES_FAILED, "stat-htlb-pgfail")                                                                 \
    X(OOM_KILLS, "stat-oom-kills")                                                                           \
    X(ALLOC_STALLS, "stat-alloc-stalls")                                                                     \
    X(ASYNC_SCANS, "stat-async-scans")                                                                       \
    X(DIRECT_SCANS, "stat-direct-scans")                                                                     \
    X(ASYNC_RECLAIMS, "stat-async-reclaims")                                                                 \
    X(DIRECT_RECLAIMS, "stat-direct-reclaims")

enum balloon_stat {
#define X(tag, name) BALLOON_STAT_##tag,
    BALLOON_STATS(X)
#undef X
        BALLOON_STAT_COUNT
};
/* As QMP calls them. */
extern const char *const balloon_stat_names[BALLOON_STAT_COUNT];

struct balloon_state {
    uint32_t target, actual; /* pages of BALLOON_PAGE_SIZE the balloon should have, and has */
    bool driven;             /* there is a driver */
    /* What the guest said of its memory, and when: seconds since 1970, 0 = nothing yet. */
    int64_t stats_time;
    uint32_t stats_known; /* a bit for each of those told */
    uint64_t stats[BALLOON_STAT_COUNT];
    uint64_t given_back; /* bytes handed to the host since the beginning, by the balloon and by reports */
};

/* d is a virtio-balloon. Any thread that holds no lock of a device. target: the guest is told how many pages
 * to give; it takes its time. ask: the guest is asked for fresh statistics. */
void virtio_balloon_set_target(struct device *d, uint32_t pages);
void virtio_balloon_get(struct device *d, struct balloon_state *out);
void virtio_balloon_ask(struct device *d);

#endif
