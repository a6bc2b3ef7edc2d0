/*
 * HTTP/1 requests, as far as header injection must know them: where a head ends, where a header
 * fits into it, what it says of its body and of its trace. Pure functions over bytes: no system
 * call, no allocation, nothing of a program's state.
 *
 * Strict: what is not exactly a request that every program would read alike is none.
 */
#ifndef OLLY_PRELOAD_HTTP_H
#define OLLY_PRELOAD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "event/preload_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define HTTP_HEADER 70u /* bytes of a whole traceparent field, its name and CRLF included */

struct http_trace {
	olly_u8 trace_id[16];
	olly_u8 span_id[8];
	olly_u8 flags;
	bool known; /* trace_id is given: nothing is to be drawn for it */
};

struct http_head {
	olly_u32 size;	 /* with the empty line */
	olly_u32 fits;	 /* where a field may be put in: behind the first one */
	olly_u64 length; /* of the body, unless chunked */
	bool chunked;
	bool ends; /* what follows is not told by it: CONNECT, Upgrade, Expect, framing in doubt */
	bool refused;	 /* it has a trace context, of whatever kind; CONNECT */
	bool has_parent; /* exactly one traceparent, a valid one: `parent` */
	struct http_trace parent;
	const char *host; /* what the Host field names, without the port */
	olly_u32 host_length;
	olly_u16 port; /* 0 = it names none */
};

/* Whether a whole request head begins at bytes[0]. `out` counts only then. */
bool http_parse(const olly_u8 *bytes, size_t n, struct http_head *out);

/* "traceparent: 00-...-01\r\n", HTTP_HEADER bytes. */
void http_write(char *to, const struct http_trace *trace);

/* What one side of a connection has sent, followed from one message to the next. */
enum http_state {
	HTTP_START, /* at a message's first byte, if head is 0 */
	HTTP_BODY,
	HTTP_CHUNK_SIZE,
	HTTP_CHUNK_LINE, /* behind the size, up to the line's end */
	HTTP_CHUNK_DATA, /* and its CRLF */
	HTTP_TRAILERS,
	HTTP_LOST, /* nobody knows any more: for good */
};
struct http_flow {
	olly_u64 left; /* of a body or chunk */
	olly_u32 head; /* bytes of a head still to come */
	olly_u8 state; /* enum http_state: behind that head */
	olly_u8 line;  /* characters of the line so far, as far as it matters */
	bool ends;     /* behind this message nothing is known */
};

/* A message with this head begins. */
void http_begin(struct http_flow *flow, const struct http_head *head);
/* n bytes have followed; NULL: which ones is not known. */
void http_follow(struct http_flow *flow, const olly_u8 *bytes, size_t n);
/* n bytes of these parts, from `skip` on. */
void http_follow_parts(struct http_flow *flow, const struct iovec *parts, olly_u32 count,
		       size_t skip, size_t n);
static inline bool http_at_start(const struct http_flow *flow)
{
	return flow->state == HTTP_START && flow->head == 0;
}

/* Whether a request with this head, to this peer (family 0: not known), is to get a header. */
bool http_allowed(const struct olly_inject_rule *rules, olly_u32 count,
		  const struct http_head *head, olly_u8 family, const olly_u8 address[16],
		  olly_u16 port, bool tls);

#ifdef __cplusplus
}
#endif

#endif
