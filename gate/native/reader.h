/* A reader: one thread's access to the Replica at a time. For libgate.c, which takes and releases readers. */
#ifndef GATE_READER_H
#define GATE_READER_H

#include "core.h"

#include <limits.h>
#include <lmdb.h>
#include <stdatomic.h>

#define MAX_APP_KEY 256 /* bytes; LMDB takes 511 of a key */

typedef struct facts_file facts_file;

typedef struct {
    _Alignas(64) atomic_int is_taken; /* on a cache line of its own: threads search for a free one */
    int is_open, is_synced, is_left, is_behind, is_followed;
    uint64_t seen; /* the commit of the caches */
    char path[PATH_MAX];
    facts_file *file;
    MDB_txn *txn; /* reset between calls, so that it pins nothing */
    gate_tree tree;
    gate_users users;
    uint8_t *app_record; /* from which the settings are */
    size_t app_record_size;
    const _Atomic uint64_t *board; /* NULL without a status page */
    uint64_t board_device, board_inode, chosen_seen;
    int64_t looked_at_ms;
    int board_is_of_this_boot;
} reader;

/* The data of a handle, shared by all of its readers. */
typedef struct {
    char directory[PATH_MAX - 64], app_key[MAX_APP_KEY + 1];
    uint32_t boot;      /* the status page's word for this boot */
    atomic_uint behind; /* readers that could not follow the service to another file at their last try */
} replica;

/* Number of forks that led to this process: files opened before belong to the parent. */
extern atomic_uint gate_forks;

/* Sets this thread's text for `gate_error`. Returns -1. */
int gate_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for an unreadable page, which is also reported to the replicator: it loads the file again. */
int gate_damaged(const reader *);

/* Once in a process, before anything is opened. */
void gate_watch_forks(void);

/* 0, or -1. `directory` is the Replica's own. */
int gate_replica_of(replica *, const char *data_directory, const char *app_key);

int gate_reader_open(const replica *, reader *); /* 0, or -1 */
void gate_reader_close(reader *);

/* Begins to read the newest commit, with the App's settings in it: 0, or -1. `gate_end` ends it, also after -1. */
int gate_begin(replica *, reader *);
void gate_end(reader *);

/* Outside of a bracket: how long the next bracket's facts were not known to be complete, 0 while fresh. */
int64_t gate_stale_ms(replica *, reader *);
int gate_is_ready(const reader *);

#endif
