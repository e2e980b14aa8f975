/* The compiled core of a check: reads a facts file by its layout, caches the standings of Users, answers RESP commands.
 *
 *   tree.c    the snapshot of one LMDB transaction as a B+tree in mapped memory: one key, or many interleaved
 *   users.c   a cache of each User's precomputed answers, and the decision
 *   resp.c    GATE.CHECK, GATE.VERDICT and GATE.MCHECK in a chunk of bytes, and their replies
 *
 * The rules are defined in gate/core/decide.py, the layout in gate/replica/layout.py; tests compare this code with both. For
 * the reasons of an own tree walk, the pinning of snapshots and all bounds see docs/decisions/0013-a-native-core.md.
 *
 * No code here allocates while it answers, except for a growing table; none calls Python. No object may be used by two threads
 * at once. Numbers in the file are little-endian where they are LMDB's, big-endian where they are Gate's.
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
    uint64_t mapped_bytes, file_bytes; /* the file's length when last measured: nothing past it is read */
    uint64_t device, inode;
    uint64_t transaction; /* of the current snapshot; 0: none */
    uint64_t root, last_page;
    gate_meta meta; /* as last read */
    uint32_t page_bytes;
    int descriptor;
    const char *problem; /* after GATE_DAMAGED: the problem, a constant */
} gate_tree;

/* Map the file. Returns 0; an errno value; or -1 if it is not an LMDB file that this code can read. */
int gate_tree_open(gate_tree *, const char *path);
void gate_tree_close(gate_tree *);

/* Select the snapshot of a transaction that the caller has begun in LMDB and keeps open while it reads.
 * GATE_FOUND; GATE_ABSENT if it is uncertain, or memory is lacking: begin another transaction; GATE_DAMAGED. */
int gate_tree_at(gate_tree *, uint64_t transaction);

/* Whether the current snapshot is the newest commit's. If so, a transaction begun just before reads it; and data read just
 * before, without a transaction, is correct: only the next commit but one writes to its pages. */
int gate_tree_is_newest(const gate_tree *);

/* Look up a key in the snapshot: GATE_FOUND, GATE_ABSENT or GATE_DAMAGED. The value is valid while the transaction is. */
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

/* Look up many keys, whose `key` and `key_size` are set, interleaved: while one waits for memory, another one works. */
void gate_tree_get_many(gate_tree *, gate_lookup *, unsigned count);

/* users.c */

/* The words of a Verdict, in the order of `Word` in gate/core/verdict.py: name here, word, and its length for the RESP reply. */
#define GATE_EACH_WORD(W) \
    W(GATE_ALLOWED, "allowed", 7) \
    W(GATE_SENDER_UNKNOWN, "sender-unknown", 14) \
    W(GATE_SENDER_DEACTIVATED, "sender-deactivated", 18) \
    W(GATE_SENDER_BANNED, "sender-banned", 13) \
    W(GATE_SENDER_MUTED, "sender-muted", 12) \
    W(GATE_RECIPIENT_UNKNOWN, "recipient-unknown", 17) \
    W(GATE_RECIPIENT_DEACTIVATED, "recipient-deactivated", 21) \
    W(GATE_NOT_WHITELISTED, "not-whitelisted", 15) \
    W(GATE_BLACKLISTED, "blacklisted", 11)

#define GATE_NAME_OF(name, word, size) name,
enum { GATE_EACH_WORD(GATE_NAME_OF) GATE_WORDS };
#undef GATE_NAME_OF

typedef struct gate_slot gate_slot;

typedef struct {
    gate_slot *slots; /* open addressing, at most half of them used */
    uint64_t mask, used;
    size_t stride;   /* bytes of a slot */
    uint64_t swept;  /* slots below it were cleared in this round, see `table_clear` */
    uint16_t epoch;  /* slots of another epoch are empty, so clearing all is one addition */
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
    uint8_t require_registered, list_policy_is_both, whitelists, has_exempt, is_shadow;
    unsigned words_answered; /* words below it are answered by gate_answer: all, or in shadow mode only GATE_ALLOWED */
    uint64_t counts[GATE_WORDS]; /* of the commands answered by gate_answer */
} gate_users;

/* Returns 0, or -1 without memory. `hash_key` is 16 random bytes. */
int gate_users_open(gate_users *, const uint8_t *hash_key, uint64_t most_cached);
void gate_users_close(gate_users *);

/* Set an App's settings for this file from the bytes of `pack_check_settings`, and clear the cache.
 * GATE_FOUND; GATE_ABSENT without memory; GATE_DAMAGED if the bytes do not have that form. */
int gate_users_adopt(gate_users *, gate_tree *, const uint8_t *settings, size_t size);
void gate_users_forget(gate_users *, const uint8_t *id, size_t size);
void gate_users_forget_all(gate_users *);

uint64_t gate_hash(const gate_users *, const uint8_t *id, size_t size);
void gate_prefetch(const gate_users *, size_t size, uint64_t hash);

/* A User's standing, from the cache or read into it, and the number of its lists; 0 if the file is damaged. In all of these,
 * ids are 1 to GATE_MAX_ID bytes, which the caller checks. */
uint8_t gate_standing(gate_users *, const uint8_t *id, size_t size, uint64_t hash, uint32_t *lists);

/* The word for a pair, given both standings; GATE_DAMAGED. `now_ms` 0: read the clock if the moment matters. */
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
    int word; /* GATE_DAMAGED: its facts can't be read */
} gate_pair;

#define GATE_BATCH 64 /* pairs decided at once */

/* The words of up to GATE_BATCH pairs, whose ids and hashes are set. */
void gate_judge_many(gate_users *, gate_pair *, unsigned count);

/* The same for one pair with nothing set. */
int gate_word(gate_users *, const uint8_t *sender, size_t sender_size, const uint8_t *recipient, size_t recipient_size,
              uint64_t now_ms);

/* All eight rules, and the moment at which the word may change by itself; GATE_FOREVER_MS: never. */
int gate_decide(gate_users *, const uint8_t *sender, size_t sender_size, const uint8_t *recipient, size_t recipient_size,
                uint64_t now_ms, uint64_t *until_ms);

/* resp.c */

#define GATE_MAX_PAIRS 256 /* recipients of one GATE.MCHECK that is answered here: 0.8 ms where none is cached */

/* Answer the checks at the beginning of a chunk, in order, up to one that is unknown, incomplete, meets damage, or is denied
 * while the App is in shadow mode (the caller counts it and answers `allowed`); or until
 * the monotonic clock shows `until_us` (0: no limit). Returns how many bytes were answered; `out`, which has room for
 * `size` bytes, gets `*written` bytes of replies. A reply is always shorter than its command. */
size_t gate_answer(gate_users *, const uint8_t *in, size_t size, uint64_t until_us, uint8_t *out, size_t *written);

#endif
