/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Integer work by one thread and by two that share nothing; each thread has a processor of its own. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "suite.h"

#define WORDS 1024u
#define THREADS 2u

static struct work {
    uint64_t words[WORDS] __attribute__((aligned(128)));
    uint64_t steps, sum;
    unsigned cpu;
} works[THREADS];

static void pin(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set); /* a machine with one processor has nothing to choose */
}

static void *work(void *argument)
{
    struct work *w = argument;
    uint64_t state = 0x5eed, sum = 0;
    pin(w->cpu);
    for (uint64_t s = 0; s < w->steps; s++) {
        for (unsigned i = 0; i < WORDS; i++) {
            w->words[i] = rng_next(&state) ^ w->words[i] >> 5;
        }
        for (unsigned i = 0; i < WORDS; i++) {
            sum = mix(sum, w->words[(w->words[i] ^ sum) % WORDS]);
        }
    }
    w->sum = sum;
    return NULL;
}

static uint64_t spread(uint64_t steps, unsigned threads)
{
    pthread_t others[THREADS];
    uint64_t sum = 0;
    for (unsigned i = 0; i < threads; i++) {
        works[i].steps = steps;
        works[i].cpu = i;
        if ((errno = pthread_create(&others[i], NULL, work, &works[i]))) {
            suite_fail("pthread_create");
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(others[i], NULL);
        sum += works[i].sum;
    }
    return sum;
}

static void begin(void)
{
    for (unsigned i = 0; i < THREADS; i++) {
        for (unsigned k = 0; k < WORDS; k++) {
            works[i].words[k] = k;
        }
    }
}

static uint64_t one_run(uint64_t steps)
{
    return spread(steps, 1);
}

static uint64_t two_run(uint64_t steps)
{
    return spread(steps, 2);
}

const struct program parallel_programs[] = {
    {.name = "parallel/1_thread", .unit = "word", .per = WORDS, .threads = 1, .begin = begin, .run = one_run},
    {.name = "parallel/2_threads",
     .unit = "word",
     .per = WORDS,
     .threads = 2,
     .begin = begin,
     .run = two_run},
    {.name = NULL},
};
