/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * A call has moved bytes: where they are in their direction, whether anybody wants them, and how
 * many of them. The same for both back ends, which find the socket and the bytes.
 */
#ifndef OLLY_BPF_IO_H
#define OLLY_BPF_IO_H

#include "common/conn.h"
#include "common/task.h"

/* Of a call that moved `length` bytes, or, receiving, found the end of the stream: 0. */
struct moved {
	struct task_struct *task;
	struct verdict verdict;
	u32 direction;
	u32 length;
	/* Positions. UNIX: said by the back end; TCP: found out here. */
	u64 start;
	u64 end;
	u64 before;   /* last known end before this call */
	bool unknown; /* nobody has said anything of this connection yet */
};

static __always_inline struct olly_policy *policy_of(u64 id)
{
	u32 slot = (u32)id & (OLLY_POLICY_SLOTS - 1);
	struct olly_policy *policy = bpf_map_lookup_elem(&policies, &slot);

	return policy && policy->sock == id ? policy : NULL;
}

/* Nothing moved: is it the end of the stream, or was it a call for no bytes? */
static __always_inline bool at_end(struct sock *sk)
{
	return (READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN) ||
	       READ_ONCE(sk->__sk_common.skc_state) == TCP_CLOSE;
}

/* UNIX sockets have no sequence numbers: all that is moved is counted. */
static __always_inline void place_unix(struct conn *c, struct moved *m)
{
	m->start = __sync_fetch_and_add(&c->end[m->direction], (u64)m->length);
	m->end = m->start + m->length;
	m->before = m->start;
}

/* End of the bytes that the call just moved. */
static __always_inline u64 end_of_call(struct conn *c, struct sock *sk, struct tcp_sock *tp,
				       u32 dir, u32 length)
{
	u32 seq = dir == OLLY_SEND ? READ_ONCE(tp->write_seq) : READ_ONCE(tp->copied_seq);
	u64 last = c->end[dir];

	if (seq - c->first[dir] - (u32)last == length)
		return last + length; /* the rule: it goes on where it ended */
	return dir == OLLY_SEND ? tcp_sent(sk, tp, c->first[OLLY_SEND])
				: tcp_received(sk, tp, c->first[OLLY_RECV]);
}

/* False: not a connection yet (TCP fast open counts once it is), or it cannot be known now. */
static __always_inline bool place_tcp(struct conn *c, struct sock *sk, struct tcp_sock *tp,
				      struct moved *m)
{
	const u32 dir = m->direction;

	if (!(c->flags & S_KNOWN)) {
		if (READ_ONCE(sk->__sk_common.skc_state) == TCP_SYN_SENT)
			return false;
		learn_tcp(c, sk, tp);
		if (!(c->flags & S_KNOWN))
			return false;
		m->end = c->end[dir];
		m->start = m->end - m->length;
		m->before = m->start;
		if (c->role == OLLY_ROLE_UNKNOWN || c->end[dir ^ 1] || m->start)
			c->flags |= S_MET;
	} else {
		m->before = c->end[dir];
		m->end = end_of_call(c, sk, tp, dir, m->length);
		m->start = m->end - m->length;
		if (m->end > m->before)
			c->end[dir] = m->end;
	}
	return m->end >= m->length;
}

/* How many of the bytes to copy, and from where on. */
static __always_inline void choose_bytes(const struct conn *c, const struct olly_policy *policy,
					 const struct moved *m, struct io *io)
{
	u64 skip_until;

	if (!policy) {
		io->limit = unknown_limit(m->start, !(c->flags & S_MET), c->flags & S_FRAMED);
		return;
	}
	io->limit = control.max_copy;
	if (io->limit > policy->max_copy)
		io->limit = policy->max_copy;
	skip_until = policy->skip_until[m->direction];
	if (skip_until > m->start)
		io->skip = skip_until - m->start > m->length ? m->length : skip_until - m->start;
}

/*
 * Fills `io` and `stamp` for a call on a connection, and announces the connection where that has
 * not been done. True: there is a record to store. `tp` is NULL for a UNIX socket.
 */
static __always_inline bool begin_io(struct conn *c, struct sock *sk, struct tcp_sock *tp,
				     struct moved *m, struct io *io, struct olly_task *stamp)
{
	struct olly_policy *policy = policy_of(c->id);
	const u32 dir = m->direction;

	if (policy && policy->mode == OLLY_POLICY_QUIET)
		return false;
	if (!(c->flags & S_UNIX) && !place_tcp(c, sk, tp, m))
		return false;
	if (policy && (c->flags & S_ANNOUNCED) && m->length && m->end < policy->skip_until[dir])
		return false;
	io->now = bpf_ktime_get_ns();
	stamp_task(stamp, m->task, io->now, m->verdict.goid_offset);
	if (!(c->flags & S_ANNOUNCED)) {
		struct opening as = {.id = c->id};

		as.position[dir] = m->start;
		as.position[dir ^ 1] = c->end[dir ^ 1];
		announce(c, sk, io->now, &as, stamp);
	}
	if ((c->flags & (S_OWN | S_ANNOUNCED)) != S_ANNOUNCED)
		return false; /* own; or the reader does not know this socket yet */
	io->sock = c->id;
	io->direction = dir;
	io->length = m->length;
	if (!m->length) {
		io->position = m->end;
		io->flags |= OLLY_IO_EOF;
		return !(c->flags & S_EOF);
	}
	io->position = m->start;
	m->unknown = !policy;
	if (m->start < m->before)
		io->flags |= OLLY_IO_OVERLAP;
	choose_bytes(c, policy, m, io);
	return true;
}

/* Whose socket it is. False: the agent's own, and known to be. */
static __always_inline bool of_interest(struct conn *c, u32 verdict)
{
	if (verdict & VERDICT_OBSERVE)
		return true;
	if (!(verdict & VERDICT_OWN) || (c->flags & S_ANNOUNCED))
		return false;
	c->flags |= S_OWN;
	return true;
}

/* Once it is known where the bytes are: of some connections more of them count. */
static __always_inline void look_at_bytes(struct conn *c, const struct moved *m, struct io *io,
					  const struct buffer *b)
{
	if (b->kind == BUFFER_NONE)
		io->flags |= OLLY_IO_NO_BUFFER;
	if (m->start == 0 && m->unknown && is_preface(b)) {
		c->flags |= S_FRAMED;
		io->limit = control.max_copy;
	}
}

/* The end of the stream has no bytes. Said again where there was no room for it. */
static __always_inline void store_end(struct conn *c, const struct io *io,
				      const struct olly_task *stamp)
{
	if (store_plain(io, stamp, 0, 0))
		count_drop(OLLY_DROP_RING_FULL, 0);
	else
		c->flags |= S_EOF;
}

#endif
