/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* For builds with ThreadSanitizer: tells it what GLib's locks order, which it cannot see in a library. */
/*
 * Every program of such a build contains these functions, so its calls reach them first. Each calls GLib's
 * own and announces that what happened before the release is visible behind the acquisition.
 */
#include <dlfcn.h>
#include <glib.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

/* GLib may define these as macros around the functions. */
#undef g_mutex_lock
#undef g_mutex_trylock
#undef g_mutex_unlock
#undef g_rec_mutex_lock
#undef g_rec_mutex_unlock
#undef g_rw_lock_reader_lock
#undef g_rw_lock_reader_unlock
#undef g_rw_lock_writer_lock
#undef g_rw_lock_writer_unlock
#undef g_cond_wait
#undef g_cond_wait_until

/* GLib's function of that name, of the type of the one being defined. Two threads that look at once find the
 * same. */
#define NEXT(fn)                                                                                             \
    ({                                                                                                       \
        static void *cache;                                                                                  \
        void *found = __atomic_load_n(&cache, __ATOMIC_RELAXED);                                             \
        if (!found) {                                                                                        \
            found = dlsym(RTLD_NEXT, #fn);                                                                   \
            __atomic_store_n(&cache, found, __ATOMIC_RELAXED);                                               \
        }                                                                                                    \
        (__typeof__(&fn))found;                                                                              \
    })

#define LOCK(fn, type)                                                                                       \
    void fn(type *lock)                                                                                      \
    {                                                                                                        \
        NEXT(fn)(lock);                                                                                      \
        __tsan_acquire(lock);                                                                                \
    }
#define UNLOCK(fn, type)                                                                                     \
    void fn(type *lock)                                                                                      \
    {                                                                                                        \
        __tsan_release(lock);                                                                                \
        NEXT(fn)(lock);                                                                                      \
    }

LOCK(g_mutex_lock, GMutex)
UNLOCK(g_mutex_unlock, GMutex)
LOCK(g_rec_mutex_lock, GRecMutex)
UNLOCK(g_rec_mutex_unlock, GRecMutex)
LOCK(g_rw_lock_reader_lock, GRWLock)
UNLOCK(g_rw_lock_reader_unlock, GRWLock)
LOCK(g_rw_lock_writer_lock, GRWLock)
UNLOCK(g_rw_lock_writer_unlock, GRWLock)

gboolean g_mutex_trylock(GMutex *lock)
{
    gboolean taken = NEXT(g_mutex_trylock)(lock);
    if (taken)
        __tsan_acquire(lock);
    return taken;
}

void g_cond_wait(GCond *cond, GMutex *lock)
{
    __tsan_release(lock);
    NEXT(g_cond_wait)(cond, lock);
    __tsan_acquire(lock);
}

gboolean g_cond_wait_until(GCond *cond, GMutex *lock, gint64 end_time)
{
    __tsan_release(lock);
    gboolean signalled = NEXT(g_cond_wait_until)(cond, lock, end_time);
    __tsan_acquire(lock);
    return signalled;
}
