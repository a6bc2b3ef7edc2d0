// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Capture with the socket tracepoints (Linux 6.3 and later): one hook per socket call, none on any
 * other system call. A connection's state lives in its socket and is freed with it.
 *
 * Hot path: not TCP or UNIX stream: leave. Verdict on the process; storage look-up; quiet:
 * leave. Position from the sequence number; below skip_until: leave. Then stamp and store.
 */
#include "common/buffer.h"
#include "common/process.h"
#include "common/sock.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define S_KNOWN 0x01u	  /* first[] and end[] hold */
#define S_ANNOUNCED 0x02u /* the OPEN record went out */
#define S_OWN 0x04u	  /* the agent's */
#define S_UNIX 0x08u
#define S_MET 0x10u	/* older than the agent */
#define S_CLOSED 0x20u	/* the CLOSE record went out, or there is none to make */
#define S_EOF 0x40u	/* the EOF record went out */
#define S_FIN 0x80u	/* a FIN was sent: it is a sequence number too */
#define S_FRAMED 0x100u /* began with HTTP/2's preface */

struct conn {
	u64 id;
	u64 end[2];   /* last known end, by olly_direction */
	u32 first[2]; /* TCP: sequence number of byte 0, by olly_direction */
	u32 flags;
	u32 role;
	/* outbound, until announced */
	u64 connect_start;
	u64 connect_ns;
	struct olly_task connect_task;
	u32 error;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct conn);
} conns SEC(".maps");

static __always_inline struct conn *new_conn(struct sock *sk)
{
	struct conn *c = bpf_sk_storage_get(&conns, sk, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!c) {
		count_drop(OLLY_DROP_NO_STATE, 0);
		return NULL;
	}
	c->id = bpf_get_socket_cookie(sk);
	return c;
}

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
	if (fin_queued(sk->__sk_common.skc_state))
		c->flags |= S_FIN;
}

/* The OPEN record. Marked as announced only if it went out: else the next call tries again. */
static __always_inline void announce(struct conn *c, struct sock *sk, u64 now, u64 recv_pos,
				     u64 send_pos, const struct olly_task *task)
{
	struct olly_open_record *o;
	void *ring = this_ring();

	if (!ring)
		return;
	o = bpf_ringbuf_reserve(ring, sizeof(*o), 0);
	if (!o) {
		count_drop(OLLY_DROP_RING_FULL, 0);
		return;
	}
	__builtin_memset(o, 0, sizeof(*o));
	fill_header(&o->h, OLLY_REC_OPEN,
		    (c->flags & S_MET ? OLLY_OPEN_MET : 0) | (c->flags & S_OWN ? OLLY_OPEN_OWN : 0),
		    sizeof(*o), now);
	o->task = *task;
	o->sock = c->id;
	o->recv_pos = recv_pos;
	o->send_pos = send_pos;
	o->connect_ns = c->connect_ns;
	o->role = c->role;
	o->netns = sk->__sk_common.skc_net.net->ns.inum;
	if (c->flags & S_UNIX) {
		struct unix_sock *u = bpf_skc_to_unix_sock(sk);

		if (u)
			fill_unix(o, u, !(c->flags & S_MET));
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

static __always_inline void store_close(struct conn *c, struct sock *sk, struct tcp_sock *tp)
{
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
	if (tp && (c->flags & S_KNOWN)) {
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

static __always_inline int on_io(struct sock *sk, int ret, int flags, const u32 dir)
{
	struct olly_policy *policy;
	struct tcp_sock *tp = NULL;
	struct olly_task task;
	struct task_struct *current;
	struct verdict v;
	struct buffer b = {};
	struct conn *c;
	struct io io = {};
	u64 start = 0, end = 0, before = 0;
	u16 family;
	u32 slot;
	bool is_unix;

	if (ret < 0 || (dir == OLLY_SEND && ret == 0))
		return 0;
	if (dir == OLLY_RECV && (flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)))
		return 0;
	family = sk->__sk_common.skc_family;
	is_unix = family == AF_UNIX;
	if (is_unix) {
		if (sk->sk_type != SOCK_STREAM)
			return 0;
	} else if ((family != AF_INET && family != AF_INET6) || sk->sk_protocol != IPPROTO_TCP) {
		return 0;
	}
	if (dir == OLLY_RECV && ret == 0 && !(sk->sk_shutdown & RCV_SHUTDOWN) &&
	    sk->__sk_common.skc_state != TCP_CLOSE)
		return 0; /* a call for no bytes */

	current = bpf_get_current_task_btf();
	v = process_verdict(current->tgid);
	if (!v.flags && !is_unix)
		return 0; /* of a UNIX socket somebody else may observe, every byte counts */
	c = bpf_sk_storage_get(&conns, sk, NULL, 0);
	if (!c) {
		/* the kernel's own sockets (NFS, say) run in the context of whoever wrote the file
		 */
		if (!v.flags || (current->flags & PF_KTHREAD) ||
		    BPF_CORE_READ_BITFIELD(sk, sk_kern_sock))
			return 0;
		c = new_conn(sk);
		if (!c)
			return 0;
		if (is_unix) {
			c->flags |= S_UNIX | S_KNOWN;
			if (!control.settled)
				c->flags |= S_MET;
		}
	}
	if (is_unix) {
		start = __sync_fetch_and_add(&c->end[dir], (u64)(u32)ret);
		end = start + (u32)ret;
		before = start;
	}
	if (!(v.flags & VERDICT_OBSERVE)) {
		if (!(v.flags & VERDICT_OWN) || (c->flags & S_ANNOUNCED))
			return 0;
		c->flags |= S_OWN;
	}
	slot = (u32)c->id & (OLLY_POLICY_SLOTS - 1);
	policy = bpf_map_lookup_elem(&policies, &slot);
	if (!policy)
		return 0;
	if (policy->sock == c->id) {
		if (policy->mode == OLLY_POLICY_QUIET)
			return 0;
		io.limit = policy->max_copy;
		if (io.limit > control.max_copy)
			io.limit = control.max_copy;
	} else {
		policy = NULL;
	}
	if (!is_unix) {
		tp = bpf_skc_to_tcp_sock(sk);
		if (!tp)
			return 0;
		if (!(c->flags & S_KNOWN)) {
			if (sk->__sk_common.skc_state == TCP_SYN_SENT)
				return 0; /* fast open: counted once the connection is there */
			learn_tcp(c, sk, tp);
			if (!(c->flags & S_KNOWN))
				return 0;
			end = c->end[dir];
			start = end - (u32)ret;
			if (c->role == OLLY_ROLE_UNKNOWN || c->end[dir ^ 1] || start)
				c->flags |= S_MET;
			before = start;
		} else {
			before = c->end[dir];
			end = end_of_call(c, sk, tp, dir, ret);
			start = end - (u32)ret;
			if (end > before)
				c->end[dir] = end;
		}
	}
	io.now = bpf_ktime_get_ns();
	if (c->flags & S_ANNOUNCED) {
		if (policy && ret > 0 && end < policy->skip_until[dir])
			return 0;
		stamp_task(&task, current, io.now, v.goid_offset);
	} else {
		u64 other = c->end[dir ^ 1];

		stamp_task(&task, current, io.now, v.goid_offset);
		announce(c, sk, io.now, dir == OLLY_RECV ? start : other,
			 dir == OLLY_SEND ? start : other, &task);
	}
	if ((c->flags & (S_OWN | S_ANNOUNCED)) != S_ANNOUNCED)
		return 0; /* own; or the reader does not know this socket yet */
	io.sock = c->id;
	io.direction = dir;
	if (dir == OLLY_RECV && ret == 0) {
		if (c->flags & S_EOF)
			return 0;
		io.flags = OLLY_IO_EOF;
		io.position = end;
		if (!store_io(&io, &task, &b))
			c->flags |= S_EOF;
		return 0;
	}
	io.position = start;
	io.length = ret;
	if (!policy)
		io.limit = unknown_limit(start, !(c->flags & S_MET), c->flags & S_FRAMED);
	if (start < before)
		io.flags |= OLLY_IO_OVERLAP;
	if (dir == OLLY_RECV && (flags & MSG_DONTWAIT))
		io.flags |= OLLY_IO_NONBLOCK;
	if (policy && policy->skip_until[dir] > start)
		io.skip = policy->skip_until[dir] - start > (u32)ret
				  ? (u32)ret
				  : policy->skip_until[dir] - start;
	if (io.limit && io.skip < io.length) {
		/*
		 * The registers are those of the call that runs only while its result is not there
		 * yet (ax holds -ENOSYS from entry on): io_uring's deferred work runs behind it.
		 */
		if (has_user_call(current) && !(dir == OLLY_RECV && (flags & MSG_TRUNC))) {
			struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(current);

			if ((long)regs->ax == -ENOSYS)
				buffer_of_call(&b, regs->orig_ax, regs->si, regs->dx);
		}
		if (b.kind == BUFFER_NONE)
			io.flags |= OLLY_IO_NO_BUFFER;
		if (start == 0 && !policy && is_preface(&b)) {
			c->flags |= S_FRAMED;
			io.limit = control.max_copy;
		}
	}
	if (is_large(&io, &b))
		store_pieces(&io, &task, &b);
	else
		store_io(&io, &task, &b);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(olly_send, struct sock *sk, int ret, int flags)
{
	return on_io(sk, ret, flags, OLLY_SEND);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(olly_recv, struct sock *sk, int ret, int flags)
{
	return on_io(sk, ret, flags, OLLY_RECV);
}

static __always_inline void store_connect(u64 id, u32 error, u64 now, const struct olly_task *task)
{
	struct olly_connect_record *r;
	void *ring = this_ring();

	if (!ring)
		return;
	r = bpf_ringbuf_reserve(ring, sizeof(*r), 0);
	if (!r) {
		count_drop(OLLY_DROP_RING_FULL, 0);
		return;
	}
	fill_header(&r->h, OLLY_REC_CONNECT, 0, sizeof(*r), now);
	r->task = *task;
	r->sock = id;
	r->error = error;
	r->reserved = 0;
	bpf_ringbuf_submit(r, submit_flags());
}

/* connect() begins, in the caller's context. */
static __always_inline void on_syn_sent(struct sock *sk)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct verdict v = process_verdict(current->tgid);
	struct conn *c;
	u64 id;

	if (!v.flags || (current->flags & PF_KTHREAD) || BPF_CORE_READ_BITFIELD(sk, sk_kern_sock))
		return;
	c = new_conn(sk);
	if (!c)
		return;
	id = c->id;
	__builtin_memset(c, 0, sizeof(*c)); /* a socket may connect a second time */
	c->id = id;
	c->flags = v.flags & VERDICT_OWN ? S_OWN : 0;
	c->role = OLLY_ROLE_OUTBOUND;
	c->connect_start = bpf_ktime_get_ns();
	stamp_task(&c->connect_task, current, c->connect_start, v.goid_offset);
	if (!(c->flags & S_OWN))
		store_connect(id, 0, c->connect_start, &c->connect_task);
}

static __always_inline void on_established(struct sock *sk, struct conn *c, bool outbound)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	u64 now = bpf_ktime_get_ns();
	struct olly_task task;

	if (!tp)
		return;
	if (outbound) {
		c->connect_ns = now - c->connect_start;
	} else {
		/* a copy of the listener's state, which only the agent's own have */
		c->id = bpf_get_socket_cookie(sk);
		c->role = OLLY_ROLE_INBOUND;
		__builtin_memset(&c->connect_task, 0, sizeof(c->connect_task));
		c->connect_task.pid = control.agent_tgid;
	}
	learn_tcp(c, sk, tp);
	if (!(c->flags & S_KNOWN))
		return;
	task = c->connect_task;
	announce(c, sk, now, c->end[OLLY_RECV], c->end[OLLY_SEND], &task);
}

/* Not shutdown(2), which io_uring can call too. */
static __always_inline bool closing(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs;

	if (!has_user_call(task))
		return false;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	return regs->orig_ax != SYS_shutdown && regs->orig_ax != SYS_io_uring_enter;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(olly_state, struct sock *sk, int from, int to)
{
	struct conn *c;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (to == TCP_SYN_SENT) {
		on_syn_sent(sk);
		return 0;
	}
	if (to == TCP_LISTEN) {
		if ((u32)(bpf_get_current_pid_tgid() >> 32) == control.agent_tgid) {
			c = new_conn(sk);
			if (c)
				c->flags = S_OWN;
		}
		return 0;
	}
	c = bpf_sk_storage_get(&conns, sk, NULL, 0);
	if (!c)
		return 0;
	if (to == TCP_ESTABLISHED) {
		if (from == TCP_SYN_SENT)
			on_established(sk, c, true);
		else if (from == TCP_SYN_RECV && (c->flags & S_OWN))
			on_established(sk, c, false);
		return 0;
	}
	if (to == TCP_CLOSE) {
		u32 error = sk->sk_err;

		if (error)
			c->error = error;
		if (from == TCP_SYN_SENT) {
			if (!(c->flags & S_OWN)) {
				struct olly_task task = c->connect_task;

				/* no error: no port was free, or the caller gave up */
				store_connect(c->id, error ? error : ECANCELED, bpf_ktime_get_ns(),
					      &task);
			}
			return 0;
		}
	}
	/*
	 * A FIN goes out, in the context of whoever called close or shutdown. After close no call
	 * will move bytes any more: that is the end, whatever the peer does yet. After shutdown, or
	 * when the peer ended the connection, bytes may still be read: the end is olly_destroy's.
	 */
	if (to == TCP_FIN_WAIT1 || to == TCP_LAST_ACK) {
		if (sk->sk_shutdown == (RCV_SHUTDOWN | SEND_SHUTDOWN) && closing())
			store_close(c, sk, bpf_skc_to_tcp_sock(sk));
		c->flags |= S_FIN;
	}
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(olly_destroy, struct sock *sk)
{
	struct conn *c = bpf_sk_storage_get(&conns, sk, NULL, 0);

	if (c)
		store_close(c, sk, bpf_skc_to_tcp_sock(sk));
	return 0;
}
