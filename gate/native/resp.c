/* Checks in a chunk of RESP, answered in order. Anything but the three commands, complete and with ids of a valid length, is
 * left to the caller: the parser in gate/wire/strict.py defines all other commands and refusals.
 */
#include "core.h"

#include <string.h>
#include <time.h>

static const char CHECK[] = "*3\r\n$10\r\nGATE.CHECK\r\n";
static const char VERDICT[] = "*3\r\n$12\r\nGATE.VERDICT\r\n";
static const char MCHECK[] = "\r\n$11\r\nGATE.MCHECK\r\n"; /* after the count */

#define SIZE_OF(literal) (sizeof(literal) - 1)
#define WORD(name, literal, length) [name] = {SIZE_OF(literal), "$" #length "\r\n" literal "\r\n"},
#define HAS_LENGTH(name, literal, length) _Static_assert(SIZE_OF(literal) == length, "another length than " literal);

GATE_EACH_WORD(HAS_LENGTH)

static const struct {
    size_t word_size;
    const char *reply;
} WORDS[GATE_WORDS] = {GATE_EACH_WORD(WORD)};

static uint64_t monotonic_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static inline int begins(const uint8_t *at, const uint8_t *end, const char *with, size_t size) {
    return (size_t)(end - at) >= size && memcmp(at, with, size) == 0;
}

/* Parse a complete bulk string of 1 to 64 bytes. Returns its end, or NULL. The length is canonical: no leading zero. */
static inline const uint8_t *id_at(const uint8_t *at, const uint8_t *end, const uint8_t **id, uint8_t *id_size) {
    if (end - at < 7 || at[0] != '$' || at[1] < '1' || at[1] > '9')
        return NULL;
    size_t size = at[1] - '0';
    at += 2;
    if (*at != '\r') {
        if (*at < '0' || *at > '9')
            return NULL;
        size = size * 10 + (*at++ - '0');
    }
    if (size > GATE_MAX_ID || (size_t)(end - at) < size + 4 || at[0] != '\r' || at[1] != '\n' || at[size + 2] != '\r' ||
        at[size + 3] != '\n')
        return NULL;
    *id = at + 2;
    *id_size = (uint8_t)size;
    return at + size + 4;
}

static inline void fetch(const gate_users *users, gate_side *side) {
    side->hash = gate_hash(users, side->id, side->size);
    gate_prefetch(users, side->size, side->hash);
}

static size_t reply(int word, int wants_word, uint8_t *out) {
    if (!wants_word) {
        memcpy(out, word == GATE_ALLOWED ? ":1\r\n" : ":0\r\n", 4);
        return 4;
    }
    size_t size = WORDS[word].word_size + (WORDS[word].word_size < 10 ? 6 : 7);
    memcpy(out, WORDS[word].reply, size);
    return size;
}

/* Answer GATE.CHECK and GATE.VERDICT, up to GATE_BATCH. Returns the beginning of the first unanswered command. */
static const uint8_t *answer_pairs(gate_users *users, const uint8_t *at, const uint8_t *end, uint8_t **out) {
    gate_pair pairs[GATE_BATCH];
    const uint8_t *starts[GATE_BATCH];
    uint8_t wants_word[GATE_BATCH];
    unsigned count = 0;
    while (count < GATE_BATCH) {
        gate_pair *one = &pairs[count];
        const uint8_t *next;
        if (begins(at, end, CHECK, SIZE_OF(CHECK)))
            next = at + SIZE_OF(CHECK), wants_word[count] = 0;
        else if (begins(at, end, VERDICT, SIZE_OF(VERDICT)))
            next = at + SIZE_OF(VERDICT), wants_word[count] = 1;
        else
            break;
        next = id_at(next, end, &one->sender.id, &one->sender.size);
        if (next == NULL || (next = id_at(next, end, &one->recipient.id, &one->recipient.size)) == NULL)
            break;
        fetch(users, &one->sender);
        fetch(users, &one->recipient);
        starts[count++] = at;
        at = next;
    }
    gate_judge_many(users, pairs, count);
    for (unsigned i = 0; i < count; i++) {
        int word = pairs[i].word;
        if ((unsigned)word >= users->words_answered) /* GATE_DAMAGED too: as unsigned it is the greatest */
            return starts[i];
        users->counts[word]++;
        *out += reply(word, wants_word[i], *out);
    }
    return at;
}

/* Answer one GATE.MCHECK. Returns its end, or NULL if it is not answered here. */
static const uint8_t *answer_many(gate_users *users, const uint8_t *at, const uint8_t *end, uint8_t **out) {
    gate_pair pairs[GATE_MAX_PAIRS];
    gate_side sender;
    unsigned parts = 0, digits = 0;
    if (end - at < 2 || *at++ != '*' || *at == '0')
        return NULL;
    for (; at < end && *at >= '0' && *at <= '9' && digits < 4; at++, digits++)
        parts = parts * 10 + (unsigned)(*at - '0');
    if (parts < 3 || parts > GATE_MAX_PAIRS + 2 || !begins(at, end, MCHECK, SIZE_OF(MCHECK)))
        return NULL;
    unsigned count = parts - 2;
    at = id_at(at + SIZE_OF(MCHECK), end, &sender.id, &sender.size);
    if (at == NULL)
        return NULL;
    fetch(users, &sender);
    for (unsigned i = 0; i < count && at != NULL; i++) {
        pairs[i].sender = sender;
        at = id_at(at, end, &pairs[i].recipient.id, &pairs[i].recipient.size);
        if (at != NULL)
            fetch(users, &pairs[i].recipient);
    }
    if (at == NULL)
        return NULL;
    if (gate_standing(users, sender.id, sender.size, sender.hash, &sender.lists) == 0) /* looks the sender up once */
        return NULL;
    for (unsigned start = 0; start < count; start += GATE_BATCH)
        gate_judge_many(users, pairs + start, count - start < GATE_BATCH ? count - start : GATE_BATCH);
    for (unsigned i = 0; i < count; i++)
        if ((unsigned)pairs[i].word >= users->words_answered)
            return NULL;
    uint8_t *to = *out, text[4];
    digits = 0;
    for (unsigned left = count; left > 0; left /= 10)
        text[digits++] = (uint8_t)('0' + left % 10);
    *to++ = '*';
    while (digits > 0)
        *to++ = text[--digits];
    *to++ = '\r';
    *to++ = '\n';
    for (unsigned i = 0; i < count; i++) {
        users->counts[pairs[i].word]++;
        to += reply(pairs[i].word, 0, to);
    }
    *out = to;
    return at;
}

size_t gate_answer(gate_users *users, const uint8_t *in, size_t size, uint64_t until_us, uint8_t *out, size_t *written) {
    const uint8_t *at = in, *end = in + size;
    uint8_t *to = out;
    while (at < end) {
        const uint8_t *next = answer_pairs(users, at, end, &to);
        if (next == at)
            next = answer_many(users, at, end, &to);
        if (next == NULL)
            break;
        at = next;
        if (until_us != 0 && monotonic_us() >= until_us)
            break;
    }
    *written = (size_t)(to - out);
    return (size_t)(at - in);
}
