/* Eight threads ask one handle while another process commits and puts other files in use. Built with a sanitizer by
 * test_libgate_moving.py, which gives it the data directory, the App's key, and for how many seconds to go on.
 *
 * In every commit of every file exactly one of the Users left and right has asker on its Blacklist: an answer that says both or
 * neither mixed two. Some threads end and others begin meanwhile.
 */
#include "../../gate/native/gate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS 8

static gate *handle;
static atomic_ulong asked, changed, wrong;
static time_t end;

static void *ask(void *seed) {
    const void *both[] = {"left", "right"};
    const size_t sizes[] = {4, 5};
    unsigned char may[2], last = 2;
    char name[32];
    const char *word;
    for (unsigned long n = (unsigned long)(size_t)seed; n % 500 != 499 && time(NULL) <= end; n++) {
        if (gate_may_send_many(handle, "asker", 5, both, sizes, 2, may) != 0 || may[0] + may[1] != 1) {
            fprintf(stderr, "%d %d %s\n", may[0], may[1], gate_error(handle));
            atomic_fetch_add(&wrong, 1);
        }
        atomic_fetch_add(&changed, last != 2 && last != may[0]);
        last = may[0];
        int size = snprintf(name, sizeof name, "user%lu", n % 3000);
        if (gate_may_send(handle, name, (size_t)size, "left", 4) != 1 ||
            gate_verdict(handle, "left", 4, name, (size_t)size, &word, NULL) != 1 || strcmp(word, "allowed") != 0 ||
            gate_may_send(handle, "", 0, "left", 4) != -1 || strstr(gate_error(handle), "1 to 64 bytes") == NULL ||
            gate_status(handle, NULL, NULL) != 0)
            atomic_fetch_add(&wrong, 1);
        atomic_fetch_add(&asked, 1);
    }
    return NULL;
}

int main(int count, char **words) {
    char error[200];
    pthread_t threads[THREADS];
    if (count != 4)
        return 2;
    handle = gate_open(words[1], words[2], error, sizeof error);
    if (handle == NULL) {
        fprintf(stderr, "%s\n", error);
        return 3;
    }
    puts("opened");
    fflush(stdout);
    end = time(NULL) + atol(words[3]);
    size_t started = 0;
    for (; started < THREADS; started++)
        pthread_create(&threads[started], NULL, ask, (void *)(started * 61));
    for (; time(NULL) <= end; started++) { /* each lives for some hundred questions */
        pthread_join(threads[started % THREADS], NULL);
        pthread_create(&threads[started % THREADS], NULL, ask, (void *)(started * 61 % 400));
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    gate_close(handle);
    printf("%lu %lu %lu %zu\n", atomic_load(&asked), atomic_load(&changed), atomic_load(&wrong), started);
    return 0;
}
