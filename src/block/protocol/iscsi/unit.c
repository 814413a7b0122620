/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A session with an iSCSI server; see unit.h. */
#include "block/protocol/iscsi/unit.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "block/protocol/remote.h"
#include "block/protocol/secret.h"

enum { ASCQ_SPACE_ALLOCATION_FAILED = 0x2707 };

static char *our_name(void)
{
    char host[65] = "";
    if (gethostname(host, sizeof(host) - 1))
        host[0] = '\0';
    for (char *c = host; *c; c++)
        *c = g_ascii_isalnum(*c) || *c == '-' || *c == '.' ? g_ascii_tolower(*c) : '-';
    return g_strdup_printf("iqn.2026-01.hostel:%s", host);
}

bool unit_place_init(struct unit_place *p, const char *name, const char *uri, const struct iscsi_options *o,
                     GError **error)
{
    *p = (struct unit_place){.timeout = o->timeout};
    p->initiator = o->initiator ? g_strdup(o->initiator) : our_name();
    struct iscsi_context *context = iscsi_create_context(p->initiator);
    struct iscsi_url *url = context ? iscsi_parse_full_url(context, uri) : NULL;
    bool good = url != NULL;
    if (!good)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: must be iscsi://HOST[:PORT]/IQN/LUN", name);
    if (good && o->password_file)
        good = secret_read(o->password_file, &p->password, error);
    if (good) {
        p->name = g_strdup(name);
        p->portal = g_strdup(url->portal);
        p->target = g_strdup(url->target);
        p->lun = url->lun;
        p->user = o->user ? g_strdup(o->user) : url->user[0] ? g_strdup(url->user) : NULL;
        if (!p->password && url->passwd[0])
            p->password = g_strdup(url->passwd);
    }
    if (url) {
        explicit_bzero(url->passwd, sizeof(url->passwd));
        iscsi_destroy_url(url);
    }
    if (context)
        iscsi_destroy_context(context);
    if (!good)
        unit_place_clear(p);
    return good;
}

void unit_place_clear(struct unit_place *p)
{
    g_free(p->name);
    g_free(p->portal);
    g_free(p->target);
    g_free(p->initiator);
    g_free(p->user);
    secret_free(p->password);
}

struct iscsi_context *unit_login(const struct unit_place *p, GError **error)
{
    struct iscsi_context *s = iscsi_create_context(p->initiator);
    if (!s) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory", p->name);
        return NULL;
    }
    iscsi_set_timeout(s, (int)p->timeout);
    /* Without an end it would try again and again, and nobody be told. */
    iscsi_set_noautoreconnect(s, 1);
    iscsi_set_session_type(s, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(s, ISCSI_HEADER_DIGEST_NONE_CRC32C);
    if (!iscsi_set_targetname(s, p->target) &&
        (!p->user || !p->password || !iscsi_set_initiator_username_pwd(s, p->user, p->password)) &&
        !iscsi_full_connect_sync(s, p->portal, p->lun))
        return s;
    hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot log in: %s", p->name, iscsi_get_error(s));
    iscsi_destroy_context(s);
    return NULL;
}

void unit_logout(void *session)
{
    struct iscsi_context *s = session;
    if (iscsi_is_logged_in(s))
        iscsi_logout_sync(s);
    iscsi_destroy_context(s);
}

static int sense_error(const struct scsi_sense *sense, bool *again)
{
    switch (sense->key) {
    case SCSI_SENSE_UNIT_ATTENTION: *again = true; return -EIO;
    case SCSI_SENSE_ILLEGAL_REQUEST: return -EOPNOTSUPP;
    case SCSI_SENSE_DATA_PROTECTION: return sense->ascq == ASCQ_SPACE_ALLOCATION_FAILED ? -ENOSPC : -EPERM;
    default: return -EIO;
    }
}

int unit_finish(struct scsi_task *task, bool *again, bool *broken)
{
    int status = 0;
    *again = *broken = false;
    if (!task) {
        *broken = true;
        return -EIO;
    }
    if (task->status == SCSI_STATUS_CHECK_CONDITION)
        status = sense_error(&task->sense, again);
    else if (task->status == SCSI_STATUS_BUSY || task->status == SCSI_STATUS_TASK_SET_FULL)
        *again = true, status = -EBUSY;
    else if (task->status !=
             SCSI_STATUS_GOOD) /* those of libiscsi itself, for time-outs and lost sessions, too */
        *broken = true, status = -EIO;
    scsi_free_scsi_task(task);
    return status;
}
