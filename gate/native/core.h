/* The compiled core of a check: reads a facts file by its layout, keeps the standings of Users, answers RESP commands.
 *
 *   tree.c    the snapshot of one LMDB transaction as a B+tree in mapped memory: one key, or many side by side
 *   users.c   a cache of what each User's facts allow and ask, and the decision
 *   resp.c    GATE.CHECK, GATE.VERDICT and GATE.MCHECK in a chunk of bytes, and their replies
 *
 * The rules are defined in gate/core/decide.py, the layout in gate/replica/layout.py; tests hold this code against both. Why a
 * walker of our own, how a snapshot is pinned and what is bounded: docs/decisions/0013-a-native-core.md.
 *
 * Nothing here allocates while it answers, but for a table that grows; nothing calls Python. No object may be used by two
 * threads at once. Numbers in the file are little-endian where they are LMDB's, big-endian where they are Gate's.
 */
#ifndef GATE_CORE_H
#define GATE_CORE_H

#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ || UINTPTR_MAX != UINT64_MAX
#error "the compiled core reads LMDB files of 64-bit little-endian machines only; Gate answers checks in Python here"
#endif

enum { GATE_ABSENT = 0, GATE_FOUND = 1, GATE_DAMAGED = -1 };

#define GATE_MAX_ID 64                         /* bytes of an id; at least 1 */
#define GATE_FOREVER_MS ((UINT64_C(1) << 53) - 1) /* no end */

/* tree.c */

typedef struct {
    uint64_t transaction, root, last_page;
    int is_plain; /* it is a meta page, of a file whose keys have LMDB's usual order */
} gate_meta;

typedef struct {
    const uint8_t *map; /* NULL while closed */
    uint64_t mapped_bytes, file_bytes; /* the file's length when it was last measured: nothing behind it is read */
    uint64_t device, inode;
    uint64_t transaction; /* of the snapshot at hand; 0: none */
    uint64_t root, last_page;
    gate_meta meta; /* as read last */
    uint32_t page_bytes;
    int descriptor;
    const char *problem; /* after GATE_DAMAGED: what is wrong, a constant */
} gate_tree;

/* Map the file. 0; an errno value; or -1 if it is not an LMDB file that this code can read. */
int gate_tree_open(gate_tree *, const char *path);
void gate_tree_close(gate_tree *);

/* Take the snapshot of a transaction that the caller has begun in LMDB and keeps open while it reads.
 * GATE_FOUND; GATE_ABSENT if it is not certain, or there is no memory: begin again, and take that one; GATE_DAMAGED. */
int gate_tree_at(gate_tree *, uint64_t transaction);

/* Whether the snapshot at hand is the newest commit's. So a transaction begun just before reads it; and what was read of it
 * just before, without a transaction, is right: no commit but the next-but-one writes to its pages. */
int gate_tree_is_newest(const gate_tree *);

/* The value of a key in the snapshot: GATE_FOUND, GATE_ABSENT or GATE_DAMAGED. It is valid while the transaction is. */
int gate_tree_get(gate_tree *, const uint8_t *key, size_t key_size, const uint8_t **value, size_t *value_size);

#define GATE_MAX_LOOKUPS 128 /* at once */

typedef struct {
    const uint8_t *key;
    size_t key_size;
    const uint8_t *value; /* after GATE_FOUND, valid while the transaction is */
    uint32_t value_size;
    int8_t found; /* GATE_FOUND, GATE_ABSENT or GATE_DAMAGED */
    /* The search, see tree.c */
    uint8_t depth;
    uint16_t low, high;
    int is_branch;
    uint64_t number;
    const uint8_t *page, *node;
} gate_lookup;

/* Look up many keys, whose `key` and `key_size` are set, side by side: what one waits for, another may use the time for. */
void gate_tree_get_many(gate_tree *, gate_lookup *, unsigned count);

/* users.c */

/* Words of a Verdict, in the order of `Word` in gate/core/verdict.py. */
enum {
    GATE_ALLOWED,
    GATE_SENDER_UNKNOWN,
    GATE_SENDER_DEACTIVATED,
    GATE_SENDER_BANNED,
    GATE_SENDER_MUTED,
    GATE_RECIPIENT_UNKNOWN,
    GATE_RECIPIENT_DEACTIVATED,
    GATE_NOT_WHITELISTED,
    GATE_BLACKLISTED,
    GATE_WORDS
};

typedef struct gate_slot gate_slot;

typedef struct {
    gate_slot *slots; /* open addressing, at most half of them used */
    uint64_t mask, used;
    size_t stride;   /* bytes of a slot */
    uint64_t swept;  /* slots below it were emptied in this round, see `table_clear` */
    uint16_t epoch;  /* slots of another epoch are empty, so that to forget all is one addition */
} gate_table;

typedef struct {
    gate_table short_ids, long_ids;
} gate_id_set;

enum { GATE_WHITELISTS_PER_USER, GATE_WHITELISTS_ON, GATE_WHITELISTS_OFF };

typedef struct {
    gate_tree *tree;
    uint64_t hash_key[2]; /* random, so that no peer can choose ids that collide */
    gate_id_set cached, exempt;
    uint64_t most_cached;
    uint8_t user_prefix[4]; /* of the keys of the App's Users */
    uint8_t require_registered, list_policy_is_both, whitelists, has_exempt;
    uint64_t counts[GATE_WORDS]; /* of the commands answered by gate_answer */
} gate_users;

/* 0, or -1 if there is no memory. `hash_key` is 16 random bytes. */
int gate_users_open(gate_users *, const uint8_t *hash_key, uint64_t most_cached);
void gate_users_close(gate_users *);

/* Take over an App's settings, as of this file, from the bytes of `pack_check_settings`; what was cached is forgotten.
 * GATE_FOUND; GATE_ABSENT if there is no memory; GATE_DAMAGED if they are not of that form. */
int gate_users_adopt(gate_users *, gate_tree *, const uint8_t *settings, size_t size);
void gate_users_forget(gate_users *, const uint8_t *id, size_t size);
void gate_users_forget_all(gate_users *);

uint64_t gate_hash(const gate_users *, const uint8_t *id, size_t size);
void gate_prefetch(const gate_users *, size_t size, uint64_t hash);

/* A User's standing, from the cache or read into it, and the number of its lists; 0 if the file is damaged. Ids are 1 to
 * GATE_MAX_ID bytes in all of these; that is for the caller to check. */
uint8_t gate_standing(gate_users *, const uint8_t *id, size_t size, uint64_t hash, uint32_t *lists);

/* The word for a pair, given both standings; GATE_DAMAGED. `now_ms` 0: the clock is read if the moment matters. */
int gate_judge(gate_users *, const uint8_t *sender, size_t sender_size, uint8_t sender_standing, const uint8_t *recipient,
               size_t recipient_size, uint8_t recipient_standing, uint32_t recipient_lists, uint64_t now_ms);

/* One User's part in a pair. */
typedef struct {
    const uint8_t *id;
    uint64_t hash; /* `gate_hash`; prefetched */
    uint32_t lists;
    uint8_t size, standing;
} gate_side;

typedef struct {
    gate_side sender, recipient;
    int word; /* GATE_DAMAGED: what it rests on can't be read */
} gate_pair;

#define GATE_BATCH 64 /* pairs that are judged at once */

/* The words of up to GATE_BATCH pairs, whose ids and hashes are set. */
void gate_judge_many(gate_users *, gate_pair *, unsigned count);

/* The same of one with nothing at hand. */
int gate_word(gate_users *, const uint8_t *sender, size_t sender_size, const uint8_t *recipient, size_t recipient_size,
              uint64_t now_ms);

/* All eight rules, and the moment at which the word may change by itself; GATE_FOREVER_MS: never. */
int gate_decide(gate_users *, const uint8_t *sender, size_t sender_size, const uint8_t *recipient, size_t recipient_size,
                uint64_t now_ms, uint64_t *until_ms);

/* resp.c */

#define GATE_MAX_PAIRS 256 /* recipients of one GATE.MCHECK that is answered here: 0.8 ms where none is cached */

/* Answer the checks at the beginning of a chunk, in order: until one that is not known here, is not whole, or meets damage; or
 * until the monotonic clock shows `until_us` (0: no limit). Returns how many bytes were answered; `out`, which has room for
 * `size` bytes, gets `*written` bytes of replies. A reply is always shorter than its command. */
size_t gate_answer(gate_users *, const uint8_t *in, size_t size, uint64_t until_us, uint8_t *out, size_t *written);

#endif
