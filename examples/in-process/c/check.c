/* A message router in C that asks libgate.
 *
 *   cc -O2 -I build -o check examples/in-process/c/check.c -L build -lgate -Wl,-rpath,$PWD/build
 *   ./check DATA_DIRECTORY APP_KEY examples/in-process/cases.txt [USERS] [CHECKS]
 *
 * It compares each verdict of the case file. Then it asks about pairs of the Users 000000000000, 000000000001, ... up to
 * USERS: 1,000 pairs over and over ("hot"), and 200,000 ("uniform"). It prints the nanoseconds of a check, in the best round of
 * 1,000 or 10,000 checks: a short one, so that some round meets no other program on its processor.
 */
#include <gate.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    char from[16], to[16];
    size_t from_len, to_len;
} pair;

static uint64_t state = 88172645463325252u;

static unsigned long any(unsigned long below) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state % below;
}

static void fail(const char *why) {
    fprintf(stderr, "check: %s\n", why);
    exit(1);
}

/* Lines of a sender, a recipient and the word that must be answered. */
static void ask_cases(gate *g, const char *path) {
    char line[256], from[80], to[80], expected[80];
    const char *word;
    int64_t until_ms;
    int cases = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail("the case file can't be read");
    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] == '#' || sscanf(line, "%79s %79s %79s", from, to, expected) != 3)
            continue;
        int may = gate_verdict(g, from, strlen(from), to, strlen(to), &word, &until_ms);
        if (may < 0)
            fail(gate_error(g));
        if (strcmp(word, expected) != 0 || gate_may_send(g, from, strlen(from), to, strlen(to)) != may) {
            fprintf(stderr, "%s to %s: %s, expected %s\n", from, to, word, expected);
            exit(1);
        }
        cases++;
    }
    fclose(file);
    printf("cases %d\n", cases);
}

static void measure(gate *g, const char *name, unsigned long pairs_size, unsigned long round_size, unsigned long users,
                    unsigned long checks) {
    pair *pairs = calloc(pairs_size, sizeof *pairs);
    struct timespec start, end;
    unsigned long allowed = 0;
    double best_ns = 1e18;
    if (pairs == NULL)
        fail("no memory");
    for (unsigned long i = 0; i < pairs_size; i++) {
        pairs[i].from_len = (size_t)sprintf(pairs[i].from, "%012lu", any(users));
        pairs[i].to_len = (size_t)sprintf(pairs[i].to, "%012lu", any(users));
    }
    for (unsigned long next = 0; next < checks;) { /* the first ones fill the caches */
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (unsigned long i = 0; i < round_size; i++, next++) {
            const pair *one = &pairs[next % pairs_size];
            int may = gate_may_send(g, one->from, one->from_len, one->to, one->to_len);
            if (may < 0)
                fail(gate_error(g));
            allowed += (unsigned long)may;
        }
        clock_gettime(CLOCK_MONOTONIC, &end);
        double ns = (double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec);
        best_ns = ns < best_ns ? ns : best_ns;
    }
    printf("%s %.0f\n", name, best_ns / (double)round_size);
    fprintf(stderr, "%s: %lu of %lu allowed\n", name, allowed, checks);
    free(pairs);
}

int main(int count, char **words) {
    char error[256];
    int ready;
    int64_t stale_ms;
    if (count < 4)
        fail("usage: check DATA_DIRECTORY APP_KEY CASES [USERS] [CHECKS]");
    unsigned long users = count > 4 ? strtoul(words[4], NULL, 10) : 1000000;
    unsigned long checks = count > 5 ? strtoul(words[5], NULL, 10) : 2000000;
    gate *g = gate_open(words[1], words[2], error, sizeof error);
    if (g == NULL)
        fail(error);
    if (gate_status(g, &ready, &stale_ms) != 0)
        fail(gate_error(g));
    printf("stale_ms %" PRId64 "\n", stale_ms);
    ask_cases(g, words[3]);
    measure(g, "hot", 1000, 1000, users, checks);
    measure(g, "uniform", 200000, 10000, users, checks);
    gate_close(g);
    return 0;
}
