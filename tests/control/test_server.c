/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A QMP server and its clients: many at once, slow ones, commands that answer later, descriptors both ways.
 */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "control/fds.h"
#include "control/server.h"
#include "os/fd.h"
#include "os/pass.h"

/* --- the commands --- */

static struct qmp_server *server; /* the commands' opaque is not needed */
static GQueue held = G_QUEUE_INIT;
static unsigned closed_calls;

static json_t *run_echo(void *opaque G_GNUC_UNUSED, json_t *args, GError **error G_GNUC_UNUSED)
{
    return json_incref(args);
}

static json_t *run_slow(void *opaque G_GNUC_UNUSED, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    g_queue_push_tail(&held, qmp_request_hold(server));
    return NULL;
}

/* A file descriptor of a memory file that holds the text. */
static json_t *run_give(void *opaque G_GNUC_UNUSED, json_t *args, GError **error G_GNUC_UNUSED)
{
    const char *text = json_string_value(json_object_get(args, "text"));
    int fd = memfd_create("given", MFD_CLOEXEC);
    g_assert_cmpint(pwrite(fd, text, strlen(text), 0), ==, (ssize_t)strlen(text));
    g_assert_true(qmp_request_reply_fd(qmp_request(server), fd));
    return qmp_done();
}

/* What is in the file named. */
static json_t *run_read(void *opaque G_GNUC_UNUSED, json_t *args, GError **error)
{
    char bytes[64] = "";
    const char *path = json_string_value(json_object_get(args, "path"));
    bool writes = json_is_true(json_object_get(args, "write"));
    AUTO_FD fd =
        control_fd_open(qmp_request_fds(qmp_request(server)), path, writes ? O_RDWR : O_RDONLY, error);
    if (fd < 0)
        return NULL;
    g_assert_cmpint(pread(fd, bytes, sizeof(bytes) - 1, 0), >=, 0);
    return json_string(bytes);
}

static json_t *run_fail(void *opaque G_GNUC_UNUSED, json_t *args, GError **error)
{
    static const enum qmp_error classes[] = {QMP_ERROR_GENERIC, QMP_ERROR_COMMAND_NOT_FOUND,
                                             QMP_ERROR_DEVICE_NOT_FOUND, QMP_ERROR_DEVICE_NOT_ACTIVE,
                                             QMP_ERROR_KVM_MISSING_CAP};
    return qmp_fail(error, classes[json_integer_value(json_object_get(args, "which"))], "as you wish");
}

static const struct qmp_command commands[] = {
    {"echo", "?text: str", "any", 0, run_echo},
    {"peek", "?text: str", "any", QMP_OOB | QMP_EARLY, run_echo},
    {"slow", NULL, NULL, 0, run_slow},
    {"give", "text: str", NULL, 0, run_give},
    {"read", "path: str, ?write: bool", "str", 0, run_read},
    {"fail", "which: uint8", NULL, 0, run_fail},
    {0},
};

static const struct qmp_command *const tables[] = {commands, NULL};

/* --- clients --- */

struct client {
    int fd;
    GString *seen; /* bytes received whose lines have not been taken */
    struct pass_fds fds;
    bool ended;
};

static void on_closed(void *opaque G_GNUC_UNUSED)
{
    closed_calls++;
}

static void start_server(void)
{
    server = qmp_server_new(NULL, tables, NULL);
    closed_calls = 0;
}

/* A client the server was given. */
static struct client *join(void)
{
    int pair[2];
    struct client *c = g_new0(struct client, 1);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    qmp_server_add(server, pair[0], on_closed, NULL);
    c->fd = pair[1];
    c->seen = g_string_new(NULL);
    return c;
}

static void leave(struct client *c)
{
    fd_close(&c->fd);
    g_string_free(c->seen, TRUE);
    pass_close(&c->fds);
    g_free(c);
    while (g_main_context_iteration(NULL, FALSE)) {
    }
}

static void say_with(struct client *c, const char *text, const struct pass_fds *fds)
{
    g_autofree char *json = g_strdelimit(g_strdup(text), "'", '"');
    g_assert_cmpint(pass_send(c->fd, json, strlen(json), fds), ==, (ssize_t)strlen(json));
}

static void say(struct client *c, const char *text)
{
    say_with(c, text, NULL);
}

/* Lets the server work until it has nothing to do, and takes what it sent. */
static void hear(struct client *c)
{
    for (bool more = true; more;) {
        while (g_main_context_iteration(NULL, FALSE)) {
        }
        char bytes[4096];
        ssize_t n = c->ended ? -EAGAIN : pass_receive(c->fd, bytes, sizeof(bytes), &c->fds);
        c->ended |= n == 0;
        if (n > 0)
            g_string_append_len(c->seen, bytes, n);
        more = n > 0;
    }
}

/* The next line without its end, owned; NULL = there is none. */
static char *line(struct client *c)
{
    char *end = strstr(c->seen->str, "\r\n");
    if (!end) {
        hear(c);
        end = strstr(c->seen->str, "\r\n");
    }
    if (!end)
        return NULL;
    char *text = g_strndup(c->seen->str, (size_t)(end - c->seen->str));
    g_string_erase(c->seen, 0, end + 2 - c->seen->str);
    return text;
}

static void expect(struct client *c, const char *text)
{
    g_autofree char *want = text ? g_strdelimit(g_strdup(text), "'", '"') : NULL;
    g_autofree char *got = line(c);
    g_assert_cmpstr(got, ==, want);
}

/* The next line contains the words. */
static void expect_words(struct client *c, const char *words)
{
    g_autofree char *want = g_strdelimit(g_strdup(words), "`", '"');
    g_autofree char *got = line(c);
    if (!got || !strstr(got, want))
        g_error("%s does not say %s", got ? got : "(nothing)", want);
}

static void greet(struct client *c, bool oob)
{
    expect_words(c, "`capabilities`:[`oob`]");
    say(c, oob ? "{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}"
               : "{'execute':'qmp_capabilities'}");
    expect(c, "{'return':{}}");
}

static struct client *joined(bool oob)
{
    struct client *c = join();
    greet(c, oob);
    return c;
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    GDir *dir = g_dir_open("/proc/self/fd", 0, NULL);
    while (g_dir_read_name(dir))
        count++;
    g_dir_close(dir);
    return count;
}

/* --- many --- */

static void test_several(void)
{
    start_server();
    struct client *a = joined(false), *b = joined(true), *c = join();
    expect_words(c, "QMP");
    say(a, "{'execute':'echo','id':1}");
    say(b, "{'execute':'echo','id':1,'arguments':{'text':'b'}}");
    say(c, "{'execute':'echo','id':1}");
    expect(a, "{'return':{},'id':1}");
    expect(b, "{'return':{'text':'b'},'id':1}");
    expect_words(c, "CommandNotFound");
    qmp_server_event(server, "STOP", NULL);
    expect_words(a, "`event`:`STOP`");
    expect_words(b, "`event`:`STOP`");
    expect(c, NULL);
    leave(a);
    g_assert_cmpuint(closed_calls, ==, 1);
    say(b, "{'execute':'echo'}");
    expect(b, "{'return':{}}");
    g_assert_cmpuint(qmp_server_clients(server), ==, 2);
    leave(b);
    leave(c);
    qmp_server_free(server);
}

/* What a guest can cause without end is told at once, and then once in a while: the last of it; about
 * different devices apart. */
static void test_limited(void)
{
    start_server();
    struct client *c = joined(false);
    for (unsigned i = 0; i < 1000; i++) {
        qmp_server_event(server, "BALLOON_CHANGE", json_pack("{s:i}", "actual", (int)i));
        qmp_server_event(server, "BLOCK_IO_ERROR", json_pack("{s:s}", "device", i % 2 ? "a" : "b"));
    }
    qmp_server_event(server, "STOP", NULL);
    expect_words(c, "`data`:{`actual`:0}");
    expect_words(c, "`data`:{`device`:`b`}");
    expect_words(c, "`data`:{`device`:`a`}");
    expect_words(c, "STOP");
    for (unsigned left = 3; left;) {
        g_autofree char *text = line(c);
        if (!text) {
            g_main_context_iteration(NULL, TRUE);
            continue;
        }
        g_assert_true(strstr(text, "\"actual\":999") || strstr(text, "BLOCK_IO_ERROR"));
        left--;
    }
    qmp_server_event(server, "BALLOON_CHANGE", json_pack("{s:i}", "actual", 5));
    qmp_server_free(server); /* what is held back is said before */
    expect_words(c, "`actual`:5");
    leave(c);
}

static void test_errors(void)
{
    static const char *const classes[] = {"GenericError", "CommandNotFound", "DeviceNotFound",
                                          "DeviceNotActive", "KVMMissingCap"};
    start_server();
    struct client *c = joined(false);
    for (unsigned i = 0; i < ARRAY_SIZE(classes); i++) {
        g_autofree char *ask = g_strdup_printf("{'execute':'fail','arguments':{'which':%u}}", i);
        g_autofree char *want = g_strdup_printf("{'error':{'class':'%s','desc':'as you wish'}}", classes[i]);
        say(c, ask);
        expect(c, want);
    }
    qmp_server_set_early(server, "the guest is being restored");
    say(c, "{'execute':'echo'}{'execute':'peek'}");
    expect(c, "{'error':{'class':'GenericError','desc':'echo cannot run now: the guest is being restored'}}");
    expect(c, "{'return':{}}");
    leave(c);
    qmp_server_free(server);
}

/* A listening socket in a folder of its own, and how to reach it. */
static int listener(struct sockaddr_un *address, char **folder)
{
    *folder = g_dir_make_tmp("hostel-test-XXXXXX", NULL);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    g_snprintf(address->sun_path, sizeof(address->sun_path), "%s/control", *folder);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)address, sizeof(*address)), ==, 0);
    g_assert_cmpint(listen(fd, 64), ==, 0);
    return fd;
}

static struct client *visit(const struct sockaddr_un *address)
{
    struct client *c = g_new0(struct client, 1);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->seen = g_string_new(NULL);
    g_assert_cmpint(connect(c->fd, (const struct sockaddr *)address, sizeof(*address)), ==, 0);
    return c;
}

static void test_limit(void)
{
    struct sockaddr_un address;
    g_autofree char *folder = NULL;
    struct client *all[QMP_CLIENTS_MAX + 2];
    start_server();
    qmp_server_listen(server, listener(&address, &folder));
    struct client *parent = joined(false);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        all[i] = visit(&address);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        if (i < QMP_CLIENTS_MAX - 1) {
            greet(all[i], i % 2);
            continue;
        }
        expect(all[i], "{'error':{'class':'GenericError','desc':'there are 32 clients already; close another "
                       "connection first'}}");
        hear(all[i]);
        g_assert_true(all[i]->ended);
    }
    qmp_server_event(server, "STOP", NULL);
    for (unsigned i = 0; i < QMP_CLIENTS_MAX - 1; i++)
        expect_words(all[i], "STOP");
    leave(all[5]);
    all[5] = visit(&address);
    greet(all[5], true);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        leave(all[i]);
    g_assert_cmpuint(qmp_server_clients(server), ==, 1);
    g_assert_cmpuint(closed_calls, ==, 0);
    leave(parent);
    g_assert_cmpuint(closed_calls, ==, 1);
    qmp_server_free(server);
    g_unlink(address.sun_path);
    g_rmdir(folder);
}

/* --- slow ones --- */

static void test_deaf(void)
{
    enum { EVENTS = 300, SIZE = 10000 };
    start_server();
    struct client *deaf = joined(false), *keen = joined(false);
    g_autofree char *filling = g_strnfill(SIZE, 'x');
    for (unsigned i = 0; i < EVENTS; i++) {
        qmp_server_event(server, "NOISE", json_pack("{s:s}", "filling", filling));
        expect_words(keen, "NOISE");
    }
    g_assert_cmpuint(closed_calls, ==, 1);
    g_assert_cmpuint(qmp_server_clients(server), ==, 1);
    say(keen, "{'execute':'echo'}");
    expect(keen, "{'return':{}}");
    /* What it was sent before it was cut off is there, then the end. */
    expect_words(deaf, "NOISE");
    hear(deaf);
    g_assert_true(deaf->ended);
    leave(deaf);
    leave(keen);
    qmp_server_free(server);
}

/* Answers that nobody reads hold back commands, not memory; nothing is lost. */
static void test_many_answers(void)
{
    enum { COUNT = 200 };
    start_server();
    struct client *c = joined(false), *other = joined(false);
    unsigned sent = 0, answered = 0;
    for (; sent < COUNT; sent++) {
        static const char ask[] = "{\"execute\":\"query-qmp-schema\"}";
        if (pass_send(c->fd, ask, strlen(ask), NULL) != (ssize_t)strlen(ask))
            break;
    }
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    say(other, "{'execute':'echo'}");
    expect(other, "{'return':{}}");
    for (char *text; (text = line(c)); answered++) {
        g_assert_true(g_str_has_prefix(text, "{\"return\":[{\"name\":"));
        g_free(text);
    }
    g_assert_cmpuint(answered, ==, sent);
    leave(c);
    leave(other);
    qmp_server_free(server);
}

static void test_half_closed(void)
{
    start_server();
    struct client *c = joined(false);
    say(c, "{'execute':'slow','id':1}{'execute':'echo','id':2}");
    g_assert_cmpint(shutdown(c->fd, SHUT_WR), ==, 0);
    expect(c, NULL);
    g_assert_false(c->ended);
    qmp_request_finish(g_queue_pop_head(&held), qmp_done(), NULL);
    expect(c, "{'return':{},'id':1}");
    expect(c, "{'return':{},'id':2}");
    hear(c);
    g_assert_true(c->ended);
    g_assert_cmpuint(closed_calls, ==, 1);
    leave(c);
    qmp_server_free(server);
}

/* --- out of band --- */

static void test_oob(void)
{
    start_server();
    struct client *c = joined(true), *other = joined(false);
    say(c, "{'execute':'slow','id':1}{'execute':'echo','id':2}{'exec-oob':'peek','id':3}");
    expect(c, "{'return':{},'id':3}");
    expect(c, NULL);
    say(other, "{'execute':'echo','id':9}{'exec-oob':'peek','id':10}");
    expect(other, "{'return':{},'id':9}");
    expect_words(other, "no member 'exec-oob'");
    say(c, "{'exec-oob':'echo','id':4}{'exec-oob':'none','id':5}{'exec-oob':'peek','execute':'peek','id':6}");
    expect(c, "{'error':{'class':'GenericError','desc':'echo cannot run out of band'},'id':4}");
    expect_words(c, "CommandNotFound");
    say(c, "{'exec-oob':'peek','id':7}");
    expect(c, "{'return':{},'id':7}");
    qmp_request_finish(g_queue_pop_head(&held), NULL, g_error_new(HOSTEL_ERROR, HOSTEL_ERROR_HOST, "late"));
    expect(c, "{'error':{'class':'GenericError','desc':'late'},'id':1}");
    expect(c, "{'return':{},'id':2}");
    expect_words(c, "has either");
    leave(c);
    leave(other);
    qmp_server_free(server);
}

/* Behind a held request only so many wait; then no more is read. All are answered in the end, in order. */
static void test_queue(void)
{
    enum { COUNT = 100000 };
    start_server();
    struct client *c = joined(true);
    say(c, "{'execute':'slow','id':0}");
    unsigned sent = 1;
    for (; sent < COUNT; sent++) {
        g_autofree char *ask = g_strdup_printf("{\"execute\":\"echo\",\"id\":%u}", sent);
        if (pass_send(c->fd, ask, strlen(ask), NULL) != (ssize_t)strlen(ask))
            break;
        while (g_main_context_iteration(NULL, FALSE)) {
        }
    }
    g_assert_cmpuint(sent, <, COUNT); /* held back by the socket */
    expect(c, NULL);
    qmp_request_finish(g_queue_pop_head(&held), qmp_done(), NULL);
    for (unsigned i = 0; i < sent; i++) {
        g_autofree char *want = g_strdup_printf("{'return':{},'id':%u}", i);
        expect(c, want);
    }
    leave(c);
    qmp_server_free(server);
}

static void test_gone_while_held(void)
{
    start_server();
    struct client *c = joined(false), *other = joined(false);
    say(c, "{'execute':'slow'}{'execute':'echo'}");
    hear(c);
    leave(c);
    g_assert_cmpuint(qmp_server_clients(server), ==, 1);
    qmp_request_finish(g_queue_pop_head(&held), qmp_done(), NULL);
    say(other, "{'execute':'slow'}");
    hear(other);
    qmp_server_free(server); /* its answer comes after the server has gone */
    qmp_request_finish(g_queue_pop_head(&held), qmp_done(), NULL);
    leave(other);
}

/* --- descriptors --- */

/* count descriptors of memory files "0", "1", ... */
static struct pass_fds files(unsigned count, int flags)
{
    struct pass_fds fds = {0};
    for (unsigned i = 0; i < count; i++) {
        char digit = (char)('0' + i);
        AUTO_FD fd = memfd_create("file", MFD_CLOEXEC);
        g_assert_cmpint(pwrite(fd, &digit, 1, 0), ==, 1);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        fds.fd[fds.count++] = open(path, flags | O_CLOEXEC);
    }
    return fds;
}

static void say_files(struct client *c, const char *text, unsigned count, int flags)
{
    struct pass_fds fds = files(count, flags);
    say_with(c, text, &fds);
    pass_close(&fds);
}

static void test_getfd(void)
{
    start_server();
    struct client *c = joined(false), *other = joined(false);
    unsigned before = open_descriptors();
    say_files(c, "{'execute':'getfd','arguments':{'fdname':'a'}}", 1, O_RDONLY);
    expect(c, "{'return':{}}");
    g_assert_cmpuint(open_descriptors(), ==, before + 1);
    say(other, "{'execute':'read','arguments':{'path':'fd:a'}}");
    expect_words(other, "no descriptor named 'a'");
    say(c, "{'execute':'read','arguments':{'path':'fd:a'}}");
    expect(c, "{'return':'0'}");
    g_assert_cmpuint(open_descriptors(), ==, before);
    say(c, "{'execute':'read','arguments':{'path':'fd:a'}}"); /* once */
    expect_words(c, "no descriptor named 'a'");
    /* The first of three; the others are closed. A name that is there gets the new one. */
    for (int i = 0; i < 2; i++) {
        say_files(c, "{'execute':'getfd','arguments':{'fdname':'b'}}", 3, O_RDONLY);
        expect(c, "{'return':{}}");
        g_assert_cmpuint(open_descriptors(), ==, before + 1);
    }
    say(c,
        "{'execute':'closefd','arguments':{'fdname':'b'}}{'execute':'closefd','arguments':{'fdname':'b'}}");
    expect(c, "{'return':{}}");
    expect_words(c, "no descriptor named 'b'");
    g_assert_cmpuint(open_descriptors(), ==, before);
    leave(c);
    leave(other);
    qmp_server_free(server);
}

static void test_wrong_descriptors(void)
{
    start_server();
    struct client *c = joined(false);
    unsigned before = open_descriptors();
    say(c, "{'execute':'getfd','arguments':{'fdname':'a'}}");
    expect_words(c, "no descriptor came with the message");
    say_files(c, "{'execute':'echo'}", 2, O_RDONLY); /* nobody wants them */
    expect(c, "{'return':{}}");
    g_assert_cmpuint(open_descriptors(), ==, before);
    say(c, "{'execute':'getfd','arguments':{'fdname':'a'}}"); /* nor are they kept for later */
    expect_words(c, "no descriptor came");
    static const char *const mistakes[] = {"{'execute':'getfd','arguments':{'fdname':'1a'}}",
                                           "{'execute':'getfd','arguments':{'fdname':''}}",
                                           "{'execute':'getfd','arguments':{'fdname':1}}",
                                           "{'execute':'getfd'}",
                                           "{'execute':'add-fd','arguments':{'fdset-id':-1}}",
                                           "nonsense\n",
                                           "{'execute':'none'}"};
    for (unsigned i = 0; i < ARRAY_SIZE(mistakes); i++) {
        say_files(c, mistakes[i], 1, O_RDONLY);
        expect_words(c, "`error`");
        g_assert_cmpuint(open_descriptors(), ==, before);
    }
    static const char *const paths[] = {"/etc/passwd",   "",  "/dev/fdset/", "/dev/fdset/x",
                                        "/dev/fdset/-1", "fd"};
    for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
        g_autofree char *ask = g_strdup_printf("{'execute':'read','arguments':{'path':'%s'}}", paths[i]);
        say(c, ask);
        expect_words(c, "opens no files; hand in a descriptor");
    }
    leave(c);
    qmp_server_free(server);
}

/* More than may come with a message: none of them stays, whatever the kernel let through. */
static void test_too_many_descriptors(void)
{
    start_server();
    struct client *c = joined(false);
    unsigned before = open_descriptors();
    static const char ask[] = "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"a\"}}";
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE((PASS_MAX + 4) * sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (char *)(uintptr_t)ask, .iov_len = strlen(ask)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                                      .cmsg_type = SCM_RIGHTS,
                                      .cmsg_len = CMSG_LEN((PASS_MAX + 4) * sizeof(int))};
    for (unsigned i = 0; i < PASS_MAX + 4; i++) {
        int fd = STDERR_FILENO;
        memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &fd, sizeof(fd));
    }
    g_assert_cmpint(sendmsg(c->fd, &message, 0), >, 0);
    expect_words(c, "were lost");
    g_assert_cmpuint(open_descriptors(), ==, before);
    for (unsigned i = 0; i <= CONTROL_FDS_NAMES_MAX; i++) {
        g_autofree char *name = g_strdup_printf("{'execute':'getfd','arguments':{'fdname':'n%u'}}", i);
        say_files(c, name, 1, O_RDONLY);
        expect_words(c, i < CONTROL_FDS_NAMES_MAX ? "`return`" : "has named 64 descriptors");
    }
    for (unsigned i = 0; i <= CONTROL_FDS_MEMBERS_MAX; i++) {
        say_files(c, "{'execute':'add-fd'}", 1, O_RDONLY);
        expect_words(c, i < CONTROL_FDS_MEMBERS_MAX ? "`return`" : "sets have 64 descriptors");
    }
    g_assert_cmpuint(open_descriptors(), ==, before + CONTROL_FDS_NAMES_MAX + CONTROL_FDS_MEMBERS_MAX);
    unsigned own = 1; /* the client's end */
    leave(c);
    g_assert_cmpuint(open_descriptors(), ==, before - own - 1);
    qmp_server_free(server);
}

/* A message that comes in pieces has the descriptors of all of them. */
static void test_descriptors_with_pieces(void)
{
    start_server();
    struct client *c = joined(false);
    unsigned before = open_descriptors();
    say_files(c, "{'execute':'ge", 1, O_RDONLY);
    hear(c);
    say(c, "tfd','arguments':{'fdname':'a'}}");
    expect(c, "{'return':{}}");
    say(c, "{'execute':'echo'}{'execute':'echo'}");
    say_files(c, "{'execute':'getfd','arguments':{'fdname':'b'}}", 2, O_RDONLY);
    expect(c, "{'return':{}}");
    expect(c, "{'return':{}}");
    expect(c, "{'return':{}}");
    g_assert_cmpuint(open_descriptors(), ==, before + 2);
    /* One that comes before its message, with a blank, as Ganeti sends it; the message before wants none. */
    say(c, "{'execute':'closefd','arguments':{'fdname':'b'}}");
    expect(c, "{'return':{}}");
    say_files(c, " ", 1, O_RDONLY);
    hear(c);
    say(c, "{'execute':'getfd','arguments':{'fdname':'b'}}\r\n");
    expect(c, "{'return':{}}");
    g_assert_cmpuint(open_descriptors(), ==, before + 2);
    say_files(c, " ", 1, O_RDONLY);
    hear(c);
    say(c, "{'execute':'echo'}");
    expect(c, "{'return':{}}");
    g_assert_cmpuint(open_descriptors(), ==, before + 2);
    /* Without a word they do not pile up. */
    for (unsigned i = 0; i < 40; i++) {
        say_files(c, "{", 3, O_RDONLY);
        hear(c);
        g_assert_cmpuint(open_descriptors(), <=, before + 2 + PASS_MAX);
    }
    leave(c);
    g_assert_cmpuint(open_descriptors(), ==, before - 2);
    qmp_server_free(server);
}

static void test_fdsets(void)
{
    start_server();
    struct client *a = joined(false), *b = joined(false);
    unsigned before = open_descriptors();
    say(a, "{'execute':'query-fdsets'}");
    expect(a, "{'return':[]}");
    say_files(a, "{'execute':'add-fd','arguments':{'opaque':'rw'}}", 1, O_RDWR);
    expect_words(a, "{`return`:{`fdset-id`:0,`fd`:");
    say_files(a, "{'execute':'add-fd','arguments':{'fdset-id':7}}", 1, O_RDONLY);
    expect_words(a, "`fdset-id`:7");
    say_files(b, "{'execute':'add-fd'}", 1, O_RDONLY);
    expect_words(b, "`fdset-id`:1");
    say(b, "{'execute':'read','arguments':{'path':'/dev/fdset/0'}}");
    expect_words(b, "no descriptor of set 0 is open for reading");
    say(b, "{'execute':'read','arguments':{'path':'/dev/fdset/0','write':true}}");
    expect(b, "{'return':'0'}");
    say(b, "{'execute':'read','arguments':{'path':'/dev/fdset/0','write':true}}"); /* as often as it likes */
    expect(b, "{'return':'0'}");
    say(b, "{'execute':'read','arguments':{'path':'/dev/fdset/5'}}");
    expect_words(b, "no set 5");
    g_assert_cmpuint(open_descriptors(), ==, before + 3);
    /* Of those a brought, the one that was opened stays. */
    leave(a);
    g_assert_cmpuint(open_descriptors(), ==, before - 2 + 2);
    say(b, "{'execute':'query-fdsets'}");
    expect_words(b, "{`return`:[{`fdset-id`:0,`fds`:[{`fd`:");
    say(b, "{'execute':'remove-fd','arguments':{'fdset-id':7}}");
    expect_words(b, "no set 7");
    say(b, "{'execute':'remove-fd','arguments':{'fdset-id':0,'fd':4000}}");
    expect_words(b, "no descriptor 4000 in set 0");
    say(b, "{'execute':'remove-fd','arguments':{'fdset-id':0}}");
    expect(b, "{'return':{}}");
    leave(b);
    g_assert_cmpuint(open_descriptors(), ==, before - 4);
    qmp_server_free(server);
}

static void assert_file(int fd, const char *text)
{
    char bytes[64] = "";
    g_assert_cmpint(pread(fd, bytes, sizeof(bytes) - 1, 0), >, 0);
    g_assert_cmpstr(bytes, ==, text);
}

static void test_reply_descriptors(void)
{
    start_server();
    struct client *c = joined(false);
    unsigned before = open_descriptors();
    say(c, "{'execute':'echo'}{'execute':'give','arguments':{'text':'one'}}{'execute':'echo'}"
           "{'execute':'give','arguments':{'text':'two'}}");
    for (int i = 0; i < 4; i++)
        expect(c, "{'return':{}}");
    g_assert_cmpuint(c->fds.count, ==, 2);
    assert_file(c->fds.fd[0], "one");
    assert_file(c->fds.fd[1], "two");
    pass_close(&c->fds);
    g_assert_cmpuint(open_descriptors(), ==, before);
    /* Not read by the client, which goes. */
    say(c, "{'execute':'give','arguments':{'text':'three'}}");
    leave(c);
    g_assert_cmpuint(open_descriptors(), ==, before - 2);
    qmp_server_free(server);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/server/several", test_several);
    g_test_add_func("/server/errors", test_errors);
    g_test_add_func("/server/limited", test_limited);
    g_test_add_func("/server/limit", test_limit);
    g_test_add_func("/server/deaf", test_deaf);
    g_test_add_func("/server/many-answers", test_many_answers);
    g_test_add_func("/server/half-closed", test_half_closed);
    g_test_add_func("/server/oob", test_oob);
    g_test_add_func("/server/queue", test_queue);
    g_test_add_func("/server/gone-while-held", test_gone_while_held);
    g_test_add_func("/server/getfd", test_getfd);
    g_test_add_func("/server/wrong-descriptors", test_wrong_descriptors);
    g_test_add_func("/server/too-many-descriptors", test_too_many_descriptors);
    g_test_add_func("/server/descriptors-with-pieces", test_descriptors_with_pieces);
    g_test_add_func("/server/fdsets", test_fdsets);
    g_test_add_func("/server/reply-descriptors", test_reply_descriptors);
    return g_test_run();
}
