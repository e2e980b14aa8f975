# Included by `_core.pyx`: the sockets of a worker's connections, polled, read and written without the event loop's transports.

from libc.errno cimport errno
from libc.stdlib cimport free, malloc

cdef extern from * nogil:
    """
    #include <errno.h>
    #include <sys/socket.h>
    #include <time.h>
    #include <unistd.h>
    #if defined(__linux__)
    #include <sys/epoll.h>
    #else /* none of it is used: a poll can't be opened */
    enum { EPOLLIN = 1, EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2, EPOLL_CLOEXEC = 0 };
    struct epoll_event { uint32_t events; union { void *ptr; } data; };
    static int epoll_create1(int flags) { (void)flags; errno = ENOSYS; return -1; }
    static int epoll_ctl(int a, int b, int c, struct epoll_event *d) { (void)a; (void)b; (void)c; (void)d; return -1; }
    static int epoll_wait(int a, struct epoll_event *b, int c, int d) { (void)a; (void)b; (void)c; (void)d; return 0; }
    #endif
    static uint64_t gate_now_us(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    }
    static int gate_polled(int poll, int how, int descriptor, void *whose) {
        struct epoll_event wanted = {.events = EPOLLIN, .data = {.ptr = whose}};
        return epoll_ctl(poll, how, descriptor, &wanted);
    }
    /* Bytes; 0 at the end of what the peer sends; -1 for nothing now; -2 for a broken connection. */
    static ssize_t gate_received(int descriptor, uint8_t *room, size_t size) {
        ssize_t got;
        do
            got = recv(descriptor, room, size, MSG_DONTWAIT);
        while (got < 0 && errno == EINTR);
        return got >= 0 ? got : errno == EAGAIN || errno == EWOULDBLOCK ? -1 : -2;
    }
    /* How many bytes the kernel took. What is wrong with a socket is for the transport to find, with the bytes that are left. */
    static size_t gate_sent(int descriptor, const uint8_t *from, size_t size) {
        ssize_t sent;
        do
            sent = send(descriptor, from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        return sent < 0 ? 0 : (size_t)sent;
    }
    """
    enum: EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CLOEXEC
    ctypedef union epoll_data:
        void* ptr
    struct epoll_event:
        epoll_data data
    int epoll_create1(int)
    int epoll_wait(int, epoll_event*, int, int)
    int c_close "close"(int)
    uint64_t gate_now_us()
    int gate_polled(int, int, int, void*)
    Py_ssize_t gate_received(int, uint8_t*, size_t)
    size_t gate_sent(int, const uint8_t*, size_t)

DEF MOST_READY = 32    # sockets read per pass
DEF MOST_GUESSES = 8   # reads of the only ready socket, instead of another poll
DEF LEAST_USED_US = 100
DEF AGAIN_FROM = 4     # when so many were ready, more are by now: poll again before the loop does
DEF ARENA = 4 * ROOM   # bytes per pass: it bounds the pass; a socket without room is first in the next one
DEF TIMED_EVERY = 8    # passes; two readings of the clock are a hundredth of what a lone check takes
DEF MOST_BOUNDS = 24
DEF ENDED = 0
DEF NOTHING = -1
DEF BROKEN = -2
DEF SSL_WANTS_READ = 2   # OpenSSL's numbers
DEF SSL_WANTS_WRITE = 3


cdef struct Chunk:
    Py_ssize_t start, size, taken  # in the arena; ENDED, NOTHING or BROKEN; of it, what was answered


cdef class Socket:
    """The socket of one connection, which the loop's transport does not read meanwhile. Belongs to a `Sockets`.

    `leave` it before the transport is closed: the number of a closed descriptor is soon another connection's.
    """

    cdef Sockets owner
    cdef int descriptor
    cdef bint is_polled, is_passed_over
    cdef uint64_t used_us
    cdef Checks checks
    cdef uint64_t settings
    cdef object sync, on_bytes, on_end, on_unsent, on_used
    cdef object receive, transmit  # of an encrypted socket, else None

    def arm(self, Checks checks not None, sync):
        """Answer checks that come next by these settings, without asking, until something else comes. `sync()` looks at the
        settings again, inside a bracket, where something moved.
        """
        self.checks, self.sync = checks, sync
        self.settings = checks.settings

    def disarm(self):
        """Hand over all following bytes."""
        self.checks = None

    def resume(self):
        """Read. `OSError` if there is no memory for it."""
        if not self.is_polled and self.descriptor >= 0:
            if gate_polled(self.owner.poll, EPOLL_CTL_ADD, self.descriptor, <void*>self) != 0:
                raise OSError(errno, "can't be polled")
            self.is_polled = True

    def pause(self):
        """Stop reading; incoming bytes stay in the kernel, which slows the peer down."""
        self.checks = None
        if self.is_polled:
            self.is_polled = False
            gate_polled(self.owner.poll, EPOLL_CTL_DEL, self.descriptor, NULL)

    def leave(self):
        """Release the socket. Harmless if repeated."""
        self.pause()
        if self.descriptor >= 0:
            self.descriptor = -1
            self.owner.members.discard(self)

    cdef Py_ssize_t received(self, uint8_t* room, Py_ssize_t size) except? -3:
        """As `gate_received`."""
        if self.receive is None:
            return gate_received(self.descriptor, room, size)
        try:
            return self.receive(size, PyMemoryView_FromMemory(<char*>room, size, PyBUF_WRITE))
        except OSError as fault:
            return NOTHING if fault.errno in (SSL_WANTS_READ, SSL_WANTS_WRITE) else BROKEN

    cdef Py_ssize_t transmitted(self, bytes replies) except -1:
        try:
            return self.transmit(replies)
        except OSError:
            return 0  # the transport writes the rest, and finds what is wrong

    def send(self, bytes replies):
        """Return how many bytes the kernel accepted at once."""
        cdef char* start
        cdef Py_ssize_t size
        if self.descriptor < 0:
            return 0
        if self.transmit is not None:
            return self.transmitted(replies)
        PyBytes_AsStringAndSize(replies, &start, &size)
        return <Py_ssize_t>gate_sent(self.descriptor, <const uint8_t*>start, size)


cdef class Sockets:
    """All sockets of one worker, under one descriptor that is readable when one of them is.

    A pass reads what is ready, then begins one transaction, answers the checks among it and sends the replies, ends the
    transaction, and hands over the rest. What was acknowledged before a check was sent is therefore seen by it: it was sent
    before it was read, and read before the transaction began.
    """

    cdef int poll
    cdef bint is_open
    cdef set members
    cdef list passed_over
    cdef Socket alone
    cdef int guesses
    cdef uint8_t* arena
    cdef object look, turns
    cdef bint is_limited
    cdef Py_ssize_t turn_bytes, lone_bytes
    cdef uint64_t slice_us
    cdef unsigned passes, bounds
    cdef uint64_t timed_from_us, timed_us
    cdef uint64_t bounds_us[MOST_BOUNDS]
    cdef uint64_t times[MOST_BOUNDS + 1]

    def __cinit__(self, look, bint is_limited, turns, Py_ssize_t turn_bytes, Py_ssize_t lone_bytes, uint64_t slice_us,
                  tuple bounds_us=()):
        """`look(syncs)`: may checks be answered now. If the last bracket could not begin, it takes up what moved, and calls
        `syncs`: those of Apps that are not asked about now can wait. It is asked before each bracket where the deployment has
        an age limit (`is_limited`), without any.

        `turns.is_busy`: only chunks of up to `lone_bytes` are answered here. `slice_us` is the bound on one socket's checks.
        `bounds_us`, ascending, are those of the times that `take_times` returns.
        """
        self.arena = NULL
        self.poll = epoll_create1(EPOLL_CLOEXEC)
        if self.poll < 0:
            raise OSError(errno, "epoll is not available")
        self.is_open = True
        self.members, self.passed_over = set(), []
        self.look, self.is_limited, self.turns = look, is_limited, turns
        self.turn_bytes, self.lone_bytes, self.slice_us = min(turn_bytes, ROOM), lone_bytes, slice_us
        if len(bounds_us) > MOST_BOUNDS:
            raise ValueError("too many bounds")
        self.bounds = <unsigned>len(bounds_us)
        for number in range(self.bounds):
            self.bounds_us[number] = bounds_us[number]
        self.passes, self.timed_from_us, self.timed_us = 0, 0, 0
        memset(self.times, 0, sizeof(self.times))
        self.arena = <uint8_t*>malloc(ARENA)
        if self.arena == NULL:
            raise MemoryError()

    def __dealloc__(self):
        self.close()
        free(self.arena)

    cpdef close(self):
        """Release the poll; the transports close its sockets."""
        if self.is_open:
            c_close(self.poll)
            self.is_open, self.poll = False, -1

    def fileno(self):
        """The descriptor to watch: call `serve` when it is readable."""
        return self.poll

    def add(self, int descriptor, on_bytes, on_end, on_unsent, on_used, receive=None, transmit=None):
        """A socket, not read yet. `on_bytes(received, is_full, was_answered)`: what is not answered here; `on_end(is_broken)`:
        nothing more comes, and the socket has left; `on_unsent(replies)`: what the kernel did not take; `on_used(from_us,
        until_us)`: pipelines of checks took as long as that, one after another.

        An encrypted socket is read by `receive(size, room)` and written by `transmit(replies)`, which return how many bytes that
        were, and raise `OSError` as Python's ssl does: its numbers are those of OpenSSL.
        """
        cdef Socket made = Socket()
        made.owner, made.descriptor = self, descriptor
        made.on_bytes, made.on_end, made.on_unsent, made.on_used = on_bytes, on_end, on_unsent, on_used
        made.receive, made.transmit = receive, transmit
        self.members.add(made)
        return made

    def take_times(self):
        """Return how long answered chunks of one connection waited for their replies from the time when they could be read, since
        the last call: how many by bound, the last one without any, and the sum in microseconds. One pass in eight is measured.
        """
        counts = [self.times[number] for number in range(self.bounds + 1)]
        sum_us, self.timed_us = self.timed_us, 0
        memset(self.times, 0, sizeof(self.times))
        return counts, sum_us

    cdef inline void add_time(self, uint64_t took_us):
        cdef unsigned bound = 0
        while bound < self.bounds and took_us > self.bounds_us[bound]:
            bound += 1
        self.times[bound] += 1
        self.timed_us += took_us

    def serve(self):
        """Run passes while many sockets are ready, for about a slice; at least one."""
        cdef uint64_t until_us = gate_now_us() + self.slice_us
        while self.pass_once() and gate_now_us() < until_us:
            pass

    cdef bint pass_once(self) except -1:
        """Return whether to run another pass at once."""
        cdef epoll_event ready[MOST_READY]
        cdef Chunk chunks[MOST_READY]
        cdef Chunk* chunk
        cdef Py_ssize_t used = 0
        cdef list sockets = self.passed_over, passed_over = [], late = [], faults = []
        cdef Socket one = self.alone
        cdef int number, armed = 0, count
        self.passes += 1
        self.timed_from_us = gate_now_us() if self.passes % TIMED_EVERY == 0 else 0
        chunks[0].size = NOTHING
        if one is not None and self.guesses < MOST_GUESSES and one.is_polled:
            self.guesses += 1
            chunks[0].size = one.received(self.arena, self.turn_bytes)
        if chunks[0].size > 0:
            sockets = [one]
        else:
            self.alone, self.guesses = None, 0
            count = epoll_wait(self.poll, ready, MOST_READY - <int>len(sockets), 0)
            for number in range(count):
                one = <Socket>ready[number].data.ptr
                if not one.is_passed_over:
                    sockets.append(one)
            self.passed_over = passed_over
        for number in range(len(sockets)):
            one, chunk = sockets[number], &chunks[number]
            if number == 0 and chunk.size > 0:
                chunk.start, chunk.taken, used = 0, 0, chunk.size
                armed += one.checks is not None
                break
            chunk.start, chunk.size, chunk.taken = used, NOTHING, 0
            one.is_passed_over = ARENA - used < self.turn_bytes
            if one.is_passed_over:
                passed_over.append(one)
            elif one.is_polled:
                chunk.size = one.received(self.arena + used, self.turn_bytes)
                if chunk.size > 0:
                    used += chunk.size
                    armed += one.checks is not None
        if armed:
            try:
                self.answer(sockets, chunks, late)
            except BaseException as fault:
                faults.append(fault)  # bytes read are handed over nevertheless
        for call, *what in late:
            try:
                call(*what)
            except BaseException as fault:
                faults.append(fault)
        for number in range(len(sockets)):
            one, chunk = sockets[number], &chunks[number]
            if chunk.size > chunk.taken or chunk.size in (self.turn_bytes, ENDED, BROKEN):
                armed = 0
                try:
                    self.hand_over(one, chunk)
                except BaseException as fault:  # it ended its own connection only
                    faults.append(fault)
        if faults:
            raise faults[0] if len(faults) == 1 else BaseExceptionGroup("several connections of one pass", faults)
        if len(sockets) == 1 and armed and not passed_over and (<Socket>sockets[0]).receive is None:
            self.alone = sockets[0]  # for OpenSSL a read of nothing costs an exception
        return armed and len(sockets) >= AGAIN_FROM

    cdef int answer(self, list sockets, Chunk* chunks, list late) except -1:
        """Answer the received checks in one transaction, and send. `late`: functions to call after it ended."""
        cdef Snapshot snapshot = self.begin(sockets)
        if snapshot is not None:
            try:
                self.answer_within(snapshot, sockets, chunks, late)
            finally:
                snapshot.end()
        return 0

    cdef Snapshot begin(self, list sockets):
        """Begin a transaction for armed sockets; None if none is to be answered here."""
        cdef Socket one
        cdef Checks first = None
        if self.is_limited and not self.look(()):
            return None
        for one in sockets:
            if one.checks is not None:
                first = one.checks
                break
        if first.begin() or (self.look({one.sync for one in sockets if one.checks is not None}) and first.begin()):
            return first.snapshot
        return None

    cdef int answer_within(self, Snapshot snapshot, list sockets, Chunk* chunks, list late) except -1:
        cdef uint8_t replies[ROOM]
        cdef size_t written, sent
        cdef Py_ssize_t size
        cdef Chunk* chunk
        cdef uint64_t from_us = 0, now_us
        cdef int number
        cdef Socket one
        cdef bint is_lone, is_busy = self.turns.is_busy
        for number in range(len(sockets)):
            one, chunk = sockets[number], &chunks[number]
            size = chunk.size
            if size <= 0:
                continue
            is_lone = size <= self.lone_bytes
            if one.checks is not None and (is_lone or not is_busy) and one.checks.is_at(snapshot, one.settings):
                if not is_lone:
                    from_us = gate_now_us()
                chunk.taken = gate_answer(&one.checks.users, self.arena + chunk.start, size,
                                          0 if is_lone else from_us + self.slice_us, replies, &written)
                sent = 0
                if written and one.transmit is None:
                    sent = gate_sent(one.descriptor, replies, written)
                elif written:
                    chunk.size = BROKEN  # unless it gets through
                    sent = one.transmitted(PyBytes_FromStringAndSize(<const char*>replies, written))
                    chunk.size = size
                if sent < written:
                    one.checks, chunk.size = None, BROKEN  # unless memory for the rest of its replies is available
                    late.append((one.on_unsent, PyBytes_FromStringAndSize(<const char*>replies + sent, written - sent)))
                    chunk.size = size
                if self.timed_from_us and chunk.taken:
                    self.add_time(gate_now_us() - self.timed_from_us)
                if not is_lone:
                    now_us = gate_now_us()
                    one.used_us += now_us - from_us
                    if one.used_us >= LEAST_USED_US:
                        late.append((one.on_used, now_us - one.used_us, now_us))
                        one.used_us = 0
        return 0

    cdef int hand_over(self, Socket one, Chunk* chunk) except -1:
        """Let its connection have what was not answered (nothing, of a full turn), or the news that nothing more comes."""
        one.checks = None
        if chunk.size > 0:
            rest = PyBytes_FromStringAndSize(
                <const char*>self.arena + chunk.start + chunk.taken, chunk.size - chunk.taken
            )
            one.on_bytes(rest, chunk.size == self.turn_bytes, chunk.taken > 0)
        else:
            one.leave()
            one.on_end(chunk.size == BROKEN)
        return 0
