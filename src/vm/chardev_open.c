/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What character devices lead to: descriptors that clients hand in, memory, nothing. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "console/ringbuf.h"
#include "control/fds.h"
#include "os/fd.h"
#include "vm/chardevs.h"

static const char *text(json_t *data, const char *member)
{
    return json_string_value(json_object_get(data, member));
}

/* --- kinds --- */

static bool open_null(struct control_fds *fds G_GNUC_UNUSED, json_t *data G_GNUC_UNUSED,
                      struct stream_end *end G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return true;
}

static bool open_ringbuf(struct control_fds *fds G_GNUC_UNUSED, json_t *data, struct stream_end *end,
                         GError **error)
{
    json_t *given = json_object_get(data, "size");
    json_int_t size = given ? json_integer_value(given) : RINGBUF_SIZE_DEFAULT;
    if (size < 1 || size > RINGBUF_SIZE_MAX || size & (size - 1))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "size is %" JSON_INTEGER_FORMAT "; it must be a power of two up to %d", size,
                           RINGBUF_SIZE_MAX);
    end->memory = ringbuf_new((size_t)size);
    return true;
}

/* Whoever hands in another kind of descriptor has mixed something up. */
static bool is_stream_socket(int fd, bool server, GError **error)
{
    int type = 0, listens = 0;
    socklen_t size = sizeof(type), listens_size = sizeof(listens);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_STREAM)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "the descriptor is not a stream socket");
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_size) || !listens != !server)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           server ? "the socket does not listen; a connected one goes with server false"
                                  : "the socket listens, which goes with server true");
    return true;
}

static bool open_socket(struct control_fds *fds, json_t *data, struct stream_end *end, GError **error)
{
    json_t *wait = json_object_get(data, "wait");
    const bool server = !json_is_false(json_object_get(data, "server")); /* QMP's default is true */
    if (server && !json_is_false(wait))                                  /* so is this one's */
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "a guest does not wait for a caller: say wait false, or, of a connected socket, "
                           "server false");
    if (!server && wait)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "wait is about sockets that listen, with server true");
    json_t *addr = json_object_get(json_object_get(data, "addr"), "data");
    AUTO_FD fd = control_fd_take(fds, text(addr, "str"), error);
    if (fd < 0 || !is_stream_socket(fd, server, error))
        return false;
    if (server)
        end->listen = fd_steal(&fd);
    else
        end->in = end->out = fd_steal(&fd);
    return true;
}

/* One that is not open for this kind of access would only be noticed when the guest writes. */
static int open_file_for(struct control_fds *fds, const char *path, int flags, GError **error)
{
    AUTO_FD fd = control_fd_open(fds, path, flags, error);
    if (fd < 0)
        return -1;
    int has = fcntl(fd, F_GETFL);
    if (has < 0 || has & O_PATH || ((has & O_ACCMODE) != flags && (has & O_ACCMODE) != O_RDWR)) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "'%.80s' is not open for %s", path,
                    flags == O_RDONLY ? "reading" : "writing");
        return -1;
    }
    return fd_steal(&fd);
}

/* What opening the file would have done besides. */
static bool begin_file(int fd, bool append, GError **error)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (fstat(fd, &st) || flags < 0)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot look at the file: %s", g_strerror(errno));
    if (!S_ISREG(st.st_mode))
        return true;
    if (append ? fcntl(fd, F_SETFL, flags | O_APPEND) : ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot write the file from its %s: %s",
                           append ? "end" : "beginning", g_strerror(errno));
    return true;
}

static bool open_file(struct control_fds *fds, json_t *data, struct stream_end *end, GError **error)
{
    const char *from = text(data, "in");
    AUTO_FD in = from ? open_file_for(fds, from, O_RDONLY, error) : -1;
    if (from && in < 0)
        return false;
    AUTO_FD out = open_file_for(fds, text(data, "out"), O_WRONLY, error);
    if (out < 0 || !begin_file(out, json_is_true(json_object_get(data, "append")), error))
        return false;
    end->in = fd_steal(&in);
    end->out = fd_steal(&out);
    return true;
}

static const struct kind {
    const char *name;
    bool (*open)(struct control_fds *fds, json_t *data, struct stream_end *end, GError **error);
} kinds[] = {
    {"file", open_file},       {"socket", open_socket},  {"null", open_null},
    {"ringbuf", open_ringbuf}, {"memory", open_ringbuf}, /* its old name */
};

bool vm_chardev_open(struct control_fds *fds, json_t *backend, struct stream_end *end, const char **kind,
                     GError **error)
{
    const char *type = text(backend, "type");
    *end = STREAM_NOWHERE;
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (!strcmp(kinds[i].name, type)) {
            *kind = kinds[i].name;
            return kinds[i].open(fds, json_object_get(backend, "data"), end, error);
        }
    return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "there is no backend '%.40s'", type);
}

json_t *vm_chardev_kinds(void)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        json_array_append_new(list, json_pack("{s:s}", "name", kinds[i].name));
    return list;
}
