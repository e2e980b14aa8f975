# cython: language_level=3, boundscheck=False, wraparound=False, binding=False, auto_pickle=False
"""The compiled core as Python objects: a `Snapshot` of a facts file, and an App's `Checks` over it. See `core.h`.

All of it belongs to one thread. Built for the stable ABI of Python 3.11, so one file serves every later version.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from typing import get_args

from gate.core.verdict import Word

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    int PyBytes_AsStringAndSize(object raw, char** start, Py_ssize_t* size) except -1
    char* PyByteArray_AsString(object array) except NULL
    Py_ssize_t PyByteArray_Size(object array) except -1
    bytes PyBytes_FromStringAndSize(const char* start, Py_ssize_t size)
    object PyObject_CallNoArgs(object called)
    int PyObject_GetBuffer(object exporter, Py_buffer* view, int flags) except -1
    void PyBuffer_Release(Py_buffer* view)
    ctypedef struct Py_buffer:
        void* buf
        Py_ssize_t len
    int PyBUF_SIMPLE, PyBUF_WRITE
    object PyMemoryView_FromMemory(char* start, Py_ssize_t size, int flags)

cdef extern from "core.h" nogil:
    enum: GATE_ABSENT, GATE_FOUND, GATE_DAMAGED, GATE_MAX_ID, GATE_WORDS
    uint64_t GATE_FOREVER_MS
    ctypedef struct gate_tree:
        uint64_t device, inode, transaction
        const char* problem
    ctypedef struct gate_users:
        uint64_t counts[9]
        uint8_t is_shadow
    int gate_tree_open(gate_tree*, const char*)
    void gate_tree_close(gate_tree*)
    int gate_tree_at(gate_tree*, uint64_t)
    int gate_tree_is_newest(const gate_tree*)
    int gate_tree_get(gate_tree*, const uint8_t*, size_t, const uint8_t**, size_t*)
    int gate_users_open(gate_users*, const uint8_t*, uint64_t)
    void gate_users_close(gate_users*)
    int gate_users_adopt(gate_users*, gate_tree*, const uint8_t*, size_t)
    void gate_users_forget(gate_users*, const uint8_t*, size_t)
    void gate_users_forget_all(gate_users*)
    int gate_word(gate_users*, const uint8_t*, size_t, const uint8_t*, size_t, uint64_t)
    int gate_decide(gate_users*, const uint8_t*, size_t, const uint8_t*, size_t, uint64_t, uint64_t*)
    size_t gate_answer(gate_users*, const uint8_t*, size_t, uint64_t, uint8_t*, size_t*)

MAX_CHUNK_BYTES = 16 * 1024
DEF ROOM = 16 * 1024  # of replies: a reply is shorter than its command

cdef tuple _WORDS = get_args(Word)
assert len(_WORDS) == GATE_WORDS


class Damaged(ValueError):
    """The data read can't be part of a facts file."""


class Unreadable(ValueError):
    """Not an LMDB file of the format that this code reads."""


cdef class Snapshot:
    """A mapped facts file, and the commit that is read."""

    cdef gate_tree tree
    cdef Py_buffer chosen
    cdef uint64_t chosen_seen
    cdef bint is_watched
    cdef public bint is_open
    """Whether the caller holds the current commit's transaction."""
    cdef object _begin
    cdef object _transaction

    def __cinit__(self, str path):
        memset(&self.tree, 0, sizeof(self.tree))
        self.is_watched = False
        self.tree.problem = b""
        cdef int fault = gate_tree_open(&self.tree, path.encode("utf-8", "surrogateescape"))
        if fault > 0:
            raise OSError(fault, "can't be mapped", path)
        if fault < 0:
            raise Unreadable(f"{path} is not an LMDB file of format 1")

    def __dealloc__(self):
        if self.is_watched:
            PyBuffer_Release(&self.chosen)
        gate_tree_close(&self.tree)

    @property
    def file(self):
        """Device and inode of the mapped file."""
        return self.tree.device, self.tree.inode

    def at(self, uint64_t transaction):
        """Read this commit, for which the caller holds a transaction. Returns False if newer ones interfere. Raises `Damaged`."""
        cdef int found = gate_tree_at(&self.tree, transaction)
        if found == GATE_DAMAGED:
            raise Damaged(self.tree.problem.decode())
        return found == GATE_FOUND

    def lose(self):
        """Read nothing until the next `at`."""
        self.tree.transaction = 0

    def watch(self, begin, chosen, uint64_t chosen_seen):
        """Set how to begin a transaction, and the status page's word that changes when another file is put in use (or None).

        `chosen_seen` is its value when this file was opened. Until the next call, or `unwatch`, its page stays mapped.
        """
        self.unwatch()
        self.chosen_seen = chosen_seen
        if chosen is not None:
            PyObject_GetBuffer(chosen, &self.chosen, PyBUF_SIMPLE)
            self.is_watched = True
            if self.chosen.len < <Py_ssize_t>sizeof(uint64_t):
                self.unwatch()
                raise ValueError("the status page's word is 8 bytes")
        self._begin = begin

    def unwatch(self):
        """Begin no more transactions by itself."""
        self._begin = None
        if self.is_watched:
            PyBuffer_Release(&self.chosen)
            self.is_watched = False

    def close(self):
        """Unmap."""
        self.unwatch()
        gate_tree_close(&self.tree)

    def get(self, bytes key):
        """One value. Raises `Damaged`."""
        cdef const uint8_t* value = NULL
        cdef size_t size = 0
        cdef char* start
        cdef Py_ssize_t key_size
        PyBytes_AsStringAndSize(key, &start, &key_size)
        cdef int found = gate_tree_get(&self.tree, <const uint8_t*>start, key_size, &value, &size)
        if found == GATE_DAMAGED:
            raise Damaged(self.tree.problem.decode())
        return PyBytes_FromStringAndSize(<const char*>value, size) if found == GATE_FOUND else None

    cdef bint begin(self) except -1:
        """Begin a transaction if it reads the current commit, and nothing else changed. The caller must call `end`."""
        if self._begin is None or self.tree.transaction == 0:
            return False
        if self.is_watched and (<uint64_t*>self.chosen.buf)[0] != self.chosen_seen:
            return False
        try:
            self._transaction = PyObject_CallNoArgs(self._begin)
        except Exception:
            return False  # the caller begins, meets the same error, and reports it
        if gate_tree_is_newest(&self.tree):
            return True
        self._transaction = None
        return False

    cdef inline void end(self):
        self._transaction = None  # py-lmdb resets an unreferenced transaction

    cdef inline bint is_unmoved(self):
        """Return whether data just read without a transaction is correct: see `gate_tree_is_newest`."""
        if self._begin is None or (self.is_watched and (<uint64_t*>self.chosen.buf)[0] != self.chosen_seen):
            return False
        return gate_tree_is_newest(&self.tree)


cdef class Checks:
    """One App's decisions. The caller invalidates the caches: `adopt`, `forget`, `forget_all`."""

    cdef gate_users users
    cdef bint is_open
    cdef Snapshot snapshot
    cdef uint64_t synced, settings

    def __cinit__(self, uint64_t most_cached, bytes hash_key):
        cdef char* start
        cdef Py_ssize_t size
        self.is_open = False
        PyBytes_AsStringAndSize(hash_key, &start, &size)
        if size != 16:
            raise ValueError("a hash key is 16 bytes")
        if gate_users_open(&self.users, <const uint8_t*>start, most_cached) != 0:
            raise MemoryError()
        self.is_open = True

    def __dealloc__(self):
        if self.is_open:
            gate_users_close(&self.users)

    def adopt(self, Snapshot snapshot not None, bytes settings):
        """Use these settings, as packed for the core, and this file; clears the cache. Raises `Damaged`."""
        cdef char* start
        cdef Py_ssize_t size
        self.synced = 0
        self.settings += 1
        self.snapshot = snapshot
        PyBytes_AsStringAndSize(settings, &start, &size)
        cdef int adopted = gate_users_adopt(&self.users, &snapshot.tree, <const uint8_t*>start, size)
        if adopted == GATE_ABSENT:
            raise MemoryError()
        if adopted == GATE_DAMAGED:
            raise Damaged(snapshot.tree.problem.decode())

    def sync(self):
        """The App's settings are those of the snapshot's commit."""
        self.synced = self.snapshot.tree.transaction if self.snapshot is not None else 0

    def forget(self, bytes user):
        """Drop the cached entry of one User."""
        cdef char* start
        cdef Py_ssize_t size
        PyBytes_AsStringAndSize(user, &start, &size)
        gate_users_forget(&self.users, <const uint8_t*>start, size)

    def forget_all(self):
        """Clear the cache; no call opens a bracket of its own until the next `sync`."""
        self.synced = 0
        self.settings += 1
        gate_users_forget_all(&self.users)

    @property
    def is_set(self):
        """Whether there is a commit to read, inside the caller's bracket."""
        return self.snapshot is not None and self.snapshot.is_open and self.snapshot.tree.transaction != 0

    # Inside the caller's bracket. An id of another length than 1 to 64 bytes is an `IndexError`; the caller reports it.

    def word(self, sender, recipient, uint64_t now_ms=0):
        """Return the Verdict word for one pair; `now_ms` 0 reads the clock. Raises `Damaged`."""
        return _WORDS[self.index(sender, recipient, now_ms)]

    def words(self, senders, recipients):
        """For pairs, given as two columns of one length."""
        return [_WORDS[self.index(one, other, 0)] for one, other in zip(senders, recipients, strict=True)]

    def words_to(self, sender, recipients):
        """For one sender and many recipients."""
        return [_WORDS[self.index(sender, one, 0)] for one in recipients]

    def words_of(self, list pairs not None):
        """For `[sender, recipient]` pairs of text: the words, and the count of each. Raises `TypeError` for another list."""
        cdef list words = [], pair
        cdef uint64_t counts[9]
        cdef int word
        memset(counts, 0, sizeof(counts))
        for one in pairs:
            pair = <list?>one
            if len(pair) != 2:
                raise TypeError("a pair consists of two ids")
            word = self.index(pair[0], pair[1], 0)
            counts[word] += 1
            words.append(_WORDS[word])
        return words, {_WORDS[word]: counts[word] for word in range(GATE_WORDS) if counts[word]}

    def decide(self, sender, recipient, uint64_t now_ms):
        """Word and moment of a Verdict at `now_ms`."""
        cdef Py_ssize_t sender_size = 0, recipient_size = 0
        cdef const uint8_t* a = id_of(sender, &sender_size)
        cdef const uint8_t* b = id_of(recipient, &recipient_size)
        cdef uint64_t until_ms = 0
        cdef int word = gate_decide(&self.users, a, sender_size, b, recipient_size, now_ms, &until_ms)
        if word < 0:
            raise Damaged(self.snapshot.tree.problem.decode())
        return _WORDS[word], (until_ms if until_ms < GATE_FOREVER_MS else None)

    def answer(self, bytes chunk, uint64_t until_us):
        """Return the number of bytes of answered checks at the beginning of a chunk, and their replies. See `gate_answer`."""
        cdef char* start
        cdef Py_ssize_t size
        cdef size_t written = 0
        cdef uint8_t room[ROOM]
        PyBytes_AsStringAndSize(chunk, &start, &size)
        cdef size_t taken = gate_answer(&self.users, <const uint8_t*>start, min(size, ROOM), until_us, room, &written)
        return taken, PyBytes_FromStringAndSize(<const char*>room, written)

    # In their own bracket, if nothing changed since `sync`.

    def answer_now(self, bytearray received, Py_ssize_t size, uint64_t until_us):
        """As `answer`, for the first bytes of a buffer; None if the caller must begin a bracket and sync the App first."""
        cdef size_t written = 0, taken
        cdef uint8_t room[ROOM]
        if size > ROOM or size > PyByteArray_Size(received) or not self.begin():
            return None
        taken = gate_answer(&self.users, <const uint8_t*>PyByteArray_AsString(received), size, until_us, room, &written)
        self.snapshot.end()
        return taken, PyBytes_FromStringAndSize(<const char*>room, written)

    def may_send_now(self, sender, recipient):
        """Return True or False; None if the caller must begin a bracket and sync the App first, report an error, or count a
        denial in shadow mode.

        One pair takes less time than to begin and end a transaction, so it is read without one and validated afterwards.
        """
        cdef Py_ssize_t sender_size = 0, recipient_size = 0
        cdef const uint8_t* a = id_of(sender, &sender_size)
        cdef const uint8_t* b = id_of(recipient, &recipient_size)
        if self.synced == 0 or self.synced != self.snapshot.tree.transaction:
            return None
        cdef int word = gate_word(&self.users, a, sender_size, b, recipient_size, 0)
        if word < 0 or not self.snapshot.is_unmoved():
            gate_users_forget(&self.users, a, sender_size)  # their cached entries may be torn
            gate_users_forget(&self.users, b, recipient_size)
            return None
        if word and self.users.is_shadow:
            return None  # the caller counts it
        return word == 0

    def take_counts(self):
        """Return the count of each word in replies since the last call, as (word, count) of those that occurred."""
        cdef list counts = []
        cdef int word
        for word in range(GATE_WORDS):
            if self.users.counts[word]:
                counts.append((_WORDS[word], self.users.counts[word]))
                self.users.counts[word] = 0
        return counts

    cdef inline bint begin(self) except -1:
        if self.synced == 0 or self.synced != self.snapshot.tree.transaction:
            return False
        return self.snapshot.begin()

    cdef inline bint is_at(self, Snapshot snapshot, uint64_t settings):
        """Return whether, inside a bracket, these settings are those of its commit."""
        return self.settings == settings and self.snapshot is snapshot and self.synced == snapshot.tree.transaction

    cdef inline int index(self, sender, recipient, uint64_t now_ms) except -1:
        cdef Py_ssize_t sender_size = 0, recipient_size = 0
        cdef const uint8_t* a = id_of(sender, &sender_size)
        cdef const uint8_t* b = id_of(recipient, &recipient_size)
        cdef int word = gate_word(&self.users, a, sender_size, b, recipient_size, now_ms)
        if word < 0:
            raise Damaged(self.snapshot.tree.problem.decode())
        return word


cdef inline const uint8_t* id_of(one, Py_ssize_t* size) except NULL:
    """Return the bytes of an id, valid as long as the object lives. Text as UTF-8."""
    cdef char* start
    if isinstance(one, bytes):
        PyBytes_AsStringAndSize(one, &start, size)
    else:
        start = <char*>PyUnicode_AsUTF8AndSize(one, size)
    if size[0] < 1 or size[0] > GATE_MAX_ID:
        raise IndexError("an id is 1 to 64 bytes")
    return <const uint8_t*>start


include "_sockets.pxi"
