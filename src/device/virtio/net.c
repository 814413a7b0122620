/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio network card (virtio 1.2, section 5.1). */
/*
 * Theory of operation
 *
 * Queues: 0 receives, 1 transmits, 2 takes commands. What a frame's header may say is what the driver agreed
 * to and the back end does (net/net.h): a back end that sums and cuts for the guest saves it most of its
 * work.
 *
 * Transmit. The frame goes out on the vCPU's thread that kicked, straight from guest memory into the system
 * call of the back end, a batch for each call. The header is copied once and checked; the bytes of the frame
 * are not looked at here, so a guest that changes them meanwhile changes what it sends. What the back end
 * does not take goes back into the queue, and the back end's `writable` takes the queue up again on the main
 * thread. The same happens when one kick has brought a lot: the vCPU goes on, the main thread sends the rest.
 *
 * Receive. The back end offers frames on the main thread. A frame is copied into as many buffers as it needs,
 * when those may be merged, or into one. With too few of them it is left with the back end, `starved` is set,
 * and the next kick of the receive queue asks for it again. `starved` is set before the queue is looked at a
 * last time, so a kick that comes in between finds it.
 *
 * A guest that goes on in another machine, whose card has another address, does not know. Its driver is shown
 * the new one and told that the configuration changed; until it is heard to use it (which may well be never)
 * the back end translates. Resetting the device alone does not end that: a driver that wakes up from sleep
 * sets its card up again without reading the address.
 *
 * Locks: `receive_lock` is held while a frame is put into the queue, and by whoever starts or stops the card
 * or changes its filter. It is inside the queue's service lock and outside the queues' own.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "device/virtio/net_filter.h"
#include "device/virtio/virtio.h"
#include "net/net.h"

/* Section 5.1.3. */
#define F_CSUM (UINT64_C(1) << 0)
#define F_GUEST_CSUM (UINT64_C(1) << 1)
#define F_MTU (UINT64_C(1) << 3)
#define F_MAC (UINT64_C(1) << 5)
#define F_GUEST_TSO4 (UINT64_C(1) << 7)
#define F_GUEST_TSO6 (UINT64_C(1) << 8)
#define F_GUEST_ECN (UINT64_C(1) << 9)
#define F_HOST_TSO4 (UINT64_C(1) << 11)
#define F_HOST_TSO6 (UINT64_C(1) << 12)
#define F_HOST_ECN (UINT64_C(1) << 13)
#define F_MRG_RXBUF (UINT64_C(1) << 15)
#define F_STATUS (UINT64_C(1) << 16)
#define F_CTRL_VQ (UINT64_C(1) << 17)
#define F_CTRL_RX (UINT64_C(1) << 18)
#define F_CTRL_VLAN (UINT64_C(1) << 19)
#define F_CTRL_RX_EXTRA (UINT64_C(1) << 20)
#define F_CTRL_MAC_ADDR (UINT64_C(1) << 23)

/* Section 5.1.4: struct virtio_net_config. */
enum { CONFIG_MAC = 0, CONFIG_STATUS = 6, CONFIG_MTU = 10, CONFIG_SIZE = 12 };
enum { LINK_UP = 1 };

enum { QUEUE_RX, QUEUE_TX, QUEUE_CTRL, QUEUES, QUEUE_SIZE = 256 };

/* Batches of one kick: a vCPU's thread is not kept longer than some hundred microseconds. Buffers of
 * one frame: more than it takes with any that hold the smallest IP packet. */
enum { KICK_BATCHES = 2, MERGE_MAX = 128 };

struct virtio_net {
    struct virtio virtio;
    uint64_t mac, mtu; /* options */
    /* The address that the driver knows. In a guest that was loaded into a machine whose card has another one
     * it is not `mac`: then the back end translates (net/alias.h). */
    uint8_t known[NET_MAC_SIZE];
    uint8_t saved_mac[NET_MAC_SIZE]; /* what `mac` was in the machine that was saved */
    struct net *net;                 /* borrowed; NULL: no cable */
    pthread_mutex_t receive_lock;
    bool running; /* between activate and stop; guarded by receive_lock, as is the filter */
    struct net_filter filter;
    _Atomic bool starved; /* a frame waits for buffers */
    bool aliased;         /* the back end translates; of the transmit queue's service */

    /* Of the transmit queue's service. */
    struct net_packet packets[NET_BATCH];
    struct net_header headers[NET_BATCH];
    struct iovec pieces[NET_BATCH][NET_PIECES_MAX];
    uint8_t *bounce; /* of a frame in more pieces than that; NET_FRAME_MAX bytes */
};

static struct virtio_net *card(struct virtio *v)
{
    return (struct virtio_net *)(void *)v;
}

/* --- the card's address --- */

static void mac_bytes(uint64_t mac, uint8_t bytes[NET_MAC_SIZE])
{
    for (unsigned i = 0; i < NET_MAC_SIZE; i++)
        bytes[i] = (uint8_t)(mac >> 8 * (NET_MAC_SIZE - 1 - i));
}

/* Of one card, and not of a group or of nobody. */
static bool is_card(const uint8_t mac[NET_MAC_SIZE])
{
    static const uint8_t nobody[NET_MAC_SIZE];
    return !(mac[0] & 1) && memcmp(mac, nobody, NET_MAC_SIZE) != 0;
}

/* Translates when the driver knows another address than the card's. No vCPU runs. */
static void begin_alias(struct virtio_net *c)
{
    struct net_alias alias;
    memcpy(alias.inside, c->known, NET_MAC_SIZE);
    mac_bytes(c->mac, alias.outside);
    c->aliased = c->net && memcmp(alias.inside, alias.outside, NET_MAC_SIZE) != 0;
    if (c->net)
        net_set_alias(c->net, c->aliased ? &alias : NULL);
}

/* The driver has read the new address. */
static void end_alias(struct virtio_net *c)
{
    uint8_t mac[NET_MAC_SIZE];
    mac_bytes(c->mac, mac);
    pthread_mutex_lock(&c->receive_lock);
    if (!memcmp(c->filter.mac, c->known, NET_MAC_SIZE))
        memcpy(c->filter.mac, mac, NET_MAC_SIZE);
    memcpy(c->known, mac, NET_MAC_SIZE);
    c->aliased = false;
    pthread_mutex_unlock(&c->receive_lock);
}

/* --- transmit --- */

/* Makes of a header what the back end may be asked. False: the driver asks for what it did not agree to. */
static bool check_header(const struct virtio *v, struct net_header *h, size_t size)
{
    unsigned type = h->gso_type & ~(unsigned)NET_GSO_ECN;
    uint64_t needed = type == NET_GSO_NONE   ? 0
                      : type == NET_GSO_TCP4 ? F_HOST_TSO4
                      : type == NET_GSO_TCP6 ? F_HOST_TSO6
                                             : UINT64_MAX;
    if (h->gso_type & NET_GSO_ECN)
        needed |= F_HOST_ECN;
    if ((v->features & needed) != needed)
        return false;
    h->flags &= NET_NEEDS_CSUM;
    h->buffers = 0;
    h->header_length = 0;
    if (type == NET_GSO_NONE)
        h->gso_size = 0;
    else if (!h->gso_size || !h->flags)
        return false;
    if (!h->flags) {
        h->csum_start = h->csum_offset = 0;
        return true;
    }
    size_t start = le16toh(h->csum_start), offset = le16toh(h->csum_offset);
    return virtio_has(v, F_CSUM) && start >= NET_ETHERNET && start + offset + 2 <= size;
}

/* Copies a frame of too many pieces. False: the bounce buffer is in use. */
static bool bounce(struct virtio_net *c, struct virtq_request *r, bool *used, struct iovec *piece)
{
    if (*used)
        return false;
    if (!c->bounce)
        c->bounce = g_malloc(NET_FRAME_MAX);
    *used = true;
    *piece = (struct iovec){c->bounce, (size_t)r->readable_size};
    return virtq_get(r, 0, c->bounce, (size_t)r->readable_size);
}

enum made { MADE, MADE_NOTHING, MADE_LATER };

/* Makes packet n of a request; nothing when the frame is none; later when it must wait for the next batch. */
static enum made make_packet(struct virtio_net *c, unsigned n, struct virtq_request *r, bool *bounced)
{
    struct net_header *h = &c->headers[n];
    struct iovec *pieces = c->pieces[n];
    if (r->readable_size < sizeof(*h) + NET_ETHERNET || r->readable_size > NET_MESSAGE_MAX)
        return MADE_NOTHING;
    if (r->n_readable >= NET_PIECES_MAX - 1 && *bounced)
        return MADE_LATER;
    if (!virtq_get(r, 0, h, sizeof(*h)) || !virtq_cut_header(r, sizeof(*h)))
        return MADE_NOTHING;
    if (!check_header(&c->virtio, h, (size_t)r->readable_size))
        return MADE_NOTHING;
    pieces[0] = (struct iovec){h, sizeof(*h)};
    unsigned count = r->n_readable;
    if (count >= NET_PIECES_MAX - 1) {
        if (!bounce(c, r, bounced, &pieces[1]))
            return MADE_NOTHING;
        count = 1;
    } else {
        memcpy(&pieces[1], r->readable, count * sizeof(*pieces));
    }
    c->packets[n] = (struct net_packet){pieces, count + 1};
    return MADE;
}

/* Takes one batch out of the queue and sends it. How many requests; *full when the back end takes no more. */
static unsigned send_batch(struct virtio_net *c, struct virtq *q, bool *full)
{
    struct virtq_request *popped[NET_BATCH];
    unsigned count = virtq_pop(q, popped, NET_BATCH), packets = 0, taken = 0;
    bool bounced = false;
    unsigned place[NET_BATCH]; /* of each packet among the requests */
    for (; taken < count; taken++) {
        enum made made = make_packet(c, packets, popped[taken], &bounced);
        if (made == MADE_LATER)
            break;
        if (made == MADE)
            place[packets++] = taken;
    }
    unsigned sent = c->net && packets ? net_send(c->net, c->packets, packets) : packets;
    if (c->aliased && !net_has_alias(c->net))
        end_alias(c);
    *full = sent < packets;
    if (*full)
        taken = place[sent];
    if (taken)
        virtq_push(q, popped, taken);
    if (taken < count)
        virtq_unpop(q, popped + taken, count - taken);
    return taken;
}

static void kick_transmit(struct virtio_net *c, struct virtq *q)
{
    bool full = false;
    unsigned n = 0, limit = c->net ? KICK_BATCHES : QUEUE_SIZE / NET_BATCH;
    while (n < limit && !full && send_batch(c, q, &full))
        n++;
    virtq_notify(q);
    if (n < limit || full)
        return;
    if (!c->net)
        virtq_leave(q);
    else if (virtq_kicks_on(q))
        net_again(c->net);
}

/* --- receive --- */

/* Takes buffers for size bytes; how many, 0 when there are too few now. Those popped are in requests even
 * then: *popped of them. */
static unsigned take_buffers(struct virtq *q, struct virtq_request **requests, uint64_t size, bool merge,
                             unsigned *popped)
{
    uint64_t room = 0;
    *popped = 0;
    for (unsigned wanted = 1; *popped + wanted <= MERGE_MAX;) {
        unsigned got = virtq_pop(q, requests + *popped, wanted);
        for (unsigned i = 0; i < got; i++)
            room += requests[*popped + i]->writable_size;
        *popped += got;
        if (room >= size)
            return *popped;
        if (!got || !merge)
            return 0;
        /* As many as it takes if they are all like the first. */
        uint64_t each = MAX(requests[0]->writable_size, 1);
        wanted = (unsigned)CLAMP((size - room + each - 1) / each, 1, MERGE_MAX);
        wanted = MIN(wanted, MAX(MERGE_MAX - *popped, 1));
    }
    return 0;
}

/* Copies header and frame into the buffers and shows them to the driver. Buffers that were not needed (the
 * driver's are not all alike) are given back first. */
static void fill_buffers(struct virtq *q, struct virtq_request **requests, unsigned count,
                         struct net_header header, const uint8_t *frame, size_t size)
{
    size_t done = 0;
    header.buffers = htole16((uint16_t)count);
    for (unsigned i = 0; i < count; i++) {
        size_t head = i ? 0 : sizeof(header), room = (size_t)requests[i]->writable_size - head;
        size_t here = MIN(size - done, room);
        if (head)
            virtq_put(requests[i], 0, &header, head);
        virtq_put(requests[i], head, frame + done, here);
        requests[i]->written = (uint32_t)(head + here);
        done += here;
    }
    virtq_push(q, requests, count);
}

/* How many of count buffers hold size bytes. */
static unsigned enough(struct virtq_request *const *requests, unsigned count, uint64_t size)
{
    uint64_t room = 0;
    unsigned n = 0;
    while (n < count && room < size)
        room += requests[n++]->writable_size;
    return n;
}

/* Puts a frame into the receive queue. False: too few buffers. receive_lock is held. */
static bool put_frame(struct virtio_net *c, const struct net_header *header, const uint8_t *frame,
                      size_t size)
{
    struct virtq *q = c->virtio.queue[QUEUE_RX];
    struct virtq_request *requests[MERGE_MAX];
    bool merge = virtio_has(&c->virtio, F_MRG_RXBUF);
    uint64_t needed = sizeof(*header) + size;
    unsigned popped, count = take_buffers(q, requests, needed, merge, &popped);
    if (count && requests[0]->writable_size < sizeof(*header))
        count = 0; /* no room for the header in the first: nobody could read it */
    if (count) {
        unsigned used = enough(requests, count, needed);
        if (used < count)
            virtq_unpop(q, requests + used, count - used);
        fill_buffers(q, requests, used, *header, frame, size);
        return true;
    }
    if (popped)
        virtq_unpop(q, requests, popped);
    /* It would not fit into all that there ever can be: lost, as on a wire whose frames are too long. */
    return popped && (!merge || popped >= MIN(virtq_size(q), MERGE_MAX) ||
                      requests[0]->writable_size < sizeof(*header));
}

static bool on_receive(void *opaque, const struct net_header *header, const uint8_t *frame, size_t size)
{
    struct virtio_net *c = opaque;
    bool done = true;
    pthread_mutex_lock(&c->receive_lock);
    if (c->running && net_filter_takes(&c->filter, frame, size)) {
        done = put_frame(c, header, frame, size);
        if (!done) {
            atomic_store(&c->starved, true);
            done = put_frame(c, header, frame, size);
            if (done)
                atomic_store(&c->starved, false);
        }
    }
    pthread_mutex_unlock(&c->receive_lock);
    return done;
}

static void on_received(void *opaque)
{
    struct virtio_net *c = opaque;
    virtq_notify(c->virtio.queue[QUEUE_RX]);
}

static void on_writable(void *opaque)
{
    struct virtio_net *c = opaque;
    virtq_service(c->virtio.queue[QUEUE_TX]);
}

static void on_down(void *opaque)
{
    static const uint8_t down[2];
    struct virtio_net *c = opaque;
    virtio_config_set(&c->virtio, CONFIG_STATUS, down, sizeof(down));
}

static const struct net_client client = {
    .receive = on_receive, .received = on_received, .writable = on_writable, .down = on_down};

/* --- commands --- */

/* Section 5.1.6.5: class, command, data; then one byte of answer. */
static bool obey(struct virtio_net *c, struct virtq_request *r)
{
    uint8_t head[2], data[NET_FILTER_DATA_MAX];
    size_t size = (size_t)MIN(r->readable_size, sizeof(head) + sizeof(data));
    if (size < sizeof(head) || size < r->readable_size || !virtq_get(r, 0, head, sizeof(head)))
        return false;
    size -= sizeof(head);
    if (!virtq_get(r, sizeof(head), data, size))
        return false;
    pthread_mutex_lock(&c->receive_lock);
    bool done = net_filter_command(&c->filter, head[0], head[1], data, size);
    pthread_mutex_unlock(&c->receive_lock);
    if (done) { /* the address may be a new one */
        device_lock(&c->virtio.dev);
        memcpy(c->virtio.config + CONFIG_MAC, c->filter.mac, NET_MAC_SIZE);
        device_unlock(&c->virtio.dev);
    }
    return done;
}

static void kick_commands(struct virtio_net *c, struct virtq *q)
{
    enum { OK = 0, ERROR = 1 };
    struct virtq_request *r;
    unsigned n = 0;
    for (; n < QUEUE_SIZE && virtq_pop(q, &r, 1); n++) {
        uint8_t *status = virtq_cut_status(r);
        if (status) {
            *status = obey(c, r) ? OK : ERROR;
            r->written = 1;
        }
        virtq_push(q, &r, 1);
    }
    virtq_notify(q);
    if (n == QUEUE_SIZE)
        virtq_leave(q);
}

/* --- life --- */

static unsigned guest_offloads(const struct virtio *v)
{
    if (!virtio_has(v, F_GUEST_CSUM))
        return 0;
    return NET_CSUM | (virtio_has(v, F_GUEST_TSO4) ? NET_TSO4 : 0) |
           (virtio_has(v, F_GUEST_TSO6) ? NET_TSO6 : 0) | (virtio_has(v, F_GUEST_ECN) ? NET_ECN : 0);
}

static bool net_accept(struct virtio *v, uint64_t features)
{
    /* What needs what (section 5.1.3.1). */
    static const struct {
        uint64_t feature, needs_one_of;
    } needs[] = {
        {F_GUEST_TSO4, F_GUEST_CSUM},
        {F_GUEST_TSO6, F_GUEST_CSUM},
        {F_GUEST_ECN, F_GUEST_TSO4 | F_GUEST_TSO6},
        {F_HOST_TSO4, F_CSUM},
        {F_HOST_TSO6, F_CSUM},
        {F_HOST_ECN, F_HOST_TSO4 | F_HOST_TSO6},
        {F_CTRL_RX, F_CTRL_VQ},
        {F_CTRL_VLAN, F_CTRL_VQ},
        {F_CTRL_RX_EXTRA, F_CTRL_VQ},
        {F_CTRL_MAC_ADDR, F_CTRL_VQ},
    };
    (void)v;
    for (unsigned i = 0; i < G_N_ELEMENTS(needs); i++)
        if (features & needs[i].feature && !(features & needs[i].needs_one_of))
            return false;
    return true;
}

static void net_activate(struct virtio *v)
{
    struct virtio_net *c = card(v);
    pthread_mutex_lock(&c->receive_lock);
    net_filter_reset(&c->filter, c->known, true, virtio_has(v, F_CTRL_VLAN));
    c->running = true;
    pthread_mutex_unlock(&c->receive_lock);
    if (c->net)
        net_set_offloads(c->net, guest_offloads(v));
}

static void net_kick(struct virtq *q)
{
    struct virtio_net *c = card(virtq_owner(q));
    switch (virtq_index(q)) {
    case QUEUE_TX: kick_transmit(c, q); break;
    case QUEUE_CTRL: kick_commands(c, q); break;
    default:
        if (c->net && atomic_exchange(&c->starved, false))
            net_more(c->net);
    }
}

static void net_stop(struct virtio *v)
{
    struct virtio_net *c = card(v);
    pthread_mutex_lock(&c->receive_lock);
    c->running = false;
    c->filter = (struct net_filter){0};
    pthread_mutex_unlock(&c->receive_lock);
    /* The address is the card's again, whichever the driver had given it. */
    device_lock(&v->dev);
    mac_bytes(c->mac, c->virtio.config + CONFIG_MAC);
    device_unlock(&v->dev);
    /* A frame that waited is for the driver that has gone. */
    if (c->net && atomic_exchange(&c->starved, false))
        net_more(c->net);
}

static const struct virtio_function net_function = {
    .id = VIRTIO_ID_NET,
    .accept = net_accept,
    .activate = net_activate,
    .kick = net_kick,
    .stop = net_stop,
};

static uint64_t offered(const struct virtio_net *c)
{
    uint64_t features = F_MAC | F_MRG_RXBUF | F_STATUS | F_CTRL_VQ | F_CTRL_RX | F_CTRL_VLAN |
                        F_CTRL_RX_EXTRA | F_CTRL_MAC_ADDR;
    unsigned takes = c->net ? c->net->takes : 0, gives = c->net ? c->net->gives : 0;
    features |= (c->mtu ? F_MTU : 0) | (takes & NET_CSUM ? F_CSUM : 0) |
                (takes & NET_TSO4 ? F_HOST_TSO4 : 0) | (takes & NET_TSO6 ? F_HOST_TSO6 : 0) |
                (takes & NET_ECN ? F_HOST_ECN : 0);
    features |= (gives & NET_CSUM ? F_GUEST_CSUM : 0) | (gives & NET_TSO4 ? F_GUEST_TSO4 : 0) |
                (gives & NET_TSO6 ? F_GUEST_TSO6 : 0) | (gives & NET_ECN ? F_GUEST_ECN : 0);
    return features;
}

static bool net_init(struct device *d, GError **error)
{
    struct virtio_net *c = (struct virtio_net *)(void *)d;
    c->net = d->wires.net;
    pthread_mutex_init(&c->receive_lock, NULL);
    const struct virtio_setup setup = {
        .features = offered(c), .queues = QUEUES, .queue_size = QUEUE_SIZE, .config_size = CONFIG_SIZE};
    if (!virtio_init(d, &net_function, &setup, error))
        return false;
    mac_bytes(c->mac, c->virtio.config + CONFIG_MAC);
    st16le(c->virtio.config + CONFIG_STATUS, c->net && net_up(c->net) ? LINK_UP : 0);
    st16le(c->virtio.config + CONFIG_MTU, (uint16_t)c->mtu);
    if (c->net)
        net_attach(c->net, &client, c);
    return true;
}

static void net_destroy(struct device *d)
{
    struct virtio_net *c = (struct virtio_net *)(void *)d;
    if (c->net)
        net_detach(c->net);
    virtio_destroy(d);
    pthread_mutex_destroy(&c->receive_lock);
    g_free(c->bounce);
}

static const struct device_option net_options[] = {
    VIRTIO_OPTIONS,
    {.name = "mac",
     .help = "address, its first byte the highest",
     .type = STATE_U64,
     .offset = offsetof(struct virtio_net, mac),
     .value = UINT64_C(0x020000000001),
     .min = 1,
     .max = UINT64_C(0xfeffffffffff)},
    {.name = "mtu",
     .help = "bytes of an IP packet the driver is told to send at most; 0 = it is told nothing",
     .type = STATE_U64,
     .offset = offsetof(struct virtio_net, mtu),
     .value = 0,
     .min = 0,
     .max = NET_MTU_MAX},
    {0},
};

#define FILTER(member, value_type) STATE_FIELD(virtio_net, filter.member, value_type, 1)

static const struct state_field net_state[] = {
    VIRTIO_STATE,
    FILTER(mac, STATE_U8),
    FILTER(promiscuous, STATE_BOOL),
    FILTER(all_multicast, STATE_BOOL),
    FILTER(all_unicast, STATE_BOOL),
    FILTER(no_multicast, STATE_BOOL),
    FILTER(no_unicast, STATE_BOOL),
    FILTER(no_broadcast, STATE_BOOL),
    FILTER(vlans_filtered, STATE_BOOL),
    FILTER(unicast.mac, STATE_U8),
    FILTER(unicast.count, STATE_U32),
    FILTER(unicast.overflow, STATE_BOOL),
    FILTER(multicast.mac, STATE_U8),
    FILTER(multicast.count, STATE_U32),
    FILTER(multicast.overflow, STATE_BOOL),
    FILTER(vlans, STATE_U8),
    STATE_FIELD(virtio_net, known, STATE_U8, 2),
    STATE_FIELD(virtio_net, saved_mac, STATE_U8, 2),
    {0},
};

/* As at power-on: the driver to come reads the address. */
static void net_reset(struct device *d)
{
    struct virtio_net *c = (struct virtio_net *)(void *)d;
    virtio_reset(d);
    mac_bytes(c->mac, c->known);
    memcpy(c->virtio.config + CONFIG_MAC, c->known, NET_MAC_SIZE);
    memset(c->saved_mac, 0, NET_MAC_SIZE);
    begin_alias(c);
}

static void net_pre_save(struct device *d)
{
    struct virtio_net *c = (struct virtio_net *)(void *)d;
    virtio_pre_save(d);
    mac_bytes(c->mac, c->saved_mac);
}

/* Was it another card that was saved? Then the driver goes on with the address that it used: the filter's,
 * or when it was not running, the one that it knew. Version 1 said only which address the driver was shown.
 */
static void move_card(struct virtio_net *c, const uint8_t used[NET_MAC_SIZE])
{
    const uint8_t *before = is_card(c->saved_mac) ? c->saved_mac : c->virtio.config + CONFIG_MAC;
    uint8_t mac[NET_MAC_SIZE];
    mac_bytes(c->mac, mac);
    if (!memcmp(before, mac, NET_MAC_SIZE))
        return;
    if (is_card(used))
        memcpy(c->known, used, NET_MAC_SIZE);
    virtio_config_set(&c->virtio, CONFIG_MAC, mac, NET_MAC_SIZE);
}

/* Being activated resets the filter, so it is put back behind that. */
static bool net_post_load(struct device *d)
{
    struct virtio_net *c = (struct virtio_net *)(void *)d;
    const struct net_filter loaded = c->filter;
    if (loaded.unicast.count > NET_FILTER_MACS || loaded.multicast.count > NET_FILTER_MACS ||
        !is_card(c->known) || !virtio_post_load(d))
        return false;
    device_unlock(d); /* which comes behind receive_lock */
    pthread_mutex_lock(&c->receive_lock);
    if (c->running)
        c->filter = loaded;
    pthread_mutex_unlock(&c->receive_lock);
    move_card(c, loaded.mac);
    begin_alias(c);
    device_lock(d);
    return true;
}

const struct device_type device_virtio_net = {
    .name = "virtio-net",
    .help = "network card",
    .size = sizeof(struct virtio_net),
    .options = net_options,
    .init = net_init,
    .destroy = net_destroy,
    .state = net_state,
    .version = 2,
    .ops = &virtio_mmio_ops,
    .extent = virtio_mmio_extent,
    .reset = net_reset,
    .pre_save = net_pre_save,
    .post_load = net_post_load,
};
