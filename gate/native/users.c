/* A cache of Users' precomputed answers, and the decision from them, as gate/core/decide.py defines it.
 *
 * A standing holds the answers about one User that do not depend on the time, in both roles: whether it is clear of rules 1 to 4
 * as a sender, and what rules 5 to 8 leave to look up for it as a recipient. It is valid while the User's record and the App's
 * settings are unchanged; the journal names Users to forget. Nothing about a pair is cached.
 */
#include "core.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* A standing. CLEAR: rules 1 to 4 never deny this sender. What is asked about a recipient, for a clear sender, is two bits. */
enum {
    KNOWN = 1,
    CLEAR = 2,
    EXEMPT = 4,
    ASKS = 24,
    ASKS_NOTHING = 0,
    ASKS_BLACKLIST = 8,
    ASKS_WHITELIST = 16,
    ASKS_EVERYTHING = 24
};

/* The flags of a User's packed facts, see gate/core/codec.py. */
enum {
    REGISTERED = 1,
    DEACTIVATED = 2,
    WHITELIST_ON = 4,
    HAS_BAN = 8,
    HAS_MUTE = 16,
    HAS_TOKENS = 32,
    HAS_BLACKLIST = 64,
    HAS_WHITELIST = 128
};

/* The flags of an App's settings, see `pack_check_settings` in gate/replica/layout.py. */
enum { REQUIRE_REGISTERED = 1, LIST_POLICY_IS_BOTH = 2, WHITELISTS_ON = 4, WHITELISTS_OFF = 8, IN_SHADOW = 16, ALL_SETTINGS = 31 };

struct gate_slot {
    uint32_t tag; /* the upper half of the id's hash */
    uint32_t lists;
    uint16_t epoch;
    uint8_t standing; /* 0: forgotten; the slot stays in use */
    uint8_t size;
    uint8_t id[];
};

#define SHORT_ID 20 /* fits a slot of 32 bytes, two to a cache line */
#define SHORT_STRIDE 32
#define LONG_STRIDE 80
#define FIRST_SLOTS 64 /* an App with few checks costs little */
#define GROWTH 4
#define LINE_BYTES 64
#define LARGE_BYTES ((size_t)1 << 21) /* a page that the kernel may provide in one piece: one TLB entry for 65,536 slots */

static inline uint64_t big_endian(const uint8_t *p, size_t size) {
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++)
        v = v << 8 | p[i];
    return v;
}

static uint64_t wall_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* SipHash-1-3, as CPython and Rust use it for the same purpose. */

static inline uint64_t rotated(uint64_t v, int by) { return v << by | v >> (64 - by); }

#define SIP_ROUND                                                                                                              \
    v0 += v1, v1 = rotated(v1, 13) ^ v0, v0 = rotated(v0, 32), v2 += v3, v3 = rotated(v3, 16) ^ v2, v0 += v3,                  \
        v3 = rotated(v3, 21) ^ v0, v2 += v1, v1 = rotated(v1, 17) ^ v2, v2 = rotated(v2, 32)

uint64_t gate_hash(const gate_users *users, const uint8_t *id, size_t size) {
    uint64_t k0 = users->hash_key[0], k1 = users->hash_key[1], last = (uint64_t)size << 56;
    uint64_t v0 = k0 ^ UINT64_C(0x736f6d6570736575), v1 = k1 ^ UINT64_C(0x646f72616e646f6d);
    uint64_t v2 = k0 ^ UINT64_C(0x6c7967656e657261), v3 = k1 ^ UINT64_C(0x7465646279746573);
    for (; size >= 8; id += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, id, 8);
        v3 ^= word;
        SIP_ROUND;
        v0 ^= word;
    }
    for (size_t i = 0; i < size; i++)
        last |= (uint64_t)id[i] << (8 * i);
    v3 ^= last;
    SIP_ROUND;
    v0 ^= last;
    v2 ^= 0xff;
    SIP_ROUND;
    SIP_ROUND;
    SIP_ROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

/* Tables of ids */

/* Faster than a call of memcmp for each id. */
static inline int same(const uint8_t *a, const uint8_t *b, size_t size) {
    uint64_t one, other;
    if (size < 8) {
        for (size_t i = 0; i < size; i++)
            if (a[i] != b[i])
                return 0;
        return 1;
    }
    for (size_t at = 0;; at += 8) {
        if (at > size - 8)
            at = size - 8; /* the last eight bytes; some of them were compared already */
        memcpy(&one, a + at, 8);
        memcpy(&other, b + at, 8);
        if (one != other)
            return 0;
        if (at == size - 8)
            return 1;
    }
}

static inline gate_slot *slot_at(const gate_table *table, uint64_t index) {
    return (gate_slot *)(void *)((uint8_t *)table->slots + index * table->stride);
}

/* Zeros, from the beginning of a line on, so that no short slot lies on two. A large table is zeroed page by page when it is
 * touched, never all at once. */
static void *slots_new(size_t bytes) {
    if (bytes < LARGE_BYTES) {
        void *small = aligned_alloc(LINE_BYTES, bytes); /* 64 slots and more are a multiple of a line */
        return small == NULL ? NULL : memset(small, 0, bytes);
    }
    void *large = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (large == MAP_FAILED)
        return NULL;
    madvise(large, bytes, MADV_HUGEPAGE); /* if it is refused, small pages suffice */
    return large;
}

static void slots_free(const gate_table *table) {
    size_t bytes = (table->mask + 1) * table->stride;
    if (table->slots == NULL || bytes < LARGE_BYTES)
        free(table->slots);
    else
        munmap(table->slots, bytes);
}

static int table_open(gate_table *table, size_t stride, uint64_t slots) {
    void *fresh = slots_new(slots * stride);
    if (fresh == NULL)
        return -1;
    slots_free(table);
    table->slots = fresh;
    table->mask = slots - 1;
    table->used = 0;
    table->stride = stride;
    table->epoch = 1;
    table->swept = 0;
    return 0;
}

/* A slot of an earlier epoch must not come to life when its number comes again, 65,535 epochs later. Before that each slot is
 * emptied once, a few at each turn: all at once would take 15 ms. */
static void table_clear(gate_table *table) {
    table->used = 0;
    if (++table->epoch == 0)
        table->epoch = 1;
    for (uint64_t left = (table->mask + 1) / (UINT16_MAX - 1) + 1; left > 0; left--) {
        slot_at(table, table->swept)->epoch = 0;
        table->swept = (table->swept + 1) & table->mask;
    }
}

/* The id's slot; else NULL, and `*empty` is where it would be. One slot in two is empty, so the search ends. */
static inline gate_slot *table_find(const gate_table *table, const uint8_t *id, size_t size, uint64_t hash, gate_slot **empty) {
    uint32_t tag = (uint32_t)(hash >> 32);
    for (uint64_t index = hash & table->mask;; index = (index + 1) & table->mask) {
        gate_slot *slot = slot_at(table, index);
        if (slot->epoch != table->epoch) {
            *empty = slot;
            return NULL;
        }
        if (slot->tag == tag && slot->size == size && same(slot->id, id, size))
            return slot;
    }
}

/* Make room for one more: a half-full table is replaced by an empty one of four times the size, up to `most` ids, and later
 * cleared. Copying the ids would take tens of milliseconds at once; they come back one by one. */
static int table_make_room(gate_table *table, uint64_t most) {
    if (table->used < most && table->used * 2 <= table->mask)
        return 0;
    uint64_t slots = (table->mask + 1) * GROWTH, enough = table->mask + 1;
    while (enough < 2 * most)
        enough *= 2;
    if (table->used >= most || table_open(table, table->stride, slots < enough ? slots : enough) != 0)
        table_clear(table);
    return 1;
}

static inline gate_table *table_for(gate_id_set *set, size_t size) {
    return size <= SHORT_ID ? &set->short_ids : &set->long_ids;
}

static void slot_fill(gate_table *table, gate_slot *slot, const uint8_t *id, size_t size, uint64_t hash) {
    slot->tag = (uint32_t)(hash >> 32);
    slot->epoch = table->epoch;
    slot->size = (uint8_t)size;
    memcpy(slot->id, id, size);
    table->used++;
}

static int set_open(gate_id_set *set) {
    return table_open(&set->short_ids, SHORT_STRIDE, FIRST_SLOTS) | table_open(&set->long_ids, LONG_STRIDE, FIRST_SLOTS);
}

static void set_clear(gate_id_set *set) {
    table_clear(&set->short_ids);
    table_clear(&set->long_ids);
}

static void set_close(gate_id_set *set) {
    slots_free(&set->short_ids);
    slots_free(&set->long_ids);
    memset(set, 0, sizeof *set);
}

int gate_users_open(gate_users *users, const uint8_t *hash_key, uint64_t most_cached) {
    memset(users, 0, sizeof *users);
    memcpy(users->hash_key, hash_key, sizeof users->hash_key);
    users->most_cached = most_cached > 0 ? most_cached : 1;
    if ((set_open(&users->cached) | set_open(&users->exempt)) == 0)
        return 0;
    gate_users_close(users);
    return -1;
}

void gate_users_close(gate_users *users) {
    set_close(&users->cached);
    set_close(&users->exempt);
}

static int exempt(gate_users *users, const uint8_t *id, size_t size) {
    gate_table *table = table_for(&users->exempt, size);
    uint64_t hash = gate_hash(users, id, size);
    gate_slot *empty;
    if (table_find(table, id, size, hash, &empty) != NULL)
        return 0;
    if (table->used * 2 > table->mask) { /* here no id may be lost: copy all */
        gate_table wider = {0};
        if (table_open(&wider, table->stride, (table->mask + 1) * GROWTH) != 0)
            return -1;
        for (uint64_t index = 0; index <= table->mask; index++) {
            const gate_slot *old = slot_at(table, index);
            uint64_t old_hash = gate_hash(users, old->id, old->size);
            if (old->epoch == table->epoch && table_find(&wider, old->id, old->size, old_hash, &empty) == NULL)
                slot_fill(&wider, empty, old->id, old->size, old_hash);
        }
        slots_free(table);
        *table = wider;
        table_find(table, id, size, hash, &empty);
    }
    slot_fill(table, empty, id, size, hash);
    users->has_exempt = 1;
    return 0;
}

/* The number of the App (4 bytes; keys contain three of them), a flag byte, and ids, each after its length in one byte. */
int gate_users_adopt(gate_users *users, gate_tree *tree, const uint8_t *settings, size_t size) {
    gate_users_forget_all(users);
    set_clear(&users->exempt);
    users->has_exempt = 0;
    users->tree = tree;
    uint8_t flags = size < 5 ? 0 : settings[4], whitelists = flags & (WHITELISTS_ON | WHITELISTS_OFF);
    if (size < 5 || settings[0] != 0 || (flags & ~ALL_SETTINGS) || whitelists == (WHITELISTS_ON | WHITELISTS_OFF)) {
        tree->problem = "an App's settings are not of this version of Gate";
        return GATE_DAMAGED;
    }
    memcpy(users->user_prefix, settings, sizeof users->user_prefix);
    users->user_prefix[0] = 'U';
    users->require_registered = (flags & REQUIRE_REGISTERED) != 0;
    users->list_policy_is_both = (flags & LIST_POLICY_IS_BOTH) != 0;
    users->whitelists = whitelists == 0                ? GATE_WHITELISTS_PER_USER
                        : whitelists == WHITELISTS_ON ? GATE_WHITELISTS_ON
                                                      : GATE_WHITELISTS_OFF;
    users->is_shadow = (flags & IN_SHADOW) != 0;
    users->words_answered = users->is_shadow ? GATE_ALLOWED + 1 : GATE_WORDS;
    for (size_t at = 5, length; at < size; at += 1 + length) {
        length = settings[at];
        if (length < 1 || length > GATE_MAX_ID || length > size - at - 1) {
            tree->problem = "an exempt sender is not 1 to 64 bytes";
            return GATE_DAMAGED;
        }
        if (exempt(users, settings + at + 1, length) != 0)
            return GATE_ABSENT;
    }
    return GATE_FOUND;
}

void gate_users_forget(gate_users *users, const uint8_t *id, size_t size) {
    gate_slot *empty, *slot;
    if (size < 1 || size > GATE_MAX_ID)
        return;
    slot = table_find(table_for(&users->cached, size), id, size, gate_hash(users, id, size), &empty);
    if (slot != NULL)
        slot->standing = 0;
}

void gate_users_forget_all(gate_users *users) { set_clear(&users->cached); }

void gate_prefetch(const gate_users *users, size_t size, uint64_t hash) {
    const gate_table *table = size <= SHORT_ID ? &users->cached.short_ids : &users->cached.long_ids;
    __builtin_prefetch(slot_at(table, hash & table->mask));
}

/* Facts */

typedef struct {
    uint8_t flags;
    uint32_t blacklist_size, lists;
    uint64_t banned_until_ms, muted_until_ms;
} facts;

#define USER_KEY (4 + GATE_MAX_ID)
#define ENTRY_KEY (6 + GATE_MAX_ID)

static size_t user_key(const gate_users *users, const uint8_t *id, size_t size, uint8_t *key) {
    memcpy(key, users->user_prefix, sizeof users->user_prefix);
    memcpy(key + sizeof users->user_prefix, id, size);
    return sizeof users->user_prefix + size;
}

/* The User's record: a flag byte, then the moments and sizes that are not zero, then the number of its lists if it has any. */
static int facts_in(gate_users *users, const uint8_t *record, size_t record_size, facts *of) {
    size_t at = 1;
    uint8_t flags = record_size > 0 ? record[0] : 0;
    int has_lists = (flags & (HAS_BLACKLIST | HAS_WHITELIST)) != 0;
    size_t expected = 1 + 8 * (size_t)__builtin_popcount(flags & (HAS_BAN | HAS_MUTE | HAS_TOKENS)) +
                      4 * (size_t)__builtin_popcount(flags & (HAS_BLACKLIST | HAS_WHITELIST)) + 4 * (size_t)has_lists;
    if (record_size != expected) {
        users->tree->problem = "a User's record is not as long as its flags say";
        return GATE_DAMAGED;
    }
    of->flags = flags;
    if (flags & HAS_BAN)
        of->banned_until_ms = big_endian(record + at, 8), at += 8;
    if (flags & HAS_MUTE)
        of->muted_until_ms = big_endian(record + at, 8), at += 8;
    if (flags & HAS_TOKENS)
        at += 8;
    if (flags & HAS_BLACKLIST)
        of->blacklist_size = (uint32_t)big_endian(record + at, 4), at += 4;
    if (flags & HAS_WHITELIST)
        at += 4;
    if (has_lists)
        of->lists = (uint32_t)big_endian(record + at, 4);
    return GATE_FOUND;
}

static int facts_of(gate_users *users, const uint8_t *id, size_t size, facts *of) {
    uint8_t key[USER_KEY];
    const uint8_t *record;
    size_t record_size;
    memset(of, 0, sizeof *of);
    int found = gate_tree_get(users->tree, key, user_key(users, id, size, key), &record, &record_size);
    return found == GATE_FOUND ? facts_in(users, record, record_size, of) : found;
}

static size_t entry_key(uint32_t lists, char kind, const uint8_t *member, size_t size, uint8_t *key) {
    key[0] = 'L';
    for (int i = 0; i < 4; i++)
        key[1 + i] = (uint8_t)(lists >> (24 - 8 * i));
    key[5] = (uint8_t)kind;
    memcpy(key + 6, member, size);
    return 6 + size;
}

static int until_in(gate_users *users, const uint8_t *value, size_t value_size, uint64_t *until_ms) {
    if (value_size != 0 && value_size != 8) {
        users->tree->problem = "the end of a list entry is not 8 bytes";
        return GATE_DAMAGED;
    }
    *until_ms = value_size == 0 ? GATE_FOREVER_MS : big_endian(value, 8);
    return 0;
}

/* When the entry of `kind` ends; 0 if no entry exists. GATE_DAMAGED or 0. */
static int entry_until(gate_users *users, uint32_t lists, char kind, const uint8_t *member, size_t size, uint64_t *until_ms) {
    uint8_t key[ENTRY_KEY];
    const uint8_t *value;
    size_t value_size;
    *until_ms = 0;
    int found = gate_tree_get(users->tree, key, entry_key(lists, kind, member, size, key), &value, &value_size);
    return found == GATE_FOUND ? until_in(users, value, value_size, until_ms) : found;
}

/* Decisions */

static inline int is_unknown(const gate_users *users, const facts *of) {
    return users->require_registered && !(of->flags & REGISTERED);
}

static inline int whitelist_is_on(const gate_users *users, const facts *recipient) {
    return users->whitelists == GATE_WHITELISTS_PER_USER ? (recipient->flags & WHITELIST_ON) != 0
                                                         : users->whitelists == GATE_WHITELISTS_ON;
}

static inline int is_exempt(gate_users *users, const uint8_t *id, size_t size, uint64_t hash) {
    gate_slot *empty;
    return users->has_exempt && table_find(table_for(&users->exempt, size), id, size, hash, &empty) != NULL;
}

/* `sender_is_clear` and `recipient_asks` of gate/core/decide.py. */
static uint8_t standing_of(const gate_users *users, const facts *of) {
    uint8_t standing = KNOWN;
    int unknown = is_unknown(users, of), deactivated = of->flags & DEACTIVATED;
    if (!(unknown || deactivated || of->banned_until_ms || of->muted_until_ms))
        standing |= CLEAR;
    if (unknown || deactivated)
        return standing | ASKS_EVERYTHING;
    if (whitelist_is_on(users, of))
        return standing | (!users->list_policy_is_both || !of->blacklist_size ? ASKS_WHITELIST : ASKS_EVERYTHING);
    return standing | (of->blacklist_size ? ASKS_BLACKLIST : ASKS_NOTHING);
}

/* Cache the standing of these facts; it has a slot already if it was forgotten, or is in a batch twice. */
static uint8_t standing_kept(gate_users *users, const facts *of, const uint8_t *id, size_t size, uint64_t hash) {
    gate_table *table = table_for(&users->cached, size);
    gate_slot *empty = NULL, *slot = table_find(table, id, size, hash, &empty);
    if (slot == NULL) {
        if (table_make_room(table, users->most_cached))
            table_find(table, id, size, hash, &empty);
        slot_fill(table, empty, id, size, hash);
        slot = empty;
    }
    slot->lists = of->lists;
    slot->standing = standing_of(users, of) | (is_exempt(users, id, size, hash) ? EXEMPT : 0);
    return slot->standing;
}

/* A User's cached standing, or 0. */
static inline uint8_t standing_known(const gate_users *users, const uint8_t *id, size_t size, uint64_t hash, uint32_t *lists) {
    const gate_table *table = size <= SHORT_ID ? &users->cached.short_ids : &users->cached.long_ids;
    gate_slot *empty, *slot = table_find(table, id, size, hash, &empty);
    if (slot == NULL)
        return 0;
    *lists = slot->lists;
    return slot->standing;
}

uint8_t gate_standing(gate_users *users, const uint8_t *id, size_t size, uint64_t hash, uint32_t *lists) {
    facts of;
    uint8_t known = standing_known(users, id, size, hash, lists);
    if (known != 0)
        return known;
    if (facts_of(users, id, size, &of) == GATE_DAMAGED)
        return 0;
    *lists = of.lists;
    return standing_kept(users, &of, id, size, hash);
}

/* What a clear sender's check comes to where at most one entry has to be looked at: a word; or ASKS_ENTRY, and of which list;
 * or ASKS_TABLE. No list binds an exempt sender; rules 5 and 6, which do, are among everything. */
enum { ASKS_ENTRY = -2, ASKS_TABLE = -3 };

static inline int word_ahead(uint8_t sender_standing, uint8_t recipient_standing, char *kind) {
    unsigned asks = recipient_standing & ASKS;
    if (!(sender_standing & CLEAR))
        return ASKS_TABLE;
    if (asks == ASKS_NOTHING || (asks != ASKS_EVERYTHING && sender_standing & EXEMPT))
        return GATE_ALLOWED;
    if (asks == ASKS_EVERYTHING)
        return ASKS_TABLE;
    *kind = asks == ASKS_WHITELIST ? 'W' : 'B';
    return ASKS_ENTRY;
}

static inline int word_by_entry(char kind, uint64_t until_ms, uint64_t now_ms) {
    int is_listed = until_ms == GATE_FOREVER_MS || (until_ms != 0 && until_ms > (now_ms ? now_ms : wall_ms()));
    if (kind == 'W')
        return is_listed ? GATE_ALLOWED : GATE_NOT_WHITELISTED;
    return is_listed ? GATE_BLACKLISTED : GATE_ALLOWED;
}

int gate_judge(gate_users *users, const uint8_t *sender, size_t sender_size, uint8_t sender_standing, const uint8_t *recipient,
               size_t recipient_size, uint8_t recipient_standing, uint32_t recipient_lists, uint64_t now_ms) {
    uint64_t until_ms;
    char kind = 0;
    int word = word_ahead(sender_standing, recipient_standing, &kind);
    if (word == ASKS_ENTRY)
        return entry_until(users, recipient_lists, kind, sender, sender_size, &until_ms) != 0
                   ? GATE_DAMAGED
                   : word_by_entry(kind, until_ms, now_ms);
    if (word == ASKS_TABLE)
        return gate_decide(users, sender, sender_size, recipient, recipient_size, now_ms ? now_ms : wall_ms(), &until_ms);
    return word;
}

/* Decide a batch. First the uncached Users are looked up interleaved, then the required list entries. */

static void standings_of(gate_users *users, gate_pair *pairs, unsigned count) {
    gate_lookup lookups[2 * GATE_BATCH];
    uint8_t keys[2 * GATE_BATCH][USER_KEY], whose[2 * GATE_BATCH];
    unsigned missing = 0;
    for (unsigned i = 0; i < 2 * count; i++) {
        gate_pair *one = &pairs[i / 2];
        gate_side *side = i & 1 ? &one->recipient : &one->sender;
        side->standing = standing_known(users, side->id, side->size, side->hash, &side->lists);
        if (side->standing == 0) {
            lookups[missing].key = keys[missing];
            lookups[missing].key_size = user_key(users, side->id, side->size, keys[missing]);
            whose[missing++] = (uint8_t)i;
        }
    }
    if (missing == 0)
        return;
    gate_tree_get_many(users->tree, lookups, missing);
    for (unsigned i = 0; i < missing; i++) {
        gate_pair *one = &pairs[whose[i] / 2];
        gate_side *side = whose[i] & 1 ? &one->recipient : &one->sender;
        facts of = {0};
        if (lookups[i].found == GATE_DAMAGED ||
            (lookups[i].found == GATE_FOUND && facts_in(users, lookups[i].value, lookups[i].value_size, &of) == GATE_DAMAGED))
            continue;
        side->lists = of.lists;
        side->standing = standing_kept(users, &of, side->id, side->size, side->hash);
    }
}

void gate_judge_many(gate_users *users, gate_pair *pairs, unsigned count) {
    gate_lookup lookups[GATE_BATCH];
    uint8_t keys[GATE_BATCH][ENTRY_KEY], whose[GATE_BATCH];
    char kinds[GATE_BATCH];
    unsigned asked = 0;
    uint64_t until_ms;
    standings_of(users, pairs, count);
    for (unsigned i = 0; i < count; i++) {
        gate_pair *one = &pairs[i];
        const gate_side *sender = &one->sender, *recipient = &one->recipient;
        if (sender->standing == 0 || recipient->standing == 0) {
            one->word = GATE_DAMAGED;
            continue;
        }
        one->word = word_ahead(sender->standing, recipient->standing, &kinds[asked]);
        if (one->word == ASKS_ENTRY) {
            lookups[asked].key = keys[asked];
            lookups[asked].key_size = entry_key(recipient->lists, kinds[asked], sender->id, sender->size, keys[asked]);
            whose[asked++] = (uint8_t)i;
        } else if (one->word == ASKS_TABLE)
            one->word = gate_decide(users, sender->id, sender->size, recipient->id, recipient->size, wall_ms(), &until_ms);
    }
    gate_tree_get_many(users->tree, lookups, asked);
    for (unsigned i = 0; i < asked; i++) {
        const gate_lookup *found = &lookups[i];
        until_ms = 0;
        int damage = found->found == GATE_FOUND ? until_in(users, found->value, found->value_size, &until_ms) : found->found;
        pairs[whose[i]].word = damage ? GATE_DAMAGED : word_by_entry(kinds[i], until_ms, 0);
    }
}

int gate_word(gate_users *users, const uint8_t *sender, size_t sender_size, const uint8_t *recipient, size_t recipient_size,
              uint64_t now_ms) {
    gate_pair one = {
        .sender = {.id = sender, .size = (uint8_t)sender_size, .hash = gate_hash(users, sender, sender_size)},
        .recipient = {.id = recipient, .size = (uint8_t)recipient_size, .hash = gate_hash(users, recipient, recipient_size)},
    };
    gate_prefetch(users, sender_size, one.sender.hash);
    gate_prefetch(users, recipient_size, one.recipient.hash);
    standings_of(users, &one, 1); /* both at once: two interleaved look-ups take little longer than one */
    if (one.sender.standing == 0 || one.recipient.standing == 0)
        return GATE_DAMAGED;
    return gate_judge(users, sender, sender_size, one.sender.standing, recipient, recipient_size, one.recipient.standing,
                      one.recipient.lists, now_ms);
}

/* The table of gate/core/decide.py, rule by rule. An evaluated rule may advance the moment at which the word changes. */
int gate_decide(gate_users *users, const uint8_t *sender, size_t sender_size, const uint8_t *recipient, size_t recipient_size,
                uint64_t now_ms, uint64_t *until_ms) {
    facts s, r;
    uint64_t entry_ms;
    *until_ms = GATE_FOREVER_MS;
    if (facts_of(users, sender, sender_size, &s) == GATE_DAMAGED)
        return GATE_DAMAGED;
    int exempt = is_exempt(users, sender, sender_size, gate_hash(users, sender, sender_size));
#define SOONER(moment_ms) (*until_ms = (moment_ms) < *until_ms ? (moment_ms) : *until_ms)
    if (is_unknown(users, &s))
        return GATE_SENDER_UNKNOWN;
    if (s.flags & DEACTIVATED)
        return GATE_SENDER_DEACTIVATED;
    if (s.banned_until_ms > now_ms) {
        SOONER(s.banned_until_ms);
        return GATE_SENDER_BANNED;
    }
    if (!exempt && s.muted_until_ms > now_ms) {
        SOONER(s.muted_until_ms);
        return GATE_SENDER_MUTED;
    }
    if (facts_of(users, recipient, recipient_size, &r) == GATE_DAMAGED)
        return GATE_DAMAGED;
    if (is_unknown(users, &r))
        return GATE_RECIPIENT_UNKNOWN;
    if (r.flags & DEACTIVATED)
        return GATE_RECIPIENT_DEACTIVATED;
    if (exempt)
        return GATE_ALLOWED;
    int is_white = whitelist_is_on(users, &r);
    if (is_white) {
        if (entry_until(users, r.lists, 'W', sender, sender_size, &entry_ms) != 0)
            return GATE_DAMAGED;
        if (entry_ms <= now_ms)
            return GATE_NOT_WHITELISTED;
        SOONER(entry_ms);
    }
    if (users->list_policy_is_both || !is_white) {
        if (entry_until(users, r.lists, 'B', sender, sender_size, &entry_ms) != 0)
            return GATE_DAMAGED;
        if (entry_ms > now_ms) {
            SOONER(entry_ms);
            return GATE_BLACKLISTED;
        }
    }
#undef SOONER
    return GATE_ALLOWED;
}
