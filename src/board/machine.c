/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest machine's life, the same for every board: check, compose, boot, run, reset, free. */
#include "board/board.h"

#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "board/ports.h"
#include "os/fd.h"

#define BOARD(name) extern const struct board board_##name;
#include "board/boards.def"
#undef BOARD

const struct board *const boards[] = {
#define BOARD(name) &board_##name,
#include "board/boards.def"
#undef BOARD
    NULL,
};

const struct board *board_find(const char *name, const char *isa)
{
    for (unsigned i = 0; boards[i]; i++)
        if ((!name || !strcmp(boards[i]->name, name)) && (!isa || !strcmp(boards[i]->isa, isa)))
            return boards[i];
    return NULL;
}

static bool check_memory(const struct board *b, uint64_t memory, GError **error)
{
    if (memory < b->min_memory || memory > b->max_memory)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s cannot have %" PRIu64 " MiB of memory: at least %" PRIu64
                           " MiB, at most %" PRIu64 " MiB",
                           b->name, memory / MiB, b->min_memory / MiB, b->max_memory / MiB);
    if (memory % MEM_PAGE_SIZE)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "memory of %" PRIu64 " bytes is not a multiple of %" PRIu64 " bytes", memory,
                           MEM_PAGE_SIZE);
    return true;
}

enum machine_start machine_flash_start(const struct machine_config *c, unsigned *bank)
{
    for (*bank = 0; *bank < MACHINE_FLASH; ++*bank)
        if (c->flash[*bank].given && c->flash[*bank].start)
            return c->flash[*bank].start;
    *bank = 0;
    return MACHINE_START_OFF;
}

static bool check_flash(const struct machine_config *c, GError **error)
{
    unsigned bank, starts = 0;
    for (unsigned i = 0; i < MACHINE_FLASH; i++)
        starts += c->flash[i].given && c->flash[i].start;
    if (starts > 1)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "only one bank of flash can be started");
    if (machine_flash_start(c, &bank) == MACHINE_START_MACHINE && c->firmware_fd >= 0)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "a firmware, and flash that starts instead of it (start=machine): leave one out");
    return true;
}

static bool check(const struct board *b, const struct machine_config *c, GError **error)
{
    unsigned bank;
    if (!c->vcpus || c->vcpus > b->max_vcpus)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s cannot have %u CPUs: 1 to %u", b->name, c->vcpus,
                           b->max_vcpus);
    if (!check_memory(b, c->memory, error))
        return false;
    if (!check_flash(c, error))
        return false;
    if (c->kernel_fd < 0 && c->firmware_fd < 0 && !machine_flash_start(c, &bank))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "nothing to run: give a kernel or a firmware");
    if (c->initrd_fd >= 0 && c->kernel_fd < 0)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "an initrd without a kernel: give the kernel, too");
    if (c->append && *c->append && c->kernel_fd < 0)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "a kernel command line without a kernel: give the kernel, too");
    return true;
}

static void copy_config(struct machine *m, const struct machine_config *config)
{
    struct machine_config *c = &m->config;
    *c = *config;
    c->kernel_name = g_strdup(config->kernel_name ? config->kernel_name : "kernel");
    c->initrd_name = g_strdup(config->initrd_name ? config->initrd_name : "initrd");
    c->firmware_name = g_strdup(config->firmware_name ? config->firmware_name : "firmware");
    c->append = g_strdup(config->append ? config->append : "");
    c->cpu_features = g_strdup(config->cpu_features);
    c->tuning = g_strdup(config->tuning);
}

static void free_config(struct machine_config *c)
{
    fd_close(&c->kernel_fd);
    fd_close(&c->initrd_fd);
    fd_close(&c->firmware_fd);
    for (unsigned i = 0; i < MACHINE_FLASH; i++)
        if (c->flash[i].given)
            fd_close(&c->flash[i].fd);
    for (unsigned i = 0; i < MACHINE_FW_FILES && c->fw_files[i].name; i++)
        if (!c->fw_files[i].string)
            fd_close(&c->fw_files[i].fd);
    g_free((char *)(uintptr_t)c->kernel_name);
    g_free((char *)(uintptr_t)c->initrd_name);
    g_free((char *)(uintptr_t)c->firmware_name);
    g_free((char *)(uintptr_t)c->append);
    g_free((char *)(uintptr_t)c->cpu_features);
    g_free((char *)(uintptr_t)c->tuning);
}

static bool boot(struct machine *m, GError **error)
{
    if (!m->board->boot(m, error))
        return false;
    m->booted = true;
    return true;
}

static bool compose(struct machine *m, GError **error)
{
    const struct board *b = m->board;
    if (!check(b, &m->config, error))
        return false;
    m->isa = isa_find(b->isa);
    if (!m->isa)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s needs the instruction set %s, which is not built in", b->name, b->isa);
    m->mem = mem_new();
    m->bus = bus_new();
    m->clock = clock_new(m->config.context);
    return b->build(m, error) && (m->config.incoming || boot(m, error));
}

struct machine *machine_new(const struct board *board, const struct machine_config *config, GError **error)
{
    struct machine *m = g_new0(struct machine, 1);
    m->board = board;
    m->devices = g_ptr_array_new();
    copy_config(m, config);
    const bool composed = compose(m, error);
    m->config.virtio = NULL; /* the caller's */
    if (composed)
        return m;
    machine_free(m);
    return NULL;
}

void machine_free(struct machine *m)
{
    if (!m)
        return;
    vcpus_free(m->vcpus);
    /* Those that others' outputs lead to were built first. */
    while (m->devices->len)
        device_free(g_ptr_array_steal_index(m->devices, m->devices->len - 1));
    g_ptr_array_unref(m->devices);
    machine_free_ports(m);
    if (m->state)
        m->board->destroy(m);
    clock_free(m->clock);
    bus_free(m->bus);
    mem_free(m->mem);
    free_config(&m->config);
    g_free(m);
}

void machine_start(struct machine *m)
{
    clock_start(m->clock);
    vcpus_resume(m->vcpus);
}

void machine_pause(struct machine *m)
{
    vcpus_pause(m->vcpus);
    clock_stop(m->clock);
}

bool machine_reset(struct machine *m, GError **error)
{
    machine_pause(m);
    for (unsigned i = 1; i < vcpus_count(m->vcpus); i++)
        vcpus_offline(m->vcpus, i);
    for (unsigned i = 0; i < vcpus_count(m->vcpus); i++)
        m->isa->reset(vcpus_env(m->vcpus, i));
    machine_reset_ports(m);
    for (guint i = 0; i < m->devices->len; i++)
        device_reset(m->devices->pdata[i]);
    vcpus_flush_all(m->vcpus);
    /* The vCPU that asked for the reset may have gone offline on its way. */
    vcpus_online(m->vcpus, 0, NULL, NULL);
    return boot(m, error);
}
