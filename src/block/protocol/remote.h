/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Options of the disks that are on servers, shared by the rows that tell about them and the modules. */
/*
 * Secrets are read from files: a program's arguments can be read by everybody on the host.
 */
#ifndef HOSTEL_BLOCK_PROTOCOL_REMOTE_H
#define HOSTEL_BLOCK_PROTOCOL_REMOTE_H

#include "block/block.h"

/* NBD. */
struct nbd_options {
    const char *tls_certificates; /* folder with ca-cert.pem, and client-cert.pem and client-key.pem */
    const char *tls_psk_file;
    const char *tls_user;
    unsigned connections; /* at most */
    unsigned timeout;     /* of connecting, seconds */
    unsigned reconnect;   /* how long a connection that is lost is tried to be made again, seconds; 0 = not */
};

/* HTTP, HTTPS and FTP. */
struct curl_options {
    const char *user, *password_file;
    const char *ca_file;
    uint64_t readahead; /* bytes */
    unsigned timeout;   /* without a byte, seconds */
};

/* SFTP. */
struct ssh_options {
    const char *key_file, *known_hosts;
    unsigned connections, timeout;
};

/* iSCSI. */
struct iscsi_options {
    const char *initiator;
    const char *user, *password_file;
    unsigned connections, timeout;
};

extern const struct option_row nbd_option_rows[], curl_option_rows[], ssh_option_rows[], iscsi_option_rows[];

#endif
