/*
 * Header injection: a traceparent of the library's own in requests that the program writes, where
 * the agent asks for it. Why it is safe, and where it is refused: docs/decisions/0008.
 */
#ifndef OLLY_PRELOAD_INJECT_H
#define OLLY_PRELOAD_INJECT_H

#include <sys/socket.h>

#include "http.h"
#include "olly.h"

/* What is kept beside a connection, or beside a TLS session, whose requests are followed. */
struct http_side {
	struct http_flow flow;	 /* of what this side sends */
	u64 next;		 /* position behind it */
	struct http_trace trace; /* of the header of which some bytes have not gone out yet */
	u8 owed;		 /* how many */
	u8 open;		 /* requests that are read: enum open */
	u32 request;		 /* which one: goes up with each */
};

/* conn.http and session.http: what is done with it. 0: nothing. */
enum {
	HTTP_OUT = 1,  /* requests go out on it */
	HTTP_OWES = 2, /* and a header has gone out in part: its rest comes first */
	HTTP_IN = 4,   /* requests come in on it */
	HTTP_BUSY = 8, /* a thread is at it */
	HTTP_NOT = 16, /* TLS sessions: looked at, and none of these */
};

/* A request that is to have a header gets none. */
static inline void olly_http_refuse(enum olly_inject_refusal why)
{
	add(&olly_region->refused[why], 1);
}

/* The agent is there, now, and wants headers. */
bool olly_injects_now(void);

/* Whether a request with this head is to have a header, by what it says and to whom it goes. */
bool olly_http_wanted(const struct http_head *head, int fd, bool tls);
/*
 * Ids for a request with this head, which the call that comes next writes: the agent has been told.
 * `policy`: of the layer it is written on. `n`: bytes of the call.
 */
bool olly_http_draw(const struct http_head *head, u64 policy, size_t n, bool may_sleep,
		    struct http_trace *out);
/* Bytes of requests that are read, or of their responses. */
void olly_http_served(struct http_side *side, int dir, const u8 *bytes, size_t n, bool nonblocking);
void olly_http_reset(struct http_side *side);

/* Before a call that sends. True: it was made, or must not be, and this is what it gave. */
bool olly_http_send(int fd, const struct iovec *iov, u32 count, int flags, bool message,
		    ssize_t *result);
bool olly_http_write(int fd, const void *buffer, size_t size, int flags, bool message,
		     ssize_t *result);
bool olly_http_send_message(int fd, const struct msghdr *message, int flags, ssize_t *result);
bool olly_http_pay(int fd, int flags, ssize_t *result);

/* Whether one of these has something to do. */
static inline bool olly_http_sends(int fd)
{
	u32 state;

	if ((u32)fd >= MAX_FDS)
		return false;
	state = load(&olly_fds[fd]);
	return state >= FD_FIRST &&
	       load(&olly_conns[state - FD_FIRST].http) & (HTTP_OUT | HTTP_OWES);
}

#endif
