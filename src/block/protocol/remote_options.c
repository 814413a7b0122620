/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Options of the disks that are on servers. */
#include "block/protocol/remote.h"

#define ROW(struct_name, key, label, metavar, kind, standard, text)                                          \
    {                                                                                                        \
        .name = label, .arg = metavar, .value = standard, .help = text, .type = OPTION_##kind,               \
        .who = OPTION_BOTH, .offset = offsetof(struct struct_name, key)                                      \
    }

const struct option_row nbd_option_rows[] = {
    ROW(nbd_options, tls_certificates, "tls-certificates", "DIR", TEXT, NULL,
        "certificates: ca-cert.pem, client-cert.pem, client-key.pem"),
    ROW(nbd_options, tls_psk_file, "tls-psk-file", "FILE", TEXT, NULL, "keys shared with the server"),
    ROW(nbd_options, tls_user, "tls-user", "NAME", TEXT, NULL, "who we are, in the file of keys"),
    ROW(nbd_options, connections, "connections", "N", COUNT, "4", "at most, when the server allows several"),
    ROW(nbd_options, timeout, "timeout", "SECONDS", COUNT, "30", "for connecting"),
    {.name = "reconnect-delay",
     .arg = "SECONDS",
     .help = "how long requests wait for a connection that was lost to be made again (0: they fail)",
     .type = OPTION_COUNT,
     .who = OPTION_BOTH,
     .offset = offsetof(struct nbd_options, reconnect),
     .may_be_none = true},
    {0},
};

const struct option_row curl_option_rows[] = {
    ROW(curl_options, user, "user", "NAME", TEXT, NULL, "user name, with password-file"),
    ROW(curl_options, password_file, "password-file", "FILE", TEXT, NULL, "file with the password"),
    ROW(curl_options, ca_file, "ca-file", "FILE", TEXT, NULL, "certificates to trust instead of the host's"),
    ROW(curl_options, readahead, "readahead", "SIZE", SIZE, "256K", "small reads fetch that much"),
    ROW(curl_options, timeout, "timeout", "SECONDS", COUNT, "30", "without a byte from the server"),
    {0},
};

const struct option_row ssh_option_rows[] = {
    ROW(ssh_options, key_file, "key-file", "FILE", TEXT, NULL,
        "private key, instead of the agent's and usual"),
    ROW(ssh_options, known_hosts, "known-hosts", "FILE", TEXT, NULL, "keys of servers, instead of ~/.ssh's"),
    ROW(ssh_options, connections, "connections", "N", COUNT, "4", "at most"),
    ROW(ssh_options, timeout, "timeout", "SECONDS", COUNT, "30", "for connecting"),
    {0},
};

const struct option_row iscsi_option_rows[] = {
    ROW(iscsi_options, initiator, "initiator", "IQN", TEXT, NULL, "the name we give ourselves"),
    ROW(iscsi_options, user, "user", "NAME", TEXT, NULL, "user name, with password-file"),
    ROW(iscsi_options, password_file, "password-file", "FILE", TEXT, NULL, "file with the password"),
    ROW(iscsi_options, connections, "connections", "N", COUNT, "4", "at most"),
    ROW(iscsi_options, timeout, "timeout", "SECONDS", COUNT, "30", "for an answer"),
    {0},
};
