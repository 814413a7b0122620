/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A connection to an SSH server; see connect.h. */
/*
 * Nothing is taken from ~/.ssh/config: it can name programs to run. The keys tried are the agent's and the
 * usual files', or the one that is given; passwords are not, since there is nobody to ask.
 */
#include "block/protocol/ssh/connect.h"

#include <fcntl.h>

#include "base/error.h"

static bool set_options(ssh_session s, const struct ssh_place *p)
{
    const long timeout = (long)p->timeout;
    const bool no = false;
    const int off = 0;
    return !ssh_options_set(s, SSH_OPTIONS_PROCESS_CONFIG, &no) &&
           !ssh_options_set(s, SSH_OPTIONS_HOST, p->host) &&
           !ssh_options_set(s, SSH_OPTIONS_PORT, &p->port) &&
           !ssh_options_set(s, SSH_OPTIONS_TIMEOUT, &timeout) &&
           !ssh_options_set(s, SSH_OPTIONS_GSSAPI_DELEGATE_CREDENTIALS, &off) &&
           (!p->user || !ssh_options_set(s, SSH_OPTIONS_USER, p->user)) &&
           (!p->known_hosts || !ssh_options_set(s, SSH_OPTIONS_KNOWNHOSTS, p->known_hosts)) &&
           (!p->known_hosts || !ssh_options_set(s, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null")) &&
           (!p->key_file || !ssh_options_set(s, SSH_OPTIONS_IDENTITY, p->key_file));
}

static bool check_server(ssh_session s, const struct ssh_place *p, GError **error)
{
    switch (ssh_session_is_known_server(s)) {
    case SSH_KNOWN_HOSTS_OK: return true;
    case SSH_KNOWN_HOSTS_CHANGED:
    case SSH_KNOWN_HOSTS_OTHER:
        return hostel_fail(
            error, HOSTEL_ERROR_INPUT,
            "%s: the key of %s is not the one that is known: somebody may be in between; when the "
            "server has a new one, ssh-keygen -R removes the old one",
            p->name, p->host);
    default:
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the key of %s is not known; connect once with ssh, or give known-hosts=FILE",
                           p->name, p->host);
    }
}

/* The one file that was named, and no other key. */
static int use_key_file(ssh_session s, const struct ssh_place *p)
{
    ssh_key key = NULL;
    if (ssh_pki_import_privkey_file(p->key_file, NULL, NULL, NULL, &key))
        return SSH_AUTH_ERROR;
    const int status = ssh_userauth_publickey(s, NULL, key);
    ssh_key_free(key);
    return status;
}

static bool prove_ourselves(ssh_session s, const struct ssh_place *p, GError **error)
{
    const int status = p->key_file ? use_key_file(s, p) : ssh_userauth_publickey_auto(s, NULL, NULL);
    return status == SSH_AUTH_SUCCESS ||
           hostel_fail(error, HOSTEL_ERROR_HOST,
                       "%s: %s accepts none of our keys; add one to the agent, or give key-file=FILE%s%s",
                       p->name, p->host, ssh_get_error(s)[0] ? ": " : "", ssh_get_error(s));
}

static bool open_file(struct ssh_line *l, const struct ssh_place *p, GError **error)
{
    l->sftp = sftp_new(l->session);
    if (!l->sftp || sftp_init(l->sftp))
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: %s has no SFTP: %s", p->name, p->host,
                           ssh_get_error(l->session));
    l->file = sftp_open(l->sftp, p->path, p->readonly ? O_RDONLY : O_RDWR, 0);
    if (l->file)
        return true;
    const int why = sftp_get_error(l->sftp);
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot open it: %s", p->name,
                       why == SSH_FX_NO_SUCH_FILE        ? "there is no such file"
                       : why == SSH_FX_PERMISSION_DENIED ? "permission denied"
                                                         : ssh_get_error(l->session));
}

struct ssh_line *ssh_line_new(const struct ssh_place *p, GError **error)
{
    struct ssh_line *l = g_new0(struct ssh_line, 1);
    l->session = ssh_new();
    bool good = l->session && set_options(l->session, p);
    if (!good)
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", p->name,
                    l->session ? ssh_get_error(l->session) : "the host has not enough memory");
    if (good && ssh_connect(l->session) != SSH_OK)
        good = hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot connect: %s", p->name,
                           ssh_get_error(l->session));
    good = good && check_server(l->session, p, error) && prove_ourselves(l->session, p, error) &&
           open_file(l, p, error);
    if (good)
        return l;
    ssh_line_free(l);
    return NULL;
}

void ssh_line_free(void *line)
{
    struct ssh_line *l = line;
    if (l->file)
        sftp_close(l->file);
    if (l->sftp)
        sftp_free(l->sftp);
    if (l->session) {
        ssh_disconnect(l->session);
        ssh_free(l->session);
    }
    g_free(l);
}
