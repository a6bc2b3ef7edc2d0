/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * Syscall back end: what is known of a socket, of a call between its two ends, and the records
 * that tell of a connection's begin and end.
 */
#ifndef OLLY_BPF_SYSCALL_STATE_H
#define OLLY_BPF_SYSCALL_STATE_H

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

#define O_NONBLOCK 04000
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define MAX_MESSAGES 16 /* of one sendmmsg or recvmmsg that get a record each */

struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
} __attribute__((preserve_access_index));

struct file___inode {
	struct inode *f_inode;
} __attribute__((preserve_access_index));

struct conn {
	u64 id;
	u64 end[2];   /* last known end, by olly_direction */
	u32 first[2]; /* TCP: sequence number of byte 0, by olly_direction */
	u32 flags;
	u32 role;
	u64 inode; /* UNIX: of the socket that this state is of */
	/* outbound, until announced */
	u64 connect_start;
	u64 connect_ns;
	struct olly_task connect_task;
	u32 error;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, u64); /* struct sock * */
	__type(value, struct conn);
} conns SEC(".maps");

/* Between a call's two ends. */
struct call {
	u64 sk;
	u64 id; /* of the conn: the table's entry may be another's by then */
	u64 position;
	u64 base;
	u64 count;
	u32 seq;
	u32 nr; /* number + 1; 0 = no call */
	u32 goid_offset;
	u8 direction;
	u8 nonblock;
	u8 is_unix;
	u8 own;
	/* a large call, which finish() has not the stack to write */
	struct io io;
	struct olly_task task;
	struct buffer buffer;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call);
} calls SEC(".maps");

/* Ports the agent listens at: what is accepted there is its own. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u32);
	__type(value, u32);
} own_ports SEC(".maps");

/* Ids are never used twice, unlike addresses. */
volatile u64 next_id SEC(".data.ids") = 1;

static __always_inline struct conn *new_conn(u64 key, struct conn *c)
{
	c->id = __sync_fetch_and_add(&next_id, 1);
	if (bpf_map_update_elem(&conns, &key, c, BPF_ANY)) {
		count_drop(OLLY_DROP_NO_STATE, 0);
		return NULL;
	}
	return bpf_map_lookup_elem(&conns, &key);
}

/* Role, identity and positions of a TCP socket at any time of its life. */
static __always_inline void learn_tcp(struct conn *c, struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
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
}

/* The OPEN record. Marked as announced only if it went out: else the next call tries again. */
static __noinline int announce(struct conn *c, struct sock *sk, u64 now,
			       const struct olly_task *task)
{
	struct olly_open_record *o;
	void *ring = this_ring();

	if (!ring || !c || !task)
		return 0;
	o = bpf_ringbuf_reserve(ring, sizeof(*o), 0);
	if (!o) {
		count_drop(OLLY_DROP_RING_FULL, 0);
		return 0;
	}
	__builtin_memset(o, 0, sizeof(*o));
	fill_header(&o->h, OLLY_REC_OPEN,
		    (c->flags & S_MET ? OLLY_OPEN_MET : 0) | (c->flags & S_OWN ? OLLY_OPEN_OWN : 0),
		    sizeof(*o), now);
	o->task = *task;
	o->sock = c->id;
	o->recv_pos = c->end[OLLY_RECV];
	o->send_pos = c->end[OLLY_SEND];
	o->connect_ns = c->connect_ns;
	o->role = c->role;
	o->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (c->flags & S_UNIX) {
		fill_unix(o, (struct unix_sock *)sk, !(c->flags & S_MET));
	} else {
		if (c->role != OLLY_ROLE_UNKNOWN) {
			o->out_first = c->first[OLLY_SEND];
			o->in_first = c->first[OLLY_RECV];
		}
		fill_inet(o, sk);
	}
	bpf_ringbuf_submit(o, submit_flags());
	c->flags |= S_ANNOUNCED;
	return 0;
}

static __always_inline void store_close(struct conn *c, struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	struct olly_close_record *r;
	void *ring;

	if (!(c->flags & S_ANNOUNCED) || (c->flags & S_CLOSED))
		return;
	ring = this_ring();
	if (!ring)
		return;
	r = bpf_ringbuf_reserve(ring, sizeof(*r), 0);
	if (!r) {
		count_drop(OLLY_DROP_RING_FULL, 0);
		return;
	}
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
