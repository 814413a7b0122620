/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio console (virtio 1.2, section 5.3): a terminal, and named byte streams beside it. */
/*
 * Theory of operation
 *
 * Port 0 is the terminal, over wires.stream; further ports are wires.ports, which a guest finds by name
 * (/dev/virtio-ports/NAME). Each has a receive and a transmit queue. When the driver does not take MULTIPORT
 * there is port 0 and nothing else.
 *
 * Output. A transmit request is written to the stream on the thread that kicked. What the stream does not
 * take at once stays in the request, `out` and `out_at`, and goes on when the stream says that there is room.
 * The queue's service lock makes one of the two at a time.
 *
 * Input comes on the main thread. When the driver has given no buffer, nothing is taken and `hungry` notes
 * that the stream is to be asked again at the next kick; the note is made first, then the queue is looked at
 * once more, so a buffer given in between is found by one of the two. Input waits until the guest has opened
 * the port.
 *
 * Control messages to the driver are not queued but owed: a bit per port and kind, sent in a fixed order as
 * the driver gives buffers. So they need no memory, whatever a driver asks for and however slow it is.
 *
 * `lock` guards ports' states and whatever takes requests out of the receive and control queues. It comes
 * behind the service locks and before the device's lock; stop() passes through it, so nobody is inside when
 * it returns.
 */
#include "device/virtio/console.h"

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/error.h"
#include "device/virtio/virtio.h"

#define CONSOLE_F_SIZE BIT(0)
#define CONSOLE_F_MULTIPORT BIT(1)

enum { CONFIG_COLUMNS = 0, CONFIG_ROWS = 2, CONFIG_PORTS = 4, CONFIG_BYTES = 12 };
enum { QUEUE_CONTROL_IN = 2, QUEUE_CONTROL_OUT = 3 };

/* Control messages, 5.3.6.2. */
enum control_event {
    CONTROL_DEVICE_READY = 0,
    CONTROL_PORT_ADD = 1,
    CONTROL_PORT_READY = 3,
    CONTROL_CONSOLE_PORT = 4,
    CONTROL_RESIZE = 5,
    CONTROL_PORT_OPEN = 6,
    CONTROL_PORT_NAME = 7,
};
enum { CONTROL_BYTES = 8, CONTROL_MAX = CONTROL_BYTES + 64 };

enum {
    CONSOLE_PORTS = VIRTIO_QUEUES_MAX / 2 - 1,
    CONSOLE_QUEUE = 64,
    CONSOLE_PIECE = 4096,
    CONSOLE_REQUEST_MAX = 1 << 20, /* bytes to transmit in one request */
};

struct port {
    struct virtio_console *console;
    unsigned number;
    struct stream *stream; /* NULL: swallows output, has no input */
    const char *name;      /* NULL: the terminal */
    struct virtq_request *out;
    _Atomic bool hungry;
};

struct virtio_console {
    struct virtio virtio;
    uint16_t columns, rows; /* options */
    struct port port[CONSOLE_PORTS];
    unsigned ports;
    pthread_mutex_t lock;
    /* Saved; by port. */
    uint32_t out_at[CONSOLE_PORTS]; /* bytes of the transmit request that are written already */
    uint8_t owed[CONSOLE_PORTS];    /* control events, a bit each */
    bool known[CONSOLE_PORTS];      /* the driver has said that it is ready for the port */
    bool open[CONSOLE_PORTS];       /* the guest has it open */
};

static struct virtio_console *console_of(struct virtio *v)
{
    return (struct virtio_console *)(void *)v;
}

static bool multiport(const struct virtio_console *c)
{
    return virtio_has(&c->virtio, CONSOLE_F_MULTIPORT);
}

/* Queues: 0 and 1 of port 0, 2 and 3 for control, then two for each port. */
static unsigned queue_in(unsigned port)
{
    return port ? 2 * port + 2 : 0;
}

static struct virtq *port_queue(struct port *p, bool out)
{
    return p->console->virtio.queue[queue_in(p->number) + out];
}

/* --- control, to the driver --- */

static const enum control_event owed_order[] = {CONTROL_PORT_ADD, CONTROL_CONSOLE_PORT, CONTROL_RESIZE,
                                                CONTROL_PORT_NAME, CONTROL_PORT_OPEN};

/* The bytes of a message; how many. */
static size_t control_message(const struct port *p, enum control_event event, uint8_t *bytes)
{
    const struct virtio_console *c = p->console;
    size_t size = CONTROL_BYTES;
    st32le(bytes, p->number);
    st16le(bytes + 4, (uint16_t)event);
    st16le(bytes + 6, 1);
    if (event == CONTROL_PORT_NAME) {
        size_t length = MIN(strlen(p->name), (size_t)CONTROL_MAX - CONTROL_BYTES);
        memcpy(bytes + size, p->name, length);
        size += length;
    } else if (event == CONTROL_RESIZE) {
        /* Columns first, as specified; there are Linux kernels that take the first number for the rows. */
        memcpy(bytes + size, c->virtio.config + CONFIG_COLUMNS, 2);
        memcpy(bytes + size + 2, c->virtio.config + CONFIG_ROWS, 2);
        size += 4;
    }
    return size;
}

/* Sends one message that is owed. False when there is no buffer. */
static bool send_locked(struct port *p, enum control_event event)
{
    struct virtq *q = p->console->virtio.queue[QUEUE_CONTROL_IN];
    struct virtq_request *r;
    uint8_t bytes[CONTROL_MAX];
    if (!virtq_pop(q, &r, 1))
        return false;
    size_t size = control_message(p, event, bytes);
    if (virtq_put(r, 0, bytes, size)) /* a buffer too small comes back empty */
        r->written = (uint32_t)size;
    virtq_push(q, &r, 1);
    return true;
}

static void pay_locked(struct virtio_console *c)
{
    bool more = multiport(c);
    for (unsigned i = 0; i < c->ports && more; i++)
        for (unsigned k = 0; k < G_N_ELEMENTS(owed_order) && more; k++) {
            uint8_t bit = (uint8_t)BIT(owed_order[k]);
            if (!(c->owed[i] & bit))
                continue;
            more = send_locked(&c->port[i], owed_order[k]);
            if (more)
                c->owed[i] &= (uint8_t)~bit;
        }
    if (multiport(c))
        virtq_notify(c->virtio.queue[QUEUE_CONTROL_IN]);
}

/* --- input --- */

/* Fills one request. How many bytes were taken; 0 when there is no buffer. */
static size_t input_locked(struct port *p, const uint8_t *bytes, size_t size)
{
    struct virtq *q = port_queue(p, false);
    struct virtq_request *r;
    if (!p->console->open[p->number] || !virtq_pop(q, &r, 1))
        return 0;
    size_t taken = MIN(size, r->writable_size);
    bool put = virtq_put(r, 0, bytes, taken);
    r->written = put ? (uint32_t)taken : 0;
    virtq_push(q, &r, 1);
    return taken;
}

static size_t console_input(void *opaque, const uint8_t *bytes, size_t size)
{
    struct port *p = opaque;
    struct virtio_console *c = p->console;
    size_t taken = 0;
    pthread_mutex_lock(&c->lock);
    for (;;) {
        size_t n = taken < size ? input_locked(p, bytes + taken, size - taken) : 0;
        taken += n;
        if (n)
            continue;
        if (taken == size || atomic_exchange(&p->hungry, true))
            break;
    }
    if (taken == size)
        atomic_store(&p->hungry, false);
    pthread_mutex_unlock(&c->lock);
    virtq_notify(port_queue(p, false));
    return taken;
}

static void feed(struct port *p)
{
    if (atomic_exchange(&p->hungry, false) && p->stream)
        stream_more(p->stream);
}

/* --- output --- */

/* Writes what is left of p->out. False when the stream is full. The transmit queue's service lock is held. */
static bool write_out(struct port *p)
{
    uint32_t *at = &p->console->out_at[p->number];
    const uint64_t size = p->out->readable_size;
    while (*at < size && p->stream) {
        uint8_t bytes[CONSOLE_PIECE];
        size_t here = MIN(size - *at, sizeof(bytes));
        if (!virtq_get(p->out, *at, bytes, here))
            break;
        size_t taken = stream_write(p->stream, bytes, here);
        *at += (uint32_t)taken;
        if (taken < here)
            return false;
    }
    *at = 0;
    return true;
}

static void kick_out(struct port *p)
{
    struct virtq *q = port_queue(p, true);
    unsigned n = 0;
    for (; n < CONSOLE_QUEUE; n++) {
        if (!p->out && !virtq_pop(q, &p->out, 1))
            break;
        if (p->out->readable_size > CONSOLE_REQUEST_MAX) {
            p->out = NULL;
            virtio_break(&p->console->virtio, "more than 1 MiB to transmit in one request");
            return;
        }
        if (!write_out(p))
            break;
        virtq_push(q, &p->out, 1);
        p->out = NULL;
    }
    virtq_notify(q);
    if (n == CONSOLE_QUEUE)
        virtq_leave(q);
}

static void console_writable(void *opaque)
{
    virtq_service(port_queue(opaque, true));
}

/* --- control, from the driver --- */

static void owe(struct virtio_console *c, unsigned port, unsigned events)
{
    c->owed[port] |= (uint8_t)events;
}

static void obey_locked(struct virtio_console *c, uint32_t port, unsigned event, unsigned value)
{
    if (event == CONTROL_DEVICE_READY && value == 1) {
        for (unsigned i = 0; i < c->ports; i++)
            if (c->port[i].stream || c->ports == 1) /* no terminal beside ports that somebody wanted */
                owe(c, i, BIT(CONTROL_PORT_ADD));
        return;
    }
    if (port >= c->ports)
        return;
    if (event == CONTROL_PORT_READY)
        c->known[port] = value == 1;
    if (event == CONTROL_PORT_READY && value == 1)
        owe(c, port,
            (unsigned)(c->port[port].name
                           ? BIT(CONTROL_PORT_NAME) | BIT(CONTROL_PORT_OPEN)
                           : BIT(CONTROL_CONSOLE_PORT) | BIT(CONTROL_RESIZE) | BIT(CONTROL_PORT_OPEN)));
    else if (event == CONTROL_PORT_OPEN)
        c->open[port] = value;
}

static void kick_control(struct virtio_console *c, struct virtq *q)
{
    struct virtq_request *r;
    unsigned n = 0;
    pthread_mutex_lock(&c->lock);
    for (; n < CONSOLE_QUEUE && virtq_pop(q, &r, 1); n++) {
        uint8_t bytes[CONTROL_BYTES];
        if (virtq_get(r, 0, bytes, sizeof(bytes)))
            obey_locked(c, ld32le(bytes), ld16le(bytes + 4), ld16le(bytes + 6));
        virtq_push(q, &r, 1);
    }
    pay_locked(c);
    pthread_mutex_unlock(&c->lock);
    virtq_notify(q);
    if (n == CONSOLE_QUEUE)
        virtq_leave(q);
    for (unsigned i = 0; i < c->ports; i++)
        feed(&c->port[i]); /* perhaps just opened */
}

/* --- life --- */

static void console_kick(struct virtq *q)
{
    struct virtio_console *c = console_of(virtq_owner(q));
    unsigned i = virtq_index(q);
    if (i == QUEUE_CONTROL_OUT && multiport(c)) {
        kick_control(c, q);
    } else if (i == QUEUE_CONTROL_IN && multiport(c)) {
        pthread_mutex_lock(&c->lock);
        pay_locked(c);
        pthread_mutex_unlock(&c->lock);
    } else if (i < 2 || (i > QUEUE_CONTROL_OUT && multiport(c))) {
        struct port *p = &c->port[i < 2 ? 0 : i / 2 - 1];
        if (i & 1)
            kick_out(p);
        else
            feed(p);
    }
}

static void console_activate(struct virtio *v)
{
    struct virtio_console *c = console_of(v);
    /* Without control messages there is one port, and it is open. */
    if (!multiport(c))
        c->open[0] = true;
}

static void console_stop(struct virtio *v)
{
    struct virtio_console *c = console_of(v);
    pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < c->ports; i++) {
        c->port[i].out = NULL;
        c->out_at[i] = 0;
        c->owed[i] = 0;
        c->known[i] = c->open[i] = false;
    }
    pthread_mutex_unlock(&c->lock);
}

void virtio_console_resize(struct device *d, unsigned columns, unsigned rows)
{
    struct virtio_console *c = (struct virtio_console *)(void *)d;
    uint8_t bytes[4];
    g_assert(d->type == &device_virtio_console);
    st16le(bytes, (uint16_t)columns);
    st16le(bytes + 2, (uint16_t)rows);
    virtio_config_set(&c->virtio, CONFIG_COLUMNS, bytes, sizeof(bytes));
    pthread_mutex_lock(&c->lock);
    if (c->known[0] && multiport(c)) {
        owe(c, 0, BIT(CONTROL_RESIZE));
        pay_locked(c);
    }
    pthread_mutex_unlock(&c->lock);
}

static void port_resized(void *opaque, unsigned columns, unsigned rows)
{
    struct port *p = opaque;
    if (!p->number)
        virtio_console_resize(&p->console->virtio.dev, columns, rows);
}

static const struct virtio_function console_function = {
    .id = VIRTIO_ID_CONSOLE,
    .activate = console_activate,
    .kick = console_kick,
    .stop = console_stop,
};

static void attach_ports(struct virtio_console *c)
{
    static const struct stream_client client = {
        .input = console_input, .writable = console_writable, .resized = port_resized};
    const struct device_wires *w = &c->virtio.dev.wires;
    for (unsigned i = 0; i < c->ports; i++) {
        struct port *p = &c->port[i];
        *p = (struct port){.console = c,
                           .number = i,
                           .stream = i ? w->ports[i - 1].stream : w->stream,
                           .name = i ? w->ports[i - 1].name : NULL};
        if (p->stream)
            stream_attach(p->stream, &client, p);
    }
}

static bool console_init(struct device *d, GError **error)
{
    struct virtio_console *c = (struct virtio_console *)(void *)d;
    c->ports = 1 + d->wires.port_count;
    if (c->ports > CONSOLE_PORTS)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "virtio-console: %u channels, at most %d", c->ports - 1,
                           CONSOLE_PORTS - 1);
    const struct virtio_setup setup = {.features = CONSOLE_F_SIZE | CONSOLE_F_MULTIPORT,
                                       .queues = 2 * (c->ports + 1),
                                       .queue_size = CONSOLE_QUEUE,
                                       .config_size = CONFIG_BYTES};
    if (!virtio_init(d, &console_function, &setup, error))
        return false;
    pthread_mutex_init(&c->lock, NULL);
    st16le(c->virtio.config + CONFIG_COLUMNS, c->columns);
    st16le(c->virtio.config + CONFIG_ROWS, c->rows);
    st32le(c->virtio.config + CONFIG_PORTS, c->ports);
    attach_ports(c);
    return true;
}

static void console_destroy(struct device *d)
{
    struct virtio_console *c = (struct virtio_console *)(void *)d;
    for (unsigned i = 0; i < c->ports; i++)
        stream_detach(c->port[i].stream);
    virtio_destroy(d);
    pthread_mutex_destroy(&c->lock);
}

/* --- state --- */

/* A request in the middle of being written goes back into the queue; out_at says how far it got. */
static void console_pre_save(struct device *d)
{
    struct virtio_console *c = (struct virtio_console *)(void *)d;
    for (unsigned i = 0; i < c->ports; i++)
        if (c->port[i].out) {
            virtq_unpop(port_queue(&c->port[i], true), &c->port[i].out, 1);
            c->port[i].out = NULL;
        }
    virtio_pre_save(d);
}

static bool console_post_load(struct device *d)
{
    struct virtio_console *c = (struct virtio_console *)(void *)d;
    unsigned known = 0;
    for (unsigned k = 0; k < G_N_ELEMENTS(owed_order); k++)
        known |= (unsigned)BIT(owed_order[k]);
    for (unsigned i = 0; i < CONSOLE_PORTS; i++) {
        bool used = c->known[i] || c->open[i] || c->owed[i] || c->out_at[i];
        if ((used && i >= c->ports) || c->owed[i] & ~known || c->out_at[i] > CONSOLE_REQUEST_MAX)
            return false;
        if (c->owed[i] & BIT(CONTROL_PORT_NAME) && !c->port[i].name)
            return false;
        c->port[i].hungry = true; /* ask once */
    }
    if (ld32le(c->virtio.config + CONFIG_PORTS) != c->ports)
        return false;
    return virtio_post_load(d);
}

static const struct state_field console_state[] = {
    VIRTIO_STATE,
    STATE_FIELD(virtio_console, out_at, STATE_U32, 1),
    STATE_FIELD(virtio_console, owed, STATE_U8, 1),
    STATE_FIELD(virtio_console, known, STATE_BOOL, 1),
    STATE_FIELD(virtio_console, open, STATE_BOOL, 1),
    {0},
};

static const struct device_option console_options[] = {
    VIRTIO_OPTIONS,
    {.name = "columns",
     .help = "characters in a line of the terminal, 0 = not known",
     .type = STATE_U16,
     .offset = offsetof(struct virtio_console, columns),
     .max = UINT16_MAX},
    {.name = "rows",
     .help = "lines of the terminal, 0 = not known",
     .type = STATE_U16,
     .offset = offsetof(struct virtio_console, rows),
     .max = UINT16_MAX},
    {0},
};

const struct device_type device_virtio_console = {
    .name = "virtio-console",
    .help = "terminal and named byte streams",
    .size = sizeof(struct virtio_console),
    .options = console_options,
    .init = console_init,
    .destroy = console_destroy,
    VIRTIO_TYPE_BASE,
    .state = console_state,
    .pre_save = console_pre_save,
    .post_load = console_post_load,
};
