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
#include <sys/stat.h>
#include <time.h>

static uint64_t state;

static uint64_t any(uint64_t below) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return below ? state % below : 0;
}

static const char *const IDS[] = {"ana", "bob", "carl", "u1", "u12", "u345", "u1999", "exactly-twenty-bytes",
                                  "one-byte-more-than-20", "x", "nobody-knows-this-one-here-or-there-or-anywhere-at-all-64-bytes-l"};
static const char *const PARTS[] = {"*3\r\n$10\r\nGATE.CHECK\r\n", "*3\r\n$12\r\nGATE.VERDICT\r\n", "*4\r\n$11\r\nGATE.MCHECK\r\n",
                                    "*258\r\n$11\r\nGATE.MCHECK\r\n", "*3\r\n$11\r\nGATE.MCHECK\r\n", "$3\r\nana\r\n", "$0\r\n\r\n",
                                    "$65\r\n", "$", "*", "\r\n", "$64\r\n", "PING\r\n", "$03\r\nana\r\n", "*10002\r\n$11\r\nGATE.MCHECK\r\n"};

static uint8_t *exactly(const uint8_t *from, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, from, size);
    return copy;
}

static void ask_for_keys(gate_tree *tree) {
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

static size_t command(uint8_t *to) {
    static const char *const NAMES[] = {"*3\r\n$10\r\nGATE.CHECK\r\n", "*3\r\n$12\r\nGATE.VERDICT\r\n"};
    size_t size = 0;
    if (any(4) == 0) {
        unsigned count = 1 + (unsigned)any(any(20) ? 6 : 260);
        size += (size_t)sprintf((char *)to + size, "*%u\r\n$11\r\nGATE.MCHECK\r\n", count + 2);
        for (unsigned i = 0; i <= count; i++) {
            const char *id = IDS[any(sizeof IDS / sizeof *IDS)];
            size += (size_t)sprintf((char *)to + size, "$%zu\r\n%s\r\n", strlen(id), id);
        }
        return size;
    }
    size += (size_t)sprintf((char *)to, "%s", NAMES[any(2)]);
    for (int i = 0; i < 2; i++) {
        const char *id = IDS[any(sizeof IDS / sizeof *IDS)];
        size += (size_t)sprintf((char *)to + size, "$%zu\r\n%s\r\n", strlen(id), id);
    }
    return size;
}

/* Returns how many bytes were answered. */
static size_t ask_in_resp(gate_users *users) {
    static uint8_t stream[1 << 18];
    size_t size = 0, at = 0, answered = 0;
    for (uint64_t commands = any(12); commands > 0; commands--)
        size += command(stream + size);
    for (uint64_t bends = any(3) ? 0 : any(8); bends > 0 && size > 0; bends--) {
        if (any(2))
            stream[any(size)] = (uint8_t)any(256);
        else {
            const char *part = PARTS[any(sizeof PARTS / sizeof *PARTS)];
            size_t length = strlen(part), where = any(size);
            memmove(stream + where + length, stream + where, size - where);
            memcpy(stream + where, part, length);
            size += length;
        }
    }
    while (at < size) {
        size_t chunk = 1 + any(size - at < 16384 ? size - at : 16384), written = 0;
        uint8_t *in = exactly(stream + at, chunk), *out = malloc(chunk);
        size_t taken = gate_answer(users, in, chunk, any(2), out, &written);
        assert(taken <= chunk && written <= taken && (written == 0) == (taken == 0));
        free(in), free(out);
        answered += taken;
        at += taken ? taken : chunk;
    }
    return answered;
}

/* Settings of an App, of the right form and not. */
static void adopt(gate_users *users, gate_tree *tree) {
    static uint8_t settings[1 << 16];
    size_t size = 5;
    memcpy(settings, "\0\0\0\1", 4);
    settings[4] = (uint8_t)any(any(8) ? 12 : 256);
    for (uint64_t exempt = any(20) ? 0 : any(2000); exempt > 0; exempt--) {
        settings[size] = (uint8_t)(1 + any(any(9999) ? 8 : 80));
        memcpy(settings + size + 1, &exempt, sizeof exempt);
        size += 1 + settings[size];
    }
    if (any(8) == 0)
        settings[any(size)] = (uint8_t)any(256);
    if (any(8) == 0)
        size = any(size);
    uint8_t *exact = exactly(settings, size);
    if (gate_users_adopt(users, tree, exact, size) == GATE_ABSENT)
        exit(4);
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
    for (; time(NULL) < end; rounds++) {
        for (size_t at = 0; at < sizeof key; at++)
            key[at] = (uint8_t)any(256);
        if (gate_users_open(&users, key, 1 + any(600)) != 0)
            return 4;
        tree = mapped;
        tree.descriptor = -1; /* it can't be mapped again: what there is is all */
        size_t cut = any(3) ? 2 + any(size / tree.page_bytes - 1) : size / tree.page_bytes;
        uint8_t *file = exactly(mapped.map, cut * tree.page_bytes);
        if (any(8) != 0)
            bend(file, cut * tree.page_bytes, tree.page_bytes);
        tree.map = file;
        tree.file_bytes = cut * tree.page_bytes;
        if (gate_tree_at(&tree, newest) == GATE_FOUND) {
            adopt(&users, &tree);
            ask_for_keys(&tree);
            ask_for_pairs(&users);
            for (int i = 0; i < 2; i++) {
                answered += ask_in_resp(&users);
                const char *id = IDS[any(sizeof IDS / sizeof *IDS)];
                gate_users_forget(&users, (const uint8_t *)id, strlen(id));
                if (any(6) == 0)
                    gate_users_forget_all(&users);
            }
            whole++;
        }
        gate_users_close(&users);
        free(file);
    }
    gate_tree_close(&mapped);
    printf("%llu %llu %llu\n", (unsigned long long)rounds, (unsigned long long)whole, (unsigned long long)answered);
    return 0;
}
