/*
 * Descriptors and the sockets behind them. A socket is known by the number that the kernel gives it
 * for life: whatever descriptor, process or thread it is reached by, it stays the same one.
 */
#include "olly.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/un.h>

u32 olly_fds[MAX_FDS];
struct conn olly_conns[MAX_CONNS];

static u32 next_conn; /* where to look for a free one */

struct conn *olly_new_conn(void)
{
	u32 i;

	for (i = 0; i < 64; i++) {
		struct conn *c = &olly_conns[add(&next_conn, 1) % MAX_CONNS];
		u32 none = 0;

		if (__atomic_compare_exchange_n(&c->refs, &none, 1, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return c;
	}
	olly_drop(OLLY_PRELOAD_NO_STATE, 0);
	return NULL;
}

void olly_put_inet(u8 to[16], u16 *port, u8 *family, const struct sockaddr_storage *a)
{
	if (a->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)a;

		__builtin_memcpy(to, &v4->sin_addr, 4);
		*port = ntohs(v4->sin_port);
		*family = OLLY_FAMILY_INET;
	} else if (a->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;

		*port = ntohs(v6->sin6_port);
		if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
			__builtin_memcpy(to, &v6->sin6_addr.s6_addr[12], 4);
			*family = OLLY_FAMILY_INET;
		} else {
			__builtin_memcpy(to, &v6->sin6_addr, 16);
			*family = OLLY_FAMILY_INET6;
		}
	}
}

static void put_path(struct olly_open_record *o, const struct sockaddr_storage *a, u32 length)
{
	const u32 head = offsetof(struct sockaddr_un, sun_path);

	o->family = OLLY_FAMILY_UNIX;
	if (length <= head || o->path_len)
		return;
	length -= head;
	if (length > sizeof(o->path))
		length = sizeof(o->path);
	__builtin_memcpy(o->path, (const char *)a + head, length);
	o->path_len = (u16)length;
}

/* Both ends' addresses into the record. False: it has no other end (a socket that listens). */
static bool describe(int fd, struct olly_open_record *o, u8 *role)
{
	struct sockaddr_storage a;
	u32 length = sizeof(a);

	if (!platform_local_name(fd, &a, &length))
		return false;
	if (a.ss_family == AF_UNIX) {
		put_path(o, &a, length);
		if (*role == OLLY_ROLE_UNKNOWN && o->path_len)
			*role = OLLY_ROLE_INBOUND;
	} else {
		olly_put_inet(o->local_addr, &o->local_port, &o->family, &a);
	}
	length = sizeof(a);
	if (!platform_peer_name(fd, &a, &length))
		return a.ss_family == AF_UNIX;
	if (a.ss_family == AF_UNIX) {
		put_path(o, &a, length);
		if (*role == OLLY_ROLE_UNKNOWN && o->path_len)
			*role = OLLY_ROLE_OUTBOUND;
	} else {
		u8 family = 0;

		olly_put_inet(o->remote_addr, &o->remote_port, &family, &a);
	}
	return true;
}

/* The OPEN record; c->pos are the positions before the call that is just being recorded. */
static bool announce(int fd, struct conn *c, bool met, u64 now)
{
	struct olly_open_record *o = olly_reserve(OLLY_REC_OPEN, 0, sizeof(*o), now);

	if (!o)
		return false;
	__builtin_memset((char *)o + sizeof(o->h), 0, sizeof(*o) - sizeof(o->h));
	olly_stamp(&o->task);
	describe(fd, o, &c->role);
	o->h.flags = met ? OLLY_OPEN_MET : 0;
	o->sock = c->sock;
	o->recv_pos = c->pos[OLLY_RECV];
	o->send_pos = c->pos[OLLY_SEND];
	o->role = c->role;
	olly_publish();
	return true;
}

/* Before this call: positions, role. `known`: c was known to an attachment before this one. */
static bool place(int fd, struct conn *c, u32 state, bool known, int dir, u64 n)
{
	u64 pos[2];

	if (state == FD_ACCEPTED || state == FD_CONNECTED) {
		c->role = state == FD_ACCEPTED ? OLLY_ROLE_INBOUND : OLLY_ROLE_OUTBOUND;
		c->pos[0] = c->pos[1] = 0;
		return false;
	}
	if (c->tcp && platform_tcp_positions(fd, &c->role, pos)) {
		pos[dir] -= pos[dir] < n ? pos[dir] : n;
		c->pos[0] = pos[0];
		c->pos[1] = pos[1];
	} else if (!known) {
		c->pos[0] = c->pos[1] = 0;
	}
	return c->role == OLLY_ROLE_UNKNOWN || c->pos[0] || c->pos[1] || !c->tcp;
}

/* A socket that this attachment does not know yet, at its first call that moved bytes. */
static struct conn *learn(int fd, u32 state, int dir, u64 n, u64 now)
{
	struct conn *c;
	bool met;
	const bool known = state >= FD_FIRST;

	if (load(&olly_no_syscalls) || !olly_has_room(sizeof(struct olly_open_record)))
		return NULL;
	if (known) {
		c = &olly_conns[state - FD_FIRST];
		if (c->sock != platform_socket_id(fd)) {
			/* Closed where we did not see it, and opened again. */
			olly_closing(fd);
			store(&olly_fds[fd], FD_UNKNOWN);
			return NULL;
		}
	} else {
		c = olly_new_conn();
		if (!c)
			return NULL;
		c->sock = platform_socket_id(fd);
		c->role = OLLY_ROLE_UNKNOWN;
		c->tcp = platform_stream_of(fd) == PLATFORM_TCP;
		c->eof = c->tls = 0;
		c->hello = 0;
	}
	c->nonblock = platform_nonblocking(fd);
	met = place(fd, c, state, known, dir, n);
	if (!announce(fd, c, met, now)) {
		if (!known)
			store_release(&c->refs, 0);
		return NULL; /* its next call tries again */
	}
	c->fd = fd;
	if (!known)
		olly_http_met(c, state);
	c->last_ns = now;
	store_release(&c->generation, olly_live->generation);
	if (!known) {
		const u32 index = FD_FIRST + (u32)(c - olly_conns);

		if (!__atomic_compare_exchange_n(&olly_fds[fd], &state, index, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
			store_release(&c->refs, 0); /* another thread was quicker */
			return state >= FD_FIRST ? &olly_conns[state - FD_FIRST] : NULL;
		}
	}
	return c;
}

void olly_check_agent(u64 now)
{
	const u64 beat = load(&olly_region->beat_ns);

	if (unlikely(olly_region->detached || (beat && now > beat + OLLY_PRELOAD_DEAD_NS)))
		olly_agent_gone(now);
}

/*
 * Nothing is to be captured, for now or for good. Positions go on, so that what was moved meanwhile
 * is known as missing when capture comes back; a socket that nobody announced is met then. The
 * agent's clock is looked at seldom: asking for the time costs more than all the rest.
 */
static void dormant(int fd, u32 state, int dir, u64 n)
{
	if (likely(state >= FD_FIRST)) {
		if (n)
			add(&olly_conns[state - FD_FIRST].pos[dir], n);
	} else if (state == FD_ACCEPTED || state == FD_CONNECTED) {
		store(&olly_fds[fd], FD_SOCKET);
	}
	if (unlikely((++olly_self()->dormant_calls & 15) == 0 || load(&olly_region->detached)))
		olly_check_agent(olly_coarse_now());
}

static bool said_quiet(const struct conn *c)
{
	struct olly_policy *policy = policy_of(c->sock);

	return load_acquire(&policy->sock) == c->sock && load(&policy->mode) == OLLY_POLICY_QUIET;
}

/* The conn of a descriptor, announced; NULL: not a stream socket, or not to be had now. */
struct conn *olly_conn_of(int fd, int dir, u64 n, u64 *now)
{
	u32 state = load(&olly_fds[fd]);

	if (state == FD_UNKNOWN) {
		u32 found;

		if (load(&olly_no_syscalls))
			return NULL;
		found = platform_stream_of(fd) ? FD_SOCKET : FD_OTHER;
		if (!__atomic_compare_exchange_n(&olly_fds[fd], &state, found, false,
						 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return NULL;
		state = found;
		if (state == FD_OTHER)
			return NULL;
	} else if (state == FD_ACCEPTED || state == FD_CONNECTED) {
		if (!load(&olly_no_syscalls) && !platform_stream_of(fd)) {
			store(&olly_fds[fd], FD_OTHER);
			return NULL;
		}
	}
	if (unlikely(!olly_ready())) {
		if (state == FD_ACCEPTED || state == FD_CONNECTED)
			store(&olly_fds[fd], FD_SOCKET);
		return NULL;
	}
	if (unlikely(load(&olly_region->quiet))) {
		dormant(fd, state, dir, n);
		return NULL;
	}
	if (likely(state >= FD_FIRST)) {
		struct conn *c = &olly_conns[state - FD_FIRST];

		if (likely(c->generation == olly_live->generation)) {
			/* the exact time is most of what a call costs, and only records want it */
			*now = said_quiet(c) ? olly_coarse_now() : olly_now();
			if (likely((long long)(*now - c->last_ns) < LOOK_AGAIN_NS) ||
			    load(&olly_no_syscalls) || platform_socket_id(fd) == c->sock)
				return c;
			olly_closing(fd);
			state = FD_UNKNOWN;
			store(&olly_fds[fd], state);
			return NULL;
		}
	}
	*now = olly_now();
	return learn(fd, state, dir, n, *now);
}

/*
 * A socket that has just connected is announced before its first bytes go out: the peer may read,
 * answer and close before the sender's thread gets its CPU back, and must not be met alone.
 */
void olly_announce_connected(int fd)
{
	struct sockaddr_storage a;
	u32 length = sizeof(a);

	if (load(&olly_no_syscalls) || !olly_ready() || olly_region->quiet ||
	    !platform_stream_of(fd) || !platform_peer_name(fd, &a, &length))
		return;
	learn(fd, FD_CONNECTED, OLLY_SEND, 0, olly_now());
}

/* --- the life of descriptors ---------------------------------------------------------------------
 */

/* A descriptor that is new, whatever had its number before. */
void olly_opened(int fd)
{
	if ((u32)fd >= MAX_FDS)
		return;
	if (load(&olly_fds[fd]) >= FD_FIRST)
		olly_closing(fd);
	store(&olly_fds[fd], FD_UNKNOWN);
}

void olly_accepted(int fd)
{
	if ((u32)fd >= MAX_FDS)
		return;
	olly_opened(fd);
	store(&olly_fds[fd], FD_ACCEPTED);
	/*
	 * Here, not at the first read: the threads that serve the first connections would all be at
	 * it then, and all but the one that attaches would miss what they have just read.
	 */
	olly_ready();
}

/* Before connect(). True: olly_connect_ended wants to hear how it went. */
bool olly_connecting(int fd, u64 *sock)
{
	struct olly_connect_record *r;
	enum platform_stream kind;
	u32 state;

	*sock = 0;
	if ((u32)fd >= MAX_FDS || load(&olly_no_syscalls))
		return false;
	state = load(&olly_fds[fd]);
	if (state >= FD_FIRST && olly_conns[state - FD_FIRST].sock != platform_socket_id(fd)) {
		olly_opened(fd);
		state = FD_UNKNOWN;
	}
	/* A second call on a socket that is connecting or connected is a question. */
	if (state == FD_CONNECTED || state >= FD_FIRST)
		return false;
	kind = platform_stream_of(fd);
	if (kind == PLATFORM_NO_STREAM)
		return false;
	if (kind == PLATFORM_UNIX || !olly_ready() || olly_region->quiet)
		return true;
	*sock = platform_socket_id(fd);
	r = olly_reserve(OLLY_REC_CONNECT, 0, sizeof(*r), olly_now());
	if (r) {
		olly_stamp(&r->task);
		r->sock = *sock;
		r->error = 0;
		r->reserved = 0;
		olly_publish();
	}
	return true;
}

void olly_connect_ended(int fd, u64 sock, int error)
{
	struct olly_connect_record *r;

	if (error == 0 || error == EINPROGRESS || error == EINTR) {
		store(&olly_fds[fd], FD_CONNECTED);
		if (error == 0 && sock && olly_ready() && !olly_region->quiet)
			learn(fd, FD_CONNECTED, OLLY_SEND, 0, olly_now());
		return;
	}
	if (!sock || !olly_ready())
		return;
	r = olly_reserve(OLLY_REC_CONNECT, 0, sizeof(*r), olly_now());
	if (!r)
		return;
	olly_stamp(&r->task);
	r->sock = sock;
	r->error = (u32)error;
	r->reserved = 0;
	olly_publish();
}

void olly_release_conn(struct conn *c)
{
	const u64 sock = c->sock, recv_pos = c->pos[OLLY_RECV], send_pos = c->pos[OLLY_SEND];
	const bool told = olly_live && c->generation && c->generation == olly_live->generation;
	struct olly_close_record *r;

	if (load(&c->http) && load(&c->refs) == 1)
		olly_http_closed(c);
	if (__atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	if (!told)
		return;
	r = olly_reserve(OLLY_REC_CLOSE, 0, sizeof(*r), olly_now());
	if (!r)
		return;
	r->sock = sock;
	r->recv_pos = recv_pos;
	r->send_pos = send_pos;
	r->error = 0;
	r->reserved = 0;
	olly_publish();
}

/*
 * A child of vfork has its own descriptors and our memory: what it closes stays open here. Asked
 * for only where a socket that we know would be forgotten.
 */
static bool borrowed_memory(void)
{
	return olly_live && olly_live->pid && !load(&olly_no_syscalls) &&
	       platform_process() != olly_live->pid;
}

/* Before the real close: afterwards the number may be another thread's. */
void olly_closing(int fd)
{
	u32 state;

	if ((u32)fd >= MAX_FDS)
		return;
	state = load(&olly_fds[fd]);
	if (state == FD_UNKNOWN || (state >= FD_FIRST && borrowed_memory()))
		return;
	state = __atomic_exchange_n(&olly_fds[fd], FD_UNKNOWN, __ATOMIC_ACQ_REL);
	if (state >= FD_FIRST)
		olly_release_conn(&olly_conns[state - FD_FIRST]);
}

void olly_closing_range(u32 first, u32 last)
{
	u32 fd;

	for (fd = first; fd < MAX_FDS && fd <= last; fd++) {
		if (load(&olly_fds[fd]) == FD_UNKNOWN)
			continue;
		if (borrowed_memory())
			return;
		olly_closing((int)fd);
	}
}

void olly_duplicated(int from, int to)
{
	u32 state;

	if ((u32)to >= MAX_FDS || from == to)
		return;
	if (load(&olly_fds[to]) >= FD_FIRST && borrowed_memory())
		return;
	olly_opened(to);
	if ((u32)from >= MAX_FDS)
		return;
	state = load(&olly_fds[from]);
	if (state >= FD_FIRST) {
		if (borrowed_memory())
			return;
		add(&olly_conns[state - FD_FIRST].refs, 1);
	} else if (state != FD_OTHER) {
		/* Two descriptors, one socket, not announced yet: only one may announce it. */
		state = FD_UNKNOWN;
	}
	store(&olly_fds[to], state);
}

void olly_set_nonblock(int fd, bool on)
{
	u32 state;

	if ((u32)fd >= MAX_FDS)
		return;
	state = load(&olly_fds[fd]);
	if (state >= FD_FIRST)
		olly_conns[state - FD_FIRST].nonblock = on;
}
