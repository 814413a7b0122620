/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What all chips share: the list, construction from options, interrupt pins, state as data. */
#include "device/device.h"

#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/error.h"

#define DEVICE(name) extern const struct device_type device_##name;
#include "device/devices.def"
#undef DEVICE

const struct device_type *const device_types[] = {
#define DEVICE(name) &device_##name,
#include "device/devices.def"
#undef DEVICE
    NULL,
};

const struct device_type *device_type_find(const char *name)
{
    for (unsigned i = 0; device_types[i]; i++)
        if (!strcmp(device_types[i]->name, name))
            return device_types[i];
    return NULL;
}

/* --- construction --- */

static const struct device_option *option_find(const struct device_type *type, const char *name)
{
    for (const struct device_option *o = type->options; o && o->name; o++)
        if (!strcmp(o->name, name))
            return o;
    return NULL;
}

static bool set_options(struct device *d, const struct device_value *values, GError **error)
{
    for (const struct device_option *o = d->type->options; o && o->name; o++)
        state_put((char *)d + o->offset, o->type, o->value);
    for (const struct device_value *v = values; v && v->option; v++) {
        const struct device_option *o = option_find(d->type, v->option);
        if (!o)
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: no option \"%s\"", d->type->name, v->option);
        if (v->value < o->min || v->value > o->max)
            return hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "%s: %s is %" G_GUINT64_FORMAT ", allowed are %" G_GUINT64_FORMAT
                               " to %" G_GUINT64_FORMAT,
                               d->type->name, o->name, v->value, o->min, o->max);
        state_put((char *)d + o->offset, o->type, v->value);
    }
    return true;
}

struct device *device_new(const struct device_type *type, const struct device_wires *wires,
                          const struct device_value *values, GError **error)
{
    g_assert(type->size >= sizeof(struct device) && wires->output_count <= DEVICE_PINS_MAX);
    struct device *d = g_malloc0(type->size);
    d->type = type;
    d->wires = *wires;
    for (unsigned i = 0; i < wires->output_count; i++)
        d->outputs[i] = wires->outputs[i];
    d->wires.outputs = NULL; /* copied */
    pthread_mutex_init(&d->lock, NULL);
    if (!set_options(d, values, error) || (type->init && !type->init(d, error))) {
        pthread_mutex_destroy(&d->lock);
        g_free(d);
        return NULL;
    }
    device_reset(d);
    return d;
}

void device_free(struct device *d)
{
    if (!d)
        return;
    if (d->type->destroy)
        d->type->destroy(d);
    pthread_mutex_destroy(&d->lock);
    g_free(d);
}

void device_reset(struct device *d)
{
    device_lock(d);
    d->want = 0;
    d->type->reset(d);
    device_release(d);
}

struct irq_line device_input(struct device *d, unsigned pin)
{
    g_assert(d->type->input);
    return (struct irq_line){.set = d->type->input, .sink = d, .pin = pin};
}

bool device_map(struct device *d, struct bus *bus, struct gpa base, GError **error)
{
    return bus_map(bus, d->wires.name, base, d->type->extent(d), d->type->ops, d, error);
}

/* --- pins --- */

void device_release(struct device *d)
{
    while (d->want != d->driven) {
        unsigned pin = (unsigned)__builtin_ctzll(d->want ^ d->driven);
        bool level = d->want >> pin & 1;
        d->driven ^= BIT(pin);
        if (d->busy[pin]++)
            d->overlapped |= BIT(pin);
        device_unlock(d);
        irq_set(&d->outputs[pin], level);
        device_lock(d);
        if (!--d->busy[pin] && d->overlapped & BIT(pin)) {
            /* What arrived last is anybody's guess: go round once more for this pin. */
            d->overlapped &= ~BIT(pin);
            d->driven = (d->driven & ~BIT(pin)) | (~d->want & BIT(pin));
        }
    }
    device_unlock(d);
}

/* --- state --- */

size_t device_state_size(const struct device_type *type)
{
    return state_size(type->state, type->version);
}

void device_state_save(struct device *d, uint8_t *bytes)
{
    device_lock(d);
    if (d->type->pre_save)
        d->type->pre_save(d);
    state_save(d->type->state, d->type->version, d, bytes);
    device_release(d);
}

bool device_state_load_version(struct device *d, unsigned version, const uint8_t *bytes)
{
    device_lock(d);
    d->want = 0;
    d->type->reset(d); /* what is under way belongs to the old state */
    bool ok = state_load(d->type->state, version, d, bytes);
    if (!ok || (d->type->post_load && !d->type->post_load(d))) {
        ok = false;
        d->want = 0;
        d->type->reset(d);
    }
    device_release(d);
    return ok;
}

bool device_state_load(struct device *d, const uint8_t *bytes)
{
    return device_state_load_version(d, d->type->version, bytes);
}
