/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The kernel's work: system calls, pages touched for the first time, switches between processes, new
 * processes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "suite.h"

#define PAGES 64u
#define PAGE 4096u

static int zero = -1, there[2], back[2];
static pid_t peer;

static uint64_t getppid_run(uint64_t steps)
{
    uint64_t good = 1;
    for (uint64_t s = 0; s < steps; s++) {
        good &= syscall(SYS_getppid) >= 0;
    }
    return good;
}

static void zero_begin(void)
{
    zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (zero < 0) {
        suite_fail("/dev/zero");
    }
}

static uint64_t zero_run(uint64_t steps)
{
    char buffer[64];
    for (uint64_t s = 0; s < steps; s++) {
        if (read(zero, buffer, sizeof(buffer)) != sizeof(buffer)) {
            suite_fail("read");
        }
    }
    return 0;
}

static void zero_end(void)
{
    close(zero);
}

static void pipes_begin(void)
{
    if (pipe2(there, O_CLOEXEC) || pipe2(back, O_CLOEXEC)) {
        suite_fail("pipe");
    }
}

static void pipes_end(void)
{
    for (unsigned i = 0; i < 2; i++) {
        close(there[i]);
        close(back[i]);
    }
}

/* A byte into a pipe and out again, by one process. */
static uint64_t pipe_run(uint64_t steps)
{
    char byte = 'x';
    for (uint64_t s = 0; s < steps; s++) {
        if (write(there[1], &byte, 1) != 1 || read(there[0], &byte, 1) != 1) {
            suite_fail("pipe");
        }
    }
    return (uint64_t)byte;
}

/* The other process sends back what it gets, until the pipe is closed. */
static void switch_begin(void)
{
    pipes_begin();
    peer = fork();
    if (peer < 0) {
        suite_fail("fork");
    }
    if (!peer) {
        char byte;
        close(there[1]);
        while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) {
        }
        _exit(0);
    }
}

static uint64_t switch_run(uint64_t steps)
{
    char byte = 'y';
    for (uint64_t s = 0; s < steps; s++) {
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) {
            suite_fail("pipe");
        }
    }
    return (uint64_t)byte;
}

static void switch_end(void)
{
    pipes_end();
    waitpid(peer, NULL, 0);
}

static uint64_t touch_run(uint64_t steps)
{
    for (uint64_t s = 0; s < steps; s++) {
        volatile char *p =
            mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) {
            suite_fail("mmap");
        }
        for (unsigned i = 0; i < PAGES; i++) {
            p[i * PAGE] = 1;
        }
        munmap((void *)(uintptr_t)p, PAGES * PAGE);
    }
    return 0;
}

static void wait_for(pid_t child)
{
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status) {
        suite_fail("child");
    }
}

static uint64_t fork_run(uint64_t steps)
{
    for (uint64_t s = 0; s < steps; s++) {
        pid_t child = fork();
        if (!child) {
            _exit(0);
        }
        wait_for(child);
    }
    return 0;
}

/* The program is this one, told to do nothing: static, so no loader takes part. */
static uint64_t exec_run(uint64_t steps)
{
    for (uint64_t s = 0; s < steps; s++) {
        pid_t child = fork();
        if (!child) {
            execl("/proc/self/exe", "suite", "nothing", (char *)NULL);
            _exit(1);
        }
        wait_for(child);
    }
    return 0;
}

const struct program system_programs[] = {
    {.name = "syscall/getppid", .unit = "call", .per = 1, .run = getppid_run},
    {.name = "syscall/read_zero",
     .unit = "call",
     .per = 1,
     .begin = zero_begin,
     .run = zero_run,
     .end = zero_end},
    {.name = "syscall/pipe",
     .unit = "byte",
     .per = 1,
     .begin = pipes_begin,
     .run = pipe_run,
     .end = pipes_end},
    {.name = "kernel/page_touch", .unit = "page", .per = PAGES, .run = touch_run},
    {.name = "kernel/switch",
     .unit = "round trip",
     .per = 1,
     .begin = switch_begin,
     .run = switch_run,
     .end = switch_end},
    {.name = "kernel/fork", .unit = "process", .per = 1, .run = fork_run},
    {.name = "kernel/fork_exec", .unit = "process", .per = 1, .run = exec_run},
    {.name = NULL},
};
