/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any bytes on a control socket: they are cut the same however they arrive, and each message gets one answer
 * or error. */

#include <glib.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "control/framer.h"
#include "control/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *run(void *opaque, json_t *args, GError **error)
{
    (void)opaque;
    (void)error;
    return json_incref(args);
}

static const struct qmp_command commands[] = {
    {"one", "text: str, ?number: int, ?flag: bool", "any", 0, run},
    {"none", NULL, "any", 0, run},
    {"many", "?list: [uint8], ?word: RunState, ?inner: SchemaInfo, ?any: any", "any", 0, run},
    {0},
};

static const struct qmp_command *const tables[] = {commands, NULL};

static void check_answer(json_t *answer)
{
    json_t *error = json_object_get(answer, "error");
    g_assert_true((error != NULL) != (json_object_get(answer, "return") != NULL));
    if (error)
        g_assert_true(json_is_string(json_object_get(error, "class")) &&
                      json_is_string(json_object_get(error, "desc")));
    json_decref(answer);
}

/* How many messages and mistakes there are when the bytes come in chunks. */
static unsigned feed(struct qmp_session *q, const char *bytes, size_t size, size_t chunk)
{
    struct framer f;
    unsigned count = 0;
    framer_init(&f);
    for (size_t at = 0; at < size; at += chunk) {
        const char *from = bytes + at, *reason;
        size_t left = MIN(chunk, size - at);
        enum framer_result result;
        while ((result = framer_feed(&f, &from, &left, &reason)) != FRAMER_MORE) {
            count++;
            g_assert_cmpuint(f.message->len, <=, FRAMER_MESSAGE_MAX);
            if (result == FRAMER_MESSAGE && q)
                check_answer(qmp_session_answer(q, f.message->str, f.message->len));
        }
    }
    framer_fini(&f);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(qmp_server) server = qmp_server_new(NULL, tables, NULL);
    struct qmp_session *q = qmp_server_add(server, -1, NULL, NULL);
    static const char hello[] = "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}";
    const char *bytes = (const char *)data;
    check_answer(qmp_session_answer(q, hello, strlen(hello)));
    g_assert_cmpuint(feed(q, bytes, size, size ? size : 1), ==, feed(NULL, bytes, size, 3));
    return 0;
}
