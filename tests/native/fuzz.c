/* Bends bytes that the core reads: pages of a facts file, and RESP commands. Built with AddressSanitizer and
 * UndefinedBehaviorSanitizer by test_fuzzed.py, which gives it a facts file, a seed, and for how many seconds to go on.
 *
 * Every buffer is allocated at its exact size, so that one byte read or written outside of it ends the program.
 */
#include "../../gate/native/core.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint64_t state;

static uint64_t any(uint64_t below) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return below ? state % below : 0;
}

static const char *const IDS[] = {"ana", "bob", "carl", "u1", "u12", "u345", "u1999", "exactly-twenty-bytes",
                                  "one-byte-more-than-20", "x", "unknown-to-all-this-one-here-there-or-anywhere-at-all-64-bytes-l"};
static const char *const PARTS[] = {"*3\r\n$10\r\nGATE.CHECK\r\n", "*3\r\n$12\r\nGATE.VERDICT\r\n", "*4\r\n$11\r\nGATE.MCHECK\r\n",
                                    "*258\r\n$11\r\nGATE.MCHECK\r\n", "*3\r\n$11\r\nGATE.MCHECK\r\n", "$3\r\nana\r\n", "$0\r\n\r\n",
                                    "$65\r\n", "$", "*", "\r\n", "$64\r\n", "PING\r\n", "$03\r\nana\r\n", "*10002\r\n$11\r\nGATE.MCHECK\r\n",
                                    "*2\r\n$11\r\nGATE.MCHECK\r\n$3\r\nana\r\n",
                                    "*03\r\n$11\r\nGATE.MCHECK\r\n$3\r\nana\r\n$3\r\nbob\r\n",
                                    "*4294967299\r\n$11\r\nGATE.MCHECK\r\n$3\r\nana\r\n$3\r\nbob\r\n", /* 3, in 32 bits */
                                    "*3\r\n$10\r\nGATE.CHECK\r\n$1:\r\nexactly-twenty-bytes\r\n$3\r\nana\r\n"}; /* ':' is 10 */

#define LONG "long" /* the key of a value on pages of its own, behind all others */
#define IN_SHADOW 16 /* the greatest */
#define LIST_POLICY_IS_BOTH 2 /* of the flags in an App's settings */

static uint8_t *exactly(const uint8_t *from, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, from, size);
    return copy;
}

/* Pages as the walker of keys reads them, see tree.c. */

static uint16_t u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

static void put16(uint8_t *p, uint64_t v) {
    uint16_t low = (uint16_t)v;
    memcpy(p, &low, 2);
}

static uint64_t child(const uint8_t *node) { return u16(node) | (uint64_t)u16(node + 2) << 16 | (uint64_t)u16(node + 4) << 32; }

static void put_child(uint8_t *node, uint64_t number) {
    put16(node, number), put16(node + 2, number >> 16), put16(node + 4, number >> 32);
}

static int is_branch(const uint8_t *page) { return (u16(page + 10) & 0x6f) == 0x01; }
static int is_leaf(const uint8_t *page) { return (u16(page + 10) & 0x6f) == 0x02; }
static unsigned nodes_of(const uint8_t *page) { return (u16(page + 12) - 16u) / 2; }
static uint8_t *node_of(uint8_t *page, unsigned index) { return page + u16(page + 16 + 2 * index); }

/* Exchange two pages' places, so that another one is the last: behind it ends the buffer, and what leads out of it shows. */
static void exchange(uint8_t *file, size_t pages, uint32_t page_bytes, uint64_t one, uint64_t other) {
    uint8_t aside[32768], *a = file + one * page_bytes, *b = file + other * page_bytes;
    if (!(is_branch(a) || is_leaf(a)) || !(is_branch(b) || is_leaf(b)))
        return; /* the pages of a long value stay together */
    memcpy(aside, a, page_bytes), memcpy(a, b, page_bytes), memcpy(b, aside, page_bytes);
    memcpy(a, &one, 8), memcpy(b, &other, 8);
    for (size_t number = 0; number < pages; number++) {
        uint8_t *page = file + number * page_bytes, *root = page + 128;
        if (number < 2) {
            uint64_t now;
            memcpy(&now, root, 8);
            now = now == one ? other : now == other ? one : now;
            memcpy(root, &now, 8);
        }
        for (unsigned i = 0; is_branch(page) && i < nodes_of(page); i++) {
            uint64_t now = child(node_of(page, i));
            put_child(node_of(page, i), now == one ? other : now == other ? one : now);
        }
    }
}

/* A page of the tree at hand, from the root down at random; and the key of a node in a leaf below it. Nothing is bent yet. */
static uint8_t *page_on_the_way(gate_tree *tree, uint8_t *file, uint8_t *key, size_t *key_size) {
    uint8_t *page = file + tree->root * tree->page_bytes, *chosen = page;
    unsigned depth = 1;
    for (;; depth++) {
        if (any(depth) == 0)
            chosen = page;
        uint8_t *node = node_of(page, (unsigned)any(nodes_of(page)));
        if (!is_branch(page)) {
            *key_size = u16(node + 6);
            memcpy(key, node + 8, *key_size);
            return chosen;
        }
        page = file + child(node) * tree->page_bytes;
    }
}

/* As `gate_tree_get`, by either of the two walks. */
static int got(gate_tree *tree, const uint8_t *key, size_t key_size, const uint8_t **value, size_t *value_size) {
    if (any(2))
        return gate_tree_get(tree, key, key_size, value, value_size);
    gate_lookup lookups[2] = {{.key = key, .key_size = key_size}, {.key = key, .key_size = key_size}};
    gate_tree_get_many(tree, lookups, 2);
    assert(lookups[0].found == lookups[1].found);
    *value = lookups[1].value, *value_size = lookups[1].value_size;
    return lookups[1].found;
}

/* Each bound of the walk, broken in all nodes of one page on the way to a key: it must say that the file is damaged. */
static void plant(gate_tree *tree, uint8_t *file, size_t pages) {
    uint8_t key[512];
    const uint8_t *value;
    size_t key_size, value_size;
    uint32_t page_bytes = tree->page_bytes;
    uint8_t *page = page_on_the_way(tree, file, key, &key_size), whole[32768];
    unsigned count = nodes_of(page), branch = (unsigned)is_branch(page), what = (unsigned)any(branch ? 9 : 10);
    memcpy(whole, page, page_bytes);
    switch (what) {
    case 0: page[any(8)] ^= (uint8_t)(1 + any(255)); break; /* its own number */
    case 1: put16(page + 10, any(2) ? 0x08 : 0x04); break;  /* its kind */
    case 2: put16(page + 12, any(branch ? 18 : 16)); break; /* where its offsets end: before they begin */
    case 3: put16(page + 12, page_bytes + 1 + any(65535 - page_bytes)); break; /* ... behind its end */
    default:
        for (unsigned i = 0; i < count; i++) {
            uint8_t *node = node_of(page, i);
            uint32_t left = page_bytes - (uint32_t)(node - page) - 8;
            if (what < 6) /* the node behind the end of the page, if by a byte */
                put16(page + 16 + 2 * i, page_bytes - 7 + (any(2) ? any(7) : any(65536 - page_bytes + 6)));
            else if (what < 8) /* its key */
                put16(node + 6, left + 1 + any(2) * any(65535 - left));
            else if (branch)
                put_child(node, tree->last_page + 1 + any(2) * any(UINT64_C(1) << 40));
            else if (what == 8) { /* its value */
                uint64_t size = (u16(node + 4) ? UINT64_C(1) << 31 : left - u16(node + 6)) + 1 + any(2) * any(UINT64_C(1) << 31);
                put16(node, size), put16(node + 2, size >> 16);
            } else
                put16(node + 4, 2 + any(65534)); /* of a kind that is not known */
        }
    }
    int found = got(tree, key, key_size, &value, &value_size);
    if (found != GATE_DAMAGED)
        fprintf(stderr, "planted %u in a %s: %d\n", what, branch ? "branch" : "leaf", found), abort();
    memcpy(page, whole, page_bytes);
    found = got(tree, key, key_size, &value, &value_size);
    assert(found == GATE_FOUND && value >= file && value + value_size <= file + pages * page_bytes);
}

/* Each bound of a value that has pages of its own, broken in the one that the file has. */
static void plant_long(gate_tree *tree, uint8_t *file) {
    const uint8_t *value, *key = (const uint8_t *)LONG;
    uint8_t *page = file + tree->root * tree->page_bytes, *node = NULL, whole[32768], head[16];
    uint32_t page_bytes = tree->page_bytes;
    size_t size;
    while (is_branch(page)) /* its key is the last of all */
        page = file + child(node_of(page, nodes_of(page) - 1)) * page_bytes;
    unsigned last = nodes_of(page) - 1;
    node = node_of(page, last);
    int found = gate_tree_get(tree, key, sizeof LONG - 1, &value, &size);
    assert(found == GATE_FOUND && u16(node + 4) == 1 && size > page_bytes);
    uint8_t *first = (uint8_t *)value - 16;
    uint64_t number, pages = u16(first + 12);
    memcpy(&number, first, 8), memcpy(whole, page, page_bytes), memcpy(head, first, 16);
    switch (any(6)) {
    case 0: number = tree->last_page + 1 + any(2) * any(UINT64_C(1) << 60), memcpy(node + 8 + u16(node + 6), &number, 8); break;
    case 1: first[any(8)] ^= (uint8_t)(1 + any(255)); break;
    case 2: put16(first + 10, any(2) ? 0x02 : 0x08); break;
    case 3: put16(first + 12, tree->last_page - number + 2 + any(2) * any(60000)); break;
    case 4: size = pages * page_bytes - 16 + 1 + any(2) * any(1 << 24), put16(node, size), put16(node + 2, size >> 16); break;
    default: /* its number is cut by the end of the page */
        size = 8 + sizeof LONG - 1;
        memcpy(page + page_bytes - size - 7, whole + (node - page), size);
        put16(page + 16 + 2 * last, page_bytes - size - any(8));
        memmove(page + u16(page + 16 + 2 * last), page + page_bytes - size - 7, size);
    }
    found = got(tree, key, sizeof LONG - 1, &value, &size);
    assert(found == GATE_DAMAGED);
    memcpy(page, whole, page_bytes), memcpy(first, head, 16);
}

/* The User's record, or the end of a list entry, of a length that it can't have: no word is given, from the cache neither. */
static void plant_value(gate_tree *tree, gate_users *users, uint8_t *file) {
    uint8_t key[512], head_was[8];
    size_t key_size, size;
    const uint8_t *value;
    page_on_the_way(tree, file, key, &key_size);
    if ((key[0] != 'U' && key[0] != 'L') || gate_tree_get(tree, key, key_size, &value, &size) != GATE_FOUND)
        return;
    uint8_t *head = (uint8_t *)value - key_size - 8;
    uint8_t first_byte = size > 0 ? value[0] : 0;
    memcpy(head_was, head, 8);
    uint8_t settings[] = {0, 0, 0, 1, (uint8_t)((any(2) ? LIST_POLICY_IS_BOTH : 0) | (any(8) ? 0 : IN_SHADOW))};
    assert(gate_users_adopt(users, tree, settings, sizeof settings) == GATE_FOUND);
    if (key[0] == 'U') {
        uint32_t lists;
        uint64_t hash = gate_hash(users, key + 4, key_size - 4);
        if (any(4) == 0) { /* nothing at all, behind which the page may end */
            uint8_t *page = file + (uint64_t)(head - file) / tree->page_bytes * tree->page_bytes, whole[32768];
            unsigned index = 0;
            memcpy(whole, page, tree->page_bytes);
            while (node_of(page, index) != head)
                index++;
            memmove(head + size, head, key_size + 8);
            put16(head + size, 0);
            put16(page + 16 + 2 * index, u16(page + 16 + 2 * index) + size);
            assert(gate_standing(users, key + 4, key_size - 4, hash, &lists) == 0);
            memcpy(page, whole, tree->page_bytes);
            return;
        }
        if (any(3))
            put16(head, size > 1 && any(2) ? 1 + any(size - 1) : size + 1 + any(9));
        else
            head[8 + key_size] ^= (uint8_t)(8u << any(3)); /* says that it has a moment more or less */
        assert(gate_standing(users, key + 4, key_size - 4, hash, &lists) == 0);
    } else {
        static const char *const FIRST[] = {"ana", "bob", "carl", "x", "exactly-twenty-bytes"};
        unsigned number = (unsigned)key[3] << 8 | key[4];
        char owner[64];
        size_t owner_size = (size_t)(number <= 5 ? sprintf(owner, "%s", FIRST[number - 1]) : sprintf(owner, "u%u", number - 6));
        uint64_t until_ms;
        put16(head, any(2) ? 1 + any(7) : 9 + any(40));
        int is_looked_at = number != 2 && !(key_size == 9 && memcmp(key + 6, "bob", 3) == 0); /* he is banned, and has no lists */
        for (int i = 0; i < 2 && is_looked_at; i++) {
            int word = i ? gate_decide(users, key + 6, key_size - 6, (uint8_t *)owner, owner_size, 1, &until_ms)
                         : gate_word(users, key + 6, key_size - 6, (uint8_t *)owner, owner_size, 1);
            assert(word == GATE_DAMAGED);
        }
    }
    memcpy(head, head_was, 8);
    if (size > 0)
        head[8 + key_size] = first_byte;
}

/* What the meta page at hand says of the tree: no key is looked for. */
static void plant_meta(gate_tree *tree, uint8_t *file) {
    gate_tree bent = *tree;
    uint8_t *page = file + (tree->transaction & 1) * tree->page_bytes, whole[160];
    uint64_t root = tree->last_page + 1 + any(2) * any(UINT64_C(1) << 60);
    memcpy(whole, page, sizeof whole);
    switch (any(3)) {
    case 0: put16(page + 10, 0x02); break;
    case 1: put16(page + 92, 1 + any(65535)); break;
    default: memcpy(page + 128, &root, 8);
    }
    bent.meta.transaction = 0;
    int found = gate_tree_at(&bent, tree->transaction);
    assert(found == GATE_DAMAGED && bent.transaction == 0);
    memcpy(page, whole, sizeof whole);
}

static void ask_for_keys(gate_tree *tree, const uint8_t *known, size_t known_size) {
    uint8_t keys[GATE_MAX_LOOKUPS][80];
    gate_lookup lookups[GATE_MAX_LOOKUPS];
    unsigned count = (unsigned)any(GATE_MAX_LOOKUPS + 1);
    for (unsigned i = 0; i < count; i++) {
        uint8_t *key = keys[i];
        size_t size = any(sizeof keys[i]);
        for (size_t at = 0; at < size; at++)
            key[at] = (uint8_t)any(256);
        if (any(4)) { /* of a User, so that leaves are reached and values are found */
            memcpy(key, "U\0\0\1", 4);
            size = 4 + (size_t)sprintf((char *)key + 4, "u%u", (unsigned)any(220));
        } else if (any(2)) { /* one that was there, or as long as it and longer */
            memcpy(key, known, known_size);
            size = known_size + any(2) * any(sizeof keys[i] - known_size);
        }
        lookups[i].key = key;
        lookups[i].key_size = size;
    }
    gate_tree_get_many(tree, lookups, count);
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *value = NULL;
        size_t value_size = 0, total = 0;
        int found = gate_tree_get(tree, lookups[i].key, lookups[i].key_size, &value, &value_size);
        assert(lookups[i].found == found);
        if (found != GATE_FOUND)
            continue;
        assert(lookups[i].value == value && lookups[i].value_size == value_size);
        for (size_t at = 0; at < value_size; at++)
            total += value[at];
        assert(total < SIZE_MAX);
    }
}

/* A batch gives the words that its pairs have one by one. */
static void ask_for_pairs(gate_users *users) {
    gate_pair pairs[GATE_BATCH];
    char ids[GATE_BATCH][2][12];
    unsigned count = (unsigned)any(GATE_BATCH + 1);
    for (unsigned i = 0; i < count; i++)
        for (int of = 0; of < 2; of++) {
            gate_side *side = of ? &pairs[i].recipient : &pairs[i].sender;
            sprintf(ids[i][of], "u%u", (unsigned)any(220));
            side->id = (const uint8_t *)(any(3) ? ids[i][of] : IDS[any(sizeof IDS / sizeof *IDS)]);
            side->size = (uint8_t)(strlen((const char *)side->id) > GATE_MAX_ID ? GATE_MAX_ID : strlen((const char *)side->id));
            side->hash = gate_hash(users, side->id, side->size);
        }
    gate_judge_many(users, pairs, count);
    for (unsigned i = 0; i < count; i++) {
        const gate_side *sender = &pairs[i].sender, *recipient = &pairs[i].recipient;
        assert(pairs[i].word == gate_word(users, sender->id, sender->size, recipient->id, recipient->size, 0));
    }
}

static size_t id(char *to, int is_valid) {
    if (is_valid || any(2))
        return (size_t)sprintf(to, "u%u", (unsigned)any(5000));
    return (size_t)sprintf(to, "%s", IDS[any(sizeof IDS / sizeof *IDS)]);
}

static size_t command(uint8_t *to) {
    static const char *const NAMES[] = {"*3\r\n$10\r\nGATE.CHECK\r\n", "*3\r\n$12\r\nGATE.VERDICT\r\n"};
    char text[80];
    size_t size = 0;
    unsigned ids = 2;
    if (any(4) == 0) {
        ids = 1 + (any(8) ? 1 + (unsigned)any(6) : 250 + (unsigned)any(10));
        size += (size_t)sprintf((char *)to, "*%u\r\n$11\r\nGATE.MCHECK\r\n", ids + 1);
    } else
        size += (size_t)sprintf((char *)to, "%s", NAMES[any(2)]);
    int is_long = ids > 200;
    for (; ids > 0; ids--) {
        size_t length = id(text, is_long); /* one of those known is too long, and none of hundreds may be */
        size += (size_t)sprintf((char *)to + size, "$%zu\r\n%s\r\n", length, text);
    }
    return size;
}

/* "*N\r\n" or "$N\r\n" with no leading zero; where it ends, or NULL. The slow way: one byte after the other. */
static const uint8_t *counted(const uint8_t *at, const uint8_t *end, char kind, size_t *count) {
    if (at == end || *at++ != kind || at == end || *at < '1' || *at > '9')
        return NULL;
    for (*count = 0; at < end && *at >= '0' && *at <= '9' && *count < 100000; at++)
        *count = *count * 10 + (size_t)(*at - '0');
    return end - at >= 2 && at[0] == '\r' && at[1] == '\n' ? at + 2 : NULL;
}

/* The size of the command at the beginning, if it is one that the core answers; else 0. */
static size_t answerable(const uint8_t *in, size_t size) {
    const uint8_t *at = in, *end = in + size;
    size_t parts, length, many = 0;
    if ((at = counted(at, end, '*', &parts)) == NULL || parts < 3)
        return 0;
    for (size_t part = 0; part < parts; part++) {
        if ((at = counted(at, end, '$', &length)) == NULL || length > 64 || (size_t)(end - at) < length + 2 ||
            memcmp(at + length, "\r\n", 2) != 0)
            return 0;
        if (part == 0) {
            many = length == 11 && memcmp(at, "GATE.MCHECK", 11) == 0;
            if (!many && !(length == 10 && memcmp(at, "GATE.CHECK", 10) == 0) && !(length == 12 && memcmp(at, "GATE.VERDICT", 12) == 0))
                return 0;
            if (many ? parts > GATE_MAX_PAIRS + 2 : parts != 3)
                return 0;
        }
        at += length + 2;
    }
    return (size_t)(at - in);
}

/* Returns how many bytes were answered. */
static size_t ask_in_resp(gate_users *users, int file_is_whole) {
    static uint8_t stream[1 << 18];
    size_t size = 0, at = 0, answered = 0;
    int took_none = 0;
    for (uint64_t commands = any(any(8) ? 12 : 150); commands > 0 && size < sizeof stream / 2; commands--)
        size += command(stream + size);
    for (uint64_t bends = any(3) ? 0 : any(8); bends > 0 && size > 0; bends--) {
        uint64_t where = any(size);
        if (any(3) == 0)
            stream[where] = (uint8_t)any(256);
        else if (any(2)) { /* a digit of a length or a count, by what comes before and behind the digits too */
            while (where > 0 && stream[where] != '$' && stream[where] != '*')
                where--;
            where += 1 + any(2);
            if (where < size)
                stream[where] = (uint8_t)('/' + any(12));
        }
        else {
            const char *part = PARTS[any(sizeof PARTS / sizeof *PARTS)];
            size_t length = strlen(part), where = any(size);
            memmove(stream + where + length, stream + where, size - where);
            memcpy(stream + where, part, length);
            size += length;
        }
    }
    while (at < size) {
        size_t most = size - at < 16384 ? size - at : 16384, chunk = took_none ? most : 1 + any(most), written = 0;
        uint8_t *in = exactly(stream + at, chunk), *out = malloc(chunk);
        int is_whole = any(2) == 0; /* else it stops at the first look at the clock */
        size_t taken = gate_answer(users, in, chunk, (uint64_t)!is_whole, out, &written), expected = 0, one;
        while (expected < taken && (one = answerable(in + expected, chunk - expected)) != 0)
            expected += one;
        assert(taken == expected);
        if (is_whole && file_is_whole && !users->is_shadow) /* in shadow mode it stops at a denial too */
            assert(answerable(in + taken, chunk - taken) == 0);
        assert(taken <= chunk && written <= taken && (written == 0) == (taken == 0));
        free(in), free(out);
        answered += taken;
        at += taken ? taken : took_none ? 1 + any(chunk) : 0; /* all that is there comes again with what follows */
        took_none = !taken && !took_none;
    }
    return answered;
}

/* Settings of an App, of the right form and not. */
static void adopt(gate_users *users, gate_tree *tree) {
    static uint8_t settings[1 << 16];
    size_t size = 5;
    memcpy(settings, "\0\0\0\1", 4);
    settings[4] = (uint8_t)(any(any(8) ? 12 : 256) | (any(4) ? 0 : IN_SHADOW));
    for (uint64_t exempt = any(20) ? 0 : any(2000); exempt > 0; exempt--) {
        settings[size] = (uint8_t)(1 + any(any(9999) ? 8 : 80));
        memcpy(settings + size + 1, &exempt, sizeof exempt);
        size += 1 + settings[size];
    }
    if (any(8) == 0)
        settings[any(size)] = (uint8_t)any(256);
    if (any(8) == 0)
        size = any(size);
    int is_right = size >= 5 && settings[0] == 0 && settings[4] < 2 * IN_SHADOW && (settings[4] & 12) != 12; /* both switches */
    for (size_t at = 5; is_right && at < size; at += 1u + settings[at])
        is_right = settings[at] >= 1 && settings[at] <= 64 && settings[at] < size - at;
    uint8_t *exact = exactly(settings, size);
    int adopted = gate_users_adopt(users, tree, exact, size);
    assert(adopted == (is_right ? GATE_FOUND : GATE_DAMAGED));
    free(exact);
}

/* The last page is bent most: behind it ends the buffer, so what leads out of it shows. */
static void bend(uint8_t *file, size_t size, uint32_t page_bytes) {
    for (uint64_t times = 1 + any(12); times > 0; times--) {
        size_t pages = size / page_bytes;
        uint8_t *page = file + (any(2) ? pages - 1 : any(pages)) * page_bytes;
        switch (any(6)) {
        case 0: page[any(page_bytes)] = (uint8_t)any(256); break;
        case 1: page[8 + any(16)] = (uint8_t)any(256); break;                     /* head */
        case 2: page[16 + any(200)] ^= (uint8_t)(1u << any(8)); break; /* offsets of nodes */
        case 3: { /* a node's head, wherever it is */
            uint16_t offset;
            memcpy(&offset, page + 16 + 2 * any(60), 2);
            if (offset < page_bytes - 8)
                page[offset + any(8)] ^= (uint8_t)(1u << any(8));
            break;
        }
        case 4: memset(page, (int)any(256), page_bytes); break;
        default: memcpy(page, file + any(size / page_bytes) * page_bytes, any(2) ? page_bytes : 16); break;
        }
    }
}

/* What was cached an epoch number ago is not found when the number comes again; nor is it 65,536 times later. */
static void wrap(gate_tree *tree, gate_users *users) {
    static const uint64_t EPOCHS[] = {1, 65534, 65535, 65536};
    for (unsigned of = 0; of < sizeof EPOCHS / sizeof *EPOCHS; of++) {
        uint8_t settings[] = {0, 0, 0, 1, 0};
        assert(gate_users_adopt(users, tree, settings, sizeof settings) == GATE_FOUND);
        for (int again = 0; again < 2; again++) {
            for (unsigned i = 0; i < 100; i++) {
                uint32_t lists;
                char text[16];
                size_t length = (size_t)sprintf(text, "u%u", i);
                gate_standing(users, (uint8_t *)text, length, gate_hash(users, (uint8_t *)text, length), &lists);
            }
            assert(users->cached.short_ids.used > 20); /* a table that grows is emptied */
            for (uint64_t epoch = 0; epoch < EPOCHS[of]; epoch++)
                gate_users_forget_all(users);
            assert(users->cached.short_ids.used == 0);
        }
        for (unsigned i = 0; i < 30; i++) {
            uint32_t lists;
            char text[16];
            size_t length = (size_t)sprintf(text, "u%u", i);
            gate_standing(users, (uint8_t *)text, length, gate_hash(users, (uint8_t *)text, length), &lists);
            assert(users->cached.short_ids.used == i + 1);
        }
    }
}

int main(int count, char **words) {
    if (count != 4)
        return 2;
    state = strtoull(words[2], NULL, 10) * 2654435761u + 88172645463325252u;
    time_t end = time(NULL) + atol(words[3]);
    gate_tree mapped, tree;
    gate_users users;
    uint8_t key[16];
    if (gate_tree_open(&mapped, words[1]) != 0)
        return 3;
    size_t size = mapped.file_bytes / mapped.page_bytes * mapped.page_bytes;
    uint64_t first, second, rounds = 0, answered = 0, whole = 0;
    memcpy(&first, mapped.map + 144, 8);
    memcpy(&second, mapped.map + mapped.page_bytes + 144, 8);
    uint64_t newest = first > second ? first : second;
    int length = memfd_create("length", 0);
    for (; time(NULL) < end; rounds++) {
        alarm(20); /* a round takes a millisecond; a walk without an end must not be waited for */
        if (length < 0 || ftruncate(length, (off_t)size) != 0)
            return 5;
        uint8_t known[512];
        size_t known_size, pages = size / mapped.page_bytes;
        for (size_t at = 0; at < sizeof key; at++)
            key[at] = (uint8_t)any(256);
        if (gate_users_open(&users, key, 1 + any(600)) != 0)
            return 4;
        tree = mapped;
        tree.descriptor = length; /* only its length is asked for */
        tree.mapped_bytes = UINT64_MAX; /* so it is never mapped again */
        uint8_t *file = exactly(mapped.map, size);
        tree.map = file;
        exchange(file, pages, tree.page_bytes, 2 + any(pages - 2), pages - 1);
        assert(gate_tree_at(&tree, newest) == GATE_FOUND);
        for (int i = 0; i < 4; i++)
            plant(&tree, file, pages), plant_long(&tree, file), plant_meta(&tree, file), plant_value(&tree, &users, file);
        page_on_the_way(&tree, file, known, &known_size);
        int is_untouched = any(4) == 0;
        if (!is_untouched && any(4) == 0) { /* cut short */
            pages = 2 + any(pages - 1);
            uint8_t *rest = exactly(file, pages * tree.page_bytes);
            free(file);
            tree.map = file = rest;
            tree.file_bytes = pages * tree.page_bytes;
            if (ftruncate(length, (off_t)tree.file_bytes) != 0)
                return 5;
        }
        if (!is_untouched)
            bend(file, pages * tree.page_bytes, tree.page_bytes);
        tree.meta.transaction = 0; /* read it again */
        if (gate_tree_at(&tree, newest) == GATE_FOUND) {
            adopt(&users, &tree); /* what is wrong with them leaves those that it has read in force */
            ask_for_keys(&tree, known, known_size);
            ask_for_pairs(&users);
            for (int i = 0; i < 2; i++) {
                answered += ask_in_resp(&users, is_untouched);
                const char *id = IDS[any(sizeof IDS / sizeof *IDS)];
                gate_users_forget(&users, (const uint8_t *)id, strlen(id));
                if (any(6) == 0)
                    gate_users_forget_all(&users);
            }
            assert(users.cached.short_ids.used <= users.most_cached && users.cached.long_ids.used <= users.most_cached);
            whole++;
        }
        gate_users_close(&users);
        free(file);
    }
    for (size_t at = 0; at < sizeof key; at++)
        key[at] = (uint8_t)any(256);
    if (gate_tree_at(&mapped, newest) != GATE_FOUND || gate_users_open(&users, key, 1000) != 0)
        return 4;
    wrap(&mapped, &users);
    gate_users_close(&users);
    gate_tree_close(&mapped);
    printf("%llu %llu %llu\n", (unsigned long long)rounds, (unsigned long long)whole, (unsigned long long)answered);
    return 0;
}
