/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * Extract layer: endpoints, identity, positions and role of a socket. The back end says before how
 * a socket is seen as what it is: tcp_of, unix_of.
 */
#ifndef OLLY_BPF_SOCK_H
#define OLLY_BPF_SOCK_H

#include "common/store.h"

/* Sequence numbers of a TCP socket that are read while softirqs may change them. */
struct tcp_view {
	u64 bytes_acked;
	u64 bytes_received;
	u32 snd_una;
	u32 rcv_nxt;
};

/* Read twice: a pair is taken only if nothing moved in between. False = it kept moving. */
static __always_inline bool read_tcp_view(struct tcp_sock *tp, struct tcp_view *v)
{
	int i;

#pragma unroll
	for (i = 0; i < 4; i++) {
		v->snd_una = READ_ONCE(tp->snd_una);
		v->bytes_acked = READ_ONCE(tp->bytes_acked);
		v->rcv_nxt = READ_ONCE(tp->rcv_nxt);
		v->bytes_received = READ_ONCE(tp->bytes_received);
		if (v->snd_una == READ_ONCE(tp->snd_una) &&
		    v->bytes_acked == READ_ONCE(tp->bytes_acked) &&
		    v->rcv_nxt == READ_ONCE(tp->rcv_nxt) &&
		    v->bytes_received == READ_ONCE(tp->bytes_received))
			return true;
	}
	return false;
}

static __always_inline bool fin_queued(u8 state)
{
	return state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING ||
	       state == TCP_LAST_ACK || state == TCP_TIME_WAIT;
}

/*
 * Who connected, of a socket whose handshake was not seen: the SYN of the side that connected
 * counts in bytes_acked but not in bytes_sent, so sent-and-acknowledged sequence space exceeds the
 * bytes sent by 1 there and by 0 on the other side; a FIN that was sent adds 1 to both.
 */
static __always_inline u8 tcp_role(struct sock *sk, struct tcp_sock *tp)
{
	struct tcp_view v;
	u32 nxt, fin;
	u64 sent, space;

	if (!read_tcp_view(tp, &v))
		return OLLY_ROLE_UNKNOWN;
	nxt = READ_ONCE(tp->snd_nxt);
	sent = READ_ONCE(tp->bytes_sent) - READ_ONCE(tp->bytes_retrans);
	if (v.snd_una != READ_ONCE(tp->snd_una))
		return OLLY_ROLE_UNKNOWN;
	fin = fin_queued(READ_ONCE(sk->__sk_common.skc_state)) && nxt == READ_ONCE(tp->write_seq);
	space = v.bytes_acked + (u32)(nxt - v.snd_una) - fin - sent;
	if (space == 1)
		return OLLY_ROLE_OUTBOUND;
	return space == 0 ? OLLY_ROLE_INBOUND : OLLY_ROLE_UNKNOWN;
}

/* The 64-bit value nearest to `approx` whose low half is `low`. */
static __always_inline u64 extend(u32 low, u64 approx)
{
	return approx + (s64)(s32)(low - (u32)approx);
}

/* Bytes of each direction that calls have moved so far. */
static __always_inline u64 tcp_sent_less(struct tcp_sock *tp, u32 out_first, bool fin)
{
	u32 seq = READ_ONCE(tp->write_seq);
	u64 approx = READ_ONCE(tp->bytes_acked) + (u32)(seq - READ_ONCE(tp->snd_una));
	u64 end = extend(seq - out_first, approx);

	return fin && end ? end - 1 : end;
}

static __always_inline u64 tcp_sent(struct sock *sk, struct tcp_sock *tp, u32 out_first)
{
	return tcp_sent_less(tp, out_first, fin_queued(READ_ONCE(sk->__sk_common.skc_state)));
}

static __always_inline u64 tcp_received(struct sock *sk, struct tcp_sock *tp, u32 in_first)
{
	u32 seq = READ_ONCE(tp->copied_seq);
	u8 state = READ_ONCE(sk->__sk_common.skc_state);
	u8 shut = READ_ONCE(sk->sk_shutdown);
	u32 nxt = READ_ONCE(tp->rcv_nxt);
	u64 end = extend(seq - in_first, READ_ONCE(tp->bytes_received) - (u32)(nxt - seq));

	/* the FIN is a sequence number too, and has been read when nothing is behind it */
	if (seq == nxt && end && (shut & RCV_SHUTDOWN) &&
	    (state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING ||
	     state == TCP_TIME_WAIT || state == TCP_CLOSE))
		end--;
	return end;
}

static __always_inline bool is_v4_mapped(const struct in6_addr *a)
{
	return READ_ONCE(a->in6_u.u6_addr32[0]) == 0 && READ_ONCE(a->in6_u.u6_addr32[1]) == 0 &&
	       READ_ONCE(a->in6_u.u6_addr32[2]) == __builtin_bswap32(0xffff);
}

static __always_inline void fill_inet(struct olly_open_record *o, struct sock *sk)
{
	o->local_port = READ_ONCE(sk->__sk_common.skc_num);
	o->remote_port = __builtin_bswap16(READ_ONCE(sk->__sk_common.skc_dport));
	if (READ_ONCE(sk->__sk_common.skc_family) == AF_INET ||
	    is_v4_mapped(&sk->__sk_common.skc_v6_daddr)) {
		o->family = OLLY_FAMILY_INET;
		*(u32 *)o->local_addr = READ_ONCE(sk->__sk_common.skc_rcv_saddr);
		*(u32 *)o->remote_addr = READ_ONCE(sk->__sk_common.skc_daddr);
	} else {
		u32 *l = (u32 *)o->local_addr, *r = (u32 *)o->remote_addr;

		o->family = OLLY_FAMILY_INET6;
		l[0] = READ_ONCE(sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[0]);
		l[1] = READ_ONCE(sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[1]);
		l[2] = READ_ONCE(sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[2]);
		l[3] = READ_ONCE(sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3]);
		r[0] = READ_ONCE(sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[0]);
		r[1] = READ_ONCE(sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[1]);
		r[2] = READ_ONCE(sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[2]);
		r[3] = READ_ONCE(sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[3]);
	}
}

static __always_inline u64 inode_number(struct file *file)
{
	return BPF_CORE_READ(file, f_inode, i_ino);
}

/* A name for one end of a UNIX connection that both ends can compute; never 0. */
static __always_inline u32 unix_name(u64 sk)
{
	u64 x = sk ^ ((u64)setup.seed << 32 | setup.seed);

	x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdull;
	x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ull;
	return (u32)(x >> 32) | 1;
}

/* The accepted side shares the listener's address, the connecting side mostly has none. */
static __always_inline void fill_unix(struct olly_open_record *o, struct unix_sock *u, bool named)
{
	struct unix_address *own = READ_ONCE(u->addr), *other = NULL, *path;
	struct sock *peer = READ_ONCE(u->peer);
	int len;

	o->family = OLLY_FAMILY_UNIX;
	if (peer) {
		/* as numbers: the verifier allows no arithmetic on pointers; the peer's peer is
		 * this end */
		u64 there = 0, here = 0;

		other = BPF_CORE_READ((struct unix_sock *)peer, addr);
		bpf_probe_read_kernel(&there, sizeof(there), &u->peer);
		bpf_probe_read_kernel(&here, sizeof(here), &((struct unix_sock *)peer)->peer);
		if (named && there && here) {
			o->out_first = unix_name(here);
			o->in_first = unix_name(there);
		}
	}
	if (own && !other)
		o->role = OLLY_ROLE_INBOUND;
	else if (other && !own)
		o->role = OLLY_ROLE_OUTBOUND;
	path = own && o->role != OLLY_ROLE_OUTBOUND ? own : other;
	if (!path)
		return;
	len = BPF_CORE_READ(path, len) - 2;
	if (len <= 0)
		return;
	if (len > 108)
		len = 108;
	o->path_len = len;
	bpf_probe_read_kernel(o->path, 108, (const void *)path->name + 2);
}

#endif
