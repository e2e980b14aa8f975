/* A reader that follows the service, in C as in `gate/replica/reading.py`: commits by the journal in each, other files by a word on
 * the status page and by the successor's name, the App's settings by its record.
 *
 * A transaction of the system's liblmdb pins the commit, and the core's own walk reads it: LMDB reads only the two meta
 * pages, which are validated before, so a damaged file causes an error and not a crash. A facts file is opened once per process,
 * since LMDB drops the locks of both when one of two is closed.
 */
#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* As in gate/replica: layout.py, reading.py, envs.py and status_page.py. */
#define LAYOUT "gate-replica-3"
#ifndef MAP_BYTES
#define MAP_BYTES ((size_t)1 << 40)
#endif
#define MAX_TABLE 1024 /* readers of all processes */
#define CACHED_USERS (1 << 20)
#define JOURNAL_REACH 256
#define PLACE_TRIES 16
#define OPEN_TRIES 3
#define BOARD_BYTES 4096
#define FRESH_GRACE_MS 1000
#define LOOK_AGAIN_MS 100
#define NEVER_FRESH_MS ((int64_t)1 << 40)
enum { MAGIC, BOOT, FRESH_AT_MS = 4, READY, CHOSEN_AT_NS = 10, FACTS_DEVICE = 12, FACTS_INODE };
static const char MAGIC_TEXT[] = "1DRBetag"; /* gateBRD1, as a little-endian word */

#define NEVER UINT64_MAX

struct facts_file {
    struct facts_file *next;
    uint64_t device, inode;
    MDB_env *env;
    unsigned users;
};

static pthread_mutex_t files_lock = PTHREAD_MUTEX_INITIALIZER;
static facts_file *files;
atomic_uint gate_forks;

static int64_t monotonic_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* As zlib's. Used for a changed App's record only, so a short table suffices. */
static uint32_t crc32_of(const uint8_t *bytes, size_t size) {
    static const uint32_t TABLE[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                       0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t crc = ~UINT32_C(0);
    for (; size > 0; bytes++, size--) {
        crc = TABLE[(crc ^ *bytes) & 15] ^ crc >> 4;
        crc = TABLE[(crc ^ *bytes >> 4) & 15] ^ crc >> 4;
    }
    return ~crc;
}

static uint32_t big_endian32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Read a short file. Returns the number of bytes, or -1. */
static ssize_t read_file(const char *path, char *to, size_t size) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    ssize_t count = read(descriptor, to, size);
    close(descriptor);
    return count;
}

/* Facts files */

/* In a forked child, slots in the readers' table are the parent's: files opened before are neither used nor closed. */
static void before_fork(void) { pthread_mutex_lock(&files_lock); }
static void after_fork(void) { pthread_mutex_unlock(&files_lock); }
static void after_fork_in_child(void) {
    files = NULL;
    atomic_fetch_add(&gate_forks, 1);
    pthread_mutex_unlock(&files_lock);
}
void gate_watch_forks(void) { pthread_atfork(before_fork, after_fork, after_fork_in_child); }

static int open_env(MDB_env **env, const char *path) {
    char lock[PATH_MAX + 8];
    gate_tree probe;
    snprintf(lock, sizeof lock, "%s-lock", path);
    if (access(lock, R_OK | W_OK) != 0)
        return errno == ENOENT ? gate_fail("%s is missing; the service creates both files again", lock)
                               : gate_fail("%s is not writable, but readers register in it: %s", lock, strerror(errno));
    int fault = gate_tree_open(&probe, path);
    if (fault != 0)
        return gate_fail("%s can't be opened: %s", path, fault > 0 ? strerror(fault) : "it is not an LMDB file of format 1");
    gate_tree_close(&probe);
    if (mdb_env_create(env) != 0)
        return gate_fail("there is no memory");
    mdb_env_set_mapsize(*env, MAP_BYTES);
    mdb_env_set_maxreaders(*env, MAX_TABLE);
    fault = mdb_env_open(*env, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOTLS | MDB_NORDAHEAD, 0600);
    if (fault == 0)
        return 0;
    mdb_env_close(*env);
    if (fault == ENOMEM)
        return gate_fail("%s can't be mapped: this takes 1 TiB of address space, but no memory; lift ulimit -v", path);
    return gate_fail("%s can't be opened: %s", path, mdb_strerror(fault));
}

static void release(facts_file *file) {
    pthread_mutex_lock(&files_lock);
    if (--file->users == 0) {
        facts_file **at = &files;
        while (*at != file)
            at = &(*at)->next;
        *at = file->next;
        mdb_env_close(file->env);
        free(file);
    }
    pthread_mutex_unlock(&files_lock);
}

static facts_file *acquire(const char *path) {
    struct stat before, after;
    facts_file *file = NULL;
    pthread_mutex_lock(&files_lock);
    if (stat(path, &before) != 0) {
        gate_fail("%s can't be opened: %s", path, strerror(errno));
        goto done;
    }
    for (file = files; file != NULL; file = file->next)
        if (file->device == (uint64_t)before.st_dev && file->inode == (uint64_t)before.st_ino)
            goto done;
    file = calloc(1, sizeof *file);
    if (file == NULL || open_env(&file->env, path) != 0) {
        free(file);
        file = NULL;
        goto done;
    }
    if (stat(path, &after) != 0 || after.st_dev != before.st_dev || after.st_ino != before.st_ino) {
        gate_fail("%s was replaced while it was opened", path);
        mdb_env_close(file->env);
        free(file);
        file = NULL;
        goto done;
    }
    file->device = (uint64_t)before.st_dev;
    file->inode = (uint64_t)before.st_ino;
    file->next = files;
    files = file;
done:
    if (file != NULL)
        file->users++;
    pthread_mutex_unlock(&files_lock);
    return file;
}

/* The file in use, by its name in `current`. It may be deleted before it is opened; then the name is read again. */
static facts_file *acquire_current(const replica *g, char path[PATH_MAX]) {
    char name[64];
    facts_file *file = NULL;
    for (int tries = 0; file == NULL && tries < OPEN_TRIES; tries++) {
        snprintf(path, PATH_MAX, "%s/current", g->directory);
        ssize_t size = read_file(path, name, sizeof name - 1);
        if (size < 0) {
            if (errno == ENOENT)
                gate_fail("no Replica in %s: start the service there (gate serve) first", g->directory);
            else
                gate_fail("%s can't be read: %s", path, strerror(errno));
            return NULL;
        }
        name[size] = 0;
        name[strcspn(name, "\n")] = 0;
        if (strncmp(name, "facts-", 6) != 0 || strcmp(name + 6 + strspn(name + 6, "0123456789"), ".mdb") != 0 || name[6] == '.') {
            gate_fail("%s does not name a facts file", path);
            return NULL;
        }
        snprintf(path, PATH_MAX, "%s/%s", g->directory, name);
        file = acquire(path);
    }
    return file;
}

/* Reading */

/* Report to the replicator, which loads a damaged file again; the first report counts. */
int gate_damaged(const reader *r) {
    const char *name = strrchr(r->path, '/') + 1;
    char report[PATH_MAX];
    snprintf(report, sizeof report, "%.*s/damaged", (int)(name - r->path - 1), r->path);
    int descriptor = open(report, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (descriptor >= 0) {
        dprintf(descriptor, "%s\n%s\n", name, r->tree.problem);
        close(descriptor);
    }
    return gate_fail("%s can't be read: %s", name, r->tree.problem);
}

static int begin_transaction(MDB_txn *txn) {
    int fault = mdb_txn_renew(txn);
    return fault == 0 ? 0 : gate_fail("a read transaction can't be begun: %s", mdb_strerror(fault));
}

/* Moves the core to this commit, or to a newer one if more follow meanwhile. */
static int place(reader *r) {
    for (int tries = 0; tries < PLACE_TRIES; tries++) {
        int found = gate_tree_at(&r->tree, mdb_txn_id(r->txn));
        if (found != GATE_ABSENT)
            return found == GATE_FOUND ? 0 : gate_damaged(r);
        mdb_txn_reset(r->txn);
        if (begin_transaction(r->txn) != 0)
            return -1;
    }
    return gate_fail("%s can't be read: its meta page is damaged, or this process has no room for it (ulimit -v)", r->path);
}

static void leave_file(reader *r) {
    mdb_txn_abort(r->txn); /* NULL is allowed */
    gate_tree_close(&r->tree);
    if (r->file != NULL)
        release(r->file);
    r->txn = NULL;
    r->file = NULL;
}

/* Reads `file` from now on, and becomes one of its users; -1 if it can't be read, and then it reads none. */
static int enter_file(reader *r, facts_file *file, const char *path) {
    const uint8_t *layout;
    size_t size;
    memset(&r->tree, 0, sizeof r->tree);
    snprintf(r->path, sizeof r->path, "%s", path);
    r->file = file;
    r->txn = NULL;
    r->seen = NEVER;
    r->is_synced = 0;
    int fault = gate_tree_open(&r->tree, path);
    if (fault != 0)
        return gate_fail("%s can't be opened: %s", path, fault > 0 ? strerror(fault) : "it is not an LMDB file of format 1");
    if (r->tree.device != file->device || r->tree.inode != file->inode)
        return gate_fail("%s was replaced while it was opened", path);
    fault = mdb_txn_begin(file->env, NULL, MDB_RDONLY, &r->txn);
    if (fault == EAGAIN || fault == EACCES)
        return gate_fail("%s is in use by another process with this one's id, %ld: containers that share a data directory must share "
                    "their process ids too", path, (long)getpid());
    if (fault != 0)
        return gate_fail("%s can't be read: %s", path, mdb_strerror(fault));
    if (place(r) != 0)
        return -1;
    int found = gate_tree_get(&r->tree, (const uint8_t *)"Mlayout", 7, &layout, &size);
    if (found == GATE_DAMAGED)
        return gate_damaged(r);
    if (found == GATE_ABSENT || size != strlen(LAYOUT) || memcmp(layout, LAYOUT, size) != 0)
        return gate_fail("%s has another layout than " LAYOUT ": build libgate from the version of Gate that runs here", path);
    mdb_txn_reset(r->txn);
    return 0;
}

/* The status page */

static uint64_t on_board(const reader *r, int field) { return atomic_load_explicit(r->board + field, memory_order_acquire); }

static int board_is_in_place(const replica *g, const reader *r) {
    char path[PATH_MAX];
    struct stat status;
    snprintf(path, sizeof path, "%s/board", g->directory);
    return stat(path, &status) == 0 && (uint64_t)status.st_dev == r->board_device && (uint64_t)status.st_ino == r->board_inode;
}

/* Maps the present page; the old mapping stays if no page exists. */
static int watch_board(const replica *g, reader *r) {
    char path[PATH_MAX];
    struct stat status;
    uint64_t magic;
    snprintf(path, sizeof path, "%s/board", g->directory);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    void *page = MAP_FAILED;
    if (fstat(descriptor, &status) == 0 && status.st_size >= BOARD_BYTES)
        page = mmap(NULL, BOARD_BYTES, PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (page == MAP_FAILED)
        return -1;
    memcpy(&magic, MAGIC_TEXT, sizeof magic);
    if (atomic_load((const _Atomic uint64_t *)page + MAGIC) != magic) {
        munmap(page, BOARD_BYTES);
        return -1;
    }
    if (r->board != NULL)
        munmap((void *)r->board, BOARD_BYTES);
    r->board = page;
    r->board_device = (uint64_t)status.st_dev;
    r->board_inode = (uint64_t)status.st_ino;
    r->board_is_of_this_boot = on_board(r, BOOT) == g->boot;
    r->chosen_seen = NEVER;
    return 0;
}

/* A stale page may have been replaced, or taken over in this boot. Returns whether another look is worthwhile. */
static int board_moved_on(const replica *g, reader *r, int64_t now_ms) {
    if (now_ms - r->looked_at_ms < LOOK_AGAIN_MS)
        return 0;
    r->looked_at_ms = now_ms;
    if (!board_is_in_place(g, r))
        return watch_board(g, r) == 0;
    int was_of_this_boot = r->board_is_of_this_boot;
    r->board_is_of_this_boot = on_board(r, BOOT) == g->boot;
    return r->board_is_of_this_boot && !was_of_this_boot;
}

static int64_t board_stale_ms(const replica *g, reader *r, int64_t now_ms) {
    do {
        int64_t fresh_at_ms = (int64_t)on_board(r, FRESH_AT_MS);
        int is_known = fresh_at_ms > 0 && fresh_at_ms < NEVER_FRESH_MS && r->board_is_of_this_boot;
        int64_t age_ms = is_known ? now_ms - fresh_at_ms : NEVER_FRESH_MS;
        if (age_ms >= -FRESH_GRACE_MS && age_ms <= FRESH_GRACE_MS)
            return 0;
        if (!board_moved_on(g, r, now_ms))
            return age_ms > 0 ? age_ms : NEVER_FRESH_MS; /* a stamp in the future is damage */
    } while (1);
}

/* Moves to the file in use. 1 if it moved, 0 if that is the one being read, -1 if it can't now and keeps the present one.
 * A file that the status page does not name was moved there by hand: no reader leaves its facts for that. */
static int follow_current(replica *g, reader *r) {
    char path[PATH_MAX];
    reader fresh = {0};
    facts_file *file = acquire_current(g, path);
    int moved = -1;
    if (file != NULL) {
        uint64_t device = r->board ? on_board(r, FACTS_DEVICE) : 0, inode = r->board ? on_board(r, FACTS_INODE) : 0;
        int is_followed = file->device == device && file->inode == inode;
        if (file == r->file) {
            release(file);
            moved = 0;
        } else if ((device != 0 || inode != 0) && !is_followed)
            release(file);
        else if (enter_file(&fresh, file, path) != 0)
            leave_file(&fresh);
        else {
            leave_file(r);
            memcpy(r->path, fresh.path, sizeof r->path);
            r->file = fresh.file, r->txn = fresh.txn, r->tree = fresh.tree;
            r->seen = NEVER;
            r->is_synced = 0;
            r->app_record_size = 0;
            moved = 1;
        }
        if (moved >= 0)
            r->is_followed = is_followed;
    }
    if (r->is_behind != (moved < 0)) {
        r->is_behind = moved < 0;
        atomic_fetch_add(&g->behind, r->is_behind ? 1u : -1u);
    }
    if (moved == 1 && r->board != NULL && !board_is_in_place(g, r))
        watch_board(g, r);
    return moved;
}

static void choose_again(replica *g, reader *r) {
    if (!board_is_in_place(g, r))
        watch_board(g, r);
    uint64_t chosen = on_board(r, CHOSEN_AT_NS);
    if (follow_current(g, r) >= 0)
        r->chosen_seen = chosen; /* only now: a file that can't be opened yet is tried again */
}

int64_t gate_stale_ms(replica *g, reader *r) {
    int64_t now_ms = monotonic_ms();
    for (int tries = 0; tries < 2; tries++) {
        if (r->board == NULL && watch_board(g, r) != 0)
            return NEVER_FRESH_MS;
        int64_t age_ms = board_stale_ms(g, r, now_ms);
        if (on_board(r, CHOSEN_AT_NS) == r->chosen_seen) /* after the stamp: the next one may be of another file */
            return r->is_followed && atomic_load(&g->behind) == 0 ? age_ms : NEVER_FRESH_MS;
        choose_again(g, r);
    }
    return NEVER_FRESH_MS;
}

/* Caches */

/* Forgets the Users that the commits after `seen` touched; all if that is unknown. */
static void forget_touched(reader *r, uint64_t now) {
    if (r->seen == NEVER || now <= r->seen || now - r->seen > JOURNAL_REACH)
        goto everything;
    for (uint64_t commit = r->seen + 1; commit <= now; commit++) {
        uint8_t key[9] = {'J'};
        const uint8_t *journal;
        size_t size;
        for (int i = 0; i < 8; i++)
            key[1 + i] = (uint8_t)(commit >> (56 - 8 * i));
        if (gate_tree_get(&r->tree, key, sizeof key, &journal, &size) != GATE_FOUND)
            goto everything;
        for (size_t at = 0; at < size; at += 4 + (size_t)journal[at + 3]) {
            if (size - at < 4 || size - at - 4 < journal[at + 3]) /* "*", too */
                goto everything;
            if (memcmp(journal + at, r->users.user_prefix + 1, 3) == 0)
                gate_users_forget(&r->users, journal + at + 4, journal[at + 3]);
        }
    }
    return;
everything:
    gate_users_forget_all(&r->users);
}

/* Uses the App's settings of this commit. */
static int sync_app(const replica *g, reader *r) {
    uint8_t key[MAX_APP_KEY + 1];
    const uint8_t *record, *settings;
    size_t record_size, settings_size, key_size = 1 + strlen(g->app_key);
    memcpy(key + 1, g->app_key, key_size - 1);
    key[0] = 'A';
    int found = gate_tree_get(&r->tree, key, key_size, &record, &record_size);
    if (found == GATE_DAMAGED)
        return gate_damaged(r);
    if (found == GATE_ABSENT || record_size == 0) {
        r->app_record_size = 0;
        return gate_fail("no App has the key '%s'", g->app_key);
    }
    if (record_size == r->app_record_size && memcmp(record, r->app_record, record_size) == 0)
        return 0;
    r->app_record_size = 0;
    key[0] = 'C';
    found = gate_tree_get(&r->tree, key, key_size, &settings, &settings_size);
    if (found == GATE_DAMAGED)
        return gate_damaged(r);
    if (found == GATE_ABSENT || settings_size < 4 || big_endian32(settings) != crc32_of(record, record_size))
        return gate_fail("the settings of App '%s' were written by a version of Gate before 0.4: start this one's service", g->app_key);
    uint8_t *copy = realloc(r->app_record, record_size + 1);
    if (copy == NULL)
        return gate_fail("there is no memory");
    memcpy(r->app_record = copy, record, record_size);
    found = gate_users_adopt(&r->users, &r->tree, settings + 4, settings_size - 4);
    if (found != GATE_FOUND)
        return gate_fail("the settings of App '%s' can't be used: %s", g->app_key, found == GATE_ABSENT ? "no memory" : r->tree.problem);
    r->app_record_size = record_size;
    return 0;
}

/* A new commit, or the first one. */
static int move(replica *g, reader *r) {
    const uint8_t *successor;
    size_t size;
    r->is_synced = 0;
    if (place(r) != 0)
        return -1;
    if (r->board == NULL)
        watch_board(g, r);
    int found = gate_tree_get(&r->tree, (const uint8_t *)"Msuccessor", 10, &successor, &size);
    if (found == GATE_DAMAGED)
        return gate_damaged(r);
    r->is_left = found == GATE_FOUND;
    if (r->is_left && follow_current(g, r) == 1)
        return gate_begin(g, r);
    forget_touched(r, r->tree.transaction);
    r->seen = r->is_left ? NEVER : r->tree.transaction; /* the replacing file can't be opened yet: try each time */
    if (sync_app(g, r) != 0)
        return -1;
    r->is_synced = 1;
    return 0;
}

/* Begins to read the newest commit; `gate_end` ends it, also after -1. */
int gate_begin(replica *g, reader *r) {
    if (r->board != NULL && on_board(r, CHOSEN_AT_NS) != r->chosen_seen)
        choose_again(g, r);
    if (begin_transaction(r->txn) != 0)
        return -1;
    return mdb_txn_id(r->txn) == r->seen && r->is_synced ? 0 : move(g, r);
}

void gate_end(reader *r) { mdb_txn_reset(r->txn); }

int gate_is_ready(const reader *r) { return r->board != NULL && on_board(r, READY) != 0; }

/* Opening */

int gate_replica_of(replica *g, const char *data_directory, const char *app_key) {
    char resolved[PATH_MAX], within[PATH_MAX + 16], boot[64];
    struct stat status;
    if (data_directory == NULL || app_key == NULL)
        return gate_fail("gate_open takes a data directory and an App key");
    if (realpath(data_directory, resolved) == NULL)
        return gate_fail("no Replica in %s: %s", data_directory, strerror(errno));
    if (app_key[0] == 0 || strlen(app_key) > MAX_APP_KEY)
        return gate_fail("no App has the key '%.260s'", app_key);
    snprintf(within, sizeof within, "%s/replica", resolved);
    const char *directory = stat(within, &status) == 0 && S_ISDIR(status.st_mode) ? within : resolved;
    if (strlen(directory) >= sizeof g->directory)
        return gate_fail("the path of the data directory is too long");
    memcpy(g->directory, directory, strlen(directory) + 1);
    memcpy(g->app_key, app_key, strlen(app_key) + 1);
    ssize_t size = read_file("/proc/sys/kernel/random/boot_id", boot, sizeof boot - 1);
    size = size < 0 ? (ssize_t)strlen(strcpy(boot, "unknown")) : size - (size > 0 && boot[size - 1] == '\n');
    g->boot = crc32_of((const uint8_t *)boot, (size_t)size);
    return 0;
}

void gate_reader_close(reader *r) {
    leave_file(r);
    if (r->board != NULL)
        munmap((void *)r->board, BOARD_BYTES);
    r->board = NULL;
    gate_users_close(&r->users);
    free(r->app_record);
    r->app_record = NULL;
    r->app_record_size = 0;
    r->is_open = 0;
}

int gate_reader_open(const replica *g, reader *r) {
    uint8_t hash_key[16];
    char path[PATH_MAX];
    if (getrandom(hash_key, sizeof hash_key, 0) != sizeof hash_key || gate_users_open(&r->users, hash_key, CACHED_USERS) != 0)
        return gate_fail("there is no memory");
    facts_file *file = acquire_current(g, path);
    if (file == NULL || enter_file(r, file, path) != 0) {
        gate_reader_close(r);
        return -1;
    }
    watch_board(g, r);
    r->is_open = 1;
    return 0;
}
