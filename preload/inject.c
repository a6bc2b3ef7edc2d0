#include "inject.h"

#include "hooks.h"

#ifndef MSG_MORE
#define MSG_MORE 0
#endif
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/* A head's first bytes; what is not whole by then gets no header. */
#define LOOK 16384u
#define MAX_PARTS 14u
/* The agent's clock in the region may be so old. It writes ten times a second. */
#define FRESH_NS 1000000000ull
#define SAMPLED 1

enum open { CLOSED, OPEN, ANSWERED };

static struct http_side sides[MAX_CONNS];
static u32 open_requests; /* read by this process and unanswered, of every protocol */

/* The request that this thread has read last. */
enum kind {
	SERVED_LOOP, /* by a call that could not have slept: nobody can say whose calls come next */
	SERVED_UNCLEAR, /* not alone, or its head was not seen whole */
	SERVED_ROOT,	/* it came without a trace */
	SERVED_KNOWN,	/* of this trace; or calls of its were given one */
};

static struct http_side *side_of(const struct conn *c)
{
	return &sides[c - olly_conns];
}

void olly_http_reset(struct http_side *h)
{
	if (h->open == OPEN)
		__atomic_fetch_sub(&open_requests, 1, __ATOMIC_RELAXED);
	h->open = CLOSED;
	h->request++;
	h->owed = 0;
	h->next = 0;
	__builtin_memset(&h->flow, 0, sizeof(h->flow));
}

/* A socket that is just being announced: its first bytes are still to come, or it serves. */
void olly_http_met(struct conn *c, u32 state)
{
	c->http = 0;
	/* Before the agent has said anything, it may still say so before the first request. */
	if (likely(!load(&olly_region->inject) && load(&olly_region->told)))
		return;
	if (c->role == OLLY_ROLE_INBOUND)
		c->http = HTTP_IN;
	else if (state == FD_CONNECTED && c->tcp && c->role == OLLY_ROLE_OUTBOUND)
		c->http = HTTP_OUT;
	if (c->http)
		olly_http_reset(side_of(c));
}

void olly_http_closed(struct conn *c)
{
	c->http = 0;
	olly_http_reset(side_of(c));
}

/* --- what the program serves -------------------------------------------------------------------
 */

static void request_read(struct http_side *h, const u8 *bytes, size_t n, bool nonblocking)
{
	struct http_head head;
	const bool whole = bytes && http_parse(bytes, n, &head);
	struct served *served = &olly_self()->served;
	const struct http_side *before = served->side;

	if (h->open == OPEN && !whole)
		return; /* more of it */
	if (h->open != OPEN)
		add(&open_requests, 1);
	h->open = OPEN;
	h->request++;
	if (nonblocking) {
		served->kind = SERVED_LOOP;
	} else if (!whole || (before && before != h && before->open == OPEN &&
			      before->request == served->request)) {
		served->kind = SERVED_UNCLEAR;
	} else if (head.has_parent) {
		served->kind = SERVED_KNOWN;
		served->flags = head.parent.flags & SAMPLED;
		__builtin_memcpy(served->trace_id, head.parent.trace_id, sizeof(served->trace_id));
	} else {
		served->kind = SERVED_ROOT;
	}
	served->side = h;
	served->request = h->request;
}

static bool is_interim(const u8 *b, size_t n)
{
	return b && n >= 12 && __builtin_memcmp(b, "HTTP/1.1 1", 10) == 0 && b[11] != '1';
}

void olly_http_served(struct http_side *h, int dir, const u8 *bytes, size_t n, bool nonblocking)
{
	if (dir == OLLY_RECV) {
		request_read(h, bytes, n, nonblocking);
	} else if (h->open == OPEN && !is_interim(bytes, n)) {
		h->open = ANSWERED;
		__atomic_fetch_sub(&open_requests, 1, __ATOMIC_RELAXED);
	}
}

/*
 * The trace of a call that is about to begin: that of the request which this thread serves, where
 * the context engine can only come to the same (rule A); a new one, where it can come to none;
 * otherwise none is known. False: no header then.
 */
static bool choose_trace(bool may_sleep, struct http_trace *out)
{
	struct served *t = &olly_self()->served;

	out->flags = SAMPLED;
	out->known = false;
	if (t->side && t->side->open != CLOSED && t->side->request == t->request) {
		if (t->kind == SERVED_LOOP)
			return true;
		if (t->side->open == ANSWERED || t->kind == SERVED_UNCLEAR)
			return false;
		if (t->kind == SERVED_KNOWN) {
			__builtin_memcpy(out->trace_id, t->trace_id, sizeof(out->trace_id));
			out->flags = t->flags;
			out->known = true;
		}
		return true;
	}
	return load(&open_requests) == 0 || !may_sleep;
}

/* It went out with a request of the one that is served: the others of that get the same. */
static void keep_trace(const struct http_trace *trace)
{
	struct served *t = &olly_self()->served;

	if (t->side && t->side->open == OPEN && t->side->request == t->request &&
	    t->kind == SERVED_ROOT) {
		t->kind = SERVED_KNOWN;
		t->flags = trace->flags;
		__builtin_memcpy(t->trace_id, trace->trace_id, sizeof(t->trace_id));
	}
}

/* --- whether, and with what --------------------------------------------------------------------
 */

bool olly_injects_now(void)
{
	const struct live *l = load_acquire(&olly_live);
	u64 now, beat;

	if (!l || !l->generation || load(&olly_no_syscalls) || !load(&olly_region->inject) ||
	    load(&olly_region->quiet) || load(&olly_region->detached))
		return false;
	now = olly_now();
	beat = load(&olly_region->beat_ns);
	return beat && now < beat + FRESH_NS;
}

static __attribute__((noinline)) bool allowed(const struct http_head *head, int fd, bool tls)
{
	const struct olly_inject_rule *rules =
		(const struct olly_inject_rule *)((u8 *)olly_region + OLLY_PRELOAD_RULES_AT);
	const u32 count = load_acquire(&olly_region->inject);
	struct sockaddr_storage peer;
	u32 length = sizeof(peer);
	u8 address[16] = {0}, family = 0;
	u16 port = 0;

	if (fd >= 0 && platform_peer_name(fd, &peer, &length))
		olly_put_inet(address, &port, &family, &peer);
	return http_allowed(rules, count, head, family, address, port, tls);
}

bool olly_http_wanted(const struct http_head *head, int fd, bool tls)
{
	return !head->refused && allowed(head, fd, tls);
}

/* False: the agent could not be told, or not read it. */
static bool tell(const struct http_head *head, u64 id, size_t n, struct http_trace *out)
{
	const struct olly_policy *policy = policy_of(id);
	struct olly_inject_record *r;
	struct http_trace drawn;
	u32 limit = load(&olly_region->max_copy);

	if (limit == 0 || limit > OLLY_PRELOAD_MAX_COPY)
		limit = OLLY_PRELOAD_MAX_COPY;
	if (load_acquire(&policy->sock) == id) {
		if (load(&policy->mode) == OLLY_POLICY_QUIET)
			return false;
		if (load(&policy->max_copy) < limit)
			limit = load(&policy->max_copy);
	}
	/* The agent must be able to read the whole head, or there would be no span. */
	if (head->size + HTTP_HEADER > limit ||
	    !olly_has_room((u32)(sizeof(*r) + sizeof(struct olly_io_record) +
				 (n < limit ? n + HTTP_HEADER : limit))))
		return false;
	if (!platform_random(&drawn, sizeof(drawn.trace_id) + sizeof(drawn.span_id)))
		return false;
	__builtin_memcpy(out->span_id, drawn.span_id, sizeof(out->span_id));
	if (!out->known)
		__builtin_memcpy(out->trace_id, drawn.trace_id, sizeof(out->trace_id));
	r = olly_reserve(OLLY_REC_INJECT, 0, sizeof(*r), olly_now());
	if (!r)
		return false;
	__builtin_memcpy(r->trace_id, out->trace_id, sizeof(r->trace_id));
	__builtin_memcpy(r->span_id, out->span_id, sizeof(r->span_id));
	r->reserved = 0;
	olly_publish();
	keep_trace(out);
	return true;
}

bool olly_http_draw(const struct http_head *head, u64 id, size_t n, bool may_sleep,
		    struct http_trace *out)
{
	if (!choose_trace(may_sleep, out)) {
		olly_http_refuse(OLLY_REFUSED_OWNER);
		return false;
	}
	if (!tell(head, id, n, out)) {
		olly_http_refuse(OLLY_REFUSED_RECORD);
		return false;
	}
	return true;
}

/* --- requests in the clear ---------------------------------------------------------------------
 */

static struct conn *conn_at(int fd)
{
	const u32 state = load(&olly_fds[fd]);

	return state >= FD_FIRST ? &olly_conns[state - FD_FIRST] : NULL;
}

static bool take(struct conn *c, u8 from)
{
	return __atomic_compare_exchange_n(&c->http, &from, HTTP_BUSY, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

/* What was sent meanwhile by others, or counted by nobody, makes an end of it. */
static void give_back(struct conn *c, struct http_side *h, u64 sock)
{
	if (c->sock != sock || load(&c->http) != HTTP_BUSY)
		return; /* closed meanwhile */
	if (h->owed)
		store_release(&c->http, HTTP_OWES);
	else if (h->flow.state == HTTP_LOST || h->next != load(&c->pos[OLLY_SEND]))
		store_release(&c->http, 0);
	else
		store_release(&c->http, HTTP_OUT);
}

/* The rest of a header before anything else. True: the socket does not take it now. */
bool olly_http_pay(int fd, int flags, ssize_t *result)
{
	struct conn *c = conn_at(fd);
	struct http_side *h;
	char text[HTTP_HEADER];
	u64 sock;

	if (!c || !take(c, HTTP_OWES))
		return false;
	h = side_of(c);
	sock = c->sock;
	http_write(text, &h->trace);
	flags &= MSG_DONTWAIT | MSG_NOSIGNAL;
	*result = 1;
	while (h->owed && *result > 0) {
		const char *rest = text + HTTP_HEADER - h->owed;

		*result = olly_real.send(fd, rest, h->owed, flags);
		olly_io_buffer(fd, OLLY_SEND, *result, rest, h->owed, 0);
		if (*result > 0)
			h->owed -= (u8)*result;
	}
	h->next = load(&c->pos[OLLY_SEND]);
	give_back(c, h, sock);
	return *result <= 0;
}

/* `parts`: the program's, copied, with room for two more; [0] begins with `head`. */
static ssize_t send_with(int fd, struct conn *c, struct iovec *parts, u32 count, int flags,
			 bool message, const struct http_head *head, const struct http_trace *trace)
{
	struct http_side *h = side_of(c);
	struct msghdr m = {.msg_iov = parts, .msg_iovlen = count + 2};
	const u64 sock = c->sock, before = load(&c->pos[OLLY_SEND]);
	const ssize_t at = head->fits;
	char text[HTTP_HEADER];
	ssize_t n;
	u32 i;

	http_write(text, trace);
	for (i = count - 1; i > 0; i--)
		parts[i + 2] = parts[i];
	parts[2].iov_base = (u8 *)parts[0].iov_base + at;
	parts[2].iov_len = parts[0].iov_len - (size_t)at;
	parts[1].iov_base = text;
	parts[1].iov_len = HTTP_HEADER;
	parts[0].iov_len = (size_t)at;
	n = message ? olly_real.sendmsg(fd, &m, flags)
		    : olly_real.writev(fd, parts, (int)count + 2);
	olly_io(fd, OLLY_SEND, n, 0, parts, count + 2, 0);
	if (n > 0) {
		h->next = before + (u64)n;
		if (n > at && n < at + (ssize_t)HTTP_HEADER) {
			h->trace = *trace;
			h->owed = (u8)(at + (ssize_t)HTTP_HEADER - n);
			n = at;
		} else if (n > at) {
			n -= HTTP_HEADER;
		}
		http_begin(&h->flow, head);
		http_follow(&h->flow, NULL, (size_t)n < head->size ? (size_t)n : head->size);
		if ((size_t)n > head->size)
			http_follow_parts(&h->flow, parts + 2, count, head->size - (u32)at,
					  (size_t)n - head->size);
	}
	give_back(c, h, sock);
	return n;
}

bool olly_http_send(int fd, const struct iovec *iov, u32 count, int flags, bool message,
		    ssize_t *result)
{
	struct conn *c;
	struct http_side *h;
	struct iovec parts[MAX_PARTS + 2];
	struct http_head head;
	struct http_trace trace;
	size_t first, all = 0;
	bool whole;
	u32 i;

	if (olly_http_pay(fd, flags, result))
		return true;
	c = conn_at(fd);
	if (!c || count == 0 || count > MAX_PARTS || olly_self()->inner.frame || c->tls ||
	    (flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE)))
		return false;
	h = side_of(c);
	if (!http_at_start(&h->flow) || h->next != load(&c->pos[OLLY_SEND]) ||
	    !olly_injects_now() || c->generation != olly_live->generation ||
	    !platform_copy(parts, iov, count * sizeof(*iov)))
		return false;
	for (i = 0; i < count; i++)
		all += parts[i].iov_len;
	first = parts[0].iov_len < LOOK ? parts[0].iov_len : LOOK;
	if (!platform_readable(parts[0].iov_base, first) ||
	    !http_parse(parts[0].iov_base, first, &head) ||
	    /* behind it comes another one already */
	    (!head.chunked && !head.ends && all > head.size + head.length) ||
	    !olly_http_wanted(&head, fd, false) || !take(c, HTTP_OUT))
		return false;
	whole = platform_takes_whole(fd, h->next, head.fits + HTTP_HEADER);
	if (!whole)
		olly_http_refuse(OLLY_REFUSED_WHOLE);
	if (!whole ||
	    !olly_http_draw(&head, c->sock, all, !c->nonblock && !(flags & MSG_DONTWAIT), &trace)) {
		store_release(&c->http, HTTP_OUT);
		return false;
	}
	*result = send_with(fd, c, parts, count, flags, message, &head, &trace);
	return true;
}

bool olly_http_write(int fd, const void *buffer, size_t size, int flags, bool message,
		     ssize_t *result)
{
	const struct iovec one = {(void *)buffer, size};

	return olly_http_send(fd, &one, 1, flags, message, result);
}

bool olly_http_send_message(int fd, const struct msghdr *message, int flags, ssize_t *result)
{
	struct msghdr m;

	if (olly_http_pay(fd, flags, result))
		return true;
	if (!load_acquire(&olly_live) || load(&olly_no_syscalls) ||
	    !platform_copy(&m, message, sizeof(m)) || m.msg_name || m.msg_control)
		return false;
	return olly_http_send(fd, m.msg_iov, olly_parts(&m), flags, true, result);
}

static void follow(struct conn *c, u64 position, u64 n, const struct iovec *iov, u32 count)
{
	struct http_side *h = side_of(c);

	if (h->next != position)
		h->flow.state = HTTP_LOST;
	else if (count == 0)
		http_follow(&h->flow, NULL, n);
	else
		http_follow_parts(&h->flow, iov, count, 0, n);
	h->next = position + n;
	if (h->flow.state == HTTP_LOST)
		store(&c->http, 0);
}

/* After a call that moved n bytes of a connection that is followed. */
void olly_http_moved(struct conn *c, int dir, u64 position, u64 n, const struct iovec *iov,
		     u32 count, u32 flags)
{
	const u8 http = load(&c->http);
	const bool seen = count && !(flags & OLLY_IO_NO_BUFFER);

	if (n == 0 || http == HTTP_BUSY || http == HTTP_OWES)
		return;
	if (c->tls || (seen && olly_is_record(n, iov)) || /* what counts is the session's */
	    (!load(&olly_region->inject) && load(&olly_region->told))) {
		olly_http_closed(c);
	} else if (http == HTTP_IN) {
		olly_http_served(side_of(c), dir, seen ? iov[0].iov_base : NULL,
				 seen && iov[0].iov_len < n ? iov[0].iov_len : n,
				 c->nonblock || flags & OLLY_IO_NONBLOCK);
	} else if (dir == OLLY_SEND) {
		follow(c, position, n, iov, seen ? count : 0);
	}
}
