/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Protocol ssh: a file on another host, over SFTP. */
/*
 * Sources: draft-ietf-secsh-filexfer-02 (SFTP version 3) and OpenSSH's PROTOCOL, for fsync@openssh.com:
 * without that a flush would be a lie, so a server that has it not is only read from. The file is not locked:
 * SFTP has no locks.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/cursor.h"
#include "block/module.h"
#include "block/protocol/lines.h"
#include "block/protocol/remote.h"
#include "block/protocol/ssh/connect.h"
#include "block/scratch.h"

enum {
    REQUEST = 32 << 10, /* what every server takes at once */
    AHEAD = 16,         /* requests to read under way on a connection */
};
#define PIECE MiB

struct ssh_disk {
    struct disk disk;
    struct ssh_place place;
    struct lines lines;
};

static struct ssh_disk *ssh_disk(struct disk *b)
{
    return (struct ssh_disk *)(void *)b;
}

/* --- places --- */

static bool parse_place(struct ssh_place *p, const char *uri, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *user = NULL, *host = NULL, *path = NULL;
    gint port = -1;
    /* GLib decodes %XX; a password in a URI would be seen by all of this host. */
    if (!g_uri_split_with_user(uri, G_URI_FLAGS_HAS_PASSWORD, NULL, &user, NULL, NULL, &host, &port, &path,
                               NULL, NULL, &why))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: is no URI: %s", p->name, why->message);
    g_autofree char *password = NULL;
    g_uri_split_with_user(uri, G_URI_FLAGS_HAS_PASSWORD, NULL, NULL, &password, NULL, NULL, NULL, NULL, NULL,
                          NULL, NULL);
    if (password)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "give no password in a URI, where all of this host can read it; use a key");
    if (!host || !*host || !path || !path[0] || !path[1])
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: must be ssh://[USER@]HOST[:PORT]/PATH", p->name);
    p->user = g_steal_pointer(&user);
    p->host = g_steal_pointer(&host);
    p->path = g_steal_pointer(&path);
    p->port = port > 0 ? (unsigned)port : 22;
    return true;
}

static void clear_place(struct ssh_place *p)
{
    g_free(p->user);
    g_free(p->host);
    g_free(p->path);
    g_free(p->key_file);
    g_free(p->known_hosts);
}

/* --- opening --- */

static void *connect_more(void *opaque, int *error)
{
    struct ssh_line *l = ssh_line_new(opaque, NULL);
    *error = l ? 0 : -EIO;
    return l;
}

static bool find_facts(struct ssh_disk *d, struct ssh_line *l, GError **error)
{
    struct block_facts *f = &d->disk.facts;
    sftp_attributes a = sftp_fstat(l->file);
    const bool known = a && a->flags & SSH_FILEXFER_ATTR_SIZE && a->size <= INT64_MAX;
    const bool regular = a && a->type == SSH_FILEXFER_TYPE_REGULAR;
    f->size = known ? a->size : 0;
    f->alignment = 1;
    f->preferred = REQUEST;
    sftp_attributes_free(a);
    if (!known || !regular)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no file with a size", d->place.name);
    if (!f->readonly && !sftp_extension_supported(l->sftp, "fsync@openssh.com", "1"))
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: the server cannot make durable what is written (no fsync@openssh.com); add "
                           "readonly=on",
                           d->place.name);
    return true;
}

static bool ssh_disk_open(struct disk *b, struct block_config *config, GError **error)
{
    struct ssh_disk *d = ssh_disk(b);
    struct ssh_options defaults = {0};
    const struct ssh_options *o = config->options;
    if (!config->uri)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: give a URI, ssh://[USER@]HOST[:PORT]/PATH",
                           b->name);
    if (!o) {
        option_init(ssh_option_rows, &defaults);
        o = &defaults;
    }
    d->place = (struct ssh_place){.name = b->name, .timeout = o->timeout, .readonly = config->readonly};
    struct ssh_line *first = NULL;
    if (parse_place(&d->place, config->uri, error)) {
        d->place.key_file = g_strdup(o->key_file);
        d->place.known_hosts = g_strdup(o->known_hosts);
        first = ssh_line_new(&d->place, error);
    }
    if (first && find_facts(d, first, error)) {
        lines_init(&d->lines, o->connections, connect_more, ssh_line_free, &d->place);
        lines_add(&d->lines, first);
        return true;
    }
    if (first)
        ssh_line_free(first);
    clear_place(&d->place);
    return false;
}

static void ssh_disk_close(struct disk *b)
{
    lines_fini(&ssh_disk(b)->lines);
    clear_place(&ssh_disk(b)->place);
}

/* --- data --- */

/* What the server said; what it did not say is a broken connection. */
static int sftp_status(struct ssh_line *l)
{
    switch (sftp_get_error(l->sftp)) {
    case SSH_FX_PERMISSION_DENIED: return -EPERM;
    case SSH_FX_NO_SUCH_FILE: return -ENOENT;
    case SSH_FX_OP_UNSUPPORTED: return -EOPNOTSUPP;
    case 15 /* SSH_FX_QUOTA_EXCEEDED of later versions */:
    case 14 /* SSH_FX_NO_SPACE_ON_FILESYSTEM */: return -ENOSPC;
    default: return -EIO;
    }
}

/* Several requests are under way: distance costs time only once. */
static int read_piece(struct ssh_line *l, uint8_t *bytes, uint32_t size, uint64_t offset)
{
    uint32_t asked[AHEAD] = {0}, sent = 0, got = 0;
    if (sftp_seek64(l->file, offset) < 0)
        return -EIO;
    for (unsigned in = 0, out = 0; got < size; out++) {
        for (; sent < size && in - out < AHEAD; in++) {
            const uint32_t now = MIN(size - sent, (uint32_t)REQUEST);
            const int id = sftp_async_read_begin(l->file, now);
            if (id < 0)
                return sftp_status(l);
            asked[in % AHEAD] = (uint32_t)id;
            sent += now;
        }
        const uint32_t now = MIN(size - got, (uint32_t)REQUEST);
        const int n = sftp_async_read(l->file, bytes + got, now, asked[out % AHEAD]);
        if (n != (int)now) /* the file became shorter, or the server gives less than it must */
            return n < 0 ? sftp_status(l) : -EIO;
        got += now;
    }
    return 0;
}

static int write_piece(struct ssh_line *l, const uint8_t *bytes, uint32_t size, uint64_t offset)
{
    if (sftp_seek64(l->file, offset) < 0)
        return -EIO;
    for (uint32_t done = 0; done < size;) {
        const uint32_t now = MIN(size - done, (uint32_t)REQUEST);
        const ssize_t n = sftp_write(l->file, bytes + done, now);
        if (n <= 0)
            return n ? sftp_status(l) : -EIO;
        done += (uint32_t)n;
    }
    return 0;
}

/* After an error replies to earlier requests may be on their way: the connection is not used again. */
static int transfer(struct ssh_disk *d, bool write, const struct iovec *iov, unsigned n, uint64_t offset)
{
    int status;
    uint64_t left = block_iov_size(iov, n);
    struct block_cursor cursor = {.iov = iov};
    struct ssh_line *l = lines_take(&d->lines, &status);
    if (!l)
        return status;
    uint8_t *bytes = block_scratch_take((size_t)MIN(left, PIECE));
    status = bytes ? 0 : -ENOMEM;
    while (left && !status) {
        const uint32_t now = (uint32_t)MIN(left, PIECE);
        if (write)
            block_cursor_take(&cursor, bytes, now);
        status = write ? write_piece(l, bytes, now, offset) : read_piece(l, bytes, now, offset);
        if (!write && !status)
            block_cursor_fill(&cursor, bytes, now);
        offset += now;
        left -= now;
    }
    block_scratch_give(bytes);
    lines_give(&d->lines, l, status && status != -ENOMEM);
    return status;
}

static int ssh_disk_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    return flags & BLOCK_NOWAIT ? -EAGAIN : transfer(ssh_disk(b), false, iov, n, offset);
}

static int ssh_disk_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return transfer(ssh_disk(b), true, iov, n, offset);
}

/* One handle's fsync is the file's: the server has what was acknowledged on any connection. */
static int ssh_disk_flush(struct disk *b)
{
    struct ssh_disk *d = ssh_disk(b);
    int status;
    struct ssh_line *l = lines_take(&d->lines, &status);
    if (!l)
        return status;
    status = sftp_fsync(l->file) ? sftp_status(l) : 0;
    lines_give(&d->lines, l, status);
    return !status && lines_broke(&d->lines) ? -EIO : status;
}

static int ssh_disk_resize(struct disk *b, uint64_t size)
{
    struct ssh_disk *d = ssh_disk(b);
    int status;
    struct ssh_line *l = lines_take(&d->lines, &status);
    if (!l)
        return status;
    struct sftp_attributes_struct a = {.flags = SSH_FILEXFER_ATTR_SIZE, .size = size};
    status = sftp_setstat(l->sftp, d->place.path, &a) ? sftp_status(l) : 0;
    lines_give(&d->lines, l, status);
    return status;
}

static const struct block_driver ssh_driver = {
    .name = "ssh",
    .help = "a file on another host, over SFTP",
    .kind = BLOCK_PROTOCOL,
    .size = sizeof(struct ssh_disk),
    .options = ssh_option_rows,
    .options_size = sizeof(struct ssh_options),
    .open = ssh_disk_open,
    .close = ssh_disk_close,
    .read = ssh_disk_read,
    .write = ssh_disk_write,
    .flush = ssh_disk_flush,
    .resize = ssh_disk_resize,
};

BLOCK_MODULE_DEFINE(ssh_driver);
