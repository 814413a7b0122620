/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A connection to an SSH server with one of its files open, through libssh. */
#ifndef HOSTEL_BLOCK_PROTOCOL_SSH_CONNECT_H
#define HOSTEL_BLOCK_PROTOCOL_SSH_CONNECT_H

#include <glib.h>
#include <libssh/libssh.h>
#include <libssh/sftp.h>
#include <stdbool.h>

/* ssh://[USER@]HOST[:PORT]/PATH, taken apart; and how. Owned. */
struct ssh_place {
    char *name; /* for messages */
    char *user, *host, *path;
    unsigned port;
    char *key_file, *known_hosts; /* or NULL */
    unsigned timeout;             /* seconds */
    bool readonly;
};

struct ssh_line {
    ssh_session session;
    sftp_session sftp;
    sftp_file file;
};

/* NULL with *error. The server's key must be one that we know; no question is asked. */
struct ssh_line *ssh_line_new(const struct ssh_place *place, GError **error);
void ssh_line_free(void *line);

#endif
