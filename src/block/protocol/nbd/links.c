/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The connections to one NBD server; see links.h. */
#include "block/protocol/nbd/links.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

enum { PAUSE_MS = 50, PAUSE_MAX_MS = 1000 };

/* --- connecting --- */

static struct nbd_offer offer_of(struct nbd_handle *h)
{
    return (struct nbd_offer){
        .size = nbd_get_size(h),
        .minimum = nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM),
        .maximum = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM),
        .readonly = nbd_is_read_only(h) != 0,
        .flush = nbd_can_flush(h) == 1,
        .zero = nbd_can_zero(h) == 1,
        .fast_zero = nbd_can_fast_zero(h) == 1,
        .trim = nbd_can_trim(h) == 1,
        .extents = nbd_can_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1,
        .several = nbd_can_multi_conn(h) == 1,
    };
}

/* Can all that was done so far be done there, too? */
static bool will_do(const struct nbd_links *s, const struct nbd_offer *now)
{
    const struct nbd_offer *was = &s->offer;
    return now->size == was->size && now->minimum <= MAX(was->minimum, 1) &&
           (was->maximum <= 0 ? now->maximum <= 0 : now->maximum <= 0 || now->maximum >= was->maximum) &&
           !(s->writable && now->readonly) && now->flush >= was->flush && now->zero >= was->zero &&
           now->fast_zero >= was->fast_zero && now->trim >= was->trim && now->extents >= was->extents;
}

/* Connects once, to as many as are wanted and allowed; 0 when there is none. A server that does not want more
 * of them has us go on with what there is. */
static unsigned connect_all(const struct nbd_links *s, unsigned timeout, bool again, struct nbd_link **links,
                            struct nbd_offer *offer, GError **error)
{
    const unsigned want = MIN(s->options.connections, (unsigned)NBD_LINKS_MAX);
    struct nbd_options o = s->options;
    unsigned n = 0;
    o.timeout = timeout;
    do {
        AUTO(nbd_link) l = nbd_link_new(s->name, s->uri, &o, n ? NULL : error);
        if (!l)
            break;
        const struct nbd_offer now = offer_of(l->nbd);
        if (n ? now.size != offer->size : again && !will_do(s, &now))
            break;
        if (!n)
            *offer = now;
        links[n++] = STEAL(l);
    } while (n < want && offer->several);
    return n;
}

static void put_locked(struct nbd_links *s, struct nbd_link *const *links, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        s->link[i] = links[i];
        s->link[i]->generation = s->generation;
    }
    s->n = n;
}

bool nbd_links_init(struct nbd_links *s, const char *name, const char *uri, const struct nbd_options *o,
                    GError **error)
{
    struct nbd_link *links[NBD_LINKS_MAX];
    *s = (struct nbd_links){.name = g_strdup(name), .uri = g_strdup(uri), .options = *o};
    s->options.tls_certificates = g_strdup(o->tls_certificates);
    s->options.tls_psk_file = g_strdup(o->tls_psk_file);
    s->options.tls_user = g_strdup(o->tls_user);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    put_locked(s, links, connect_all(s, o->timeout, false, links, &s->offer, error));
    if (s->n)
        return true;
    nbd_links_fini(s);
    return false;
}

void nbd_links_fini(struct nbd_links *s)
{
    if (!s->name)
        return;
    while (s->n)
        nbd_link_free(s->link[--s->n]);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    g_free(s->name);
    g_free(s->uri);
    g_free((char *)(uintptr_t)s->options.tls_certificates);
    g_free((char *)(uintptr_t)s->options.tls_psk_file);
    g_free((char *)(uintptr_t)s->options.tls_user);
    *s = (struct nbd_links){0};
}

/* --- connecting again --- */

/* Until there are connections or the time is over; meanwhile the lock is let go. */
static void connect_again_locked(struct nbd_links *s)
{
    const int64_t end = s->lost + (int64_t)s->options.reconnect * G_USEC_PER_SEC;
    struct nbd_link *links[NBD_LINKS_MAX];
    struct nbd_offer offer;
    unsigned n = 0;
    int64_t pause = PAUSE_MS * 1000;
    s->connecting = true;
    pthread_mutex_unlock(&s->lock);
    for (;;) {
        const int64_t left = end - g_get_monotonic_time();
        const int64_t seconds = CLAMP(left / G_USEC_PER_SEC, 1, (int64_t)s->options.timeout);
        n = connect_all(s, (unsigned)seconds, true, links, &offer, NULL);
        if (n || g_get_monotonic_time() + pause >= end)
            break;
        g_usleep((gulong)pause); /* nobody tells us that a server has come back */
        pause = MIN(2 * pause, PAUSE_MAX_MS * 1000);
    }
    pthread_mutex_lock(&s->lock);
    put_locked(s, links, n);
    s->tried = g_get_monotonic_time();
    s->connecting = false;
    pthread_cond_broadcast(&s->changed);
}

/* Makes sure that there is a connection. */
static int have_some_locked(struct nbd_links *s)
{
    if (s->n)
        return 0;
    if (s->connecting)
        while (s->connecting)
            pthread_cond_wait(&s->changed, &s->lock);
    else if (s->tried <= s->lost || g_get_monotonic_time() - s->tried >= G_USEC_PER_SEC)
        connect_again_locked(s);
    return s->n ? 0 : -EIO;
}

/* None of them is used any more. Returns those that nobody waits for, to be freed. */
static void retire_locked(struct nbd_links *s, GPtrArray *unused)
{
    for (unsigned i = 0; i < s->n; i++)
        if (!s->link[i]->users)
            g_ptr_array_add(unused, s->link[i]);
    s->n = 0;
    s->generation++;
    s->lost = g_get_monotonic_time();
    s->loss |= s->written != s->flushed;
    s->flushed = s->written;
}

/* --- requests --- */

static struct nbd_link *least_busy_locked(struct nbd_links *s)
{
    struct nbd_link *best = s->link[0];
    for (unsigned i = 1; i < s->n; i++)
        if (s->link[i]->users < best->users)
            best = s->link[i];
    return best;
}

int nbd_links_take(struct nbd_links *s, struct nbd_turn *t)
{
    pthread_mutex_lock(&s->lock);
    int status = have_some_locked(s);
    if (t->kind == NBD_FLUSHES && s->loss) {
        s->loss = false;
        status = -EIO;
    }
    t->written = s->written;
    if (!status) {
        t->link = least_busy_locked(s);
        t->link->users++;
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

bool nbd_links_settle(struct nbd_links *s, struct nbd_turn *t, int status)
{
    struct nbd_link *l = STEAL(t->link);
    /* A server that is about to end says so. */
    const bool lost = s->options.reconnect && status && (status == -ESHUTDOWN || nbd_link_is_lost(l));
    g_autoptr(GPtrArray) unused = g_ptr_array_new_with_free_func((GDestroyNotify)nbd_link_free);
    pthread_mutex_lock(&s->lock);
    l->users--;
    const bool retired = l->generation != s->generation;
    const bool again = lost || (retired && t->kind != NBD_READS);
    if (retired && !l->users)
        g_ptr_array_add(unused, l);
    else if (lost && !retired)
        retire_locked(s, unused);
    if (!again && !status && t->kind == NBD_CHANGES)
        s->written++;
    if (!again && !status && t->kind == NBD_FLUSHES)
        s->flushed = t->written;
    pthread_mutex_unlock(&s->lock);
    return again;
}
