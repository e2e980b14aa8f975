/* libgate: may A message B? Answered in the caller's process, from the facts that Gate's service stores on this machine.
 *
 * `make libgate` makes build/libgate.so, build/libgate.a and build/gate.h; link with -lgate, and with -llmdb -lpthread too if
 * static. docs/in-process.md has examples in C, Go, Java and Node, figures, and limits.
 *
 * Ids are bytes with a length of 1 to 64; they end with no NUL. An answer is of the newest commit of the service's Replica: a
 * Ban that was acknowledged before the call decides it. Another facts file that the service puts in use is followed by itself.
 *
 * Threads: any thread may call, with one handle for all of them. Threads that ask at the same time use readers of their own, at
 * most twice as many as the machine has processors (8 to 64); each caches up to 1,048,576 Users in at most 64 MiB, and 160 MiB
 * more if ids are longer than 20 bytes. A reader belongs to no thread, so a thread that ends leaves nothing behind.
 *
 * Fork: a child opens a handle of its own. Calls with one of its parent's return -1; `gate_close` does nothing with it.
 *
 * One process holds one LMDB library at most. In Python, use `gate.Replica` and not this; a program that opens the Replica's
 * files with another LMDB in addition to libgate endangers its own reads.
 *
 * The calling user must be able to read and write the files in DATA/replica: a reader registers itself in the lock file.
 */
#ifndef GATE_H
#define GATE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gate gate;

/* Opens the Replica of an App. `data_directory` is the service's (`gate serve --data`), or the `replica` in it. It is resolved
 * now, so a later chdir does no harm. NULL if there is no Replica, it can't be read, or no App has the key: then `error` (may be
 * NULL) holds one line that says why, cut to `error_size` bytes with its NUL. The service need not run; see gate_status. */
gate *gate_open(const char *data_directory, const char *app_key, char *error, size_t error_size);

/* May `from` message `to`, now? (An App in shadow mode: always yes, see gate_shadow.) 1 yes, 0 no; -1 if that is not known: an id
 * of a wrong length, a removed App, a file that can't be read. Treat -1 as your router treats an outage; gate_error says what it is. */
int gate_may_send(gate *, const void *from, size_t from_len, const void *to, size_t to_len);

/* As gate_may_send, and why. `*word` is one of "allowed", "sender-unknown", "sender-deactivated", "sender-banned",
 * "sender-muted", "recipient-unknown", "recipient-deactivated", "not-whitelisted", "blacklisted": a constant, not to be freed.
 * `*until_ms` is the moment (Unix time in ms) at which the answer may change by itself, because a Ban, Mute or list entry ends;
 * 0 if none does. Either may be NULL. Nothing is stored with -1. */
int gate_verdict(gate *, const void *from, size_t from_len, const void *to, size_t to_len, const char **word, int64_t *until_ms);

/* One sender and `n` recipients, all answered from one commit: `may[i]` is 1 or 0 for `to[i]`, which has `to_len[i]` bytes.
 * Returns 0; or -1, and then all of `may` is 0. */
int gate_may_send_many(gate *, const void *from, size_t from_len, const void *const *to, const size_t *to_len, size_t n,
                       unsigned char *may);

/* How old the facts are that a later check reads. `*ready` is 1 once the service has caught up with Redis. `*stale_ms` is for how
 * many ms the facts have not been known to be complete: 0 while they are at most a second old; it grows while the service is
 * stopped or Redis is unreachable; 1099511627776 (2^40) if nothing is known. Either may be NULL. Returns 0, or -1. */
int gate_status(gate *, int *ready, int64_t *stale_ms);

/* Whether the App is in shadow mode now (`*on` 1 or 0): then the three calls above answer 1 and "allowed" for every pair, and
 * nothing is enforced. `*denied` is how many of this handle's answers the rules would have denied meanwhile. Either may be NULL.
 * Returns 0, or -1. */
int gate_shadow(gate *, int *on, uint64_t *denied);

/* What was wrong at this thread's last -1, of whichever handle: one line, valid until this thread's next call of libgate. */
const char *gate_error(gate *);

/* Waits for the calls in progress, and gives everything back. No call may begin after it. NULL is allowed. */
void gate_close(gate *);

#ifdef __cplusplus
}
#endif

#endif
