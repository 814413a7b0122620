/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The random bytes that a riscv-virt guest is given: seeds at each boot, and its generation ID. */
/*
 * The host is asked once, when the machine is built: later the process may not be allowed to. What is handed
 * out is SHA-256 of the machine's seed and a label, so it does not tell the seed; which then moves on, so
 * nothing is handed out twice and a seed found in a dump of the process does not tell what was before.
 *
 * The seed is the process's and not part of the guest's state: of two guests that go on from one file, each
 * has its own.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/error.h"
#include "board/riscv_virt.h"

static void derive(const uint8_t seed[VIRT_SEED_SIZE], uint8_t label, uint8_t out[VIRT_SEED_SIZE])
{
    gsize length = VIRT_SEED_SIZE;
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(sum, seed, VIRT_SEED_SIZE);
    g_checksum_update(sum, &label, 1);
    g_checksum_get_digest(sum, out, &length);
}

bool riscv_seed_init(struct riscv_virt *v, GError **error)
{
    return getrandom(v->seed, sizeof(v->seed), 0) == (ssize_t)sizeof(v->seed) ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "no random bytes from the host: %s", g_strerror(errno));
}

void riscv_seed_draw(struct riscv_virt *v, uint8_t *out, size_t size)
{
    uint8_t part[VIRT_SEED_SIZE], label = 0;
    for (size_t done = 0; done < size; done += sizeof(part)) {
        derive(v->seed, ++label, part);
        memcpy(out + done, part, MIN(sizeof(part), size - done));
    }
    derive(v->seed, 0, part);
    memcpy(v->seed, part, sizeof(part));
}
