/* load: asks a server over TCP and compares every reply, byte by byte, with the one that is expected.

     load FILE PORT PIPELINE CONNECTIONS SECONDS RATE PID

   FILE (loadtests/bench/load.py writes it; little-endian): u32 commands, u32 bytes of the greeting, u32 bytes that end the
   reply to it; then for each command u32 bytes of the request and u32 bytes of the reply; then greeting, its end, requests,
   replies. PIPELINE commands are a batch. RATE 0 is a closed loop: each connection sends its next batch when the last one is
   answered. Another RATE is an open loop of so many batches a second: batch k is due at k / RATE whatever was answered before,
   and its latency counts from then, so that a pause delays all batches that were due in it (no coordinated omission).
   PID: the server, whose CPU time is counted with that of its descendants.
   Compiled with -DLOAD_TLS -lssl -lcrypto it speaks TLS, and trusts any certificate: it measures a server of its own machine.
   Prints one JSON object. Exit status 3: a reply was wrong; it and the expected one are on stderr. One thread; no dependency. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef LOAD_TLS
#include <openssl/ssl.h>
#endif

enum { BUFFER_BYTES = 1 << 18, MOST_SAMPLES = 1 << 22, EVENTS = 256 };
static const int64_t STUCK_S = 20, SECOND_NS = 1000000000;

typedef struct {
    int fd, number;
    bool is_blocked; /* waits for room to write */
    int64_t first, asked, written, answered, sent_ns; /* batches; `first` is where this connection starts in the file */
    size_t out, in; /* bytes of the batch being written, being read */
} Line;

static const char *requests, *replies;
static size_t *request_at, *reply_at; /* of each batch, and the end */
static int64_t batches, start_ns, samples, lates, answered_batches;
static double every_ns; /* 0: closed loop */
static int lines_count, poll_fd;
static uint32_t *took_ns, *late_ns;
static char buffer[BUFFER_BYTES];

static void fail(const char *what) {
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

#ifdef LOAD_TLS
enum { MOST_FILES = 65536 };
static SSL *tls_of[MOST_FILES]; /* of each descriptor */

static void encrypt(int fd) {
    static SSL_CTX *context;
    if (!context && !(context = SSL_CTX_new(TLS_client_method()))) fail("SSL_CTX_new");
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (fd >= MOST_FILES || !(tls_of[fd] = SSL_new(context)) || !SSL_set_fd(tls_of[fd], fd)) fail("SSL_new");
    if (SSL_connect(tls_of[fd]) != 1) fail("the TLS handshake");
}

/* As read and write: `done` is what OpenSSL returned. */
static ssize_t outcome(int fd, int done) {
    if (done > 0) return done;
    const int why = SSL_get_error(tls_of[fd], done);
    if (why == SSL_ERROR_ZERO_RETURN) return 0;
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
    return -1;
}

static ssize_t get(int fd, void *to, size_t size) { return outcome(fd, SSL_read(tls_of[fd], to, (int)size)); }
static ssize_t put(int fd, const void *from, size_t size) { return outcome(fd, SSL_write(tls_of[fd], from, (int)size)); }
#else
static void encrypt(int fd) { (void)fd; }
static ssize_t get(int fd, void *to, size_t size) { return read(fd, to, size); }
static ssize_t put(int fd, const void *from, size_t size) { return write(fd, from, size); }
#endif

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

/* CPU time of a process and its descendants, all threads, by the kernel's accounting. */
static double cpu_s(long pid) {
    clockid_t clock;
    struct timespec used = {0};
    if (pid <= 0 || clock_getcpuclockid((pid_t)pid, &clock) || clock_gettime(clock, &used)) return 0;
    double total = (double)used.tv_sec + (double)used.tv_nsec * 1e-9;
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", pid, pid);
    FILE *children = fopen(path, "r");
    long child;
    while (children && fscanf(children, "%ld", &child) == 1) total += cpu_s(child);
    if (children) fclose(children);
    return total;
}

static double machine_cpu_s(void) {
    long user = 0, nice = 0, kernel = 0, hard = 0, soft = 0;
    FILE *stat = fopen("/proc/stat", "r");
    if (!stat || fscanf(stat, "cpu %ld %ld %ld %*d %*d %ld %ld", &user, &nice, &kernel, &hard, &soft) != 5) fail("/proc/stat");
    fclose(stat);
    return (double)(user + nice + kernel + hard + soft) / (double)sysconf(_SC_CLK_TCK);
}

/* A connection on which `greeting` was sent, and answered with something that ends in `end`. */
static int connected(int port, const char *greeting, size_t size, const char *end, size_t end_size) {
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval stuck = {.tv_sec = STUCK_S};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &stuck, sizeof stuck);
    encrypt(fd);
    if (put(fd, greeting, size) != (ssize_t)size) fail("greeting");
    for (size_t got = 0; size && (got < end_size || memcmp(buffer + got - end_size, end, end_size));) {
        const ssize_t more = get(fd, buffer + got, sizeof buffer - got);
        if (more <= 0 || buffer[0] == '-') fail("the server refused the greeting");
        got += (size_t)more;
    }
    return fd;
}

static void await_room(Line *line, bool is_blocked) {
    struct epoll_event event = {.events = EPOLLIN | (is_blocked ? EPOLLOUT : 0), .data.ptr = line};
    if (line->is_blocked != is_blocked && epoll_ctl(poll_fd, EPOLL_CTL_MOD, line->fd, &event)) fail("epoll_ctl");
    line->is_blocked = is_blocked;
}

/* Writes the requests that are due, as far as there is room. */
static void flush_out(Line *line) {
    while (line->written < line->asked) {
        int64_t batch = (line->first + line->written) % batches;
        size_t left = request_at[batch + 1] - request_at[batch] - line->out;
        ssize_t done = put(line->fd, requests + request_at[batch] + line->out, left);
        if (done < 0 && errno == EAGAIN) { await_room(line, true); return; }
        if (done < 0) fail("write");
        line->out += (size_t)done;
        if ((size_t)done == left) { line->written++; line->out = 0; }
    }
    if (line->is_blocked) await_room(line, false);
}

static int64_t due_ns(const Line *line, int64_t nth) {
    return every_ns > 0 ? start_ns + (int64_t)((double)(line->number + nth * lines_count) * every_ns) : line->sent_ns;
}

/* Ends the program at the first byte that is not as expected, or if more came than was asked for. */
static void take(Line *line, const char *got, size_t size, int64_t came_ns) {
    while (size) {
        const int64_t batch = (line->first + line->answered) % batches;
        const size_t at = reply_at[batch] + line->in, left = reply_at[batch + 1] - at, some = size < left ? size : left;
        if (line->answered == line->asked || memcmp(got, replies + at, some)) {
            fprintf(stderr, "load: a wrong reply: %.*s\n  expected: %.*s\n", (int)size, got, (int)left, replies + at);
            exit(3);
        }
        got += some, size -= some, line->in += some;
        if (some < left) return;
        const int64_t took = came_ns - due_ns(line, line->answered);
        if (samples < MOST_SAMPLES) took_ns[samples++] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
        line->in = 0, line->answered++, answered_batches++;
    }
}

static size_t received(Line *line) {
    ssize_t size = get(line->fd, buffer, sizeof buffer);
    if (size == 0 || (size < 0 && errno != EAGAIN)) fail("the server closed the connection");
    return size < 0 ? 0 : (size_t)size;
}

static void ask_next(Line *line, int64_t at_ns) {
    line->asked++, line->sent_ns = at_ns;
    flush_out(line);
}

/* One connection, as a router's simplest client: blocking. */
static int64_t run_one(Line *line, int64_t stop_ns) {
    int64_t now = start_ns;
    for (ask_next(line, now); now < stop_ns;) {
        const size_t size = received(line);
        take(line, buffer, size, now = now_ns());
        if (!size) fail("no reply in time");
        if (line->answered == line->asked && now < stop_ns) ask_next(line, now);
    }
    return now;
}

static int64_t run_many(Line *lines, int64_t stop_ns) {
    struct epoll_event events[EVENTS];
    int64_t now = start_ns, heard_ns = start_ns, next = 0;
    for (int i = 0; i < lines_count && every_ns == 0; i++) ask_next(&lines[i], now);
    while (now < stop_ns || answered_batches < next) { /* `next` stays 0 in a closed loop, whose last batches do not count */
        int64_t wait_ns = 0;
        for (; every_ns > 0 && now < stop_ns; next++, now = now_ns()) {
            const int64_t due = due_ns(&lines[next % lines_count], next / lines_count);
            if ((wait_ns = due - now) > 0) break;
            if (lates < MOST_SAMPLES) late_ns[lates++] = (uint32_t)-wait_ns;
            ask_next(&lines[next % lines_count], due);
        }
        const struct timespec wait = {wait_ns > 0 ? 0 : 1, wait_ns > 0 ? wait_ns % SECOND_NS : 0};
        const int ready = epoll_pwait2(poll_fd, events, EVENTS, &wait, NULL);
        now = now_ns();
        if (ready > 0) heard_ns = now;
        if (now - heard_ns > STUCK_S * SECOND_NS) fail("no reply in time");
        for (int i = 0; i < ready; i++) {
            Line *line = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) flush_out(line);
            if (!(events[i].events & ~(uint32_t)EPOLLOUT)) continue;
            const size_t size = received(line);
            take(line, buffer, size, now = now_ns());
            if (every_ns == 0 && line->answered == line->asked) ask_next(line, now);
        }
    }
    return now;
}

static int by_size(const void *one, const void *other) {
    return *(const uint32_t *)one < *(const uint32_t *)other ? -1 : *(const uint32_t *)one > *(const uint32_t *)other;
}

static double percentile_us(const uint32_t *sorted, int64_t many, double share) {
    return many ? sorted[(int64_t)(share * (double)(many - 1))] / 1e3 : 0;
}

int main(int argc, char **argv) {
    if (argc != 8) fail("usage: load FILE PORT PIPELINE CONNECTIONS SECONDS RATE PID");
    const uint32_t pipeline = (uint32_t)atoi(argv[3]);
    const double rate = atof(argv[6]);
    const long pid = atol(argv[7]);
    lines_count = atoi(argv[4]), every_ns = rate > 0 ? 1e9 / rate : 0;
    struct stat status;
    int file = open(argv[1], O_RDONLY);
    const uint32_t *head = file < 0 || fstat(file, &status) ? MAP_FAILED
        : mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (head == MAP_FAILED) fail(argv[1]);
    const uint32_t commands = head[0], *sizes = head + 3;
    const char *greeting = (const char *)(sizes + 2 * (size_t)commands), *greeted = greeting + head[1];
    batches = pipeline ? commands / pipeline : 0;
    if (batches < 1 || lines_count < 1) fail("fewer commands than a batch has, or no connection");
    request_at = calloc((size_t)batches + 2, sizeof *request_at), reply_at = calloc((size_t)batches + 2, sizeof *reply_at);
    size_t asked = 0, expected = 0;
    for (uint32_t i = 0; i < commands; i++, sizes += 2) {
        if (i % pipeline == 0) request_at[i / pipeline] = asked, reply_at[i / pipeline] = expected;
        asked += sizes[0], expected += sizes[1];
    }
    if (commands % pipeline == 0) request_at[batches] = asked, reply_at[batches] = expected;
    requests = greeted + head[2], replies = requests + asked;
    took_ns = malloc(MOST_SAMPLES * sizeof *took_ns), late_ns = malloc(MOST_SAMPLES * sizeof *late_ns);
    prctl(PR_SET_TIMERSLACK, 1UL); /* else a wait ends up to 50 us late */
    if (rate > 0) sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){1}); /* where it may: not late for lack of a core */
    Line *lines = calloc((size_t)lines_count, sizeof *lines);
    if ((poll_fd = epoll_create1(0)) < 0) fail("epoll_create1");
    for (int i = 0; i < lines_count; i++) {
        const int fd = connected(atoi(argv[2]), greeting, head[1], greeted, head[2]);
        lines[i] = (Line){.fd = fd, .number = i, .first = i * batches / lines_count};
        if (lines_count > 1 || rate > 0) fcntl(fd, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &lines[i]};
        if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    }
    double server = cpu_s(pid), own = cpu_s(getpid()), machine = machine_cpu_s();
    start_ns = now_ns();
    const int64_t stop_ns = start_ns + (int64_t)(atof(argv[5]) * 1e9);
    const int64_t ended_ns = lines_count == 1 && rate <= 0 ? run_one(lines, stop_ns) : run_many(lines, stop_ns);
    server = cpu_s(pid) - server, own = cpu_s(getpid()) - own, machine = machine_cpu_s() - machine;
    qsort(took_ns, (size_t)samples, sizeof *took_ns, by_size), qsort(late_ns, (size_t)lates, sizeof *late_ns, by_size);
    const double done = (double)answered_batches * pipeline, took_s = (double)(ended_ns - start_ns) * 1e-9;
    printf("{\"commands\": %.0f, \"seconds\": %.6f, \"per_s\": %.1f, \"server_us\": %.4f, \"server\": %.4f, "
           "\"client\": %.4f, \"others\": %.4f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, \"p9999_us\": %.2f, "
           "\"max_us\": %.2f, \"late_p999_us\": %.2f}\n",
           done, took_s, done / took_s, done > 0 ? server / done * 1e6 : 0, server / took_s, own / took_s,
           (machine - server - own) / took_s, percentile_us(took_ns, samples, 0.5), percentile_us(took_ns, samples, 0.99),
           percentile_us(took_ns, samples, 0.999), percentile_us(took_ns, samples, 0.9999), percentile_us(took_ns, samples, 1),
           percentile_us(late_ns, lates, 0.999));
}
