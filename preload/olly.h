/*
 * libolly.so: what its files share. src/event/preload_abi.h is the contract with the agent.
 *
 * Rules that every function here keeps:
 *  - The real call comes first and its result, errno, buffers and signals are the program's. What
 *    the library does afterwards uses system calls of its own (sys.h) and never touches errno.
 *  - No allocation, no lock, no waiting, ever. On the hot path (a known socket, an attached agent)
 *    no system call.
 *  - It may run in a signal handler, on a tiny stack, in a child of fork or vfork, under seccomp,
 *    and before or after libc is ready. Stack frames stay below about half a KiB.
 *  - On any doubt nothing is captured, and what is lost is counted in the region.
 */
#ifndef OLLY_PRELOAD_OLLY_H
#define OLLY_PRELOAD_OLLY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>
#include <time.h>

#include "event/preload_abi.h"
#include "platform.h"

typedef olly_u8 u8;
typedef olly_u16 u16;
typedef olly_u32 u32;
typedef olly_u64 u64;

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define add(p, v) __atomic_fetch_add(p, v, __ATOMIC_RELAXED)

/* What the table says of a descriptor: one of these, or FD_FIRST + index of its conn. */
enum {
	FD_UNKNOWN = 0,	  /* not looked at since it was opened */
	FD_OTHER = 1,	  /* no stream socket: costs one load per call */
	FD_SOCKET = 2,	  /* a stream socket, met while no agent was there */
	FD_ACCEPTED = 3,  /* accept() made it, and nothing was read or written yet */
	FD_CONNECTED = 4, /* connect() was called on it, and nothing was read or written yet */
	FD_FIRST = 16,
};
#define MAX_FDS 65536u /* descriptors above are not looked at */
#define MAX_CONNS 16384u
/* A socket that was silent for so long is looked at again: was it closed where we did not see it?
 */
#define LOOK_AGAIN_NS 1000000000ll

struct conn {
	u32 refs; /* descriptors of this process; 0 = free */
	u8 role;  /* enum olly_role */
	u8 nonblock;
	u8 eof; /* the EOF record went out */
	u8 tcp;
	u64 generation; /* of the attachment that knows it; else it is announced again */
	u64 sock;	/* platform_socket_id() */
	u64 pos[2];	/* by olly_direction */
	u64 last_ns;	/* of its last record */
	u64 hello;	/* of the TLS ClientHello that was moved on it: 8 bytes of its random */
	u8 hello_dir;	/* and which way */
	u8 tls;		/* what is moved on it is ciphertext */
	u8 http;	/* inject.h: what is done with its requests; 0 = nothing */
	u8 pad;
	int fd; /* one of its descriptors, when it was announced */
};
OLLY_STATIC_ASSERT(sizeof(struct conn) == 64, "a cache line");

/* A page that the kernel wipes in a forked child: which so finds itself unattached. */
struct live {
	u64 generation; /* 0 = not attached */
	u32 attaching;
	u32 pid;
	u64 next_try_ns;
	u64 pause_ns;
	u64 agent; /* pid of the agent in our namespace + 1; 0 = none yet */
};

extern u32 olly_fds[MAX_FDS];
extern struct conn olly_conns[MAX_CONNS];
extern struct live *olly_live;
extern struct olly_preload_header *olly_region; /* valid while olly_live->generation is not 0 */
/* The program has put itself under seccomp, which may kill for a call it does not know. */
extern u32 olly_no_syscalls;
extern u32 olly_ring_bytes; /* of this program: never changes once a region was made */

/* attach.c */
bool olly_attach_now(void);
void olly_agent_gone(u64 now);
void olly_wake_agent(void);
struct olly_preload_slot *olly_slots(void);
u8 *olly_ring(u32 slot);
struct olly_policy *olly_policies(void);

/* Attached, perhaps just now. */
static inline bool olly_ready(void)
{
	struct live *l = load_acquire(&olly_live);

	if (likely(l && l->generation))
		return true;
	return olly_attach_now();
}

/* A call into a TLS library that this thread is in: what it did on sockets meanwhile. */
struct inner {
	const char *frame; /* of the hook; NULL: in none */
	const void *ssl;   /* for which the call is */
	int fd;		   /* on which ciphertext was moved; -1: none. Valid within a call */
	bool eof;	   /* the peer's end was met */
	bool others;	   /* calls for other sessions came in between */
	void *last;	   /* where the session of this thread's call before is kept (tls.c) */
};

/* This thread's ring. */
struct writer {
	u64 generation;
	struct olly_preload_slot *slot;
	u8 *data;
	u64 head;
	u64 tail; /* as last seen */
	u32 tid;
	u32 busy; /* between reserve and publish: a signal handler must keep out */
};

/* The request that this thread has read last: inject.c. */
struct served {
	struct http_side *side;
	u32 request;
	u8 kind;
	u8 flags;
	u8 trace_id[16];
};

/* When this thread asked the clock last (linux/clock.c). */
struct reading {
	u64 count; /* of the processor's */
	u64 ns;
	u64 said; /* never less than before */
	u32 busy;
};

struct olly_thread {
	struct inner inner;
	struct writer writer;
	struct served served;
	struct reading reading;
	u32 dormant_calls;
};

static inline struct olly_policy *policy_of(u64 id)
{
	return &olly_policies()[id & (OLLY_PRELOAD_POLICIES - 1)];
}

/* record.c: one record into this thread's ring. NULL: lost, and counted. */
void *olly_reserve(u32 type, u32 flags, u32 size, u64 now);
bool olly_has_room(u32 size);
void olly_publish(void);
void olly_stamp(struct olly_task *task);
void olly_drop(enum olly_preload_drop why, u64 bytes);

/* sockets.c */
void olly_record_io(int fd, int dir, long n, const struct iovec *iov, u32 count, u32 flags);
void olly_announce_connected(int fd);
void olly_accepted(int fd);
bool olly_connecting(int fd, u64 *sock);
void olly_connect_ended(int fd, u64 sock, int error);
void olly_opened(int fd);
void olly_closing(int fd);
void olly_closing_range(u32 first, u32 last);
void olly_duplicated(int from, int to);
void olly_set_nonblock(int fd, bool on);
struct sockaddr_storage;
void olly_put_inet(u8 to[16], u16 *port, u8 *family, const struct sockaddr_storage *a);
struct conn *olly_new_conn(void);
void olly_release_conn(struct conn *c);
struct conn *olly_conn_of(int fd, int dir, u64 n, u64 *now);
void olly_check_agent(u64 now);
bool olly_emit(struct conn *c, u64 policy, u64 position, int dir, u64 n, const struct iovec *iov,
	       u32 count, u32 flags, u64 now);

/* inject.c */
void olly_http_met(struct conn *c, u32 state);
void olly_http_closed(struct conn *c);
void olly_http_moved(struct conn *c, int dir, u64 position, u64 n, const struct iovec *iov,
		     u32 count, u32 flags);

/* tls.c: of bytes that were moved on a socket: do they begin with a record of TLS? May set c->tls.
 */
bool olly_is_record(u64 n, const struct iovec *iov);
void olly_maybe_tls(struct conn *c, int fd, int dir, u64 n, const struct iovec *iov);

static inline void olly_before_send(int fd)
{
	if (likely((u32)fd < MAX_FDS) && unlikely(load(&olly_fds[fd]) == FD_CONNECTED))
		olly_announce_connected(fd);
}

/* After a call that moved n bytes (or, receiving, met the end: n = 0 and asked > 0). */
static inline void olly_io(int fd, int dir, long n, size_t asked, const struct iovec *iov,
			   u32 count, u32 flags)
{
	if (unlikely((u32)fd >= MAX_FDS) || likely(load(&olly_fds[fd]) == FD_OTHER))
		return;
	if (n < 0 || (n == 0 && (dir == OLLY_SEND || asked == 0)))
		return;
	olly_record_io(fd, dir, n, iov, count, flags);
}

static inline void olly_io_buffer(int fd, int dir, long n, const void *buffer, size_t asked,
				  u32 flags)
{
	struct iovec one = {(void *)buffer, n > 0 ? (size_t)n : 0};

	olly_io(fd, dir, n, asked, &one, 1, flags);
}

#endif
