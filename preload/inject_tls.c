#include "inject_tls.h"

#define SLOTS 16u
/* A record: a library takes it whole, unless it uses smaller ones. */
#define MOST 16384u
#define SSL_CTRL_MODE 33
#define SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER 2

/* A request with its header, until a library has taken both. */
struct composed {
	struct http_side *owner; /* NULL = free */
	const void *from;	 /* where the program has it */
	u32 size, done;
	struct http_head head;
	u8 bytes[MOST];
};

u32 olly_tls_composed;
static struct composed slots[SLOTS];
static struct http_side sides[OLLY_TLS_BUCKETS * OLLY_TLS_WAYS];

static struct http_side *side_of(const struct session *s)
{
	return &sides[olly_tls_number(s)];
}

static struct composed *composed_of(const struct http_side *h)
{
	u32 i;

	for (i = 0; i < SLOTS; i++) {
		if (load_acquire(&slots[i].owner) == h)
			return &slots[i];
	}
	return NULL;
}

static struct composed *take_slot(struct http_side *h)
{
	u32 i;

	for (i = 0; i < SLOTS; i++) {
		struct http_side *none = NULL;

		if (__atomic_compare_exchange_n(&slots[i].owner, &none, h, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED)) {
			add(&olly_tls_composed, 1);
			return &slots[i];
		}
	}
	return NULL;
}

static void give_slot(struct composed *c)
{
	store_release(&c->owner, NULL);
	__atomic_fetch_sub(&olly_tls_composed, 1, __ATOMIC_RELAXED);
}

void olly_tls_unfollow(struct session *s)
{
	struct http_side *h = side_of(s);
	struct composed *c = s->http & HTTP_OWES ? composed_of(h) : NULL;

	if (c)
		give_slot(c);
	s->http = 0;
	olly_http_reset(h);
}

void olly_tls_collects(void *ssl)
{
	struct session *s = olly_tls_session(ssl);

	if (s && s->http != HTTP_OWES)
		s->http = HTTP_NOT;
}

/* Which end of it the program is, and whether its first byte is still to come. */
static void classify(struct session *s, const struct tls_library *t, void *ssl, u64 position)
{
	u8 role = s->conn ? s->conn->role : OLLY_ROLE_UNKNOWN;

	if (t->SSL_is_server)
		role = t->SSL_is_server(ssl) ? OLLY_ROLE_INBOUND : OLLY_ROLE_OUTBOUND;
	s->http = role == OLLY_ROLE_INBOUND			? HTTP_IN
		  : role == OLLY_ROLE_OUTBOUND && position == 0 ? HTTP_OUT
								: HTTP_NOT;
	olly_http_reset(side_of(s));
}

/* Without memory BIOs its own, else that of the socket which moves its records; -1: not known. */
static int descriptor(const struct session *s)
{
	const struct conn *c = s->conn;

	if (s->fd >= 0)
		return s->fd;
	if (c && (u32)c->fd < MAX_FDS && load(&c->refs) && c->sock == s->sock &&
	    load(&olly_fds[c->fd]) == FD_FIRST + (u32)(c - olly_conns))
		return c->fd;
	return -1;
}

static bool nonblocking(const struct session *s)
{
	return !s->conn ||
	       s->conn->nonblock; /* without a socket: an event loop moves its records */
}

void olly_tls_followed(struct session *s, const struct tls_library *t, void *ssl, int dir,
		       u64 position, const u8 *buffer, size_t n)
{
	struct http_side *h = side_of(s);

	if (s->http == 0) {
		if (dir == OLLY_RECV && t->SSL_is_server && !t->SSL_is_server(ssl))
			return; /* what is asked for counts */
		classify(s, t, ssl, position);
	}
	if (s->http == HTTP_OWES && dir == OLLY_SEND) { /* what was not written was given up */
		olly_tls_unfollow(s);
		s->http = HTTP_NOT;
	} else if (s->http == HTTP_IN) {
		olly_http_served(h, dir, buffer, n, nonblocking(s));
	} else if (s->http == HTTP_OUT && dir == OLLY_SEND) {
		if (h->next != position)
			h->flow.state = HTTP_LOST;
		else
			http_follow(&h->flow, buffer, n);
		h->next = position + n;
		if (h->flow.state == HTTP_LOST)
			s->http = HTTP_NOT;
	}
}

/* Whether the library wants the very same buffer again, not only what was in it. */
static bool may_move(const struct tls_library *t, void *ssl)
{
	const long mode = t->SSL_get_mode ? (long)t->SSL_get_mode(ssl) /* BoringSSL */
			  : t->SSL_ctrl	  ? t->SSL_ctrl(ssl, SSL_CTRL_MODE, 0, NULL)
					  : 0;

	return mode & SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;
}

/* What the program gives again is what could not be written before. */
static bool again(const struct composed *c, const struct tls_library *t, void *ssl,
		  const u8 *buffer, size_t size)
{
	const u32 fits = c->head.fits;
	const size_t rest = c->size - HTTP_HEADER - fits;

	return size >= c->size - HTTP_HEADER && buffer && (buffer == c->from || may_move(t, ssl)) &&
	       __builtin_memcmp(buffer, c->bytes, fits) == 0 &&
	       __builtin_memcmp(buffer + fits, c->bytes + fits + HTTP_HEADER, rest) == 0;
}

static void from_composed(struct tls_write *w, struct session *s, struct composed *c)
{
	w->session = s;
	w->composed = c;
	w->at = c->bytes + c->done;
	w->left = c->size - c->done;
}

static void compose(struct composed *c, const struct http_head *head, const u8 *buffer, size_t size,
		    const struct http_trace *trace)
{
	c->from = buffer;
	c->head = *head;
	c->done = 0;
	c->size = (u32)size + HTTP_HEADER;
	__builtin_memcpy(c->bytes, buffer, head->fits);
	http_write((char *)c->bytes + head->fits, trace);
	__builtin_memcpy(c->bytes + head->fits + HTTP_HEADER, buffer + head->fits,
			 size - head->fits);
}

/* A new request: may it have a header? */
static struct composed *begin(struct session *s, const struct tls_library *t, void *ssl,
			      const u8 *buffer, size_t size)
{
	struct http_side *h = side_of(s);
	struct http_head head;
	struct http_trace trace;
	struct composed *c;
	const size_t look = size < MOST ? size : MOST;

	if (s->stuck || !http_at_start(&h->flow) || h->next != load(&s->pos[OLLY_SEND]) ||
	    !olly_injects_now() || !platform_readable(buffer, look) ||
	    !http_parse(buffer, look, &head) ||
	    (!head.chunked && !head.ends && size > head.size + head.length) ||
	    !olly_http_wanted(&head, descriptor(s), true))
		return NULL;
	/* In a handshake a library may take nothing, and then something else. */
	if (t->SSL_is_server && !(t->SSL_is_init_finished && t->SSL_is_init_finished(ssl) == 1))
		return NULL;
	c = size + HTTP_HEADER > MOST ? NULL : take_slot(h);
	if (!c) {
		olly_http_refuse(OLLY_REFUSED_WHOLE);
		return NULL;
	}
	if (!olly_http_draw(&head, s->sock ^ OLLY_PLAINTEXT_POLICY, size, !nonblocking(s),
			    &trace)) {
		give_slot(c);
		return NULL;
	}
	compose(c, &head, buffer, size, &trace);
	return c;
}

bool olly_tls_instead(const struct tls_call *call, void *ssl, const void *buffer, size_t size,
		      struct tls_write *w)
{
	const struct tls_library *t = call->library;
	struct session *s = olly_tls_session(ssl);
	struct composed *c;

	if (!s || call->nested || !olly_tls_follows(s))
		return false;
	if (s->http == HTTP_OWES) {
		c = composed_of(side_of(s));
		/* GnuTLS goes on with what it has, whatever it is given. */
		if (c && (!t->SSL_is_server || again(c, t, ssl, buffer, size))) {
			from_composed(w, s, c);
			return true;
		}
		return false; /* something else: the library says what it thinks of it */
	}
	if (s->http == 0 && load(&s->pos[OLLY_SEND]) == 0)
		classify(s, t, ssl, 0);
	if (s->http != HTTP_OUT)
		return false;
	c = begin(s, t, ssl, buffer, size);
	if (!c)
		return false;
	s->http = HTTP_OWES;
	from_composed(w, s, c);
	return true;
}

bool olly_tls_more(struct tls_write *w, size_t n)
{
	struct composed *c = w->composed;

	c->done += (u32)(n < w->left ? n : w->left);
	from_composed(w, w->session, c);
	return n > 0 && c->done < c->head.fits + HTTP_HEADER;
}

size_t olly_tls_written(struct tls_call *call, void *ssl, struct tls_write *w)
{
	struct composed *c = w->composed;
	struct session *s = w->session;
	struct http_side *h = side_of(s);
	const u32 head = c->head.size;
	size_t taken;

	if (c->done < c->head.fits + HTTP_HEADER) { /* to be called again, or over */
		olly_tls_end(call, ssl, OLLY_SEND, 0, TLS_NO_END, NULL);
		return 0;
	}
	s->http = HTTP_BUSY;
	olly_tls_end(call, ssl, OLLY_SEND, c->done, TLS_NO_END, c->bytes);
	taken = c->done - HTTP_HEADER;
	http_begin(&h->flow, &c->head);
	http_follow(&h->flow, NULL, taken < head ? taken : head);
	if (taken > head)
		http_follow(&h->flow, c->bytes + HTTP_HEADER + head, taken - head);
	h->next = load(&s->pos[OLLY_SEND]);
	s->http = h->flow.state == HTTP_LOST ? HTTP_NOT : HTTP_OUT;
	give_slot(c);
	return taken;
}
