/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel dump`: a running guest's memory and registers in a file, for debuggers. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/guest.h"
#include "cli/guest_call.h"
#include "os/fd.h"

/* A new file, so that nothing is lost and nobody else has it open. */
static int create(const char *path, GError **error)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot make this file: %s; %s", path, g_strerror(errno),
                    errno == EEXIST ? "give a name that is not there" : "give another one");
    return fd;
}

int cli_dump(char **argv)
{
    GError *error = NULL;
    AUTO_ARGS args = {0};
    AUTO_STATE state = {0};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    const char *name = args.names[0], *path = args.names[1];
    if (!guest_find_live(name, &state, &error))
        return cli_fail(error);
    AUTO(guest_call) call = guest_call_open(name, GUEST_CALL_MS, &error);
    AUTO_FD fd = call ? create(path, &error) : -1;
    if (fd < 0)
        return cli_fail(error);
    guest_call_set_timeout(call, -1);
    if (guest_call_give(call, "dump", fd, &error) &&
        guest_call_do(call, "dump-guest-memory", json_pack("{s:b,s:s}", "paging", 0, "protocol", "fd:dump"),
                      &error))
        return CLI_OK;
    unlink(path);
    return cli_fail(error);
}
