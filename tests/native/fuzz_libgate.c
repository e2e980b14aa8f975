/* Bends the facts file under libgate, before it is opened and while it is. Built with the sanitizers by test_libgate_moving.py,
 * which gives it a facts file, a directory to work in, the App's key, a seed, and for how many seconds to go on.
 *
 * Any answer will do; a crash, a leak, or bytes read outside of the file's pages end the program.
 */
#include "../../gate/native/gate.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

static uint64_t state;
static const char *const IDS[] = {"ana", "bob", "owner1", "owner77", "owner499", "exactly-twenty-bytes", "stranger", "",
                                  "one-byte-more-than-20", "sixty-five-bytes-are-one-more-than-an-id-may-have-sixty-five-bytes"};

static uint64_t any(uint64_t below) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state % below;
}

static void store(const char *path, const void *bytes, size_t size) {
    unlink(path);
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (descriptor < 0 || write(descriptor, bytes, size) != (ssize_t)size)
        exit(4);
    close(descriptor);
}

/* A byte, a word, a page, or the page of another one; meta pages and the newest ones are met most. */
static void bend(uint8_t *file, size_t size) {
    for (uint64_t times = 1 + any(8); times > 0; times--) {
        size_t pages = size / PAGE, number = any(3) == 0 ? any(2) : any(pages);
        uint8_t *page = file + number * PAGE;
        switch (any(5)) {
        case 0: page[any(PAGE)] = (uint8_t)any(256); break;
        case 1: page[any(160)] ^= (uint8_t)(1u << any(8)); break;
        case 2: memset(page + any(PAGE - 8), (int)any(256), 8); break;
        case 3: memset(page, (int)any(256), PAGE); break;
        default: memcpy(page, file + any(pages) * PAGE, any(2) ? PAGE : 16); break;
        }
    }
}

static unsigned ask(gate *g) {
    unsigned answered = 0;
    for (int i = 0; i < 30; i++) {
        char name[32];
        const char *from = IDS[any(sizeof IDS / sizeof *IDS)], *to = IDS[any(sizeof IDS / sizeof *IDS)], *word = NULL;
        int64_t until_ms = 0;
        if (any(2)) {
            sprintf(name, "owner%u", (unsigned)any(600));
            to = name;
        }
        const void *many[] = {from, to, "third"};
        size_t sizes[] = {strlen(from), strlen(to), 5};
        unsigned char may[3];
        int ready;
        int answer = gate_may_send(g, from, strlen(from), to, strlen(to));
        int verdict = gate_verdict(g, from, strlen(from), to, strlen(to), &word, &until_ms);
        assert(answer >= -1 && answer <= 1 && verdict >= -1 && verdict <= 1 && (verdict < 0) == (word == NULL));
        answer = gate_may_send_many(g, "ana", 3, many, sizes, 3, may);
        assert(answer == 0 || (answer == -1 && may[0] + may[1] + may[2] == 0));
        assert(answer == 0 || gate_error(g)[0] != 0);
        assert(gate_status(g, &ready, &until_ms) == 0);
        answered += answer == 0;
    }
    return answered;
}

int main(int count, char **words) {
    struct stat status;
    char path[4200], lock[4300], current[4200], name[64], error[200];
    unsigned long long rounds = 0, opened = 0, answered = 0;
    if (count != 6)
        return 2;
    state = strtoull(words[4], NULL, 10) * 2654435761u + 88172645463325252u;
    time_t end = time(NULL) + atol(words[5]);
    int descriptor = open(words[1], O_RDONLY);
    if (descriptor < 0 || fstat(descriptor, &status) != 0)
        return 3;
    size_t size = (size_t)status.st_size / PAGE * PAGE;
    uint8_t *sound = malloc(size), *bent = malloc(size);
    if (read(descriptor, sound, size) != (ssize_t)size)
        return 3;
    close(descriptor);
    snprintf(current, sizeof current, "%s/current", words[2]);
    for (; time(NULL) < end; rounds++) {
        snprintf(name, sizeof name, "facts-%llu.mdb", rounds + 1);
        snprintf(path, sizeof path, "%s/%s", words[2], name);
        snprintf(lock, sizeof lock, "%s-lock", path);
        memcpy(bent, sound, size);
        int is_bent_before = any(2) == 0;
        if (is_bent_before)
            bend(bent, size);
        store(path, bent, any(8) ? size : PAGE * any(size / PAGE));
        store(lock, "", 0);
        store(current, name, strlen(name));
        gate *g = gate_open(words[2], words[3], error, any(2) ? sizeof error : 10);
        if (g == NULL)
            assert(error[0] != 0);
        else {
            opened++;
            answered += ask(g);
            bend(bent, size);
            descriptor = open(path, O_WRONLY);
            if (fstat(descriptor, &status) != 0 || pwrite(descriptor, bent, (size_t)status.st_size, 0) != status.st_size)
                return 4;
            close(descriptor);
            answered += ask(g);
            gate_close(g);
        }
        unlink(path);
        unlink(lock);
    }
    free(sound);
    free(bent);
    printf("%llu %llu %llu\n", rounds, opened, answered);
    return 0;
}
