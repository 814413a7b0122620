/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Pieces of a file on a server of the web; see fetch.h. */
/*
 * A disk whose pieces are of two versions of a file is neither, so HTTP's validator (ETag, else
 * Last-Modified) of the first answer must stand in each answer. A server may answer a request for a piece
 * with the whole file, which may be of any size: that ends the transfer before the first byte is kept.
 */
#include "block/protocol/curl/fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "block/cursor.h"
#include "block/protocol/secret.h"

enum { REDIRECTIONS = 5, HANDLES = 8, HEADER_MAX = 512 };

/* One transfer. */
struct piece {
    struct fetch *fetch;
    struct block_cursor to;
    uint64_t left, first, total; /* total: of the file, as Content-Range says */
    char etag[HEADER_MAX], modified[HEADER_MAX];
    CURL *curl;
    bool wrong, ranged;
    bool asks; /* only for the size: what libcurl tells of it as if it were the file is not kept */
};

/* --- what the server says --- */

static size_t on_bytes(char *bytes, size_t one, size_t size, void *opaque)
{
    struct piece *p = opaque;
    long code = 0;
    (void)one;
    if (p->asks)
        return size;
    curl_easy_getinfo(p->curl, CURLINFO_RESPONSE_CODE, &code);
    if (p->fetch->http && code != 206) {
        p->wrong = true;
        return 0;
    }
    if (size > p->left) {
        p->wrong = true;
        return 0;
    }
    if (p->to.iov)
        block_cursor_fill(&p->to, bytes, size);
    p->left -= size;
    return size;
}

static bool take_header(const char *line, size_t size, const char *name, char *value)
{
    const size_t length = strlen(name);
    if (size <= length || g_ascii_strncasecmp(line, name, length) != 0)
        return false;
    g_autofree char *text = g_strndup(line + length, MIN(size - length, (size_t)HEADER_MAX - 1));
    g_strlcpy(value, g_strstrip(text), HEADER_MAX);
    return true;
}

/* "bytes FIRST-LAST/TOTAL" */
static void take_range(struct piece *p, const char *text)
{
    char *end;
    if (!g_str_has_prefix(text, "bytes ") || !g_ascii_isdigit(text[6]))
        return;
    p->first = g_ascii_strtoull(text + 6, &end, 10);
    if (*end != '-' || !g_ascii_isdigit(end[1]))
        return;
    g_ascii_strtoull(end + 1, &end, 10);
    if (*end != '/' || !g_ascii_isdigit(end[1]))
        return;
    p->total = g_ascii_strtoull(end + 1, &end, 10);
    p->ranged = !*end && p->total <= INT64_MAX;
}

static size_t on_header(char *line, size_t one, size_t size, void *opaque)
{
    struct piece *p = opaque;
    char range[HEADER_MAX];
    (void)one;
    if (size > 5 && !g_ascii_strncasecmp(line, "HTTP/", 5)) { /* of a redirection the last counts */
        p->etag[0] = p->modified[0] = '\0';
        p->ranged = false;
    }
    if (!take_header(line, size, "etag:", p->etag) &&
        !take_header(line, size, "last-modified:", p->modified) &&
        take_header(line, size, "content-range:", range))
        take_range(p, range);
    return size;
}

static bool is_same(const struct piece *p)
{
    const struct fetch *f = p->fetch;
    if (f->etag)
        return !strcmp(f->etag, p->etag);
    return !f->modified || !strcmp(f->modified, p->modified);
}

/* --- handles --- */

static void set_security(CURL *curl, const struct fetch *f)
{
    const char *scheme = !g_ascii_strncasecmp(f->uri, "https:", 6) ? "https" : f->http ? "http" : "ftp";
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, scheme);
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, scheme);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)REDIRECTIONS);
    if (f->options->ca_file)
        curl_easy_setopt(curl, CURLOPT_CAINFO, f->options->ca_file);
    if (f->options->user)
        curl_easy_setopt(curl, CURLOPT_USERNAME, f->options->user);
    if (f->password)
        curl_easy_setopt(curl, CURLOPT_PASSWORD, f->password);
}

static void *make_handle(void *opaque, int *error)
{
    const struct fetch *f = opaque;
    CURL *curl = curl_easy_init();
    if (!curl) {
        *error = -ENOMEM;
        return NULL;
    }
    set_security(curl, f);
    curl_easy_setopt(curl, CURLOPT_URL, f->uri);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)f->options->timeout);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)f->options->timeout);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 512L << 10);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    return curl;
}

static void free_handle(void *line)
{
    curl_easy_cleanup(line);
}

static CURLcode perform(struct piece *p, CURL *curl, uint64_t offset)
{
    char range[48];
    g_snprintf(range, sizeof(range), "%" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT, offset,
               offset + p->left - 1);
    p->curl = curl;
    curl_easy_setopt(curl, CURLOPT_RANGE, range);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, p);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, p);
    return curl_easy_perform(curl);
}

int fetch_range(struct fetch *f, const struct iovec *iov, uint64_t offset, uint64_t size)
{
    int status;
    struct piece p = {.fetch = f, .to = {.iov = iov}, .left = size};
    CURL *curl = lines_take(&f->lines, &status);
    if (!curl)
        return status;
    const CURLcode code = perform(&p, curl, offset);
    /* libcurl makes a new connection by itself where one is needed. */
    lines_give(&f->lines, curl, false);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return -ETIMEDOUT;
    if (code || p.wrong || p.left)
        return -EIO;
    return !f->http || (p.ranged && p.first == offset && p.total == f->size && is_same(&p)) ? 0 : -EIO;
}

/* --- opening --- */

static bool fail(const char *name, CURLcode code, long answer, GError **error)
{
    if (answer >= 400)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the server answers with error %ld", name, answer);
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", name, curl_easy_strerror(code));
}

static bool find_http_size(struct fetch *f, CURL *curl, const char *name, GError **error)
{
    struct piece p = {.fetch = f, .left = 1};
    long answer = 0;
    const CURLcode code = perform(&p, curl, 0);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer);
    if (answer == 200 || (answer == 206 && !p.ranged))
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: the server gives files only as a whole (no ranges); download it, or use another "
            "server",
            name);
    if (answer == 416)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the file is empty", name);
    if (code || answer != 206 || p.wrong || p.first || p.left)
        return fail(name, code ? code : CURLE_WEIRD_SERVER_REPLY, answer, error);
    f->size = p.total;
    /* A weak validator says that two versions mean the same, not that they are. */
    if (p.etag[0] && !g_str_has_prefix(p.etag, "W/"))
        f->etag = g_strdup(p.etag);
    else if (p.modified[0])
        f->modified = g_strdup(p.modified);
    return true;
}

static bool find_ftp_size(struct fetch *f, CURL *curl, const char *name, GError **error)
{
    curl_off_t size = -1;
    struct piece p = {.fetch = f, .asks = true};
    curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &p);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &p);
    const CURLcode code = curl_easy_perform(curl);
    curl_easy_setopt(curl, CURLOPT_NOBODY, 0L);
    if (code)
        return fail(name, code, 0, error);
    curl_easy_getinfo(curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &size);
    f->size = (uint64_t)size;
    return size >= 0 ||
           hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: the server does not tell the file's size", name);
}

static bool find_size(struct fetch *f, const char *name, GError **error)
{
    int status;
    CURL *curl = lines_take(&f->lines, &status);
    if (!curl)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", name, g_strerror(-status));
    const bool good = f->http ? find_http_size(f, curl, name, error) : find_ftp_size(f, curl, name, error);
    lines_give(&f->lines, curl, false);
    return good;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

bool fetch_init(struct fetch *f, const char *name, const char *uri, const struct curl_options *options,
                GError **error)
{
    pthread_once(&once, start);
    *f = (struct fetch){.http = !g_ascii_strncasecmp(uri, "http", 4)};
    if (options->password_file && !secret_read(options->password_file, &f->password, error))
        return false;
    struct curl_options *copy = g_new(struct curl_options, 1);
    *copy = *options;
    copy->user = g_strdup(options->user);
    copy->ca_file = g_strdup(options->ca_file);
    f->options = copy;
    f->uri = g_strdup(uri);
    lines_init(&f->lines, HANDLES, make_handle, free_handle, f);
    if (find_size(f, name, error))
        return true;
    fetch_fini(f);
    return false;
}

void fetch_fini(struct fetch *f)
{
    lines_fini(&f->lines);
    secret_free(f->password);
    g_free((char *)(uintptr_t)f->options->user);
    g_free((char *)(uintptr_t)f->options->ca_file);
    g_free((struct curl_options *)(uintptr_t)f->options);
    g_free((char *)(uintptr_t)f->uri);
    g_free(f->etag);
    g_free(f->modified);
}
