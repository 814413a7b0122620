/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Long work that people can watch. */
#include "cli/progress.h"

#include <glib.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/bits.h"

/* Three digits, as qemu-img's: "196 KiB", "1.5 GiB". */
char *progress_size_text(uint64_t bytes)
{
    static const char *const units[] = {"", " Ki", " Mi", " Gi", " Ti", " Pi", " Ei"};
    int exponent = 0;
    frexp((double)bytes / (1000.0 / 1024.0), &exponent);
    const int unit = MIN(MAX(exponent - 1, 0) / 10, 6);
    return g_strdup_printf("%0.3g%sB", (double)bytes / (double)BIT(10 * unit), unit ? units[unit] : " ");
}

enum progress_form progress_form(const char *word, bool quiet)
{
    if (word)
        return word[0] == 'b' ? PROGRESS_BAR : word[0] == 'j' ? PROGRESS_JSON : PROGRESS_NONE;
    return isatty(STDERR_FILENO) && !quiet ? PROGRESS_BAR : PROGRESS_NONE;
}

void progress_begin(struct progress *p, enum progress_form form, uint64_t total)
{
    *p = (struct progress){.form = form, .total = total, .began = g_get_monotonic_time()};
}

static void draw_bar(struct progress *p, uint64_t done, double seconds)
{
    const double part = p->total ? (double)done / (double)p->total : 1;
    const double rate = seconds > 0 ? (double)done / seconds : 0;
    g_autofree char *of = progress_size_text(p->total), *so_far = progress_size_text(done);
    g_autofree char *per_second = progress_size_text((uint64_t)rate);
    fprintf(stderr, "\r\033[K%5.1f%%  %s of %s  %s/s", part * 100, so_far, of, per_second);
    if (rate > 0 && seconds > 1)
        fprintf(stderr, "  %.0f s left", (double)(p->total - done) / rate);
    fflush(stderr);
    p->drawn = true;
}

void progress_at(struct progress *p, uint64_t done)
{
    const double seconds = (double)(g_get_monotonic_time() - p->began) / 1e6;
    switch (p->form) {
    case PROGRESS_BAR:
        if (seconds > 0.3) /* shorter work would only flicker */
            draw_bar(p, done, seconds);
        break;
    case PROGRESS_PERCENT:
        printf("    (%.2f/100%%)\r", p->total ? (double)done * 100 / (double)p->total : 100.0);
        fflush(stdout);
        break;
    case PROGRESS_JSON:
        printf("{\"done\": %" PRIu64 ", \"total\": %" PRIu64 ", \"seconds\": %.3f}\n", done, p->total,
               seconds);
        fflush(stdout);
        break;
    default: break;
    }
}

void progress_end(struct progress *p, bool complete)
{
    if (p->form == PROGRESS_BAR && p->drawn)
        fputs("\r\033[K", stderr);
    if (p->form == PROGRESS_PERCENT && complete)
        printf("    (100.00/100%%)\r");
    if (p->form == PROGRESS_PERCENT)
        putchar('\n');
}
