/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A session with an iSCSI server, at one of its logical units, through libiscsi. */
#ifndef HOSTEL_BLOCK_PROTOCOL_ISCSI_UNIT_H
#define HOSTEL_BLOCK_PROTOCOL_ISCSI_UNIT_H

#include <glib.h>
#include <stdbool.h>
/* libiscsi's headers want the fixed-width types. */
#include <stdint.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

/* Where and as whom. Owned. */
struct unit_place {
    char *name; /* for messages */
    char *portal, *target, *initiator;
    char *user, *password; /* or NULL */
    int lun;
    unsigned timeout; /* seconds */
};

/* From a URI and options. False with *error; then there is nothing to be cleared. */
struct iscsi_options;
bool unit_place_init(struct unit_place *p, const char *name, const char *uri, const struct iscsi_options *o,
                     GError **error);
void unit_place_clear(struct unit_place *p);

/* A session; NULL with *error. */
struct iscsi_context *unit_login(const struct unit_place *p, GError **error);
void unit_logout(void *session);

/* What became of a command, which it frees: 0 or -errno. *again: nothing was done, and it is to be given
 * again. *broken: the session is of no use any more. */
int unit_finish(struct scsi_task *task, bool *again, bool *broken);

#endif
