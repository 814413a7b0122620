/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One guest's life. */
#include "vm/vm.h"

#include <glib-unix.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "accel/accel.h"
#include "base/error.h"
#include "base/log.h"
#include "os/fd.h"
#include "vm/chardevs.h"
#include "vm/dump.h"
#include "vm/functions.h"
#include "vm/hotplug.h"
#include "vm/node_jobs.h"
#include "vm/notices.h"
#include "vm/snapshot.h"

enum { POWER_SEEN = 1 << 16 };

struct power_source {
    GSource base;
    struct vm *vm;
};

/* --- states --- */

void vm_event(struct vm *vm, const char *name, json_t *data)
{
    log_debug(LOG_VM, "event %s", name);
    if (vm->control)
        qmp_server_event(vm->control, name, data);
    else
        json_decref(data);
}

void vm_pause(struct vm *vm)
{
    if (vm->state != VM_RUNNING)
        return;
    machine_pause(vm->machine);
    vm->state = VM_PAUSED;
    vm_event(vm, "STOP", NULL);
}

void vm_resume(struct vm *vm)
{
    if (vm->state != VM_PAUSED && vm->state != VM_SAVED && vm->state != VM_STARTING)
        return;
    vm->paused_as = NULL;
    vm->state = VM_RUNNING;
    vm_event(vm, "RESUME", NULL);
    machine_start(vm->machine);
    vm_nodes_again(vm->nodes);
}

void vm_set_saved(struct vm *vm)
{
    if (vm->state == VM_PAUSED)
        vm->state = VM_SAVED;
}

void vm_set_loaded(struct vm *vm)
{
    vm->state = VM_PAUSED;
    vm->paused_as = NULL;
}

bool vm_can_run(const struct vm *vm, GError **error)
{
    if (!vm_dump_idle(vm, error) || !vm_snapshot_idle(vm, error))
        return false;
    return !vm->broken || hostel_fail(error, HOSTEL_ERROR_USAGE,
                                      "the guest is half of a snapshot and cannot go on: load one with "
                                      "snapshot-load, or reset it with system_reset");
}

void vm_reset(struct vm *vm, bool by_guest)
{
    g_autoptr(GError) error = NULL;
    if (vm->state == VM_RUNNING)
        machine_pause(vm->machine);
    if (!machine_reset(vm->machine, &error)) {
        log_error(LOG_VM, "%s", error->message);
        vm_end(vm, by_guest, "subsystem-reset", VM_EXIT_FAILURE);
        return;
    }
    vm->paused_as = NULL;
    vm->broken = false;
    vm_event(vm, "RESET",
             json_pack("{s:b,s:s}", "guest", by_guest, "reason",
                       by_guest ? "guest-reset" : "host-qmp-system-reset"));
    if (vm->state == VM_RUNNING)
        machine_start(vm->machine);
}

void vm_end(struct vm *vm, bool by_guest, const char *reason, int code)
{
    if (vm->state == VM_ENDED)
        return;
    if (vm->state == VM_RUNNING)
        machine_pause(vm->machine);
    vm->state = VM_ENDED;
    vm->by_guest = by_guest;
    vm->reason = reason;
    vm->exit_code = code;
    g_main_loop_quit(vm->loop);
}

/* --- power events --- */

/* On any thread; the guest runs on until the main loop has seen it. */
static void on_power(void *opaque, enum machine_power what, int code)
{
    struct vm *vm = opaque;
    unsigned none = 0;
    if (atomic_compare_exchange_strong(&vm->power, &none,
                                       POWER_SEEN | (unsigned)what << 8 | ((unsigned)code & 0xff)))
        g_source_set_ready_time(vm->power_source, 0);
}

/* The guest has powered off. */
static void shut_down(struct vm *vm)
{
    if (!vm->actions.shutdown_pauses) {
        vm_end(vm, true, "guest-shutdown", VM_EXIT_OK);
        return;
    }
    vm_event(vm, "SHUTDOWN",
             json_pack("{s:b,s:s,s:i}", "guest", 1, "reason", "guest-shutdown", "x-exit-code", 0));
    vm_pause(vm);
    vm->paused_as = "shutdown";
}

static gboolean serve_power(GSource *base, GSourceFunc callback G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
    struct vm *vm = ((struct power_source *)(void *)base)->vm;
    g_source_set_ready_time(base, -1);
    if (vm->snapshot)
        return G_SOURCE_CONTINUE; /* until its end: vm_power_again() */
    /* The word is emptied with the guest standing still, so what it does after this event is not taken for
     * another. */
    if (vm->state == VM_RUNNING)
        machine_pause(vm->machine);
    vm_notices_serve(vm->notices); /* what the guest said of itself before comes first */
    unsigned power = atomic_exchange(&vm->power, 0);
    if (!power || vm->state == VM_ENDED) /* 0: the notice before has made it meaningless */
        return G_SOURCE_CONTINUE;
    switch ((enum machine_power)(power >> 8 & 0xff)) {
    case MACHINE_OFF: shut_down(vm); break;
    case MACHINE_FAIL: vm_end(vm, true, "guest-panic", (int)(power & 0xff)); break;
    case MACHINE_RESET:
        if (vm->actions.reset_ends)
            vm_end(vm, true, "guest-reset", VM_EXIT_OK);
        else
            vm_reset(vm, true);
        break;
    }
    return G_SOURCE_CONTINUE;
}

void vm_power_again(struct vm *vm)
{
    vm_notices_again(vm->notices);
    if (atomic_load(&vm->power))
        g_source_set_ready_time(vm->power_source, 0);
}

void vm_power_forget(struct vm *vm)
{
    vm_notices_forget(vm->notices);
    atomic_store(&vm->power, 0);
}

static GSourceFuncs power_funcs = {.dispatch = serve_power};

/* --- the host's signals --- */

/* g_unix_signal_add() would start a thread of GLib's. The signals are blocked in all threads (vmm_main). */
static gboolean serve_signal(gint fd, GIOCondition condition G_GNUC_UNUSED, gpointer data)
{
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        vm_end(data, false, "host-signal", VM_EXIT_SIGNAL + (int)info.ssi_signo);
    return G_SOURCE_CONTINUE;
}

static bool watch_signals(struct vm *vm, GError **error)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    int fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot watch signals: %s", g_strerror(errno));
    vm->signal_source = g_unix_fd_source_new(fd, G_IO_IN); /* the descriptor lives as long as the process */
    g_source_set_callback(vm->signal_source, G_SOURCE_FUNC(serve_signal), vm, NULL);
    g_source_attach(vm->signal_source, NULL);
    return true;
}

/* --- building --- */

static const struct accel *choose_method(const char *name, GError **error)
{
    if (name) {
        const struct accel *a = accel_find(name);
        if (!a)
            hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no method '%s'; 'hostel methods' lists them",
                        name);
        else if (!a->available(error))
            return NULL;
        return a;
    }
    for (unsigned i = 0; accels[i]; i++)
        if (accels[i]->available(NULL))
            return accels[i];
    hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "no method to run a guest is available on this host");
    return NULL;
}

static const struct board *choose_board(const struct guest_options *o, GError **error)
{
    if (!o->isa) {
        hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "--isa is missing: which instruction set, as in --isa riscv64 ('hostel isas' lists them)");
        return NULL;
    }
    if (!isa_find(o->isa)) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no ISA '%s'; 'hostel isas' lists them", o->isa);
        return NULL;
    }
    const struct board *board = board_find(o->board, o->isa);
    if (!board)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no board '%s' for %s; 'hostel boards' lists them",
                    o->board ? o->board : "(any)", o->isa);
    else if (strcmp(board->isa, o->isa) != 0) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "board %s has the ISA %s, not %s", board->name, board->isa,
                    o->isa);
        return NULL;
    }
    return board;
}

static struct stream *open_console(struct option_console *console)
{
    int fd = fd_steal(&console->file.fd);
    return stream_new_fd(NULL, console->kind == CONSOLE_STDIO ? fd : -1, fd);
}

/* The banks of flash; without a word about it, the first is started when there is no kernel. */
static bool take_flash(struct guest_options *o, struct machine_config *c, GError **error)
{
    static const char *const words[] = {[MACHINE_START_OFF] = "off",
                                        [MACHINE_START_SUPERVISOR] = "supervisor",
                                        [MACHINE_START_MACHINE] = "machine"};
    struct flash_options *items = o->flash.items;
    if (o->flash.count > MACHINE_FLASH)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--flash is given %u times; there are %d banks",
                           o->flash.count, MACHINE_FLASH);
    for (unsigned i = 0; i < o->flash.count; i++) {
        struct machine_flash *flash = &c->flash[i];
        *flash = (struct machine_flash){
            .given = true, .fd = fd_steal(&items[i].file.fd), .readonly = items[i].readonly};
        if (!items[i].start && !i && c->kernel_fd < 0)
            flash->start = MACHINE_START_SUPERVISOR;
        for (unsigned k = 0; items[i].start && k < G_N_ELEMENTS(words); k++)
            if (!strcmp(items[i].start, words[k]))
                flash->start = (enum machine_start)k;
    }
    return true;
}

static bool take_fw_files(struct guest_options *o, struct machine_config *c, GError **error)
{
    struct fw_cfg_options *items = o->fw_cfg.items;
    if (o->fw_cfg.count > MACHINE_FW_FILES)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--fw-cfg is given %u times; at most %d are possible",
                           o->fw_cfg.count, MACHINE_FW_FILES);
    for (unsigned i = 0; i < o->fw_cfg.count; i++) {
        if ((items[i].file.fd < 0) == !items[i].string)
            return hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "--fw-cfg name=%s: give either file= or string=", items[i].name);
        c->fw_files[i] = (struct machine_fw_file){
            .name = items[i].name, .string = items[i].string, .fd = fd_steal(&items[i].file.fd)};
    }
    return true;
}

/* The machine is built; its ports are filled before it starts. */
static bool fill_ports(struct vm *vm, const struct machine_virtio *rows, unsigned n, GError **error)
{
    vm->hotplug = vm_hotplug_new(vm);
    for (unsigned i = 0; i < n; i++)
        if (!vm_hotplug_put(vm->hotplug, &rows[i], error))
            return false;
    return true;
}

static bool build_machine(struct vm *vm, struct guest_options *o, GError **error)
{
    const struct accel *accel = choose_method(o->method, error);
    const struct board *board = accel ? choose_board(o, error) : NULL;
    if (!board)
        return false;
    if (o->kernel.fd < 0 && o->firmware.fd < 0 && !o->flash.count)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "nothing to boot: give --kernel FILE, --firmware FILE, both, or --flash FILE");
    struct machine_config config = {
        .accel = accel,
        .vcpus = o->cpus,
        .memory = o->memory,
        .kernel_fd = fd_steal(&o->kernel.fd),
        .initrd_fd = fd_steal(&o->initrd.fd),
        .firmware_fd = fd_steal(&o->firmware.fd),
        .kernel_name = o->kernel.name,
        .initrd_name = o->initrd.name,
        .firmware_name = o->firmware.name,
        .append = o->append,
        .cpu_features = o->cpu_features,
        .tuning = o->x_tuning,
        .console = strcmp(o->console_via, "virtio") != 0 ? vm->console : NULL, /* else a function has it */
        .incoming = o->incoming.fd >= 0,
        .power = on_power,
        .notice = vm_note,
        .opaque = vm,
    };
    if (!take_flash(o, &config, error) || !take_fw_files(o, &config, error))
        return false;
    struct vm_functions functions;
    if (!vm_functions_collect(vm, o, &functions, error))
        return false;
    const unsigned own = vm_functions_split(&functions);
    config.virtio = functions.row;
    config.n_virtio = own;
    config.ports = o->hotplug;
    vm->machine = machine_new(board, &config, error);
    return vm->machine && fill_ports(vm, functions.row + own, functions.count - own, error);
}

static void on_job_event(void *opaque, const char *name, json_t *data)
{
    struct vm *vm = opaque;
    if (vm->nodes)
        vm_node_jobs_told(vm->nodes, data);
    vm_event(vm, name, data);
}

/* Whoever started us has gone. */
static void on_closed(void *opaque)
{
    vm_end(opaque, false, "host-error", VM_EXIT_FAILURE);
}

struct vm *vm_new(struct guest_options *options, struct sandbox *sandbox, GError **error)
{
    AUTO(vm) vm = g_new0(struct vm, 1);
    vm->options = options;
    vm->sandbox = sandbox;
    vm->loop = g_main_loop_new(NULL, FALSE);
    vm->power_source = g_source_new(&power_funcs, sizeof(struct power_source));
    ((struct power_source *)(void *)vm->power_source)->vm = vm;
    g_source_attach(vm->power_source, NULL);
    vm->notices = vm_notices_new(vm);
    if (!vm_actions_init(vm, options, error))
        return NULL;
    if (!watch_signals(vm, error))
        return NULL;
    vm->worker = vm_worker_new(NULL, 1, error);
    if (!vm->worker)
        return NULL;
    vm->jobs = jobs_new(NULL, on_job_event, vm, error);
    if (!vm->jobs)
        return NULL;
    const char *console_kind = options->console.file.fd >= 0 ? "fd" : "null";
    vm->console = open_console(&options->console);
    if (!build_machine(vm, options, error))
        return NULL;
    vm_chardevs_init(vm, console_kind);
    vm->control = qmp_server_new(NULL, vm_command_tables, vm);
    if (options->control.fd >= 0)
        qmp_server_add(vm->control, fd_steal(&options->control.fd), on_closed, vm);
    if (options->control_listen.fd >= 0)
        qmp_server_listen(vm->control, fd_steal(&options->control_listen.fd));
    return STEAL(vm);
}

static void free_source(GSource *source)
{
    if (!source)
        return;
    g_source_destroy(source);
    g_source_unref(source);
}

void vm_free(struct vm *vm)
{
    if (!vm)
        return;
    vm_dump_stop(vm);
    vm_snapshot_stop(vm);
    if (vm->worker)
        vm_save_free(vm);
    jobs_free(vm->jobs);
    vm_dump_free(vm);
    vm_snapshot_free(vm);
    machine_free(vm->machine);
    vm_hotplug_free(vm->hotplug);
    vm_nodes_free(vm->nodes);
    vm_chardevs_fini(vm);
    if (vm->channels)
        g_ptr_array_unref(vm->channels);
    g_free(vm->ports);
    if (vm->nets)
        g_ptr_array_unref(vm->nets);
    stream_free(vm->console);
    qmp_server_free(vm->control);
    free_source(vm->power_source);
    free_source(vm->stats_source);
    vm_notices_free(vm->notices);
    vm_actions_fini(vm);
    free_source(vm->signal_source);
    g_main_loop_unref(vm->loop);
    g_free(vm);
}

/* --- running --- */

int vm_run(struct vm *vm)
{
    if (!vm->options->paused)
        vm_resume(vm);
    g_main_loop_run(vm->loop);
    vm_event(vm, "SHUTDOWN",
             json_pack("{s:b,s:s,s:i}", "guest", vm->by_guest, "reason", vm->reason, "x-exit-code",
                       vm->exit_code));
    if (vm->options->stats)
        stats_print(vm->machine->vcpus);
    return vm->exit_code;
}
