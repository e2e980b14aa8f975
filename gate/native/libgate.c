/* libgate, see gate.h: the core for programs of other languages. A handle has readers, which threads take and release; each is one
 * slot in LMDB's table of readers, one mapping, and one cache. reader.c follows the service.
 */
#include "gate.h"
#include "reader.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

#define MIN_READERS 8
#define MAX_READERS 64
#define YIELDS 16 /* of a thread that finds no free reader, before it sleeps */
#define NAP_NS 50000

struct gate {
    replica replica;
    unsigned forks;
    unsigned readers_size;
    atomic_ullong denied_in_shadow;
    reader readers[];
};

#define WORD(name, word, size) [name] = word,
static const char *const WORDS[GATE_WORDS] = {GATE_EACH_WORD(WORD)};

static _Thread_local struct {
    unsigned reader; /* that this thread took last */
    char error[512];
} mine;

int gate_fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(mine.error, sizeof mine.error, format, values);
    va_end(values);
    return -1;
}

static void give_back(reader *r) { atomic_store_explicit(&r->is_taken, 0, memory_order_release); }

/* A reader that no other thread uses: usually this thread's last one. NULL if none can be opened. */
static reader *take(gate *g) {
    if (g == NULL || g->forks != atomic_load_explicit(&gate_forks, memory_order_relaxed)) {
        gate_fail(g == NULL ? "there is no handle: gate_open returned NULL"
                       : "this handle was opened before the process forked: open one after the fork only");
        return NULL;
    }
    for (unsigned rounds = 0;; rounds++) {
        for (unsigned i = 0; i < g->readers_size; i++) {
            unsigned index = (mine.reader + i) % g->readers_size;
            reader *r = &g->readers[index];
            int is_free = 0;
            if (atomic_load_explicit(&r->is_taken, memory_order_relaxed) ||
                !atomic_compare_exchange_strong_explicit(&r->is_taken, &is_free, 1, memory_order_acquire, memory_order_relaxed))
                continue;
            mine.reader = index;
            if (r->is_open || gate_reader_open(&g->replica, r) == 0)
                return r;
            give_back(r);
            return NULL;
        }
        if (rounds < YIELDS)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
}

static inline int is_id(const void *id, size_t size) { return id != NULL && size >= 1 && size <= GATE_MAX_ID; }

static int refuse_id(const char *which, const void *id, size_t size) {
    return id == NULL ? gate_fail("%s is NULL", which) : gate_fail("%s is %zu bytes long; an id is 1 to 64 bytes", which, size);
}

static uint64_t wall_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The calls */

/* What is answered for a word that the rules gave: in shadow mode a denial is counted, and answered `allowed`. */
static inline int answered(gate *g, const reader *r, int word) {
    if (word <= GATE_ALLOWED || !r->users.is_shadow)
        return word;
    atomic_fetch_add_explicit(&g->denied_in_shadow, 1, memory_order_relaxed);
    return GATE_ALLOWED;
}

/* Twice as many as processors: a thread may be interrupted while it holds one. */
static unsigned most_readers(void) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return (unsigned)(processors < MIN_READERS / 2 ? MIN_READERS : processors > MAX_READERS / 2 ? MAX_READERS : 2 * processors);
}

PUBLIC gate *gate_open(const char *data_directory, const char *app_key, char *error, size_t error_size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    unsigned size = most_readers();
    size_t bytes = (sizeof(gate) + size * sizeof(reader) + 63) / 64 * 64;
    gate *g = aligned_alloc(64, bytes);
    reader *r = NULL;
    pthread_once(&once, gate_watch_forks);
    if (g == NULL)
        gate_fail("there is no memory");
    else {
        memset(g, 0, bytes);
        g->readers_size = size;
        g->forks = atomic_load(&gate_forks);
        r = gate_replica_of(&g->replica, data_directory, app_key) == 0 ? take(g) : NULL;
    }
    int opened = r == NULL ? -1 : gate_begin(&g->replica, r);
    if (r != NULL) {
        gate_end(r);
        give_back(r);
    }
    if (opened == 0)
        return g;
    gate_close(g);
    if (error != NULL && error_size > 0)
        snprintf(error, error_size, "%s", mine.error);
    return NULL;
}

PUBLIC int gate_may_send(gate *g, const void *from, size_t from_len, const void *to, size_t to_len) {
    if (!is_id(from, from_len))
        return refuse_id("from", from, from_len);
    if (!is_id(to, to_len))
        return refuse_id("to", to, to_len);
    reader *r = take(g);
    if (r == NULL)
        return -1;
    int may = gate_begin(&g->replica, r);
    if (may == 0) {
        int word = answered(g, r, gate_word(&r->users, from, from_len, to, to_len, 0));
        may = word == GATE_DAMAGED ? gate_damaged(r) : word == GATE_ALLOWED;
    }
    gate_end(r);
    give_back(r);
    return may;
}

PUBLIC int gate_verdict(gate *g, const void *from, size_t from_len, const void *to, size_t to_len, const char **word,
                        int64_t *until_ms) {
    uint64_t moment_ms = 0;
    if (!is_id(from, from_len))
        return refuse_id("from", from, from_len);
    if (!is_id(to, to_len))
        return refuse_id("to", to, to_len);
    reader *r = take(g);
    if (r == NULL)
        return -1;
    int may = gate_begin(&g->replica, r);
    if (may == 0) {
        int decided = gate_decide(&r->users, from, from_len, to, to_len, wall_ms(), &moment_ms);
        int verdict = answered(g, r, decided);
        if (verdict != decided)
            moment_ms = GATE_FOREVER_MS; /* no end of a fact changes an answer in shadow mode */
        may = verdict == GATE_DAMAGED ? gate_damaged(r) : verdict == GATE_ALLOWED;
        if (verdict != GATE_DAMAGED && word != NULL)
            *word = WORDS[verdict];
        if (verdict != GATE_DAMAGED && until_ms != NULL)
            *until_ms = moment_ms >= GATE_FOREVER_MS ? 0 : (int64_t)moment_ms;
    }
    gate_end(r);
    give_back(r);
    return may;
}

PUBLIC int gate_may_send_many(gate *g, const void *from, size_t from_len, const void *const *to, const size_t *to_len, size_t n,
                              unsigned char *may) {
    if (n > 0 && (to == NULL || to_len == NULL || may == NULL))
        return gate_fail("to, to_len and may must not be NULL");
    if (n > 0)
        memset(may, 0, n);
    if (!is_id(from, from_len))
        return refuse_id("from", from, from_len);
    for (size_t i = 0; i < n; i++)
        if (!is_id(to[i], to_len[i]))
            return refuse_id("one of to", to[i], to_len[i]);
    reader *r = take(g);
    if (r == NULL)
        return -1;
    int fault = gate_begin(&g->replica, r);
    uint64_t hash = gate_hash(&r->users, from, from_len);
    for (size_t at = 0; fault == 0 && at < n; at += GATE_BATCH) {
        gate_pair pairs[GATE_BATCH];
        unsigned count = n - at < GATE_BATCH ? (unsigned)(n - at) : GATE_BATCH;
        for (unsigned i = 0; i < count; i++) {
            size_t size = to_len[at + i];
            pairs[i].sender = (gate_side){.id = from, .size = (uint8_t)from_len, .hash = hash};
            pairs[i].recipient = (gate_side){.id = to[at + i], .size = (uint8_t)size, .hash = gate_hash(&r->users, to[at + i], size)};
            gate_prefetch(&r->users, size, pairs[i].recipient.hash);
        }
        gate_judge_many(&r->users, pairs, count);
        for (unsigned i = 0; i < count; i++) {
            int word = answered(g, r, pairs[i].word);
            may[at + i] = word == GATE_ALLOWED;
            if (word == GATE_DAMAGED)
                fault = gate_damaged(r);
        }
    }
    gate_end(r);
    give_back(r);
    if (fault != 0 && n > 0)
        memset(may, 0, n);
    return fault;
}

PUBLIC int gate_status(gate *g, int *ready, int64_t *stale) {
    reader *r = take(g);
    if (r == NULL)
        return -1;
    int64_t age_ms = gate_stale_ms(&g->replica, r);
    if (ready != NULL)
        *ready = gate_is_ready(r);
    if (stale != NULL)
        *stale = age_ms;
    give_back(r);
    return 0;
}

PUBLIC int gate_shadow(gate *g, int *on, uint64_t *denied) {
    reader *r = take(g);
    if (r == NULL)
        return -1;
    int fault = gate_begin(&g->replica, r);
    if (fault == 0 && on != NULL)
        *on = r->users.is_shadow;
    if (fault == 0 && denied != NULL)
        *denied = atomic_load_explicit(&g->denied_in_shadow, memory_order_relaxed);
    gate_end(r);
    give_back(r);
    return fault;
}

PUBLIC const char *gate_error(gate *g) {
    (void)g;
    return mine.error;
}

PUBLIC void gate_close(gate *g) {
    if (g == NULL || g->forks != atomic_load(&gate_forks))
        return; /* in a forked child it is the parent's: ending its transactions would end the parent's */
    for (unsigned i = 0; i < g->readers_size; i++) {
        reader *r = &g->readers[i];
        for (int is_free = 0; !atomic_compare_exchange_weak(&r->is_taken, &is_free, 1); is_free = 0)
            sched_yield();
        if (r->is_open)
            gate_reader_close(r);
    }
    free(g);
}
