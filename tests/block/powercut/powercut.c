/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Cuts the power at every point of long random sequences on images of each format, and looks what is left. */
/*
 * HOSTEL_POWERCUT=N   images in all, shared by the formats (2,000)
 * HOSTEL_SEED=N       of the first sequence; printed
 * HOSTEL_KEEP=FOLDER  where an image that is wrong is left, as it was before anybody opened it
 */
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "cut.h"
#include "verify.h"

enum {
    NOTES = 150,
    SUBSETS = 6,   /* after a note, at most */
    SEQUENCES = 4, /* at least, of which some images are taken when those of one would be enough */
    PER_NOTE = 3,  /* images, about */
    QEMU_EVERY = 16,
    REPAIR_EVERY = 8,
    REPAIR_CUTS = 3,
};

static struct {
    unsigned images; /* for each setup */
    uint32_t seed;
    char *folder;
    const char *keep;
    bool has_qemu;
} plan;

struct run {
    const struct image_setup *setup;
    GHashTable *seen; /* hashes of images and moments */
    unsigned images, twice, repairs, by_qemu, done[SCRIPT_KINDS];
    uint32_t seed;
    GRand *rand;
    bool wrong;
};

static void keep_image(const struct run *r, struct store *image)
{
    g_autofree char *name = g_strdup_printf("%s-%u.img", r->setup->name, r->seed);
    g_autofree char *path = g_build_filename(plan.keep ? plan.keep : ".", name, NULL);
    int fd = plan.keep ? g_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    store_save(image, fd);
    close(fd);
    g_test_message("the image: %s", path);
}

static void complain(struct run *r, struct store *image, const char *how, const char *wrong)
{
    r->wrong = true;
    g_test_message("%s, HOSTEL_SEED=%u: %s: %s", r->setup->name, r->seed, how, wrong);
    keep_image(r, image);
    g_test_fail();
}

/* Was this image in this moment already looked at? */
static bool known(struct run *r, const struct script *s, struct moment at, struct store *image)
{
    const uint64_t hash =
        store_hash(image) ^ ((uint64_t)at.floor << 40 | (uint64_t)at.begun << 20 | s->names);
    return !g_hash_table_add(r->seen, GSIZE_TO_POINTER(hash));
}

/* One image. Takes image and how. */
static void look(struct run *r, const struct script *s, struct moment at, struct store *image, char *how)
{
    if (r->wrong || known(r, s, at, image)) {
        r->twice++;
    } else {
        const struct verdict v = {s, at, r->rand, plan.folder,
                                  plan.has_qemu && s->setup->qemu && r->images % QEMU_EVERY == 0};
        AUTO(store) copy = store_copy(image);
        g_autofree char *wrong = verify(&v, copy);
        r->images++;
        r->by_qemu += v.qemu;
        if (wrong)
            complain(r, image, how, wrong);
    }
    g_free(how);
    store_free(image);
}

/* Mends an image and cuts the power meanwhile. */
static void look_at_repair(struct run *r, const struct script *s, struct moment at, struct store *image,
                           const char *how)
{
    const struct verdict v = {s, at, r->rand, plan.folder, false};
    AUTO(block_record) record = block_record_new();
    AUTO(store) mended = store_copy(image);
    g_autofree char *wrong = verify_repair(&v, mended, record);
    struct cutter c;
    r->repairs++;
    if (wrong) {
        complain(r, image, how, wrong);
        return;
    }
    cutter_init(&c, record, image, s->garbage, g_rand_int(r->rand));
    for (unsigned i = 0; !r->wrong && i < REPAIR_CUTS && record->notes->len; i++) {
        char *inside;
        const unsigned stop = c.at + g_rand_int(r->rand) % (record->notes->len - c.at + 1);
        while (c.at < stop)
            cutter_step(&c);
        struct store *cut = i % 2 ? cutter_subset(&c, &inside) : cutter_prefix(&c, &inside);
        char *line = g_strdup_printf("%s; then in the repair %s", how, inside);
        g_free(inside);
        look(r, s, at, cut, line);
    }
    cutter_fini(&c);
}

static bool enough(const struct run *r)
{
    return r->wrong || r->images >= plan.images;
}

/* Cuts after the note that the cutter has come to. */
static void cut_here(struct run *r, const struct script *s, struct cutter *c, double chance)
{
    const struct moment at = model_moment(s->model, c->at);
    const unsigned open = c->at - c->durable_end;
    char *how;
    if (g_rand_double(r->rand) < chance) {
        struct store *image = cutter_prefix(c, &how);
        look(r, s, at, image, how);
    }
    /* Spread over the epoch: the longer it is, the more there is to choose from. */
    for (unsigned i = 0; open > 1 && i < SUBSETS && !enough(r); i++)
        if ((i < 2 || g_rand_int(r->rand) % open == 0) && g_rand_double(r->rand) < chance) {
            struct store *image = cutter_subset(c, &how);
            look(r, s, at, image, how);
        }
    if (g_rand_double(r->rand) < chance / REPAIR_EVERY && !enough(r)) {
        AUTO(store) image = cutter_subset(c, &how);
        look_at_repair(r, s, at, image, how);
        g_free(how);
    }
}

/* All cuts of one script, or some of all if they are more than are wanted. */
static void cut_everywhere(struct run *r, const struct script *s)
{
    const double chance = (double)plan.images / SEQUENCES / (PER_NOTE * NOTES);
    struct cutter c;
    cutter_init(&c, s->record, s->first, s->garbage, r->seed);
    while (!enough(r) && cutter_step(&c))
        cut_here(r, s, &c, chance);
    cutter_fini(&c);
}

static void test_setup(gconstpointer opaque)
{
    struct run r = {.setup = opaque, .seed = plan.seed, .rand = g_rand_new_with_seed(plan.seed)};
    r.seen = g_hash_table_new(NULL, NULL);
    unsigned scripts = 0;
    for (; !enough(&r); scripts++, r.seed += !r.wrong) {
        struct script *s = script_run(r.setup, r.seed, NOTES, NULL);
        for (unsigned i = 0; i < SCRIPT_KINDS; i++)
            r.done[i] += s->done[i];
        cut_everywhere(&r, s);
        script_free(s);
    }
    g_autoptr(GString) line = g_string_new(NULL);
    for (unsigned i = 0; i < SCRIPT_KINDS; i++)
        if (r.done[i])
            g_string_append_printf(line, ", %u %s", r.done[i], script_kind_name(i));
    g_test_message("%s: %u images of %u sequences (%u more were the same), %u repairs, %u seen by qemu-img%s",
                   r.setup->name, r.images, scripts, r.twice, r.repairs, r.by_qemu, line->str);
    g_hash_table_unref(r.seen);
    g_rand_free(r.rand);
}

static unsigned number(const char *name, unsigned otherwise)
{
    const char *text = g_getenv(name);
    return text && *text ? (unsigned)strtoul(text, NULL, 0) : otherwise;
}

/* What images with a backing file name. QEMU opens it when it checks them. */
static void write_base(const char *folder)
{
    g_autofree char *path = g_build_filename(folder, "base.raw", NULL);
    int fd = g_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(ftruncate(fd, 1 << 20), ==, 0);
    close(fd);
}

static void remove_folder(char *folder)
{
    GDir *dir = g_dir_open(folder, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir));) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_unlink(path);
    }
    g_dir_close(dir);
    g_rmdir(folder);
    g_free(folder);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mallopt(M_MMAP_THRESHOLD, 1 << 30); /* whole disks come and go: their pages should stay */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    unsigned setups = 0;
    for (const struct image_setup *s = image_setups; s->name; s++)
        setups += image_can(s);
    g_autofree char *qemu = g_find_program_in_path("qemu-img");
    plan.images = (number("HOSTEL_POWERCUT", 2000) + setups - 1) / setups;
    plan.seed = number("HOSTEL_SEED", (unsigned)g_test_rand_int());
    plan.keep = g_getenv("HOSTEL_KEEP");
    plan.has_qemu = qemu != NULL;
    plan.folder = g_dir_make_tmp("hostel-powercut-XXXXXX", NULL);
    g_assert_nonnull(plan.folder);
    write_base(plan.folder);
    g_test_message("HOSTEL_SEED=%u, %u images of each of %u kinds%s", plan.seed, plan.images, setups,
                   qemu ? "" : "; qemu-img is missing (package qemu-utils): nobody else looks at them");
    for (const struct image_setup *s = image_setups; s->name; s++)
        if (image_can(s)) {
            g_autofree char *path = g_strdup_printf("/block/powercut/%s", s->name);
            g_test_add_data_func(path, s, test_setup);
        }
    int status = g_test_run();
    remove_folder(plan.folder);
    return status;
}
