/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * What is known of a connection, and the records that tell of its begin and end. Where the state
 * lives is the back end's affair (`conn_of` and the like, in its own file).
 */
#ifndef OLLY_BPF_CONN_H
#define OLLY_BPF_CONN_H

#include "common/sock.h"
#include "common/store.h"

#define S_KNOWN 0x01u	  /* first[] and end[] hold */
#define S_ANNOUNCED 0x02u /* the OPEN record went out */
#define S_OWN 0x04u	  /* the agent's */
#define S_UNIX 0x08u
#define S_MET 0x10u	/* older than the agent */
#define S_CLOSED 0x20u	/* the CLOSE record went out, or there is none to make */
#define S_EOF 0x40u	/* the EOF record went out */
#define S_FIN 0x80u	/* a FIN was sent: it is a sequence number too */
#define S_FRAMED 0x100u /* began with HTTP/2's preface */
#define S_TLS 0x200u	/* a TLS library has moved its bytes */
#define S_HELLO 0x400u	/* the head of a record of TLS's handshake was received, alone */

struct conn {
	u64 id;
	u64 end[2];   /* last known end, by olly_direction */
	u32 first[2]; /* TCP: sequence number of byte 0, by olly_direction */
	u32 flags;
	u32 role;
	union {
		u64 connect_start; /* outbound, until announced */
		u64 inode;	   /* UNIX, syscall back end: of the socket that this state is of */
	};
	/* outbound, until announced */
	u64 connect_ns;
	struct olly_task connect_task;
	u32 error;
	u32 looked;	/* calls that were looked at for a ClientHello */
	u32 heard;	/* records that came while no call of a TLS library was open */
	u64 tls_object; /* the library's, where S_TLS is set, and whose */
	u32 tls_tgid;
	u32 young; /* calls that were looked at for a handshake of Go's */
};

/* Role, identity and positions of a TCP socket at any time of its life. */
static __always_inline void learn_tcp(struct conn *c, struct sock *sk, struct tcp_sock *tp)
{
	struct tcp_view v;

	if (c->role == OLLY_ROLE_UNKNOWN)
		c->role = tcp_role(sk, tp);
	if (!read_tcp_view(tp, &v))
		return; /* next time */
	c->first[OLLY_SEND] = v.snd_una - (u32)v.bytes_acked + (c->role == OLLY_ROLE_OUTBOUND);
	c->first[OLLY_RECV] = v.rcv_nxt - (u32)v.bytes_received;
	c->end[OLLY_SEND] = tcp_sent(sk, tp, c->first[OLLY_SEND]);
	c->end[OLLY_RECV] = tcp_received(sk, tp, c->first[OLLY_RECV]);
	c->flags |= S_KNOWN;
	if (fin_queued(READ_ONCE(sk->__sk_common.skc_state)))
		c->flags |= S_FIN;
}

/* What an OPEN says besides the connection's state. */
struct opening {
	u64 id;		 /* the connection's, or one that has stood for it */
	u64 position[2]; /* by olly_direction */
};

/* The OPEN record. Marked as announced only if it went out: else the next call tries again. */
static __noinline void announce(struct conn *c, struct sock *sk, u64 now, const struct opening *as,
				const struct olly_task *task)
{
	struct olly_open_record *o = reserve_record(sizeof(*o));

	if (!o)
		return;
	__builtin_memset(o, 0, sizeof(*o));
	fill_header(&o->h, OLLY_REC_OPEN,
		    (c->flags & S_MET ? OLLY_OPEN_MET : 0) | (c->flags & S_OWN ? OLLY_OPEN_OWN : 0),
		    sizeof(*o), now);
	o->task = *task;
	o->sock = as->id;
	o->recv_pos = as->position[OLLY_RECV];
	o->send_pos = as->position[OLLY_SEND];
	o->connect_ns = c->connect_ns;
	o->role = c->role;
	o->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (c->flags & S_UNIX) {
		fill_unix(o, unix_of(sk), !(c->flags & S_MET));
	} else {
		if (c->role != OLLY_ROLE_UNKNOWN) {
			o->out_first = c->first[OLLY_SEND];
			o->in_first = c->first[OLLY_RECV];
		}
		fill_inet(o, sk);
	}
	bpf_ringbuf_submit(o, submit_flags());
	c->flags |= S_ANNOUNCED;
}

static __always_inline void store_connect(u64 id, u32 error, u64 now, const struct olly_task *task)
{
	struct olly_connect_record *r = reserve_record(sizeof(*r));

	if (!r)
		return;
	fill_header(&r->h, OLLY_REC_CONNECT, 0, sizeof(*r), now);
	r->task = *task;
	r->sock = id;
	r->error = error;
	r->reserved = 0;
	bpf_ringbuf_submit(r, submit_flags());
}

static __always_inline void store_close(struct conn *c, struct sock *sk, struct tcp_sock *tp)
{
	struct olly_close_record *r;

	if (!(c->flags & S_ANNOUNCED) || (c->flags & S_CLOSED))
		return;
	r = reserve_record(sizeof(*r));
	if (!r)
		return;
	fill_header(&r->h, OLLY_REC_CLOSE, 0, sizeof(*r), bpf_ktime_get_ns());
	r->sock = c->id;
	r->recv_pos = c->end[OLLY_RECV];
	r->send_pos = c->end[OLLY_SEND];
	if (c->flags & S_KNOWN) {
		u64 pos = tcp_received(sk, tp, c->first[OLLY_RECV]);

		if (pos > r->recv_pos)
			r->recv_pos = pos;
		pos = tcp_sent_less(tp, c->first[OLLY_SEND], c->flags & S_FIN);
		if (pos > r->send_pos)
			r->send_pos = pos;
	}
	r->error = c->error;
	r->reserved = 0;
	bpf_ringbuf_submit(r, submit_flags());
	c->flags |= S_CLOSED;
}

#endif
