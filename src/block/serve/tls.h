/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* TLS of a server, by certificates or by keys that both sides have; through GnuTLS. */
#ifndef HOSTEL_BLOCK_SERVE_TLS_H
#define HOSTEL_BLOCK_SERVE_TLS_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct nbd_wire;
struct nbd_tls;
struct nbd_tls_session;

/* Exactly one: a folder with ca-cert.pem, server-cert.pem and server-key.pem, or a file of lines NAME:HEX.
 * Reads them. any_client: who has no certificate of that CA is let in, too. NULL with *error. */
struct nbd_tls *nbd_tls_new(const char *certificates, bool any_client, const char *psk_file, GError **error);
/* No session is left. NULL is fine. */
void nbd_tls_free(struct nbd_tls *tls);
CLEANUP_DEFINE(nbd_tls, nbd_tls_free)

/* The handshake on a connection, until its deadline; the client is who it must be. On success w->tls is set.
 */
bool nbd_tls_accept(struct nbd_tls *tls, struct nbd_wire *w);

/* Says farewell when that needs no wait. NULL is fine. */
void nbd_tls_session_free(struct nbd_tls_session *s);

/* As recv() and send(). */
ssize_t nbd_tls_recv(struct nbd_tls_session *s, void *bytes, size_t size);
ssize_t nbd_tls_send(struct nbd_tls_session *s, const void *bytes, size_t size);

#endif
