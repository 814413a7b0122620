/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Messages to standard error: one write per line, debug areas by bit mask, guest-triggered lines limited. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"

#define LOG_GUEST_LINES_PER_SECOND 10

static const char *program = "hostel";
_Atomic uint32_t log_enabled;
uint64_t log_first = 0, log_last = UINT64_MAX;

static const struct {
    const char *name, *help;
} areas[] = {
#define X(id, name, help) {name, help},
    LOG_AREAS(X)
#undef X
};

_Static_assert(LOG_AREA_COUNT <= 32, "log areas fit the mask");

void log_set_program(const char *name)
{
    program = name;
}

const char *log_area_name(enum log_area area)
{
    return areas[area].name;
}

const char *log_area_help(enum log_area area)
{
    return areas[area].help;
}

bool log_enable(const char *list)
{
    uint32_t mask = 0;
    while (*list) {
        size_t n = strcspn(list, ",");
        uint32_t found = n == 3 && !strncmp(list, "all", n) ? (uint32_t)bits_mask(LOG_AREA_COUNT) : 0;
        for (unsigned i = 0; i < LOG_AREA_COUNT; i++)
            if (strlen(areas[i].name) == n && !strncmp(areas[i].name, list, n))
                found |= (uint32_t)BIT(i);
        if (!found)
            return false;
        mask |= found;
        list += n + (list[n] == ',');
    }
    atomic_fetch_or(&log_enabled, mask);
    return true;
}

static bool parse_number(const char *text, const char **end, uint64_t *value)
{
    if (*text < '0' || *text > '9') /* strtoull() takes signs and spaces */
        return false;
    char *stop;
    errno = 0;
    *value = strtoull(text, &stop, 0);
    *end = stop;
    return errno == 0;
}

bool log_limit(const char *text)
{
    uint64_t first, length = 1, last;
    const char *end;
    if (!parse_number(text, &end, &first))
        return false;
    if (*end == ':' && !parse_number(end + 1, &end, &length))
        return false;
    if (*end || !length || ckd_add(&last, first, length - 1))
        return false;
    log_first = first;
    log_last = last;
    return true;
}

/* A line leaves in one write, so lines of several threads and processes do not mix. */
__attribute__((format(printf, 3, 0))) static void emit(const char *level, enum log_area area,
                                                       const char *format, va_list ap)
{
    char line[1024];
    int n = level ? snprintf(line, sizeof(line), "%s: %s", program, level)
                  : snprintf(line, sizeof(line), "%s[%s]: ", program, areas[area].name);
    int m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, format, ap);
    size_t len = (size_t)n + (m > 0 ? (size_t)m : 0);
    if (len > sizeof(line) - 2)
        len = sizeof(line) - 2;
    line[len++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, len);
    (void)ignored;
}

#define LOG_FUNCTION(fn, level, condition)                                                                   \
    void fn(enum log_area area, const char *format, ...)                                                     \
    {                                                                                                        \
        if (!(condition))                                                                                    \
            return;                                                                                          \
        va_list ap;                                                                                          \
        va_start(ap, format);                                                                                \
        emit(level, area, format, ap);                                                                       \
        va_end(ap);                                                                                          \
    }

LOG_FUNCTION(log_error, "error: ", true)
LOG_FUNCTION(log_warn, "warning: ", true)
LOG_FUNCTION(log_info, "", true)
LOG_FUNCTION(log_debug, NULL, log_on(area))

/* Counts lines of the running second; true while the line may pass. */
static bool guest_line_allowed(unsigned *dropped)
{
    static _Atomic uint64_t window; /* second << 32 | lines so far in it */
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t second = (uint64_t)now.tv_sec, old = atomic_load(&window), next;
    do {
        next = old >> 32 == second ? old + 1 : (second << 32 | 1);
    } while (!atomic_compare_exchange_weak(&window, &old, next));
    uint32_t before = (uint32_t)old;
    *dropped =
        old >> 32 != second && before > LOG_GUEST_LINES_PER_SECOND ? before - LOG_GUEST_LINES_PER_SECOND : 0;
    return (uint32_t)next <= LOG_GUEST_LINES_PER_SECOND;
}

void log_guest(enum log_area area, const char *format, ...)
{
    unsigned dropped;
    bool allowed = guest_line_allowed(&dropped);
    if (dropped)
        log_info(area, "(%u messages caused by the guest were dropped)", dropped);
    if (!allowed)
        return;
    va_list ap;
    va_start(ap, format);
    emit("guest: ", area, format, ap);
    va_end(ap);
}
