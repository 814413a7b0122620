/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Cutting a stream into messages, answering them, and both sides of a socket talking to each other. */

#include <glib.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "control/client.h"
#include "control/framer.h"
#include "control/server.h"

/* --- framer --- */

/* Feeds text in chunks; the messages joined with '|', a mistake as '!'. */
static char *cut(const char *text, size_t size, size_t chunk)
{
    struct framer f;
    GString *out = g_string_new(NULL);
    framer_init(&f);
    for (size_t at = 0; at < size; at += chunk) {
        const char *bytes = text + at, *reason = NULL;
        size_t left = MIN(chunk, size - at);
        enum framer_result result;
        while ((result = framer_feed(&f, &bytes, &left, &reason)) != FRAMER_MORE) {
            if (result == FRAMER_BAD)
                g_assert_nonnull(reason);
            g_string_append(out, result == FRAMER_BAD ? "!" : f.message->str);
            g_string_append_c(out, '|');
        }
        g_assert_cmpuint(left, ==, 0);
    }
    framer_fini(&f);
    return g_string_free(out, FALSE);
}

static void test_framer(void)
{
    static const struct {
        const char *stream, *messages;
    } cases[] = {
        {"", ""},
        {" \r\n\t", ""},
        {"{}", "{}|"},
        {"{}{}", "{}|{}|"},
        {" {\"a\": [1, {}]} \n{}", "{\"a\": [1, {}]}|{}|"},
        {"{\"}\":\"{[\"}{}", "{\"}\":\"{[\"}|{}|"},
        {"{\"\\\"}\":\"\\\\\"}{}", "{\"\\\"}\":\"\\\\\"}|{}|"},
        {"{]{}", "{]|{}|"},
        {"hello\n{}", "!|{}|"},
        {"[1]\n{}", "!|{}|"},
        {"\"{}\"\n{}", "!|{}|"},
        {"{\"a\nb\":1}\n{}", "!|!|{}|"},
        {"{\x01}{}\n{}", "!|{}|"},
        {"{", ""},
        {"}\n", "!|"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
        for (size_t chunk = 1; chunk <= 40; chunk += 13) {
            g_autofree char *got = cut(cases[i].stream, strlen(cases[i].stream), chunk);
            g_assert_cmpstr(got, ==, cases[i].messages);
        }
}

static void test_framer_bounds(void)
{
    for (unsigned depth = FRAMER_DEPTH_MAX - 1; depth <= FRAMER_DEPTH_MAX; depth++) {
        g_autoptr(GString) s = g_string_new("{\"a\":");
        for (unsigned i = 0; i < depth; i++)
            g_string_append_c(s, '[');
        for (unsigned i = 0; i < depth; i++)
            g_string_append_c(s, ']');
        g_string_append(s, "}\n");
        g_autofree char *got = cut(s->str, s->len, 7);
        g_assert_cmpint(got[0], ==, depth < FRAMER_DEPTH_MAX ? '{' : '!');
    }
    for (size_t size = FRAMER_MESSAGE_MAX; size <= FRAMER_MESSAGE_MAX + 1; size++) {
        g_autofree char *text = g_malloc(size + 1);
        memset(text, 'x', size);
        memcpy(text, "{\"", 2);
        memcpy(text + size - 2, "\"}", 2);
        text[size] = '\n';
        g_autofree char *got = cut(text, size + 1, 1000);
        g_assert_cmpint(got[0], ==, size > FRAMER_MESSAGE_MAX ? '!' : '{');
    }
}

/* --- server --- */

static json_t *run_add(void *opaque, json_t *args, GError **error)
{
    json_t *b = json_object_get(args, "b");
    if (json_is_true(json_object_get(args, "fail"))) {
        hostel_fail(error, HOSTEL_ERROR_INPUT, "as you wish");
        return NULL;
    }
    ++*(unsigned *)opaque;
    return json_integer(json_integer_value(json_object_get(args, "a")) + (b ? json_integer_value(b) : 1));
}

static const struct qmp_command commands[] = {
    {"add", "a: int, ?b: int, ?fail: bool", "int", 0, run_add},
    {0},
};

static const struct qmp_command *const tables[] = {commands, NULL};

static char *ask(struct qmp_session *q, const char *text)
{
    json_t *answer = qmp_session_answer(q, text, strlen(text));
    char *out = json_dumps(answer, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(answer);
    return out;
}

static void assert_answer(struct qmp_session *q, const char *text, const char *expected)
{
    char *got = ask(q, text);
    g_assert_cmpstr(got, ==, expected);
    free(got);
}

static void assert_error(struct qmp_session *q, const char *text, const char *words)
{
    char *got = ask(q, text);
    if (!strstr(got, words) || !g_str_has_prefix(got, "{\"error\":{\"class\":\""))
        g_error("%s: %s does not say %s", text, got, words);
    free(got);
}

static void test_answers(void)
{
    unsigned calls = 0;
    AUTO(qmp_server) server = qmp_server_new(NULL, tables, &calls);
    struct qmp_session *q = qmp_server_add(server, -1, NULL, NULL);
    assert_error(q, "{\"execute\":\"add\",\"arguments\":{\"a\":1}}", "CommandNotFound");
    assert_answer(q, "{\"execute\":\"qmp_capabilities\"}", "{\"return\":{}}");
    assert_answer(q, "{\"execute\":\"add\",\"arguments\":{\"a\":1}}", "{\"return\":2}");
    assert_answer(q, "{\"execute\":\"add\",\"arguments\":{\"a\":1,\"b\":-3},\"id\":[]}",
                  "{\"id\":[],\"return\":-2}");
    g_assert_cmpuint(calls, ==, 2);
    assert_error(q, "{\"execute\":\"add\"}", "'a' is missing");
    assert_error(q, "{\"execute\":\"add\",\"arguments\":{\"a\":1.5}}", "must be an integer");
    assert_error(q, "{\"execute\":\"add\",\"arguments\":{\"a\":1,\"c\":1}}", "no parameter 'c'");
    assert_error(q, "{\"execute\":\"add\",\"arguments\":{\"a\":1,\"fail\":0}}", "true or false");
    assert_error(q, "{\"execute\":\"add\",\"arguments\":{\"a\":1,\"fail\":true}}", "as you wish");
    assert_error(q, "{\"execute\":\"add\",\"arguments\":{\"a\":99999999999999999999}}", "not JSON");
    assert_error(q, "{\"execute\":\"sub\"}", "no command 'sub'");
    assert_error(q, "{\"exec-oob\":\"add\"}", "no member 'exec-oob'");
    assert_error(q, "{\"execute\":[]}", "name of a command");
    assert_error(q, "{\"a\xff\":1}", "not JSON");
    assert_error(q, "{\"a\\u0000\":1}", "not JSON");
    /* What an error quotes may be cut inside a character, or never have been one. */
    assert_error(q, "{\"a\\u00\xd6\xa3\xcf\xcf\":1}", "not JSON");
    assert_error(q, "{\"execute\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\xc3\xa9\"}", "no command 'xxx");
    g_assert_cmpuint(calls, ==, 2);
    assert_answer(
        q, "{\"execute\":\"query-commands\"}",
        "{\"return\":[{\"name\":\"qmp_capabilities\"},{\"name\":\"query-version\"},{\"name\":"
        "\"query-commands\"},"
        "{\"name\":\"query-qmp-schema\"},{\"name\":\"getfd\"},{\"name\":\"closefd\"},{\"name\":\"add-fd\"},"
        "{\"name\":\"remove-fd\"},{\"name\":\"query-fdsets\"},{\"name\":\"add\"}]}");
}

/* --- both sides --- */

struct talk {
    struct control_client client;
    GString *heard;
    unsigned closed;
};

static void hear(void *opaque, json_t *message)
{
    struct talk *t = opaque;
    json_t *event = json_object_get(message, "event");
    if (event)
        g_string_append_printf(t->heard, "event %s;", json_string_value(event));
    else
        g_string_append_printf(t->heard, "%s;", json_object_get(message, "error") ? "error" : "return");
}

static void on_closed(void *opaque)
{
    ++*(unsigned *)opaque;
}

static void turn(struct talk *t)
{
    for (int i = 0; i < 5; i++) {
        while (g_main_context_iteration(NULL, FALSE)) {
        }
        if (t->client.fd >= 0)
            control_client_read(&t->client);
    }
}

static void test_conversation(void)
{
    int pair[2];
    struct talk t = {.heard = g_string_new(NULL)};
    unsigned closed = 0;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    struct qmp_server *q = qmp_server_new(NULL, tables, &closed);
    qmp_server_add(q, pair[0], on_closed, &closed);
    control_client_init(&t.client, pair[1], hear, &t);
    qmp_server_event(q, "EARLY", NULL); /* nobody has said that he wants events */
    g_assert_false(t.client.ready);
    turn(&t);
    g_assert_true(t.client.ready);
    g_assert_true(control_client_send(&t.client, "query-version", NULL, NULL));
    g_assert_true(control_client_send(&t.client, "add", "a", "one"));
    turn(&t);
    qmp_server_event(q, "LATE", json_pack("{s:i}", "x", 1));
    turn(&t);
    g_assert_cmpstr(t.heard->str, ==, "return;return;error;event LATE;");
    control_client_fini(&t.client);
    turn(&t);
    g_assert_cmpuint(closed, ==, 1);
    qmp_server_event(q, "TOO-LATE", json_object());
    g_assert_cmpuint(closed, ==, 1);
    qmp_server_free(q);
    g_string_free(t.heard, TRUE);
}

/* A client that is sent events and never reads is given up, not remembered for ever. */
static void test_deaf_client(void)
{
    int pair[2];
    unsigned closed = 0;
    static const char hello[] = "{\"execute\":\"qmp_capabilities\"}";
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    AUTO(qmp_server) q = qmp_server_new(NULL, tables, &closed);
    qmp_server_add(q, pair[0], on_closed, &closed);
    g_assert_cmpint(write(pair[1], hello, strlen(hello)), ==, (ssize_t)strlen(hello));
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    g_autofree char *filling = g_strnfill(10000, 'x');
    for (unsigned i = 0; i < 1000 && !closed; i++)
        qmp_server_event(q, "NOISE", json_pack("{s:s}", "filling", filling));
    g_assert_cmpuint(closed, ==, 1);
    close(pair[1]);
}

/* --- anything --- */

static json_t *run_echo(void *opaque G_GNUC_UNUSED, json_t *args, GError **error G_GNUC_UNUSED)
{
    return json_incref(args);
}

static json_t *run_fail(void *opaque G_GNUC_UNUSED, json_t *args G_GNUC_UNUSED, GError **error)
{
    return qmp_fail(error, QMP_ERROR_DEVICE_NOT_FOUND, "as you wish");
}

static const struct qmp_command wild_commands[] = {
    {"echo", "?text: str, ?list: [uint8], ?word: RunState, ?inner: SchemaInfo", "any", 0, run_echo},
    {"peek", "?text: str", "any", QMP_OOB, run_echo},
    {"fail", "which: uint8", NULL, 0, run_fail},
    {0},
};

static const struct qmp_command *const wild_tables[] = {wild_commands, NULL};

/* A few words that messages are made of, right ones and wrong ones. */
static const char *const words[] = {
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"execute\"",
    "\"exec-oob\"",
    "\"id\"",
    "\"arguments\"",
    "\"echo\"",
    "\"peek\"",
    "\"fail\"",
    "\"getfd\"",
    "\"add-fd\"",
    "\"fdname\"",
    "\"which\"",
    "\"text\"",
    "\"list\"",
    "\"word\"",
    "\"inner\"",
    "\"running\"",
    "\"name\"",
    "\"meta-type\"",
    "\"enum\"",
    "1",
    "-1",
    "255",
    "256",
    "1e9",
    "null",
    "true",
    "\"x\"",
    "\"\\u0041\"",
    "\"\xc3\xa9\"",
    "\xff",
    " ",
    "\n",
};

static char *random_message(GRand *rand)
{
    GString *s = g_string_new(NULL);
    if (g_rand_int_range(rand, 0, 4))
        g_string_append_printf(s, "{%s:%s,\"arguments\":{", words[g_rand_int_range(rand, 0, 4) ? 6 : 7],
                               words[g_rand_int_range(rand, 10, 15)]);
    int count = g_rand_int_range(rand, 0, 12);
    for (int i = 0; i < count; i++)
        g_string_append(s, words[g_rand_int_range(rand, i % 4 == 1 ? 4 : 0, ARRAY_SIZE(words))]);
    if (g_rand_int_range(rand, 0, 4))
        g_string_append(s, "}}");
    return g_string_free(s, FALSE);
}

/* Each message has one answer, of one of two forms, and it is true to its id. */
static void test_random(void)
{
    enum { COUNT = 100000 };
    AUTO(qmp_server) server = qmp_server_new(NULL, wild_tables, NULL);
    GRand *rand = g_rand_new_with_seed(g_test_rand_int() & 0x7fffffff);
    struct qmp_session *session = qmp_server_add(server, -1, NULL, NULL);
    static const char hello[] = "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}";
    json_decref(qmp_session_answer(session, hello, strlen(hello)));
    unsigned good = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        g_autofree char *text = random_message(rand);
        json_t *answer = qmp_session_answer(session, text, strlen(text));
        json_t *error = json_object_get(answer, "error"), *value = json_object_get(answer, "return");
        g_assert_true((error != NULL) != (value != NULL));
        g_assert_cmpuint(json_object_size(answer), ==, json_object_get(answer, "id") ? 2 : 1);
        if (error)
            g_assert_cmpuint(json_object_size(error), ==, 2);
        good += value != NULL;
        json_decref(answer);
    }
    g_test_message("%u of %d messages were commands", good, COUNT);
    g_assert_cmpuint(good, >, 100);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/framer/messages", test_framer);
    g_test_add_func("/framer/bounds", test_framer_bounds);
    g_test_add_func("/qmp/answers", test_answers);
    g_test_add_func("/qmp/conversation", test_conversation);
    g_test_add_func("/qmp/deaf-client", test_deaf_client);
    g_test_add_func("/qmp/random", test_random);
    return g_test_run();
}
