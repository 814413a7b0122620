/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Double precision: matrices, polynomials, orbits, a norm, roots and quotients. */
#include <math.h>
#include <string.h>

#include "suite.h"

#define MATRIX 32u
#define DEGREE 16u
#define POINTS 256u
#define BODIES 5u
#define NORM 48u

static double a[MATRIX][MATRIX], b[MATRIX][MATRIX], c[MATRIX][MATRIX], points[POINTS], u[NORM], v[NORM];
static struct body {
    double at[3], speed[3], mass;
} bodies[BODIES];

static uint64_t bits(double x)
{
    uint64_t image;
    memcpy(&image, &x, sizeof(image));
    return image;
}

/* A number in [0, 1). */
static double fraction(uint64_t *seed)
{
    return (double)(rng_next(seed) >> 11) * 0x1p-53;
}

static void matrix_begin(void)
{
    uint64_t seed = 31;
    for (unsigned i = 0; i < MATRIX; i++) {
        for (unsigned k = 0; k < MATRIX; k++) {
            a[i][k] = fraction(&seed);
            b[i][k] = fraction(&seed);
        }
    }
}

static uint64_t matrix_run(uint64_t steps)
{
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < MATRIX; i++) {
            for (unsigned k = 0; k < MATRIX; k++) {
                double sum = 0;
                for (unsigned m = 0; m < MATRIX; m++) {
                    sum += a[i][m] * b[m][k];
                }
                c[i][k] = sum;
            }
        }
        a[s % MATRIX][0] = c[0][s % MATRIX] / MATRIX;
    }
    return bits(c[3][4]);
}

static void points_begin(void)
{
    uint64_t seed = 37;
    for (unsigned i = 0; i < POINTS; i++) {
        points[i] = fraction(&seed) + 0.25;
    }
}

static uint64_t polynomial_run(uint64_t steps)
{
    double sum = 0;
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < POINTS; i++) {
            double x = points[i], y = 1;
            for (unsigned k = DEGREE; k--;) {
                y = y * x + (double)k;
            }
            sum += y;
        }
    }
    return bits(sum);
}

static void bodies_begin(void)
{
    uint64_t seed = 41;
    for (unsigned i = 0; i < BODIES; i++) {
        for (unsigned k = 0; k < 3; k++) {
            bodies[i].at[k] = fraction(&seed) * 10 + (double)(i * 7);
            bodies[i].speed[k] = fraction(&seed) - 0.5;
        }
        bodies[i].mass = fraction(&seed) + 0.1;
    }
}

static void pull(struct body *p, struct body *q, double time)
{
    double d[3], square = 0;
    for (unsigned k = 0; k < 3; k++) {
        d[k] = p->at[k] - q->at[k];
        square += d[k] * d[k];
    }
    double force = time / (square * sqrt(square));
    for (unsigned k = 0; k < 3; k++) {
        p->speed[k] -= d[k] * q->mass * force;
        q->speed[k] += d[k] * p->mass * force;
    }
}

static uint64_t bodies_run(uint64_t steps)
{
    const double time = 0.001;
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < BODIES; i++) {
            for (unsigned k = i + 1; k < BODIES; k++) {
                pull(&bodies[i], &bodies[k], time);
            }
        }
        for (unsigned i = 0; i < BODIES; i++) {
            for (unsigned k = 0; k < 3; k++) {
                bodies[i].at[k] += time * bodies[i].speed[k];
            }
        }
    }
    return bits(bodies[0].at[0]);
}

/* Entry (i, k) of the matrix whose norm is wanted. */
static inline double entry(unsigned i, unsigned k)
{
    return 1 / ((double)((i + k) * (i + k + 1) / 2) + (double)i + 1);
}

static uint64_t norm_run(uint64_t steps)
{
    for (unsigned i = 0; i < NORM; i++) {
        u[i] = 1;
    }
    for (uint64_t s = 0; s < steps; s++) {
        double largest = 0;
        for (unsigned i = 0; i < NORM; i++) {
            v[i] = 0;
            for (unsigned k = 0; k < NORM; k++) {
                v[i] += entry(i, k) * u[k];
            }
            largest = v[i] > largest ? v[i] : largest;
        }
        for (unsigned i = 0; i < NORM; i++) {
            u[i] = v[i] / largest;
        }
    }
    return bits(u[NORM / 2]);
}

static uint64_t roots_run(uint64_t steps)
{
    double sum = 0;
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < POINTS; i++) {
            double x = points[i];
            sum += sqrt(x) / (x + 1) - fabs(x - 0.5) / sqrt(x * 3 + 2);
        }
    }
    return bits(sum);
}

const struct program double_programs[] = {
    {.name = "double/matrix",
     .unit = "product",
     .per = MATRIX * MATRIX * MATRIX,
     .begin = matrix_begin,
     .run = matrix_run},
    {.name = "double/polynomial",
     .unit = "term",
     .per = POINTS * DEGREE,
     .begin = points_begin,
     .run = polynomial_run},
    {.name = "double/n_body", .unit = "step", .per = 1, .begin = bodies_begin, .run = bodies_run},
    {.name = "double/norm", .unit = "entry", .per = NORM * NORM, .run = norm_run},
    {.name = "double/sqrt_div", .unit = "point", .per = POINTS, .begin = points_begin, .run = roots_run},
    {.name = NULL},
};
