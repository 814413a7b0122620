/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The NBD server: listens, lets clients in, ends. */
#ifndef HOSTEL_BLOCK_SERVE_SERVER_H
#define HOSTEL_BLOCK_SERVE_SERVER_H

#include "block/serve/export.h"

struct nbd_tls;

enum { NBD_CLIENTS_MAX = 256, NBD_LISTENERS_MAX = 4 };

struct nbd_server {
    struct nbd_export export;
    struct nbd_tls *tls;              /* borrowed; or NULL */
    int listeners[NBD_LISTENERS_MAX]; /* owned */
    unsigned n_listeners;
    unsigned clients;    /* at once, at most NBD_CLIENTS_MAX */
    unsigned workers;    /* threads of each */
    bool persistent;     /* goes on after the last client */
    bool remote_storage; /* what is served lies on a server, too: the sandbox leaves it the network */
};

/* Where to listen. A socket's file is for its owner only, and must not be there yet. -1 with *error. */
int nbd_listen_unix(const char *path, GError **error);
/* All addresses that host, a name or an address, has; port 0 = any. They are added to s. */
bool nbd_listen_tcp(struct nbd_server *s, const char *host, const char *port, GError **error);
/* Descriptors that whoever started us hands in, as socket activation does; how many. */
unsigned nbd_listen_inherited(struct nbd_server *s);

/* Signals that end the server (SIGTERM, SIGINT, SIGHUP) are blocked from here on, before there are threads.
 */
void nbd_server_block_signals(void);

/* Gives up what serving does not need; the process's only thread. */
bool nbd_server_confine(const struct nbd_server *s, GError **error);

/* Serves until the last client has gone, or a signal. True when all that clients wrote is durable. */
bool nbd_server_run(struct nbd_server *s, GError **error);
void nbd_server_fini(struct nbd_server *s);

#endif
