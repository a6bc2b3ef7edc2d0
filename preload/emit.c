/* Bytes that were moved, made into records. */
#include "olly.h"

static u32 gather(u8 *to, const struct iovec *iov, u32 count, u32 skip, u32 want)
{
	u32 done = 0;

	for (; count > 0 && done < want; count--, iov++) {
		size_t n = iov->iov_len;
		const u8 *from = iov->iov_base;

		if (skip >= n) {
			skip -= (u32)n;
			continue;
		}
		from += skip;
		n -= skip;
		skip = 0;
		if (n > want - done)
			n = want - done;
		__builtin_memcpy(to + done, from, n);
		done += (u32)n;
	}
	return done;
}

/* What is told of a call. */
struct call {
	const struct iovec *iov;
	u64 position;
	u64 now;
	u32 length;
	u32 count;
	u32 flags;
	int dir;
};

/* A record of the `length` bytes behind the first `done`: those from `skip` on are copied. */
static bool emit_piece(u64 sock, const struct call *m, u32 done, u32 length, u32 skip, u32 want)
{
	struct olly_io_record *r;

	r = olly_reserve(OLLY_REC_IO, m->flags, (u32)sizeof(*r) + want, m->now);
	if (unlikely(!r)) {
		add(&olly_region->lost_bytes, m->length - done);
		return false;
	}
	olly_stamp(&r->task);
	r->sock = sock;
	r->position = m->position + done;
	r->length = length;
	r->captured_offset = skip;
	r->direction = (u8)m->dir;
	r->reserved[0] = r->reserved[1] = r->reserved[2] = 0;
	r->captured = want ? gather((u8 *)(r + 1), m->iov, m->count, done + skip, want) : 0;
	olly_publish();
	return true;
}

/*
 * The IO records of a call, as far as the policy wants any. `n` fits into 32 bits. A call of which
 * more is wanted than one record holds goes out in several, as if as many calls had moved its bytes
 * at one moment; none stands behind one that found no room.
 */
bool olly_emit(struct conn *c, u64 id, u64 position, int dir, u64 n, const struct iovec *iov,
	       u32 count, u32 flags, u64 now)
{
	struct call m = {iov, position, now, (u32)n, count, flags, dir};
	struct olly_policy *policy = policy_of(id);
	u32 limit, skip = 0, done = 0;

	limit = olly_region->max_copy ? olly_region->max_copy : OLLY_PRELOAD_MAX_COPY;
	if (limit > OLLY_PRELOAD_MAX_COPY)
		limit = OLLY_PRELOAD_MAX_COPY;
	if (load_acquire(&policy->sock) == id) {
		const u64 until = load(&policy->skip_until[dir]);

		if (load(&policy->mode) == OLLY_POLICY_QUIET)
			return false;
		limit = load(&policy->max_copy);
		if (n && position + n < until)
			return false;
		if (until > position)
			skip = until - position > n ? (u32)n : (u32)(until - position);
	}
	if (n == 0)
		m.flags |= OLLY_IO_EOF;
	if (dir == OLLY_RECV && c->nonblock)
		m.flags |= OLLY_IO_NONBLOCK;
	if (flags & OLLY_IO_NO_BUFFER)
		limit = 0;
	if (limit > olly_ring_bytes / 4)
		limit = olly_ring_bytes / 4;
	for (;;) {
		const u32 left = (u32)n - done;
		u32 want = left > skip ? left - skip : 0, length = left;

		if (want > limit)
			want = limit;
		if (want > OLLY_PRELOAD_MAX_COPY) {
			want = OLLY_PRELOAD_MAX_COPY;
			length = skip + want;
		}
		if (!emit_piece(c->sock, &m, done, length, skip, want))
			return false;
		if (length == left)
			return true;
		done += length;
		limit -= want;
		skip = 0;
	}
}

/*
 * Ciphertext that a TLS library moves within its call, of which the agent wants no more. No two
 * threads move one session's records the same way at once.
 */
static bool only_counted(int fd, int dir, u64 n)
{
	const struct live *l = load_acquire(&olly_live);
	const u32 state = load(&olly_fds[fd]);
	const struct olly_policy *policy;
	struct conn *c;

	if (!l || state < FD_FIRST || n == 0)
		return false;
	c = &olly_conns[state - FD_FIRST];
	if (!c->tls || c->generation != l->generation || !c->generation)
		return false;
	policy = policy_of(c->sock);
	if (load_acquire(&policy->sock) != c->sock || load(&policy->mode) != OLLY_POLICY_QUIET)
		return false;
	store(&c->pos[dir], c->pos[dir] + n);
	return true;
}

void olly_record_io(int fd, int dir, long n, const struct iovec *iov, u32 count, u32 flags)
{
	struct inner *inner = &olly_self()->inner;
	struct conn *c;
	u64 now = 0, position;

	if (unlikely(inner->frame != NULL)) {
		if (likely(only_counted(fd, dir, (u64)n))) {
			inner->fd = fd;
			return;
		}
		if (count && !(flags & OLLY_IO_NO_BUFFER) && olly_is_record((u64)n, iov))
			inner->fd = fd; /* whether or not there is an agent */
	}
	c = olly_conn_of(fd, dir, (u64)n, &now);
	if (unlikely(!c))
		return;
	position = n ? add(&c->pos[dir], (u64)n) : load(&c->pos[dir]);
	c->last_ns = now;
	olly_check_agent(now);
	if (n == 0) {
		inner->eof = true;
		if (c->eof)
			return;
	} else if (c->tls) {
		inner->fd = fd;
	} else if (count && !(flags & OLLY_IO_NO_BUFFER)) {
		olly_maybe_tls(c, fd, dir, (u64)n, iov);
	}
	if (unlikely(c->http))
		olly_http_moved(c, dir, position, (u64)n, iov, count, flags);
	if (c->tls)
		flags |= OLLY_IO_CIPHERTEXT;
	if (olly_emit(c, c->sock, position, dir, (u64)n, iov, count, flags, now) && n == 0)
		c->eof = 1;
}
