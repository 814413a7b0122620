/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest that has a name, as commands see it. */
#include "cli/guest.h"

#include <poll.h>
#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/named.h"
#include "os/fd.h"

enum { STATUS_MS = 1000, LOOK_US = 500, KILL_MS = 10000 };

bool guest_find(const char *name, struct guest_state *state, GError **error)
{
    *state = (struct guest_state){0};
    if (!named_exists(name))
        return named_fail_unknown(name, error);
    guest_state_read(name, state);
    return true;
}

bool guest_find_live(const char *name, struct guest_state *state, GError **error)
{
    if (!guest_find(name, state, error))
        return false;
    if (state->live)
        return true;
    if (!strcmp(state->status, "busy"))
        return hostel_fail(error, HOSTEL_ERROR_HOST,
                           "guest '%s' is just being changed by another hostel; try again", name);
    return hostel_fail(error, HOSTEL_ERROR_HOST,
                       "guest '%s' is not running (%s%s%s); 'hostel start %s' starts it", name, state->status,
                       state->why ? ": " : "", state->why ? state->why : "", name);
}

bool guest_await_end(const struct guest_state *state, int timeout_ms)
{
    AUTO_FD fd = guest_process_open(&state->supervisor);
    struct pollfd end = {fd, POLLIN, 0};
    return fd < 0 || poll(&end, 1, timeout_ms) > 0;
}

void guest_await_status(const char *name, const char *status)
{
    for (const gint64 end = g_get_monotonic_time() + STATUS_MS * 1000; g_get_monotonic_time() < end;) {
        AUTO_STATE state;
        guest_state_read(name, &state);
        if (!state.live || !strcmp(state.status, status))
            return;
        g_usleep(LOOK_US);
    }
}

bool guest_kill(const char *name, GError **error)
{
    AUTO_STATE state;
    guest_state_read(name, &state);
    if (!state.live)
        return true;
    /* The VMM; its supervisor then says how it ended. */
    const bool sent = guest_process_kill(&state.vmm, SIGKILL);
    if (guest_await_end(&state, sent ? KILL_MS : KILL_MS / 10))
        return true;
    guest_process_kill(&state.supervisor, SIGKILL);
    if (!guest_await_end(&state, KILL_MS))
        return hostel_fail(error, HOSTEL_ERROR_HOST,
                           "guest '%s': process %d does not end; the host keeps it waiting", name,
                           (int)state.supervisor.pid);
    guest_state_await_death(name);
    return true;
}

int guest_exit_code(const struct guest_state *state)
{
    return state->exit_code >= 0 && !state->signal ? state->exit_code : CLI_CRASH;
}
