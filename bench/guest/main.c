/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * A suite of small programs that measures itself, told what to do over standard input.
 *
 * Theory of operation. The driver outside runs the suite in several places at once (in a guest of Hostel, in
 * a guest of its peer, on the host itself) and has them take turns, program by program, so all share the
 * machine's mood. A place that has no turn sleeps in a read and costs nothing. A line in, a line out:
 *
 *     list                 @ NAME UNIT... for each program, then @ .
 *     NAME MILLISECONDS    @ NAME NS UNITS SUM: the best time of one unit in ns, units done in all, check sum
 *     quit
 *
 * A program warms up while the number of steps grows until a sample takes SAMPLE_NS; then samples are taken
 * until the time is up, and the shortest counts. Samples are shorter than a host's scheduling slice: on a
 * busy machine some of them still have the processor for themselves. The check sum is of a fixed number of
 * steps, so that every place must arrive at the same one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "suite.h"

#define SAMPLE_NS 1000000ull
#define SAMPLES_MAX 1000
#define CALIBRATION_TRIES 3
#define MEMORIES_MAX 4

static const struct program *const lists[] = {
    integer_programs, calls_programs,  branches_programs, memory_programs,
    double_programs,  system_programs, parallel_programs, disk_programs,
};
#define LISTS (sizeof(lists) / sizeof(lists[0]))

static struct {
    void *at;
    size_t bytes;
} memories[MEMORIES_MAX];
static unsigned memories_n;

void suite_fail(const char *what)
{
    printf("@ failed %s: %s\n", what, strerror(errno));
    fflush(stdout);
    exit(1);
}

void *suite_memory(size_t bytes)
{
    if (memories_n == MEMORIES_MAX) {
        errno = ENOMEM;
        suite_fail("suite_memory");
    }
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (p == MAP_FAILED) {
        suite_fail("mmap");
    }
    memories[memories_n].at = p;
    memories[memories_n++].bytes = bytes;
    return p;
}

static void forget_memory(void)
{
    while (memories_n) {
        memories_n--;
        munmap(memories[memories_n].at, memories[memories_n].bytes);
    }
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t sample(const struct program *p, uint64_t steps)
{
    uint64_t start = now_ns();
    p->run(steps);
    return now_ns() - start;
}

/* How many steps take about WANTED_NS; adds to *DONE what it took to find out. Warms up, too. */
static uint64_t calibrate(const struct program *p, uint64_t wanted_ns, uint64_t *done)
{
    uint64_t steps = 1;
    for (;;) {
        /* Of a few, lest somebody else's time slice look like work. */
        uint64_t ns = ~0ull;
        for (unsigned i = 0; i < CALIBRATION_TRIES && ns >= wanted_ns; i++) {
            uint64_t again = sample(p, steps);
            ns = again < ns ? again : ns;
            *done += steps;
        }
        if (ns >= wanted_ns) {
            return steps;
        }
        /* A sample that is much too short says little about how many steps are right. */
        steps = ns < wanted_ns / 8 ? steps * 4 : steps * wanted_ns / ns + 1;
    }
}

static void measure(const struct program *p, uint64_t budget_ns)
{
    if (p->begin) {
        p->begin();
    }
    uint64_t sum = p->run(2), done = 2;
    uint64_t units = (uint64_t)p->per * (p->threads ? p->threads : 1);
    uint64_t steps = calibrate(p, p->threads ? SAMPLE_NS * 8 : SAMPLE_NS, &done); /* starting threads costs */
    uint64_t start = now_ns();
    double best = 1e30;
    for (unsigned i = 0; i < SAMPLES_MAX && (i < 3 || now_ns() - start < budget_ns); i++) {
        double ns = (double)sample(p, steps) / (double)(steps * units);
        done += steps;
        best = ns < best ? ns : best;
    }
    if (p->end) {
        p->end();
    }
    forget_memory();
    printf("@ %s %.4f %llu %016llx\n", p->name, best, (unsigned long long)(done * units),
           (unsigned long long)sum);
}

static void list(void)
{
    for (unsigned i = 0; i < LISTS; i++) {
        for (const struct program *p = lists[i]; p->name; p++) {
            printf("@ %s %s\n", p->name, p->unit);
        }
    }
    printf("@ .\n");
}

static const struct program *find(const char *name)
{
    for (unsigned i = 0; i < LISTS; i++) {
        for (const struct program *p = lists[i]; p->name; p++) {
            if (!strcmp(p->name, name)) {
                return p;
            }
        }
    }
    return NULL;
}

/* The driver is no terminal: nothing is echoed to it, and no line of ours changes on its way. */
static void quiet_terminal(void)
{
    struct termios t;
    if (!tcgetattr(STDIN_FILENO, &t)) {
        t.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSANOW, &t);
    }
}

int main(int argc, char **argv)
{
    char line[128], name[64];
    unsigned milliseconds;
    if (argc > 1 && !strcmp(argv[1], "nothing")) {
        return 0; /* what system/fork_exec runs */
    }
    quiet_terminal();
    printf("@ ready\n");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin) && strcmp(line, "quit\n")) {
        const struct program *p = NULL;
        if (!strcmp(line, "list\n")) {
            list();
        } else if (sscanf(line, "%63s %u", name, &milliseconds) == 2 && (p = find(name))) {
            measure(p, milliseconds * 1000000ull);
        } else {
            printf("@ unknown %s", line);
        }
        fflush(stdout);
    }
    return 0;
}
