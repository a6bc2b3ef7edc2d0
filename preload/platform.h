/*
 * What the library needs of an operating system, beyond what every one of them has. linux/ and
 * darwin/ each have one implementation; the hooks and all that is behind them are the same sources.
 *
 * None of these touches errno, allocates, takes a lock of the program's, or keeps a descriptor that
 * its comment does not name. Linux: system calls of our own, and the vDSO. macOS: libSystem, whose
 * calls below this library are its only stable border; errno is put back.
 */
#ifndef OLLY_PRELOAD_PLATFORM_H
#define OLLY_PRELOAD_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "event/preload_abi.h"

#ifdef __APPLE__
#include "darwin/hook.h"
#else
#include "linux/hook.h"
#endif
/*
 * hook.h says how a hook is written:
 *   HOOK(result, name, arguments...)  begins the definition of what the program calls as `name`
 *   olly_self()                       this thread's state (olly.h: struct olly_thread); never NULL
 */

struct live;
struct olly_preload_hello;

/* Nanoseconds: CLOCK_MONOTONIC, or where that is not the cheap one, one that runs as it does. */
olly_u64 olly_now(void);
/* The same clock as of its last tick: 1 to 4 ms old. Cheaper, and never mixed into records. */
olly_u64 olly_coarse_now(void);
/* Records will be written: what makes the clock cheap may be set up. */
void platform_clock_starts(void);

olly_u32 platform_process(void);
/* A number that no other thread of this process has while it lives; never 0. */
olly_u32 platform_thread(void);
bool platform_thread_lives(olly_u32 process, olly_u32 thread);
/* This thread's errno. NULL: nobody has one yet. */
int *platform_errno(void);

/* Memory that reads as zeros in a forked child. NULL: not to be had. */
struct live *platform_wiped_by_fork(void);
void platform_unwipe(struct live *page); /* gives it back */

/* Limits under which a region of this size would do harm. */
bool platform_limits_allow(olly_u64 size);
/*
 * Memory of `size` bytes that another process may map and nobody can cut short: its descriptor, or
 * less than 0. `*at`: where to map it, instead of what is there; NULL: anywhere.
 */
int platform_region(olly_u64 size, void **at);
/*
 * A socket that is connected to an agent of our own user or root's, or less than 0. `*agent`: its
 * pid + 1, as this process sees it.
 */
int platform_reach_agent(const char *path, olly_u64 *agent);
/* The one message, with the region's descriptor; the program's names are put into it here. */
bool platform_send_hello(int agent, struct olly_preload_hello *hello, int region);
void platform_close(int fd);
/* Wakes who waits for the word, which this process shares with the agent. */
void platform_wake(olly_u32 *word);
/* Until the word is not 0 any more, or so long at most, or less. */
void platform_wait(olly_u32 *word, olly_u64 nanoseconds);

/*
 * For pointers of the program's that may lead anywhere: whether n bytes can be read there; what
 * stands there. False: no, or the system does not say.
 */
bool platform_readable(const void *at, size_t n);
bool platform_copy(void *to, const void *from, size_t n);
bool platform_random(void *to, size_t n);

enum platform_stream { PLATFORM_NO_STREAM, PLATFORM_UNIX, PLATFORM_TCP };
enum platform_stream platform_stream_of(int fd);
/* What no other socket of this host has while this one lives, whoever holds it. 0: not known. */
olly_u64 platform_socket_id(int fd);
bool platform_nonblocking(int fd);
/*
 * Bytes that this program has received and sent on a TCP socket of any age, and, where *role is not
 * known, which side it is. False: the system does not say.
 */
bool platform_tcp_positions(int fd, olly_u8 *role, olly_u64 pos[2]);
/*
 * Whether a TCP socket that connected takes its next `bytes` whole or not at all: nothing waits in
 * it, `position` bytes are all that was ever sent on it, by whomever, and the next ones make one
 * segment.
 */
bool platform_takes_whole(int fd, olly_u64 position, olly_u32 bytes);
bool platform_local_name(int fd, struct sockaddr_storage *name, olly_u32 *length);
bool platform_peer_name(int fd, struct sockaddr_storage *name, olly_u32 *length);

#endif
