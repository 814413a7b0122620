/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* hostel-nbd as its clients see it: libnbd (through our driver), nbdinfo, nbdcopy, qemu-img; and broken ones.
 */
#include <poll.h>
#include <sys/stat.h>

#include "base/byteorder.h"
#include "block/protocol/remote.h"
#include "server.h"

struct served {
    char *folder, *image, *socket, *uri, *program;
    pid_t pid;
};

/* An image of size bytes and a server of it; more: its arguments beside the image, ending with NULL. */
static struct served serve_with(uint64_t size, const char *export, const char *const *more)
{
    struct served s = {.folder = server_folder()};
    s.image = g_build_filename(s.folder, "image", NULL);
    s.socket = g_build_filename(s.folder, "s", NULL);
    s.uri = g_strdup_printf("nbd+unix:///%s?socket=%s", export, s.socket);
    s.program = g_build_filename(g_getenv("HOSTEL_MODULES"), "hostel-nbd", NULL);
    const int fd = open(s.image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    close(fd);
    const char *argv[32] = {s.program, "-f", "raw"};
    unsigned n = 3;
    for (; more && *more; more++)
        argv[n++] = *more;
    argv[n] = s.image;
    s.pid = server_start(argv, server_listen_unix(s.socket));
    return s;
}

static void served_clear(struct served *s)
{
    server_remove_folder(s->folder);
    g_free(s->image);
    g_free(s->socket);
    g_free(s->uri);
    g_free(s->program);
}

static void served_stop(struct served *s)
{
    kill(s->pid, SIGTERM);
    g_assert_cmpint(server_wait(s->pid), ==, 0);
    served_clear(s);
}

static bool ready(void)
{
    g_autofree char *path = g_build_filename(g_getenv("HOSTEL_MODULES"), "hostel-nbd", NULL);
    if (g_access(path, X_OK)) {
        g_test_skip("hostel-nbd was not built: GnuTLS is not installed");
        return false;
    }
    return true;
}

/* Runs a client; its exit code, and what it printed (owned). */
static int run_client(char **printed, const char *const *argv)
{
    int status = 0;
    g_autoptr(GError) error = NULL;
    g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, printed, NULL,
                 &status, &error);
    g_assert_no_error(error);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
#define RUN(printed, ...) run_client(printed, (const char *const[]){__VA_ARGS__, NULL})

/* --- clients that behave --- */

/* Several connections, threads on each; then the file has what was written, the server ends by itself. */
static void test_model(void)
{
    if (!ready() || !server_requires_module("nbd"))
        return;
    struct served s = serve_with(SERVER_SIZE, "", NULL);
    g_autofree uint8_t *bytes = g_malloc0(SERVER_SIZE);
    struct disk *b = server_disk(s.uri, false, NULL);
    g_assert_cmpuint(b->facts.size, ==, SERVER_SIZE);
    g_assert_cmpuint(server_holes(b, bytes), ==, SERVER_SIZE);
    server_check(b, bytes, 150);
    g_assert_cmpint(block_zero(b, 0, SERVER_SIZE / 2, BLOCK_MAY_UNMAP), ==, 0);
    memset(bytes, 0, SERVER_SIZE / 2);
    g_assert_cmpuint(server_holes(b, bytes), >=, SERVER_SIZE / 2);
    g_assert_cmpint(block_flush(b), ==, 0);
    block_free(b);
    g_assert_cmpint(server_wait(s.pid), ==, 0);
    g_autofree char *file = NULL;
    gsize size;
    g_assert_true(g_file_get_contents(s.image, &file, &size, NULL));
    g_assert_cmpmem(file, size, bytes, (gsize)SERVER_SIZE);
    served_clear(&s);
}

static void test_nbdinfo(void)
{
    if (!ready() || !server_requires("nbdinfo"))
        return;
    const char *more[] = {"-t", "-r", "-x", "disk", "-D", "a disk", NULL};
    struct served s = serve_with(SERVER_SIZE, "disk", more);
    g_autofree char *info = NULL, *list = NULL, *map = NULL;
    g_autofree char *root = g_strdup_printf("nbd+unix:///?socket=%s", s.socket);
    g_assert_cmpint(RUN(&info, "nbdinfo", s.uri), ==, 0);
    for (const char *const *line =
             (const char *const[]){"export-size: 1048576", "is_read_only: true", "can_df: true",
                                   "can_multi_conn: true", "base:allocation", "description: a disk", NULL};
         *line; line++)
        if (!strstr(info, *line))
            g_error("no '%s' in %s", *line, info);
    g_assert_cmpint(RUN(&list, "nbdinfo", "--list", root), ==, 0);
    g_assert_nonnull(strstr(list, "export=\"disk\""));
    g_assert_cmpint(RUN(&map, "nbdinfo", "--map", s.uri), ==, 0);
    g_assert_nonnull(strstr(map, "1048576    3  hole,zero"));
    g_assert_cmpint(RUN(NULL, "nbdinfo", root), !=, 0); /* there is no export of that name */
    served_stop(&s);
}

/* Both copy in, several connections at once, and read back what the other one wrote. */
static void test_copy(void)
{
    if (!ready() || !server_requires("nbdcopy") || !server_requires("qemu-img"))
        return;
    const char *more[] = {"-t", NULL};
    struct served s = serve_with(8 * MiB, "", more);
    g_autofree char *from = g_build_filename(s.folder, "from", NULL),
                    *to = g_build_filename(s.folder, "to", NULL);
    g_autofree uint8_t *bytes = g_malloc0(8 * MiB);
    for (size_t i = 0; i < 3 * MiB; i++)
        bytes[MiB + i] = (uint8_t)g_test_rand_int();
    g_assert_true(g_file_set_contents(from, (char *)bytes, 8 * MiB, NULL));
    g_assert_cmpint(RUN(NULL, "nbdcopy", "--connections=4", from, s.uri), ==, 0);
    g_assert_cmpint(RUN(NULL, "qemu-img", "compare", "-f", "raw", "-F", "raw", from, s.uri), ==, 0);
    memset(bytes + 2 * MiB, 0, MiB);
    g_assert_true(g_file_set_contents(from, (char *)bytes, 8 * MiB, NULL));
    g_assert_cmpint(RUN(NULL, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", from, s.uri), ==, 0);
    g_assert_cmpint(RUN(NULL, "nbdcopy", s.uri, to), ==, 0);
    g_autofree char *copy = NULL;
    gsize size;
    g_assert_true(g_file_get_contents(to, &copy, &size, NULL));
    g_assert_cmpmem(copy, size, bytes, (gsize)(8 * MiB));
    served_stop(&s);
}

static void test_readonly(void)
{
    if (!ready() || !server_requires_module("nbd"))
        return;
    const char *more[] = {"-r", "-o", "512K", "--size", "4096", NULL};
    struct served s = serve_with(SERVER_SIZE, "", more);
    server_refused(s.uri, false, NULL, "readonly=on");
    served_clear(&s);
    server_wait(s.pid);
    s = serve_with(SERVER_SIZE, "", more);
    const int fd = open(s.image, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, "x", 1, 512 * 1024), ==, 1);
    close(fd);
    struct disk *b = server_disk(s.uri, true, NULL);
    char byte = 0;
    g_assert_cmpuint(b->facts.size, ==, 4096);
    g_assert_cmpint(block_pread(b, &byte, 1, 0), ==, 0);
    g_assert_cmpint(byte, ==, 'x');
    block_free(b);
    g_assert_cmpint(server_wait(s.pid), ==, 0);
    served_clear(&s);
}

/* The socket and the file with the process's id are there while it serves, for nobody else, and gone
 * afterwards. */
static void test_files(void)
{
    if (!ready() || !server_requires_module("nbd"))
        return;
    g_autofree char *folder = server_folder(), *image = g_build_filename(folder, "image", NULL);
    g_autofree char *socket = g_build_filename(folder, "s", NULL),
                    *pid_file = g_build_filename(folder, "pid", NULL);
    g_autofree char *program = g_build_filename(g_getenv("HOSTEL_MODULES"), "hostel-nbd", NULL);
    g_autofree char *uri = g_strdup_printf("nbd+unix:///?socket=%s", socket), *text = NULL;
    g_assert_true(g_file_set_contents(image, "12345678", 8, NULL));
    const char *argv[] = {program, "-f", "raw", "-t", "-k", socket, "--pid-file", pid_file, image, NULL};
    pid_t pid = server_start(argv, -1);
    struct stat status;
    while (stat(pid_file, &status))
        g_assert_cmpint(waitpid(pid, NULL, WNOHANG), ==, 0);
    g_assert_true(g_file_get_contents(pid_file, &text, NULL, NULL));
    g_assert_cmpint(atoi(text), ==, pid);
    g_assert_cmpint(stat(socket, &status), ==, 0);
    g_assert_cmpuint(status.st_mode & 0777, ==, 0600);
    struct disk *b = server_disk(uri, true, NULL);
    g_assert_cmpuint(b->facts.size, ==, 8);
    block_free(b);
    server_stop(pid);
    g_assert_cmpint(stat(socket, &status), !=, 0);
    g_assert_cmpint(stat(pid_file, &status), !=, 0);
    server_remove_folder(g_steal_pointer(&folder));
}

/* A qcow2 by another program's hand: what a snapshot of it was, what a bitmap says of it. */
static void test_qcow2(void)
{
    if (!ready() || !server_requires("qemu-img") || !server_requires("nbdinfo"))
        return;
    g_autofree char *folder = server_folder(), *image = g_build_filename(folder, "image", NULL);
    g_autofree char *path = g_build_filename(folder, "s", NULL), *map = NULL, *dirty = NULL, *then = NULL;
    g_autofree char *uri = g_strdup_printf("nbd+unix:///?socket=%s", path);
    g_autofree char *program = g_build_filename(g_getenv("HOSTEL_MODULES"), "hostel-nbd", NULL);
    g_assert_cmpint(RUN(NULL, "qemu-img", "create", "-q", "-f", "qcow2", image, "4M"), ==, 0);
    g_assert_cmpint(RUN(&then, "qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", image), ==, 0);
    g_assert_cmpint(RUN(NULL, "qemu-img", "snapshot", "-c", "then", image), ==, 0);
    g_assert_cmpint(RUN(NULL, "qemu-img", "bitmap", "--add", image, "changes"), ==, 0);
    g_clear_pointer(&then, g_free);
    g_assert_cmpint(RUN(&then, "qemu-io", "-f", "qcow2", "-c", "write -P 2 2M 64k", image), ==, 0);
    const char *snapshot[] = {program, "-f", "qcow2", "-l", "then", image, NULL};
    pid_t pid = server_start(snapshot, server_listen_unix(path));
    g_assert_cmpint(RUN(&map, "nbdinfo", "--map", uri), ==, 0);
    g_assert_nonnull(strstr(map, "1048576     3145728    3  hole,zero"));
    g_assert_cmpint(server_wait(pid), ==, 0);
    const char *bitmap[] = {program, "-f", "qcow2", "-r", "-B", "changes", image, NULL};
    g_assert_cmpint(g_unlink(path), ==, 0);
    pid = server_start(bitmap, server_listen_unix(path));
    g_assert_cmpint(RUN(&dirty, "nbdinfo", "--map=qemu:dirty-bitmap:changes", uri), ==, 0);
    g_assert_nonnull(strstr(dirty, "2097152       65536    1  dirty"));
    g_assert_cmpint(server_wait(pid), ==, 0);
    server_remove_folder(g_steal_pointer(&folder));
}

/* --- TLS --- */

static void make_certificates(const char *folder)
{
    static const char script[] =
        "cd \"$1\" && exec 2>/dev/null && for who in ca server client; do certtool --generate-privkey --ecc "
        "--outfile $who-key.pem; done\n"
        "printf 'cn=ca\\nca\\ncert_signing_key\\nexpiration_days=2\\n' > ca.info\n"
        "printf "
        "'cn=localhost\\ndns_name=localhost\\ntls_www_server\\nencryption_key\\nsigning_key\\nexpiration_"
        "days=2\\n' "
        "> server.info\n"
        "printf 'cn=client\\ntls_www_client\\nencryption_key\\nsigning_key\\nexpiration_days=2\\n' > "
        "client.info\n"
        "certtool --generate-self-signed --load-privkey ca-key.pem --template ca.info --outfile ca-cert.pem\n"
        "for who in server client; do certtool --generate-certificate --load-ca-certificate ca-cert.pem "
        "--load-ca-privkey ca-key.pem --load-privkey $who-key.pem --template $who.info --outfile "
        "$who-cert.pem; done\n"
        "mkdir stranger && cp ca-cert.pem stranger";
    g_assert_cmpint(RUN(NULL, "sh", "-c", script, "sh", folder), ==, 0);
}

static void test_certificates(void)
{
    if (!ready() || !server_requires_module("nbd") || !server_requires("certtool"))
        return;
    g_autofree char *keys = server_folder();
    make_certificates(keys);
    g_autofree char *stranger = g_build_filename(keys, "stranger", NULL);
    const char *more[] = {"-t", "--tls-certificates", keys, NULL};
    struct served s = serve_with(SERVER_SIZE, "", more);
    g_autofree char *safe = g_strdup_printf("nbds+unix://localhost/?socket=%s", s.socket);
    const struct nbd_options good = {.tls_certificates = keys, .connections = 2, .timeout = 30};
    const struct nbd_options bad = {.tls_certificates = stranger, .connections = 1, .timeout = 30};
    server_refused(s.uri, true, NULL, "remote: "); /* nothing in the clear */
    server_refused(safe, true, &bad, "remote: ");  /* nothing for whom the CA does not know */
    struct disk *b = server_disk(safe, false, &good);
    g_autofree uint8_t *bytes = g_malloc0(SERVER_SIZE);
    server_check(b, bytes, 60);
    block_free(b);
    served_stop(&s);
    server_remove_folder(g_steal_pointer(&keys));
}

static void test_psk(void)
{
    if (!ready() || !server_requires_module("nbd") || !server_requires("psktool"))
        return;
    g_autofree char *folder = server_folder(), *keys = g_build_filename(folder, "keys", NULL);
    g_autofree char *others = g_build_filename(folder, "others", NULL);
    g_assert_cmpint(RUN(NULL, "psktool", "-u", "bob", "-p", keys), ==, 0);
    g_assert_cmpint(RUN(NULL, "psktool", "-u", "bob", "-p", others), ==, 0);
    const char *more[] = {"-t", "--tls-psk-file", keys, NULL};
    struct served s = serve_with(SERVER_SIZE, "", more);
    g_autofree char *safe = g_strdup_printf("nbds+unix://bob@/?socket=%s", s.socket);
    const struct nbd_options good = {.tls_psk_file = keys, .connections = 2, .timeout = 30};
    const struct nbd_options bad = {.tls_psk_file = others, .connections = 1, .timeout = 30};
    server_refused(s.uri, true, NULL, "remote: ");
    server_refused(safe, true, &bad, "remote: ");
    struct disk *b = server_disk(safe, false, &good);
    g_autofree uint8_t *bytes = g_malloc0(SERVER_SIZE);
    server_check(b, bytes, 60);
    block_free(b);
    served_stop(&s);
    server_remove_folder(g_steal_pointer(&folder));
}

/* --- clients that do not --- */

static int connect_to(const struct served *s)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, s->socket, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

static void get(int fd, void *bytes, size_t size)
{
    if (!size)
        return; /* recv() of nothing would wait */
    g_assert_cmpint(recv(fd, bytes, size, MSG_WAITALL), ==, (gssize)size);
}

static void put(int fd, const void *bytes, size_t size)
{
    if (size) /* nothing cannot be sent to who has gone */
        g_assert_cmpint(send(fd, bytes, size, MSG_NOSIGNAL), ==, (gssize)size);
}

static void put_option(int fd, uint32_t option, uint32_t length, const void *bytes, size_t size)
{
    uint8_t head[16];
    st64be(head, UINT64_C(0x49484156454f5054));
    st32be(head + 8, option);
    st32be(head + 12, length);
    put(fd, head, sizeof(head));
    put(fd, bytes, size);
}

/* Reads the answer to an option: its type. */
static uint32_t get_answer(int fd)
{
    uint8_t head[20], rest[4096];
    get(fd, head, sizeof(head));
    g_assert_cmpuint(ld64be(head), ==, UINT64_C(0x3e889045565a9));
    g_assert_cmpuint(ld32be(head + 16), <=, sizeof(rest));
    get(fd, rest, ld32be(head + 16));
    return ld32be(head + 12);
}

static int greet(const struct served *s, uint32_t flags)
{
    uint8_t greeting[18], answer[4];
    int fd = connect_to(s);
    get(fd, greeting, sizeof(greeting));
    g_assert_cmpuint(ld64be(greeting), ==, UINT64_C(0x4e42444d41474943));
    g_assert_cmpuint(ld16be(greeting + 16), ==, 3);
    st32be(answer, flags);
    put(fd, answer, sizeof(answer));
    return fd;
}

/* Into transmission by GO. */
static int go(const struct served *s)
{
    static const uint8_t no_name[6];
    int fd = greet(s, 3);
    put_option(fd, 7, 6, no_name, 6);
    while (get_answer(fd) == 3)
        ;
    return fd;
}

static void put_request(int fd, uint16_t flags, uint16_t type, uint64_t cookie, uint64_t offset,
                        uint32_t length)
{
    uint8_t request[28];
    st32be(request, UINT32_C(0x25609513));
    st16be(request + 4, flags);
    st16be(request + 6, type);
    st64be(request + 8, cookie);
    st64be(request + 16, offset);
    st32be(request + 24, length);
    put(fd, request, sizeof(request));
}

/* The error of a simple reply. */
static uint32_t get_reply(int fd, uint64_t cookie)
{
    uint8_t reply[16];
    get(fd, reply, sizeof(reply));
    g_assert_cmpuint(ld32be(reply), ==, UINT32_C(0x67446698));
    g_assert_cmpuint(ld64be(reply + 8), ==, cookie);
    return ld32be(reply + 4);
}

/* The server ended the connection. */
static void expect_end(int fd)
{
    uint8_t byte;
    g_assert_cmpint(recv(fd, &byte, 1, 0), <=, 0);
    close(fd);
}

static void test_options(void)
{
    if (!ready())
        return;
    const char *more[] = {"-t", NULL};
    struct served s = serve_with(SERVER_SIZE, "", more);
    static const uint8_t zeroes[64];
    int fd = greet(&s, 3);
    put_option(fd, 99, 8, zeroes, 8); /* unknown */
    g_assert_cmphex(get_answer(fd), ==, 0x80000001);
    put_option(fd, 3, 1, zeroes, 1); /* LIST has no data */
    g_assert_cmphex(get_answer(fd), ==, 0x80000003);
    put_option(fd, 5, 0, zeroes, 0); /* no TLS */
    g_assert_cmphex(get_answer(fd), ==, 0x80000002);
    put_option(fd, 10, 8, zeroes, 8); /* contexts before structured replies */
    g_assert_cmphex(get_answer(fd), ==, 0x80000003);
    put_option(fd, 8, 0, zeroes, 0);
    g_assert_cmphex(get_answer(fd), ==, 1);
    static const uint8_t long_name[8] = {0xff, 0xff, 0xff, 0xff}, long_query[12] = {[7] = 1, [8] = 0xff};
    static const uint8_t many[8] = {[4] = 0xff, 0xff, 0xff, 0xff};
    put_option(fd, 10, 8, long_name, 8);
    g_assert_cmphex(get_answer(fd), ==, 0x80000003);
    put_option(fd, 10, 12, long_query, 12);
    g_assert_cmphex(get_answer(fd), ==, 0x80000003);
    put_option(fd, 10, 8, many, 8);
    g_assert_cmphex(get_answer(fd), ==, 0x80000003);
    put_option(fd, 7, 8, long_name, 8); /* GO */
    g_assert_cmphex(get_answer(fd), ==, 0x80000003);
    put_option(fd, 7, 3, zeroes, 3);
    g_assert_cmphex(get_answer(fd), ==, 0x80000003);
    static const uint8_t other[7] = {[3] = 1, 'x'};
    put_option(fd, 7, 7, other, 7);
    g_assert_cmphex(get_answer(fd), ==, 0x80000006);
    put_option(fd, 2, 0, zeroes, 0); /* ABORT */
    g_assert_cmphex(get_answer(fd), ==, 1);
    expect_end(fd);
    fd = greet(&s, 3);
    put_option(fd, 3, UINT32_MAX, zeroes, 0);
    expect_end(fd);
    expect_end(greet(&s, 0));    /* not fixed newstyle */
    expect_end(greet(&s, 0x13)); /* flags that we did not offer */
    fd = greet(&s, 3);
    put(fd, "not an option at all", 20);
    expect_end(fd);
    served_stop(&s);
}

static void test_requests(void)
{
    if (!ready())
        return;
    const char *more[] = {"-t", NULL};
    struct served s = serve_with(SERVER_SIZE, "", more);
    static const struct {
        uint16_t flags, type;
        uint64_t offset;
        uint32_t length, error;
    } cases[] = {
        {0, 0, SERVER_SIZE, 1, 22},
        {0, 0, UINT64_MAX, 2, 22},
        {0, 0, 0, UINT32_MAX, 22},
        {0, 1, SERVER_SIZE - 1, 2, 28},
        {0, 4, SERVER_SIZE, 1, 22},
        {0, 6, SERVER_SIZE, 4096, 28},
        {0, 7, 0, 4096, 22},
        {0, 99, 0, 0, 22},
        {0x8000, 1, 0, 3, 22},
        {4, 0, 0, 1, 22} /* DF without structured replies */,
        {0, 8, 0, 0, 22},
        {0, 5, SERVER_SIZE, 1, 22},
        {0, 3, 0, 0, 0},
        {1, 6, 0, 4096, 0},
        {16, 6, 0, 4096, 0},
    };
    static const uint8_t zeroes[8];
    int fd = go(&s);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        put_request(fd, cases[i].flags, cases[i].type, i, cases[i].offset, cases[i].length);
        if (cases[i].type == 1)
            put(fd, zeroes, cases[i].length);
        g_assert_cmpuint(get_reply(fd, i), ==, cases[i].error);
    }
    put_request(fd, 0, 1, 1, 0, 64 << 20); /* more than a request may carry */
    expect_end(fd);
    fd = go(&s);
    put(fd, zeroes, 8);
    put(fd, "no request of any sort", 20);
    expect_end(fd);
    fd = go(&s);
    put_request(fd, 0, 1, 1, 0, 4096); /* goes away in the middle */
    put(fd, zeroes, 8);
    close(fd);
    fd = go(&s);
    for (unsigned i = 0; i < 100; i++) /* does not read, and goes away */
        put_request(fd, 0, 0, i, 0, SERVER_SIZE);
    close(fd);
    fd = go(&s); /* and it still serves */
    put_request(fd, 0, 3, 7, 0, 0);
    g_assert_cmpuint(get_reply(fd, 7), ==, 0);
    put_request(fd, 0, 2, 7, 0, 0);
    expect_end(fd);
    served_stop(&s);
}

/* One more than may be there at once waits, and is served when another one goes. */
static void test_limit(void)
{
    if (!ready())
        return;
    const char *more[] = {"-t", "-e", "2", NULL};
    struct served s = serve_with(SERVER_SIZE, "", more);
    int first = go(&s), second = go(&s), third = connect_to(&s);
    struct pollfd p = {.fd = third, .events = POLLIN};
    put_request(first, 0, 3, 1, 0, 0); /* the server had a turn since it was there */
    g_assert_cmpuint(get_reply(first, 1), ==, 0);
    g_assert_cmpint(poll(&p, 1, 50), ==, 0);
    close(first);
    uint8_t greeting[18];
    get(third, greeting, sizeof(greeting));
    close(second);
    close(third);
    served_stop(&s);
}

/* Over TCP, by a socket that was handed in. */
static void test_tcp(void)
{
    if (!ready() || !server_requires_module("nbd"))
        return;
    unsigned port;
    g_autofree char *folder = server_folder(), *image = g_build_filename(folder, "image", NULL);
    g_autofree char *program = g_build_filename(g_getenv("HOSTEL_MODULES"), "hostel-nbd", NULL);
    g_autofree uint8_t *bytes = g_malloc0(SERVER_SIZE);
    const int listener = server_listen_tcp(&port);
    g_autofree char *uri = g_strdup_printf("nbd://127.0.0.1:%u", port);
    g_assert_true(g_file_set_contents(image, (char *)bytes, SERVER_SIZE, NULL));
    const char *argv[] = {program, "-f", "raw", image, NULL};
    pid_t pid = server_start(argv, listener);
    struct disk *b = server_disk(uri, false, NULL);
    server_check(b, bytes, 40);
    block_free(b);
    g_assert_cmpint(server_wait(pid), ==, 0);
    server_remove_folder(g_steal_pointer(&folder));
}

static void test_usage(void)
{
    if (!ready())
        return;
    g_autofree char *program = g_build_filename(g_getenv("HOSTEL_MODULES"), "hostel-nbd", NULL);
    g_autofree char *folder = server_folder(), *image = g_build_filename(folder, "image", NULL);
    g_assert_true(g_file_set_contents(image, "12345678", 8, NULL));
    g_assert_cmpint(RUN(NULL, program, "-f", "raw", image), ==, 1);              /* where? */
    g_assert_cmpint(RUN(NULL, program, "-k", image, "-f", "raw", image), ==, 1); /* is a file */
    g_assert_cmpint(RUN(NULL, program, "-k", "x", "-f", "raw"), ==, 1);          /* what? */
    g_assert_cmpint(RUN(NULL, program, "-k", "x", "-f", "raw", "-o", "9", image), ==, 1);
    g_assert_cmpint(RUN(NULL, program, "-k", "x", "-f", "raw", "-B", "b", "-r", image), ==, 1);
    g_assert_cmpint(RUN(NULL, program, "-k", "x", "-f", "raw", "--tls-psk-file", image, image), ==, 1);
    g_assert_cmpint(RUN(NULL, program, "-b", "::1", "-k", "x", "-f", "raw", image), ==, 1);
    server_remove_folder(g_steal_pointer(&folder));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/block/serve/model", test_model);
    g_test_add_func("/block/serve/nbdinfo", test_nbdinfo);
    g_test_add_func("/block/serve/copy", test_copy);
    g_test_add_func("/block/serve/readonly", test_readonly);
    g_test_add_func("/block/serve/files", test_files);
    g_test_add_func("/block/serve/qcow2", test_qcow2);
    g_test_add_func("/block/serve/certificates", test_certificates);
    g_test_add_func("/block/serve/psk", test_psk);
    g_test_add_func("/block/serve/options", test_options);
    g_test_add_func("/block/serve/requests", test_requests);
    g_test_add_func("/block/serve/limit", test_limit);
    g_test_add_func("/block/serve/tcp", test_tcp);
    g_test_add_func("/block/serve/usage", test_usage);
    return g_test_run();
}
