/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is done when a guest panics, does not feed its watchdog, resets or powers off; and the commands for
 * it. */
#include "vm/actions.h"

#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "os/fd.h"
#include "vm/dump.h"
#include "vm/vm.h"

/* Words of options and commands, ending with a NULL. */
struct word {
    const char *word;
    enum vm_action action;
};

static const struct word option_words[] = {{"none", VM_ACTION_NONE},   {"reset", VM_ACTION_RESET},
                                           {"pause", VM_ACTION_PAUSE}, {"poweroff", VM_ACTION_FAIL},
                                           {"dump", VM_ACTION_DUMP},   {0}};
static const struct word panic_words[] = {{"none", VM_ACTION_NONE},
                                          {"pause", VM_ACTION_PAUSE},
                                          {"shutdown", VM_ACTION_POWEROFF},
                                          {"exit-failure", VM_ACTION_FAIL},
                                          {"x-reset", VM_ACTION_RESET},
                                          {"x-dump", VM_ACTION_DUMP},
                                          {0}};
static const struct word watchdog_words[] = {{"none", VM_ACTION_NONE},   {"reset", VM_ACTION_RESET},
                                             {"pause", VM_ACTION_PAUSE}, {"poweroff", VM_ACTION_FAIL},
                                             {"x-dump", VM_ACTION_DUMP}, {0}};

/* The words were checked by whoever read them. */
static enum vm_action action_of(const struct word *words, const char *word)
{
    while (strcmp(words->word, word) != 0)
        words++;
    return words->action;
}

static const char *word_of(const struct word *words, enum vm_action action)
{
    while (words->action != action)
        words++;
    return words->word;
}

bool vm_actions_init(struct vm *vm, struct guest_options *o, GError **error)
{
    struct vm_actions *a = &vm->actions;
    a->panic = action_of(option_words, o->panic);
    a->watchdog = action_of(option_words, o->watchdog);
    a->dump_fd = fd_steal(&o->dump_file.fd);
    return (a->panic != VM_ACTION_DUMP && a->watchdog != VM_ACTION_DUMP) || a->dump_fd >= 0 ||
           hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "--panic dump and --watchdog dump: say where to, with --dump-file FILE");
}

void vm_actions_fini(struct vm *vm)
{
    fd_close(&vm->actions.dump_fd);
}

/* --- acting --- */

static void on_dumped(void *opaque, const GError *error)
{
    struct vm *vm = opaque;
    if (error)
        log_error(LOG_VM, "%s", error->message);
    vm_reset(vm, true);
}

static void dump(struct vm *vm)
{
    g_autoptr(GError) error = NULL;
    const struct vm_dump_request request = {
        .fd = fcntl(vm->actions.dump_fd, F_DUPFD_CLOEXEC, 3), .done = on_dumped, .opaque = vm};
    if (vm_dump_start(vm, &request, &error))
        return;
    log_error(LOG_VM, "%s", error->message);
    vm_reset(vm, true);
}

/* Status is how query-status calls a guest that stands because of it. */
static void act(struct vm *vm, enum vm_action action, const char *status)
{
    if (action != VM_ACTION_NONE)
        atomic_store(&vm->power, 0);
    switch (action) {
    case VM_ACTION_NONE: return;
    case VM_ACTION_RESET: vm_reset(vm, true); return;
    case VM_ACTION_PAUSE:
        vm_pause(vm);
        vm->paused_as = status;
        return;
    case VM_ACTION_POWEROFF: vm_end(vm, true, "guest-panic", VM_EXIT_OK); return;
    case VM_ACTION_FAIL: vm_end(vm, true, "guest-panic", VM_EXIT_FAILURE); return;
    case VM_ACTION_DUMP: dump(vm); return;
    }
}

void vm_panicked(struct vm *vm)
{
    static const char *const told[] = {
        [VM_ACTION_NONE] = "run",          [VM_ACTION_RESET] = "x-reset", [VM_ACTION_PAUSE] = "pause",
        [VM_ACTION_POWEROFF] = "poweroff", [VM_ACTION_FAIL] = "poweroff", [VM_ACTION_DUMP] = "x-dump"};
    const enum vm_action action = vm->actions.panic;
    log_warn(LOG_VM, "the guest's kernel has panicked");
    vm_event(vm, "GUEST_PANICKED", json_pack("{s:s}", "action", told[action]));
    act(vm, action, "guest-panicked");
}

void vm_crash_loaded(struct vm *vm)
{
    vm_event(vm, "GUEST_CRASHLOADED", json_pack("{s:s}", "action", "run"));
}

void vm_watchdog_bit(struct vm *vm)
{
    const enum vm_action action = vm->actions.watchdog;
    log_warn(LOG_VM, "the guest has not fed its watchdog in time");
    vm_event(vm, "WATCHDOG", json_pack("{s:s}", "action", word_of(watchdog_words, action)));
    act(vm, action, "watchdog");
}

/* --- commands --- */

static bool can_dump(const struct vm *vm, enum vm_action action, GError **error)
{
    return action != VM_ACTION_DUMP || vm->actions.dump_fd >= 0 ||
           hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "x-dump: the guest was started without --dump-file, so there is "
                       "nowhere to dump to");
}

static json_t *set_action(void *opaque, json_t *args, GError **error)
{
    struct vm *vm = opaque;
    struct vm_actions a = vm->actions;
    const char *reboot = json_string_value(json_object_get(args, "reboot")),
               *shutdown = json_string_value(json_object_get(args, "shutdown")),
               *panic = json_string_value(json_object_get(args, "panic")),
               *watchdog = json_string_value(json_object_get(args, "watchdog"));
    a.reset_ends = reboot ? !strcmp(reboot, "shutdown") : a.reset_ends;
    a.shutdown_pauses = shutdown ? !strcmp(shutdown, "pause") : a.shutdown_pauses;
    a.panic = panic ? action_of(panic_words, panic) : a.panic;
    a.watchdog = watchdog ? action_of(watchdog_words, watchdog) : a.watchdog;
    if (!can_dump(vm, a.panic, error) || !can_dump(vm, a.watchdog, error))
        return NULL;
    vm->actions = a;
    return qmp_done();
}

static json_t *watchdog_set_action(void *opaque, json_t *args, GError **error)
{
    struct vm *vm = opaque;
    const enum vm_action action =
        action_of(watchdog_words, json_string_value(json_object_get(args, "action")));
    if (!can_dump(vm, action, error))
        return NULL;
    vm->actions.watchdog = action;
    return qmp_done();
}

const struct qmp_command vm_action_commands[] = {
    {"set-action",
     "?reboot: RebootAction, ?shutdown: ShutdownAction, ?panic: PanicAction, ?watchdog: WatchdogAction", NULL,
     0, set_action},
    {"watchdog-set-action", "action: WatchdogAction", NULL, 0, watchdog_set_action},
    {0},
};
