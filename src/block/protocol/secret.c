/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Passwords from files; see secret.h. */
#include "block/protocol/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "os/fd.h"

enum { SECRET_MAX = 1024 };

static bool check(int fd, const char *path, GError **error)
{
    struct stat status;
    if (fd < 0 || fstat(fd, &status))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "password file %s: %s", path, g_strerror(errno));
    if (!S_ISREG(status.st_mode))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "password file %s: is not a file", path);
    if (status.st_mode & 077)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "password file %s: others may read or write it (mode %03o); chmod 600 it", path,
                           status.st_mode & 0777U);
    return true;
}

bool secret_read(const char *path, char **text, GError **error)
{
    char bytes[SECRET_MAX + 1];
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (!check(fd, path, error))
        return false;
    const ssize_t n = read(fd, bytes, sizeof(bytes));
    if (n < 0)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "password file %s: %s", path, g_strerror(errno));
    size_t length = 0;
    while (length < (size_t)n && bytes[length] != '\n' && bytes[length] != '\r' && bytes[length])
        length++;
    if (length && length <= SECRET_MAX)
        *text = g_strndup(bytes, length);
    explicit_bzero(bytes, sizeof(bytes));
    return (length && length <= SECRET_MAX) ||
           hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "password file %s: its first line is to be the password, 1 to %d bytes", path,
                       SECRET_MAX);
}

void secret_free(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    g_free(text);
}
