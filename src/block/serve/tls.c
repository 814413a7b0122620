/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* TLS of a server; see tls.h. */
#include "block/serve/tls.h"

#include <gnutls/gnutls.h>
#include <string.h>

#include "base/error.h"
#include "block/serve/wire.h"

enum { KEY_MAX = 64 /* bytes */ };

#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PRIORITY_PSK PRIORITY ":-KX-ALL:+ECDHE-PSK:+DHE-PSK:+PSK"

struct nbd_tls {
    gnutls_certificate_credentials_t certificates; /* or NULL */
    gnutls_psk_server_credentials_t psk;           /* or NULL */
    GHashTable *keys; /* of name to GBytes: GnuTLS would open the file for each client */
    gnutls_priority_t priority;
    bool any_client;
};

struct nbd_tls_session {
    gnutls_session_t session;
    struct nbd_wire *wire;
};

/* --- what the server has --- */

static bool load_certificates(struct nbd_tls *tls, const char *folder, GError **error)
{
    g_autofree char *ca = g_build_filename(folder, "ca-cert.pem", NULL);
    g_autofree char *certificate = g_build_filename(folder, "server-cert.pem", NULL);
    g_autofree char *key = g_build_filename(folder, "server-key.pem", NULL);
    if (gnutls_certificate_allocate_credentials(&tls->certificates))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "TLS: the host has not enough memory");
    int status =
        gnutls_certificate_set_x509_key_file(tls->certificates, certificate, key, GNUTLS_X509_FMT_PEM);
    if (status < 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "TLS: cannot use %s and %s: %s", certificate, key,
                           gnutls_strerror(status));
    if (tls->any_client)
        return true;
    status = gnutls_certificate_set_x509_trust_file(tls->certificates, ca, GNUTLS_X509_FMT_PEM);
    return status > 0 ||
           hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "TLS: cannot use %s, which clients' certificates are checked with: %s", ca,
                       status < 0 ? gnutls_strerror(status) : "there is no certificate in it");
}

/* The key of who says to be that. */
static int find_key(gnutls_session_t session, const char *name, gnutls_datum_t *key)
{
    const struct nbd_tls *tls = gnutls_session_get_ptr(session);
    GBytes *bytes = g_hash_table_lookup(tls->keys, name);
    gsize size = 0;
    const void *data = bytes ? g_bytes_get_data(bytes, &size) : NULL;
    key->data = size ? gnutls_malloc(size) : NULL;
    if (!key->data)
        return -1;
    memcpy(key->data, data, size);
    key->size = (unsigned)size;
    return 0;
}

/* NAME:HEX */
static bool take_key(struct nbd_tls *tls, char *line, const char *file, GError **error)
{
    uint8_t bytes[KEY_MAX];
    size_t size = sizeof(bytes);
    char *colon = strrchr(g_strstrip(line), ':');
    if (!*line || *line == '#')
        return true;
    const gnutls_datum_t hex = {(unsigned char *)(colon ? colon + 1 : line),
                                (unsigned)(colon ? strlen(colon + 1) : 0)};
    if (!colon || colon == line || !hex.size || gnutls_hex_decode(&hex, bytes, &size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "TLS: %s: each line is to be NAME:KEY, the key in hexadecimal "
                           "digits, at most %d bytes; psktool makes such files",
                           file, KEY_MAX);
    *colon = '\0';
    g_hash_table_insert(tls->keys, g_strdup(line), g_bytes_new(bytes, size));
    explicit_bzero(bytes, sizeof(bytes));
    return true;
}

static bool load_psk(struct nbd_tls *tls, const char *file, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    tls->keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);
    if (!g_file_get_contents(file, &text, NULL, &why))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "TLS: %s", why->message);
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (!take_key(tls, line, file, error))
            return false;
    }
    if (!g_hash_table_size(tls->keys))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "TLS: %s: there is no key in it", file);
    if (gnutls_psk_allocate_server_credentials(&tls->psk))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "TLS: the host has not enough memory");
    gnutls_psk_set_server_credentials_function(tls->psk, find_key);
    return true;
}

struct nbd_tls *nbd_tls_new(const char *certificates, bool any_client, const char *psk_file, GError **error)
{
    AUTO(nbd_tls) tls = g_new0(struct nbd_tls, 1);
    tls->any_client = any_client;
    const int status = gnutls_priority_init(&tls->priority, psk_file ? PRIORITY_PSK : PRIORITY, NULL);
    if (status) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "TLS: %s", gnutls_strerror(status));
        return NULL;
    }
    const bool good = psk_file ? load_psk(tls, psk_file, error) : load_certificates(tls, certificates, error);
    return good ? STEAL(tls) : NULL;
}

void nbd_tls_free(struct nbd_tls *tls)
{
    if (!tls)
        return;
    if (tls->certificates)
        gnutls_certificate_free_credentials(tls->certificates);
    if (tls->psk)
        gnutls_psk_free_server_credentials(tls->psk);
    if (tls->keys)
        g_hash_table_unref(tls->keys);
    if (tls->priority)
        gnutls_priority_deinit(tls->priority);
    g_free(tls);
}

/* --- a connection --- */

static ssize_t pull(gnutls_transport_ptr_t opaque, void *bytes, size_t size)
{
    return nbd_wire_recv(opaque, bytes, size);
}

static ssize_t push(gnutls_transport_ptr_t opaque, const giovec_t *iov, int n)
{
    return nbd_wire_send(opaque, (const struct iovec *)(const void *)iov, (unsigned)n);
}

/* The wait is in pull. */
static int pull_wait(gnutls_transport_ptr_t opaque, unsigned ms)
{
    (void)opaque;
    (void)ms;
    return 1;
}

static bool set_up(struct nbd_tls *tls, gnutls_session_t session, struct nbd_wire *w)
{
    gnutls_session_set_ptr(session, tls);
    gnutls_transport_set_ptr(session, w);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_vec_push_function(session, push);
    gnutls_transport_set_pull_timeout_function(session, pull_wait);
    gnutls_handshake_set_timeout(session, GNUTLS_INDEFINITE_TIMEOUT);
    if (gnutls_priority_set(session, tls->priority))
        return false;
    if (tls->psk)
        return !gnutls_credentials_set(session, GNUTLS_CRD_PSK, tls->psk);
    if (!tls->any_client) {
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_cert(session, NULL, 0);
    }
    return !gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls->certificates);
}

static bool shake_hands(gnutls_session_t session)
{
    int status;
    do {
        status = gnutls_handshake(session);
    } while (status < 0 && !gnutls_error_is_fatal(status));
    return !status;
}

bool nbd_tls_accept(struct nbd_tls *tls, struct nbd_wire *w)
{
    gnutls_session_t session;
    if (gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NO_SIGNAL))
        return false;
    if (!set_up(tls, session, w) || !shake_hands(session)) {
        gnutls_deinit(session);
        return false;
    }
    w->tls = g_new(struct nbd_tls_session, 1);
    *w->tls = (struct nbd_tls_session){.session = session, .wire = w};
    return true;
}

void nbd_tls_session_free(struct nbd_tls_session *s)
{
    if (!s)
        return;
    s->wire->deadline = g_get_monotonic_time() + G_USEC_PER_SEC / 10;
    gnutls_bye(s->session, GNUTLS_SHUT_WR);
    gnutls_deinit(s->session);
    g_free(s);
}

ssize_t nbd_tls_recv(struct nbd_tls_session *s, void *bytes, size_t size)
{
    ssize_t n;
    do {
        n = gnutls_record_recv(s->session, bytes, size);
    } while (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED);
    return n; /* anything else that is not positive ends the connection */
}

ssize_t nbd_tls_send(struct nbd_tls_session *s, const void *bytes, size_t size)
{
    if (!size)
        return 0;
    ssize_t n;
    do {
        n = gnutls_record_send(s->session, bytes, size);
    } while (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED);
    return n;
}
