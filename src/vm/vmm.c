/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The program hostel-vmm from its arguments to its exit code. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "accel/hostdis.h"
#include "base/error.h"
#include "base/log.h"
#include "block/module.h"
#include "isa/isa.h"
#include "os/fd.h"
#include "vm/vm.h"

/* --- what there is --- */

static int list_boards(void)
{
    for (unsigned i = 0; boards[i]; i++)
        printf("%-14s %-10s %s\n", boards[i]->name, boards[i]->isa, boards[i]->help);
    return VM_EXIT_OK;
}

static int list_isas(void)
{
    for (unsigned i = 0; isas[i]; i++)
        printf("%-14s %s\n", isas[i]->name, isas[i]->help);
    return VM_EXIT_OK;
}

static int list_methods(void)
{
    for (unsigned i = 0; accels[i]; i++) {
        g_autoptr(GError) error = NULL;
        bool available = accels[i]->available(&error);
        printf("%-14s %s%s%s%s\n", accels[i]->name, accels[i]->help,
               available ? "" : " (not here: ", available ? "" : error->message, available ? "" : ")");
    }
    return VM_EXIT_OK;
}

static int list(const char *what)
{
    if (!strcmp(what, "boards"))
        return list_boards();
    return strcmp(what, "isas") ? list_methods() : list_isas();
}

/* --- one guest --- */

static void prepare_process(void)
{
    /* vCPU threads allocate next to nothing; an arena for each would cost more than it saves. */
    mallopt(M_ARENA_MAX, 1);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a disk's file that may not grow is an error of that write */
    /* Read from a descriptor by the main loop; threads inherit the mask. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
}

/* Libraries that read files when they are first used do so now. */
static void warm_up(void)
{
    const char *message = g_strerror(EIO); /* converts character sets */
    g_assert(message);
    if (log_on(LOG_TRANSLATE) && !hostdis_open())
        log_info(LOG_VM, "Capstone is missing: host code is shown in hexadecimal");
}

static bool set_trace(const struct guest_options *o, GError **error)
{
    if (o->trace_at && !log_limit(o->trace_at))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "--trace-at %s: must be an address, or an address and a length in bytes, as in "
                           "0x80000000:64",
                           o->trace_at);
    if (!o->trace || log_enable(o->trace))
        return true;
    g_autoptr(GString) names = g_string_new("all");
    for (unsigned i = 0; i < LOG_AREA_COUNT; i++)
        g_string_append_printf(names, ", %s", log_area_name((enum log_area)i));
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "--trace %s: an area is unknown; there are %s", o->trace,
                       names->str);
}

static void close_others(const struct guest_options *o)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    option_fds(guest_option_rows, o, fds);
    fd_close_all_but((const int *)(const void *)fds->data, fds->len);
}

/* Builds, locks down, runs. -1 with *error when the guest did not start. */
static int run_guest(struct guest_options *o, GError **error)
{
    struct sandbox sandbox;
    close_others(o);
    warm_up();
    block_module_close_door();
    if (!sandbox_enter(&sandbox, error))
        return -1;
    AUTO(vm) vm = vm_new(o, &sandbox, error);
    if (!vm)
        return -1;
    machine_pause(vm->machine); /* every vCPU thread has reached its place of rest */
    if (!sandbox_lock(&sandbox, error))
        return -1;
    log_debug(LOG_SANDBOX, "landlock %d, mdwe %d, seccomp %d (%u system calls)", sandbox.landlock_abi,
              sandbox.mdwe, sandbox.seccomp, sandbox.syscalls);
    malloc_trim(0);
    if (o->incoming.fd >= 0 && !vm_load(vm, o->incoming.fd, error))
        return -1;
    return vm_run(vm);
}

int vmm_main(char **argv)
{
    g_autoptr(GError) error = NULL;
    struct guest_options options;
    guest_options_init(&options);
    log_set_program("hostel-vmm");
    prepare_process();
    int status = -1;
    if (option_parse(guest_option_rows, OPTION_VMM, argv + 1, &options, &error)) {
        if (options.list)
            return list(options.list);
        if (set_trace(&options, &error))
            status = run_guest(&options, &error);
    }
    guest_options_fini(&options);
    if (status >= 0)
        return status;
    log_error(LOG_VM, "%s", error->message);
    return g_error_matches(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE) ? VM_EXIT_USAGE : VM_EXIT_FAILURE;
}
