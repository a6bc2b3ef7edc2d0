/*
 * TLS sessions: how far each one's plaintext has come, and which socket it travels on. That is
 * known
 *  - from SSL_set_fd;
 *  - from the descriptor on which records were moved within a call for the session;
 *  - where the program moves the records itself (memory BIOs): from the ClientHello, whose random
 *    the session tells and which went over the socket in the clear.
 * Otherwise the plaintext is told without a socket. Positions are counted from a session's first
 * call on, whether or not there is an agent.
 */
#include "inject_tls.h"

#define BUCKETS OLLY_TLS_BUCKETS
#define WAYS OLLY_TLS_WAYS
#define HELLOS 8192u
#define PROBES 8u
/* Where counting begins when a session's beginning was not seen: anywhere but at 0. */
#define SOMEWHERE (1ull << 32)
#define RECORD_AT_MOST (1u << 30)
#define SSL_RECEIVED_SHUTDOWN 2
/* Stacks grow down: a call within a call has its frame below the other one's, and near. */
#define DEEPEST (256 * 1024)

static u64 keys[BUCKETS][WAYS];
static struct session sessions[BUCKETS][WAYS];
static u8 full[BUCKETS]; /* a session had to go: a new one may be an old one */
static struct conn *hellos[HELLOS];

static u32 bucket_of(u64 key)
{
	return (u32)((key >> 4) * 0x9e3779b97f4a7c15ull >> 40) % BUCKETS;
}

static struct session *session_at(const u64 *key)
{
	return (struct session *)sessions + (key - (const u64 *)keys);
}

static struct session *known(void *ssl)
{
	struct inner *inner = &olly_self()->inner;
	const u32 b = bucket_of((u64)ssl);
	u64 *last = inner->last;
	u32 i;

	if (last && load(last) == (u64)ssl && ssl)
		return session_at(last);

	for (i = 0; i < WAYS; i++) {
		if (load(&keys[b][i]) == (u64)ssl) {
			inner->last = &keys[b][i];
			return &sessions[b][i];
		}
	}
	return NULL;
}

static void drop_stand_in(struct session *s)
{
	struct conn *c = __atomic_exchange_n(&s->stand_in, NULL, __ATOMIC_ACQ_REL);

	if (c)
		olly_release_conn(c);
}

static void reset(struct session *s, u64 begin)
{
	drop_stand_in(s);
	if (unlikely(s->http))
		olly_tls_unfollow(s);
	s->pos[0] = s->pos[1] = begin;
	s->sock = s->generation = 0;
	s->conn = NULL;
	s->fd = -1;
	s->fixed = s->freed = s->eof = s->stuck = 0;
}

/* A place for a new one: free, or of one that is probably no more, or any. */
static struct session *make(void *ssl)
{
	const u32 b = bucket_of((u64)ssl);
	const u64 busy = 1;
	u32 round, i;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < WAYS; i++) {
			u64 key = load(&keys[b][i]);

			if (key == busy || (round == 0 && key) ||
			    (round == 1 && !sessions[b][i].freed))
				continue;
			if (!__atomic_compare_exchange_n(&keys[b][i], &key, busy, false,
							 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
				continue;
			if (round == 2)
				store(&full[b], 1);
			reset(&sessions[b][i], load(&full[b]) ? SOMEWHERE : 0);
			store_release(&keys[b][i], (u64)ssl);
			return &sessions[b][i];
		}
	}
	return NULL;
}

struct session *olly_tls_session(void *ssl)
{
	struct session *s = known(ssl);

	if (likely(s != NULL)) {
		/* Freed, and here again: the same one (it had several owners), or made unseen. */
		if (unlikely(s->freed))
			reset(s, SOMEWHERE);
		return s;
	}
	return ssl ? make(ssl) : NULL;
}

u32 olly_tls_number(const struct session *s)
{
	return (u32)(s - &sessions[0][0]);
}

void olly_tls_uses(void *ssl, int fd)
{
	struct session *s = olly_tls_session(ssl);

	if (!s || (s->fixed && s->fd == fd))
		return;
	if (s->sock)
		reset(s, 0); /* another connection */
	s->fd = fd;
	s->fixed = 1;
}

void olly_tls_made(void *ssl)
{
	struct session *s = known(ssl);

	if (s)
		reset(s, 0);
}

void olly_tls_cleared(void *ssl)
{
	struct session *s = known(ssl);
	const int fd = s && s->fixed ? s->fd : -1;

	if (!s || olly_self()->inner.frame) /* a handshake begins with that, too */
		return;
	reset(s, 0);
	s->fd = fd;
	s->fixed = fd >= 0;
}

void olly_tls_freed(void *ssl, bool surely)
{
	struct session *s = known(ssl);
	const u32 b = bucket_of((u64)ssl);

	if (!s)
		return;
	drop_stand_in(s);
	if (unlikely(s->http))
		olly_tls_unfollow(s);
	s->freed = 1;
	if (surely)
		store_release(&keys[b][s - sessions[b]], 0);
}

/* --- which socket ------------------------------------------------------------------------------
 */

/* It begins with its type and 3.x. */
bool olly_is_record(u64 n, const struct iovec *iov)
{
	const u8 *b = iov[0].iov_base;
	const size_t size = iov[0].iov_len < n ? iov[0].iov_len : n;

	return size >= 5 && b[0] >= 0x14 && b[0] <= 0x17 && b[1] == 3 && b[2] <= 4;
}

void olly_maybe_tls(struct conn *c, int fd, int dir, u64 n, const struct iovec *iov)
{
	const u8 *b = iov[0].iov_base;
	const size_t size = iov[0].iov_len < n ? iov[0].iov_len : n;
	u64 hello;
	u32 i;

	if (likely(!olly_is_record(n, iov)))
		return;
	if (olly_self()->inner.frame) {
		c->tls = 1;
		olly_self()->inner.fd = fd;
	}
	/* ClientHello: its random is behind the record's header, the message's and the version. */
	if (b[0] != 0x16 || size < 43 || b[5] != 1)
		return;
	__builtin_memcpy(&hello, b + 11, sizeof(hello));
	c->hello = hello;
	c->hello_dir = (u8)dir;
	for (i = 0; i < PROBES; i++) {
		struct conn **place = &hellos[(hello + (u64)dir + i) % HELLOS];
		const struct conn *there = load_acquire(place);

		/* One that is gone or was found needs its place no more; nor, where all are
		 * taken, the last. */
		if (there && there != c && load(&there->refs) && !there->tls && i < PROBES - 1)
			continue;
		store_release(place, c);
		return;
	}
}

/* The conn over which this session's ClientHello went. Both ends may be in this program. */
static void find_by_hello(struct session *s, const struct tls_library *t, void *ssl)
{
	u64 hello = 0;
	struct conn *c;
	int dir;
	u32 i;

	if (!t->SSL_get_client_random || !t->SSL_is_server)
		return;
	dir = t->SSL_is_server(ssl) ? OLLY_RECV : OLLY_SEND;
	if (t->SSL_get_client_random(ssl, (u8 *)&hello, sizeof(hello)) != sizeof(hello) || !hello)
		return;
	for (i = 0; i < PROBES; i++) {
		c = load_acquire(&hellos[(hello + (u64)dir + i) % HELLOS]);
		if (!c || c->hello != hello || c->hello_dir != dir || !load(&c->refs))
			continue;
		s->conn = c;
		s->sock = c->sock;
		c->tls = 1;
		return;
	}
}

/* What the call that has just ended did says where the session's records travel. */
static void learn(struct session *s, const struct inner *inner, const struct tls_call *call,
		  void *ssl)
{
	const int fd = inner->fd;
	u32 state;

	if (fd >= 0 && (u32)fd < MAX_FDS) {
		state = load(&olly_fds[fd]);
		/* What another session's call did is taken for this one's only where nothing is
		 * known: TLS within TLS. */
		if (inner->others && s->sock)
			return;
		if (!s->fixed && (!s->sock || state >= FD_FIRST))
			s->fd = fd;
		if (state < FD_FIRST) /* no agent yet: conn_of looks again */
			return;
		if (s->fd == fd) {
			s->conn = &olly_conns[state - FD_FIRST];
			s->sock = s->conn->sock;
		}
	} else if (!s->sock && !s->fixed && !s->stand_in) {
		find_by_hello(s, call->library, ssl);
	}
}

/* A conn of no socket, for plaintext whose socket is not known. */
static struct conn *stand_in(struct session *s, const struct tls_library *t, void *ssl, u64 now)
{
	struct olly_open_record *o;
	struct conn *c = s->stand_in;

	if (!c) {
		c = olly_new_conn();
		if (!c)
			return NULL;
		__builtin_memset((char *)c + sizeof(c->refs), 0, sizeof(*c) - sizeof(c->refs));
		/* No socket has such a cookie, and no other process such a number. */
		c->sock = 1ull << 63 | (u64)olly_live->pid << 40 | (now >> 4 & 0xffffffffffull);
		s->stand_in = c;
	}
	if (c->generation == olly_live->generation)
		return c;
	o = olly_reserve(OLLY_REC_OPEN, OLLY_OPEN_MET, sizeof(*o), now);
	if (!o)
		return NULL;
	__builtin_memset((char *)o + sizeof(o->h), 0, sizeof(*o) - sizeof(o->h));
	olly_stamp(&o->task);
	o->sock = c->sock;
	if (t->SSL_is_server)
		o->role = t->SSL_is_server(ssl) ? OLLY_ROLE_INBOUND : OLLY_ROLE_OUTBOUND;
	olly_publish();
	c->generation = olly_live->generation;
	return c;
}

/* NULL: nobody listens, or it is a socket that cannot be told of now. */
static struct conn *conn_of(struct session *s, const struct tls_library *t, void *ssl, int dir,
			    u64 *now)
{
	struct conn *c;

	if (!olly_ready() || olly_region->quiet)
		return NULL;
	if (s->fd >= 0) {
		c = s->conn;
		if (likely(c && c->sock == s->sock && c->generation == olly_live->generation &&
			   (u32)s->fd < MAX_FDS &&
			   load(&olly_fds[s->fd]) == FD_FIRST + (u32)(c - olly_conns))) {
			*now = olly_now();
			if (likely((long long)(*now - c->last_ns) < LOOK_AGAIN_NS)) {
				c->last_ns = *now;
				return c;
			}
		}
		c = olly_conn_of(s->fd, dir, 0, now);
		if (c && (s->fixed || !s->sock || c->sock == s->sock)) {
			s->conn = c;
			s->sock = c->sock;
			c->tls = 1;
			*now = olly_now(); /* exactly: the socket may be quiet, its plaintext is not
					    */
			c->last_ns = *now;
			return c;
		}
		if (!c && (u32)s->fd < MAX_FDS && load(&olly_fds[s->fd]) != FD_OTHER)
			return NULL;
	} else if (s->conn && s->conn->sock == s->sock && load(&s->conn->refs)) {
		/* One that an earlier agent knew is announced again by what the program moves. */
		*now = olly_now();
		return s->conn->generation == olly_live->generation ? s->conn : NULL;
	}
	*now = olly_now();
	return stand_in(s, t, ssl, *now);
}

/* --- what is told of it ------------------------------------------------------------------------
 */

static void put(char *to, size_t room, const char *from, size_t size)
{
	__builtin_memcpy(to, from, size < room ? size : room);
}

static u32 length_of(const char *text)
{
	u32 n = 0;

	while (text && text[n] && n < 1024)
		n++;
	return n;
}

static void describe(struct olly_tls_record *r, const struct tls_library *t, void *ssl)
{
	struct olly_datum datum = {NULL, 0};
	const void *cipher;
	const u8 *alpn = NULL;
	unsigned size = 0;
	int version;

	if (t->SSL_version)
		r->version = (u16)t->SSL_version(ssl);
	if (t->SSL_get0_alpn_selected) {
		t->SSL_get0_alpn_selected(ssl, &alpn, &size);
		if (alpn)
			put(r->alpn, sizeof(r->alpn), (const char *)alpn, size);
	}
	if (t->SSL_get_servername) {
		const char *name = t->SSL_get_servername(ssl, 0);

		put(r->server_name, sizeof(r->server_name), name, length_of(name));
	}
	if (t->SSL_get_current_cipher && t->SSL_CIPHER_get_protocol_id) {
		cipher = t->SSL_get_current_cipher(ssl);
		if (cipher)
			r->cipher = t->SSL_CIPHER_get_protocol_id(cipher);
	}
	if (t->gnutls_protocol_get_version) {
		version = t->gnutls_protocol_get_version(ssl); /* 2 = TLS 1.0 */
		if (version >= 2 && version <= 5)
			r->version = (u16)(0x0301 + version - 2);
	}
	if (t->gnutls_alpn_get_selected_protocol &&
	    t->gnutls_alpn_get_selected_protocol(ssl, &datum) == 0 && datum.data)
		put(r->alpn, sizeof(r->alpn), (const char *)datum.data, datum.size);
}

static void tell(struct session *s, const struct conn *c, const struct tls_library *t, void *ssl,
		 u64 now)
{
	struct olly_tls_record *r = olly_reserve(OLLY_REC_TLS, 0, sizeof(*r), now);

	if (!r)
		return;
	__builtin_memset((char *)r + sizeof(r->h), 0, sizeof(*r) - sizeof(r->h));
	r->sock = c->sock;
	describe(r, t, ssl);
	olly_publish();
	s->generation = olly_live->generation;
}

static void record(struct session *s, const struct tls_call *call, void *ssl, int dir, u64 position,
		   u64 n, const u8 *buffer)
{
	struct conn *c;
	u64 now, done = 0;

	c = conn_of(s, call->library, ssl, dir, &now);
	if (!c)
		return;
	olly_check_agent(now);
	if (unlikely(s->generation != olly_live->generation))
		tell(s, c, call->library, ssl, now);
	do {
		const u64 part = n - done < RECORD_AT_MOST ? n - done : RECORD_AT_MOST;
		const struct iovec one = {(void *)(buffer + done), part};

		olly_emit(c, c->sock ^ OLLY_PLAINTEXT_POLICY, position + done, dir, part, &one, 1,
			  OLLY_IO_PLAINTEXT | (buffer ? 0 : OLLY_IO_NO_BUFFER), now);
		done += part;
	} while (done < n);
}

/* --- around a call -----------------------------------------------------------------------------
 */

void olly_tls_begin(struct tls_call *call, void *ssl, const void *frame)
{
	struct inner *inner = &olly_self()->inner;
	const char *outer = inner->frame;

	call->frame = frame;
	call->nested = outer && call->frame < outer && outer - call->frame < DEEPEST;
	if (call->nested) {
		inner->others |= ssl != inner->ssl;
		return;
	}
	inner->frame = frame;
	inner->ssl = ssl;
	inner->fd = -1;
	inner->eof = false;
	inner->others = false;
}

static bool said_goodbye(const struct tls_library *t, const void *ssl)
{
	return t->SSL_get_shutdown && t->SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN;
}

void olly_tls_end(struct tls_call *call, void *ssl, int dir, size_t n, enum tls_end end,
		  const void *buffer)
{
	struct inner *inner = &olly_self()->inner;
	struct session *s = olly_tls_session(ssl);
	u64 position;

	if (call->nested) { /* its own function again; or its plaintext is another one's records */
		if (s && ssl != inner->ssl)
			store(&s->pos[dir], s->pos[dir] + n);
		return;
	}
	if (unlikely(inner->frame != call->frame)) { /* another stack came in between */
		inner->fd = -1;
		inner->eof = false;
	}
	inner->frame = NULL;
	if (unlikely(!s)) {
		if (n)
			olly_drop(OLLY_PRELOAD_NO_STATE, n);
		return;
	}
	learn(s, inner, call, ssl);
	if (dir == OLLY_SEND && (buffer || n))
		s->stuck = n == 0;
	if (n) { /* no two threads read, or write, one session at once */
		position = s->pos[dir];
		store(&s->pos[dir], position + n);
		if (unlikely(olly_tls_follows(s)))
			olly_tls_followed(s, call->library, ssl, dir, position, buffer, n);
		record(s, call, ssl, dir, position, n, buffer);
	} else if (end != TLS_NO_END && !s->eof &&
		   (end == TLS_END || inner->eof || said_goodbye(call->library, ssl))) {
		s->eof = 1;
		record(s, call, ssl, dir, load(&s->pos[dir]), 0, NULL);
	}
}
