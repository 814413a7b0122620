/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A 16550A serial port over a byte stream (National Semiconductor PC16550D data sheet). */
/*
 * Theory of operation
 *
 * The line has no speed: a character written is on its way at once, one received is there at once. So the
 * transmitter is empty except while the stream's ring is full, and the receiver's timeout (characters below
 * the trigger level that nobody fetched for four character times) is as good as over when it begins: below
 * the level the interrupt is the timeout interrupt, at or above it the data interrupt.
 *
 * Output. A character goes into the transmit FIFO, and pump_locked() carries the FIFO to the stream with the
 * lock dropped. One thread pumps at a time; another one that has something to add (a vCPU's character, the
 * stream's "there is room again") says so in `pump_again`, and the pump looks once more. Thus no wake-up is
 * lost between a short stream_write() and the note of it.
 *
 * Input. The stream offers characters on the main thread and we take what the FIFO has room for; when we took
 * less, `starved` makes us ask for more as soon as the guest has emptied the FIFO. Nothing is ever lost to an
 * overrun, except in loopback.
 *
 * Interrupts, by priority (IIR): line status, data or timeout, transmitter empty, modem status. Only
 * "transmitter empty" is an event, kept in thr_event: set when the transmitter runs empty, or when it is
 * enabled while empty; cleared by reading IIR when it is what IIR reports, and by writing a character. The
 * others follow from the registers.
 */
#include "device/uart16550.h"

#include <string.h>

#include "base/bits.h"

enum {
    UART_DATA = 0, /* RBR, THR; divisor low with DLAB */
    UART_IER = 1,  /* divisor high with DLAB */
    UART_IIR = 2,  /* write: FCR */
    UART_LCR = 3,
    UART_MCR = 4,
    UART_LSR = 5,
    UART_MSR = 6,
    UART_SCR = 7,
    UART_EXTENT = 0x100,
};
enum { IER_RDA = 1, IER_THRE = 2, IER_RLS = 4, IER_MSR = 8, IER_MASK = 15 };
enum { IIR_NONE = 1, IIR_MSR = 0, IIR_THRE = 2, IIR_RDA = 4, IIR_RLS = 6, IIR_TIMEOUT = 12, IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_CLEAR_TX = 4, FCR_KEEP = 0xc9 };
enum { LCR_BREAK = 0x40, LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16, MCR_MASK = 31 };
enum {
    LSR_DR = 1,
    LSR_OE = 2,
    LSR_BI = 16,
    LSR_ERRORS = 0x1e,
    LSR_THRE = 0x20,
    LSR_TEMT = 0x40,
    LSR_FIFO_ERROR = 0x80
};
enum { MSR_DELTAS = 0x0f, MSR_TERI = 4, MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };
enum { UART_FIFO = 16, UART_POLLS = 4 /* reads of LSR in a row that mean waiting for input */ };

struct uart16550 {
    struct device dev;
    /* registers */
    uint8_t ier, fcr, lcr, mcr, scr;
    uint8_t msr;    /* with its delta bits */
    uint8_t errors; /* LSR_OE and the errors of characters that reached the head of the FIFO */
    uint16_t divisor;
    bool thr_event;
    bool polled; /* the guest listens without interrupts */
    /* FIFOs as rings; without FIFO mode only one place is used */
    uint8_t rx[UART_FIFO], rx_errors[UART_FIFO], rx_first, rx_count;
    uint8_t tx[UART_FIFO], tx_first, tx_count;
    /* not guest-visible */
    uint8_t polls; /* reads of LSR since the last access to another register */
    bool starved;
    bool pumping, pump_again;
};

static unsigned capacity(const struct uart16550 *u)
{
    return u->fcr & FCR_ENABLE ? UART_FIFO : 1;
}

/* --- interrupts --- */

static unsigned rx_trigger(const struct uart16550 *u)
{
    static const uint8_t level[4] = {1, 4, 8, 14};
    return u->fcr & FCR_ENABLE ? level[u->fcr >> 6] : 1;
}

static uint8_t iir_locked(const struct uart16550 *u)
{
    if (u->ier & IER_RLS && u->errors)
        return IIR_RLS;
    if (u->ier & IER_RDA && u->rx_count)
        return u->rx_count >= rx_trigger(u) ? IIR_RDA : IIR_TIMEOUT;
    if (u->ier & IER_THRE && u->thr_event)
        return IIR_THRE;
    if (u->ier & IER_MSR && u->msr & MSR_DELTAS)
        return IIR_MSR;
    return IIR_NONE;
}

static void update_locked(struct uart16550 *u)
{
    device_pin(&u->dev, 0, iir_locked(u) != IIR_NONE);
}

/* --- receiver --- */

static bool listens(const struct uart16550 *u)
{
    /* In loopback the receiver is cut off from the line. */
    return (u->ier & IER_RDA || u->polled) && !(u->mcr & MCR_LOOP);
}

/* The head's errors show in LSR once the character is next to be read. */
static void rx_show_head(struct uart16550 *u)
{
    if (u->rx_count) {
        u->errors |= u->rx_errors[u->rx_first];
        u->rx_errors[u->rx_first] = 0;
    }
}

static void rx_push(struct uart16550 *u, uint8_t c, uint8_t errors)
{
    if (u->rx_count >= capacity(u)) {
        u->errors |= LSR_OE;
        return;
    }
    unsigned at = (u->rx_first + u->rx_count) % UART_FIFO;
    u->rx[at] = c;
    u->rx_errors[at] = errors;
    u->rx_count++;
    rx_show_head(u);
}

static uint8_t rx_pop(struct uart16550 *u)
{
    if (!u->rx_count)
        return 0;
    uint8_t c = u->rx[u->rx_first];
    u->rx_first = (uint8_t)((u->rx_first + 1u) % UART_FIFO);
    u->rx_count--;
    rx_show_head(u);
    return c;
}

static void rx_clear(struct uart16550 *u)
{
    u->rx_first = u->rx_count = 0;
    memset(u->rx_errors, 0, sizeof(u->rx_errors));
}

/* Was input held back that fits now? Resets the note: the caller releases the lock and then calls
 * stream_more(). */
static bool rx_wants_more(struct uart16550 *u)
{
    bool more = u->starved && !u->rx_count && listens(u);
    if (more)
        u->starved = false;
    return more;
}

static void release_and_feed(struct uart16550 *u)
{
    bool more = rx_wants_more(u);
    update_locked(u);
    device_release(&u->dev);
    if (more)
        stream_more(u->dev.wires.stream);
}

static size_t uart_input(void *opaque, const uint8_t *bytes, size_t size)
{
    struct uart16550 *u = opaque;
    size_t taken = 0;
    device_lock(&u->dev);
    while (listens(u) && taken < size && u->rx_count < capacity(u))
        rx_push(u, bytes[taken++], 0);
    u->starved = taken < size;
    update_locked(u);
    device_release(&u->dev);
    return taken;
}

static void uart_break(void *opaque)
{
    struct uart16550 *u = opaque;
    device_lock(&u->dev);
    if (!(u->mcr & MCR_LOOP))
        rx_push(u, 0, LSR_BI);
    update_locked(u);
    device_release(&u->dev);
}

size_t uart16550_take(struct device *d, uint8_t *bytes, size_t size)
{
    struct uart16550 *u = (struct uart16550 *)(void *)d;
    size_t taken = 0;
    g_assert(d->type == &device_uart16550);
    device_lock(d);
    u->polled = true;
    while (taken < size && u->rx_count)
        bytes[taken++] = rx_pop(u);
    release_and_feed(u);
    return taken;
}

/* --- transmitter --- */

static void tx_drop(struct uart16550 *u, unsigned n)
{
    u->tx_first = (uint8_t)((u->tx_first + n) % UART_FIFO);
    u->tx_count = (uint8_t)(u->tx_count - n);
    if (!u->tx_count)
        u->thr_event = true;
}

/* Carries the transmit FIFO to the stream, dropping and taking the lock. */
static void pump_locked(struct uart16550 *u)
{
    if (u->pumping) {
        u->pump_again = true;
        return;
    }
    u->pumping = true;
    bool more = u->tx_count;
    while (more) {
        uint8_t out[UART_FIFO];
        unsigned n = u->tx_count;
        for (unsigned i = 0; i < n; i++)
            out[i] = u->tx[(u->tx_first + i) % UART_FIFO];
        u->pump_again = false;
        device_unlock(&u->dev);
        size_t sent = u->dev.wires.stream ? stream_write(u->dev.wires.stream, out, n) : n;
        device_lock(&u->dev);
        /* The guest may have cleared the FIFO meanwhile. */
        tx_drop(u, MIN((unsigned)sent, u->tx_count));
        more = u->tx_count && (sent == n || u->pump_again);
    }
    u->pumping = false;
}

static void uart_writable(void *opaque)
{
    struct uart16550 *u = opaque;
    device_lock(&u->dev);
    pump_locked(u);
    update_locked(u);
    device_release(&u->dev);
}

static void thr_write(struct uart16550 *u, uint8_t c)
{
    u->thr_event = false;
    if (u->mcr & MCR_LOOP) {
        rx_push(u, c, 0);
        u->thr_event = true;
        return;
    }
    if (u->tx_count < capacity(u)) {
        u->tx[(u->tx_first + u->tx_count) % UART_FIFO] = c;
        u->tx_count++;
    } else { /* written without looking at LSR: the last character is overwritten, as in the chip */
        u->tx[(u->tx_first + u->tx_count - 1u) % UART_FIFO] = c;
    }
    pump_locked(u);
}

/* --- modem lines --- */

/* What the status lines are: in loopback our own outputs, else a peer that is always there and ready. */
static void modem_update(struct uart16550 *u)
{
    uint8_t lines = MSR_CTS | MSR_DSR | MSR_DCD, m = u->mcr;
    if (m & MCR_LOOP)
        lines = (uint8_t)((m & MCR_RTS ? MSR_CTS : 0) | (m & MCR_DTR ? MSR_DSR : 0) |
                          (m & MCR_OUT1 ? MSR_RI : 0) | (m & MCR_OUT2 ? MSR_DCD : 0));
    uint8_t changed = (u->msr ^ lines) & 0xf0;
    uint8_t deltas = changed >> 4;
    if (changed & MSR_RI && lines & MSR_RI)
        deltas &= (uint8_t)~MSR_TERI; /* only the trailing edge of RI counts */
    u->msr = (uint8_t)(lines | (u->msr & MSR_DELTAS) | deltas);
}

/* --- registers --- */

static uint8_t lsr_read(struct uart16550 *u)
{
    uint8_t lsr = u->errors;
    if (u->rx_count)
        lsr |= LSR_DR;
    if (!u->tx_count)
        lsr |= LSR_THRE | LSR_TEMT;
    if (u->fcr & FCR_ENABLE) {
        bool any = u->errors & (LSR_ERRORS & ~LSR_OE);
        for (unsigned i = 0; i < u->rx_count; i++)
            any |= u->rx_errors[(u->rx_first + i) % UART_FIFO] != 0;
        lsr |= any ? LSR_FIFO_ERROR : 0;
    }
    u->errors = 0;
    if (!u->rx_count && !u->tx_count && u->polls < UART_POLLS && ++u->polls == UART_POLLS)
        u->polled = true;
    return lsr;
}

static uint8_t iir_read(struct uart16550 *u)
{
    uint8_t iir = iir_locked(u);
    if (iir == IIR_THRE)
        u->thr_event = false;
    return u->fcr & FCR_ENABLE ? iir | IIR_FIFO : iir;
}

static uint8_t msr_read(struct uart16550 *u)
{
    uint8_t msr = u->msr;
    u->msr &= (uint8_t)~MSR_DELTAS;
    return msr;
}

static uint64_t uart_read(void *chip, uint64_t offset, unsigned size)
{
    struct uart16550 *u = chip;
    uint8_t value = 0;
    (void)size;
    device_lock(&u->dev);
    bool dlab = u->lcr & LCR_DLAB;
    if (offset != UART_LSR)
        u->polls = 0;
    switch (offset) {
    case UART_DATA: value = dlab ? (uint8_t)u->divisor : rx_pop(u); break;
    case UART_IER: value = dlab ? (uint8_t)(u->divisor >> 8) : u->ier; break;
    case UART_IIR: value = iir_read(u); break;
    case UART_LCR: value = u->lcr; break;
    case UART_MCR: value = u->mcr; break;
    case UART_LSR: value = lsr_read(u); break;
    case UART_MSR: value = msr_read(u); break;
    case UART_SCR: value = u->scr; break;
    default: break;
    }
    release_and_feed(u);
    return value;
}

static void fcr_write(struct uart16550 *u, uint8_t value)
{
    bool toggled = (u->fcr ^ value) & FCR_ENABLE;
    /* Turning the FIFO on keeps a character that is there: it might as well have come a moment later. */
    if ((toggled && u->fcr & FCR_ENABLE) || value & FCR_CLEAR_RX)
        rx_clear(u);
    if ((toggled || value & FCR_CLEAR_TX) && u->tx_count) {
        u->tx_first = u->tx_count = 0;
        u->thr_event = true;
    }
    /* The other bits take effect only together with the enable bit. */
    u->fcr = value & FCR_ENABLE ? value & FCR_KEEP : 0;
}

static void ier_write(struct uart16550 *u, uint8_t value)
{
    if (value & ~u->ier & IER_THRE && !u->tx_count)
        u->thr_event = true;
    if (value & IER_RDA)
        u->polled = false; /* interrupts from now on: when they are off, it does not listen */
    u->ier = value & IER_MASK;
}

static void mcr_write(struct uart16550 *u, uint8_t value)
{
    u->mcr = value & MCR_MASK;
    modem_update(u);
}

static void uart_write(void *chip, uint64_t offset, unsigned size, uint64_t wide)
{
    struct uart16550 *u = chip;
    uint8_t value = (uint8_t)wide;
    (void)size;
    device_lock(&u->dev);
    bool dlab = u->lcr & LCR_DLAB;
    u->polls = 0;
    switch (offset) {
    case UART_DATA:
        if (dlab)
            u->divisor = (uint16_t)bits_set(u->divisor, 0, 8, value);
        else
            thr_write(u, value);
        break;
    case UART_IER:
        if (dlab)
            u->divisor = (uint16_t)bits_set(u->divisor, 8, 8, value);
        else
            ier_write(u, value);
        break;
    case UART_IIR: fcr_write(u, value); break;
    case UART_LCR: u->lcr = value; break; /* a break sent has nowhere to show in a byte stream */
    case UART_MCR: mcr_write(u, value); break;
    case UART_SCR: u->scr = value; break;
    default: break;
    }
    release_and_feed(u);
}

static const struct bus_ops uart_ops = {uart_read, uart_write, .min_size = 1, .max_size = 4};

static uint64_t uart_extent(const struct device *d)
{
    (void)d;
    return UART_EXTENT;
}

static bool uart_init(struct device *d, GError **error)
{
    static const struct stream_client client = {
        .input = uart_input, .writable = uart_writable, .brk = uart_break};
    (void)error;
    if (d->wires.stream)
        stream_attach(d->wires.stream, &client, d);
    return true;
}

static void uart_destroy(struct device *d)
{
    stream_detach(d->wires.stream);
}

static void uart_reset(struct device *d)
{
    struct uart16550 *u = (struct uart16550 *)(void *)d;
    u->ier = u->fcr = u->lcr = u->mcr = u->scr = u->errors = 0;
    u->divisor = 0;
    u->thr_event = u->polled = false;
    u->polls = 0;
    u->tx_first = u->tx_count = 0;
    memset(u->tx, 0, sizeof(u->tx));
    memset(u->rx, 0, sizeof(u->rx));
    rx_clear(u);
    u->msr = 0;
    modem_update(u);
    u->msr &= (uint8_t)~MSR_DELTAS;
}

static bool uart_post_load(struct device *d)
{
    struct uart16550 *u = (struct uart16550 *)(void *)d;
    if (u->rx_first >= UART_FIFO || u->tx_first >= UART_FIFO || u->rx_count > capacity(u) ||
        u->tx_count > capacity(u))
        return false;
    if (u->ier & ~IER_MASK || u->fcr & ~FCR_KEEP || u->mcr & ~MCR_MASK || u->errors & ~LSR_ERRORS)
        return false;
    for (unsigned i = 0; i < UART_FIFO; i++)
        if (u->rx_errors[i] & ~LSR_ERRORS)
            return false;
    u->starved = d->wires.stream != NULL;
    pump_locked(u);
    update_locked(u);
    return true;
}

static const struct state_field uart_state[] = {
    STATE_FIELD(uart16550, ier, STATE_U8, 1),         STATE_FIELD(uart16550, fcr, STATE_U8, 1),
    STATE_FIELD(uart16550, lcr, STATE_U8, 1),         STATE_FIELD(uart16550, mcr, STATE_U8, 1),
    STATE_FIELD(uart16550, scr, STATE_U8, 1),         STATE_FIELD(uart16550, msr, STATE_U8, 1),
    STATE_FIELD(uart16550, errors, STATE_U8, 1),      STATE_FIELD(uart16550, divisor, STATE_U16, 1),
    STATE_FIELD(uart16550, thr_event, STATE_BOOL, 1), STATE_FIELD(uart16550, polled, STATE_BOOL, 1),

    STATE_FIELD(uart16550, rx, STATE_U8, 1),          STATE_FIELD(uart16550, rx_errors, STATE_U8, 1),
    STATE_FIELD(uart16550, rx_first, STATE_U8, 1),    STATE_FIELD(uart16550, rx_count, STATE_U8, 1),
    STATE_FIELD(uart16550, tx, STATE_U8, 1),          STATE_FIELD(uart16550, tx_first, STATE_U8, 1),
    STATE_FIELD(uart16550, tx_count, STATE_U8, 1),    {0},
};

const struct device_type device_uart16550 = {
    .name = "uart16550",
    .help = "16550A serial port",
    .size = sizeof(struct uart16550),
    .state = uart_state,
    .version = 1,
    .ops = &uart_ops,
    .init = uart_init,
    .extent = uart_extent,
    .reset = uart_reset,
    .post_load = uart_post_load,
    .destroy = uart_destroy,
};
