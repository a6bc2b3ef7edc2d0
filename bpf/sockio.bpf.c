// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Capture with the socket tracepoints (Linux 6.3 and later): one hook per socket call, none on any
 * other system call. A connection's state lives in its socket and is freed with it.
 *
 * Hot path: not TCP or UNIX stream: leave. Verdict on the process; storage look-up; quiet:
 * leave. Position from the sequence number; below skip_until: leave. Then stamp and store.
 */
#include "common/buffer.h"
#include "common/kernel.h"

extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym;

/* No call: the verifier takes these as casts. Only of what is known to be one. */
#define regs_at(address)                                                                           \
	((struct pt_regs *)bpf_rdonly_cast((void *)(address),                                      \
					   bpf_core_type_id_kernel(struct pt_regs)))
#define tcp_of(sk)                                                                                 \
	((struct tcp_sock *)bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock)))
#define unix_of(sk)                                                                                \
	((struct unix_sock *)bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct unix_sock)))

#include "common/conn.h"
#include "common/io.h"
#include "tls/go.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

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

static __always_inline struct conn *conn_of(struct sock *sk)
{
	return bpf_sk_storage_get(&conns, sk, NULL, 0);
}

/* Freed with the socket. */
static __always_inline void conn_gone(struct sock *sk)
{
}

static __always_inline void listening(struct sock *sk, bool on)
{
	struct conn *c = on ? new_conn(sk) : NULL;

	if (c)
		c->flags = S_OWN;
}

/* A copy of the listener's state, which only the agent's own have. */
static __always_inline struct conn *conn_accepted(struct sock *sk)
{
	struct conn *c = conn_of(sk);

	if (!c || !(c->flags & S_OWN))
		return NULL;
	c->id = bpf_get_socket_cookie(sk);
	c->role = OLLY_ROLE_INBOUND;
	__builtin_memset(&c->connect_task, 0, sizeof(c->connect_task));
	c->connect_task.pid = control.agent_tgid;
	return c;
}

#include "common/life.h"

/* A socket's first call. NULL: the kernel's own (NFS, say), in the context of whoever wrote the
 * file; or no memory. */
static __always_inline struct conn *meet(struct sock *sk, struct task_struct *current, bool is_unix)
{
	struct conn *c;

	if ((current->flags & PF_KTHREAD) || BPF_CORE_READ_BITFIELD(sk, sk_kern_sock))
		return NULL;
	c = new_conn(sk);
	if (c && is_unix) {
		u32 inode = inode_number(BPF_CORE_READ(sk, sk_socket, file));
		bool young = control.young && (s32)(inode - control.young) > 0;

		c->flags |= S_UNIX | S_KNOWN;
		if (!young && !control.settled)
			c->flags |= S_MET; /* bytes may have gone by unseen */
	}
	return c;
}

/*
 * The registers are those of the call that runs only while its result is not there yet (ax holds
 * -ENOSYS from entry on): io_uring's deferred work runs behind it.
 */
static __always_inline void find_buffer(struct buffer *b, struct task_struct *current)
{
	struct pt_regs *regs;

	if (!has_user_call(current))
		return;
	regs = control.user_regs ? regs_at((u64)current->stack + control.user_regs)
				 : (struct pt_regs *)bpf_task_pt_regs(current);
	if ((long)regs->ax == -ENOSYS)
		buffer_of_call(b, regs->orig_ax, regs->si, regs->dx);
}

/* What a call's bytes have to do with TLS. */
struct tls_part {
	u16 flags;   /* OLLY_IO_* */
	bool writes; /* of Go: what it encrypted is still to be said */
};

/* Go's crypto/tls, while it is not known whose socket this is. */
static __always_inline bool go_part(struct tls_call *call, struct conn *c, struct sock *sk,
				    const struct moved *m, u64 g, struct tls_part *part)
{
	const bool waits = call && call->kind == OLLY_TLS_GO_WRITE;
	struct moved copy; /* what is handed to a function is no constant any more */
	struct buffer b = {};

	if (!m->length || (!waits && c->young >= TLS_GO_YOUNG))
		return false;
	find_buffer(&b, m->task);
	copy = *m;
	if (waits && within_go_write(call, c, sk, &copy, &b, g))
		part->writes = true;
	else if (c->young >= TLS_GO_YOUNG || !within_go_handshake(c, sk, &copy, &b, g))
		return false;
	part->flags = OLLY_IO_CIPHERTEXT;
	return true;
}

/* No call of a library is open on the thread: is there a record that one will want, or is it within
 * one that has no site at its beginning? */
static __always_inline u16 tls_beside(struct tls_call *call, struct conn *c, struct sock *sk,
				      const struct moved *m, int flags)
{
	struct moved copy = *m; /* what is handed to a function is no constant any more */
	struct buffer b = {};
	struct pt_regs *regs;
	bool wanted;

	if (call && call->claimed == c->id) {
		call->claimed = 0;
		c->tls_object = call->claimed_object;
		c->tls_tgid = m->task->tgid;
		c->flags |= S_TLS;
	}
	if (call && m->direction == OLLY_RECV && m->length) {
		call->recv_sock = c->id;
		call->recv_nonblocking = !!(flags & MSG_DONTWAIT);
		if (call->seen && call->seen != c->id)
			call->seen = TWO_SOCKETS;
	}
	wanted = m->direction == OLLY_RECV && m->length && !(c->flags & S_TLS) && c->heard < 8;
	if (!worth_a_look(call, c, m, flags) && !wanted)
		return c->flags & S_TLS ? OLLY_IO_CIPHERTEXT : 0;
	find_buffer(&b, m->task);
	beside_tls(call, c, sk, m, &b);
	if (!wanted)
		return c->flags & S_TLS ? OLLY_IO_CIPHERTEXT : 0;
	if (!begins_a_record(&copy, &b)) {
		c->heard += !call; /* it was looked at */
		return 0;
	}
	if (!call)
		call = bpf_task_storage_get(&tls_calls, m->task, NULL,
					    BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!call)
		return 0;
	call->recv_sock = c->id;
	call->recv_nonblocking = !!(flags & MSG_DONTWAIT);
	regs = (struct pt_regs *)bpf_task_pt_regs(m->task);
	call->seen_sp = regs->sp;
	note_seen(call, c, sk, tcp_of(sk), &copy);
	return 0;
}

/* Moved by a TLS library? Most threads have no storage: they do not even pay for a call. */
static __always_inline void find_tls(struct conn *c, struct sock *sk, const struct moved *m,
				     int flags, struct tls_part *part)
{
	struct tls_call *call = NULL;
	struct moved copy;
	struct buffer b = {};
	struct pt_regs *regs;

	if (!control.tls)
		return;
	if (m->task->bpf_storage)
		call = bpf_task_storage_get(&tls_calls, m->task, NULL, 0);
	if ((!call && !(control.tls & OLLY_TLS_ARMED_GO) && c->looked >= HELLO_LOOKS &&
	     c->heard >= 8) ||
	    !has_user_call(m->task))
		return;
	regs = (struct pt_regs *)bpf_task_pt_regs(m->task);
	if ((control.tls & OLLY_TLS_ARMED_GO) && go_part(call, c, sk, m, regs->r14, part))
		return;
	if (call && call->kind == OLLY_TLS_GO_WRITE)
		return;
	if (!call || !call->kind) {
		if (control.tls & OLLY_TLS_ARMED)
			part->flags = tls_beside(call, c, sk, m, flags);
		return;
	}
	if (call->sock != c->id)
		find_buffer(&b, m->task);
	copy = *m;
	if (!within_tls(call, c, sk, tcp_of(sk), &copy, &b, regs->sp))
		return;
	if (m->direction == OLLY_RECV)
		call->received = flags & MSG_DONTWAIT ? 2 : 1;
	part->flags = OLLY_IO_CIPHERTEXT;
}

static __always_inline int on_io(struct sock *sk, int ret, int flags, const u32 dir)
{
	struct moved m = {.direction = dir, .length = ret};
	struct olly_task stamp;
	struct buffer b = {};
	struct tls_part tls = {};
	struct io io = {};
	struct conn *c;
	u16 family;
	bool is_unix, wanted;

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
	if (dir == OLLY_RECV && ret == 0 && !at_end(sk))
		return 0;

	m.task = bpf_get_current_task_btf();
	m.verdict = capture_verdict(m.task->tgid);
	if (!m.verdict.flags && !is_unix)
		return 0; /* of a UNIX socket somebody else may observe, every byte counts */
	c = conn_of(sk);
	if (!c) {
		if (!m.verdict.flags)
			return 0;
		c = meet(sk, m.task, is_unix);
		if (!c)
			return 0;
	}
	if (is_unix)
		place_unix(c, &m);
	if (!of_interest(c, m.verdict.flags))
		return 0;
	find_tls(c, sk, &m, flags, &tls);
	io.flags = tls.flags;
	wanted = begin_io(c, sk, tcp_of(sk), &m, &io, &stamp);
	if (tls.writes && (c->flags & S_ANNOUNCED))
		say_go_write(m.task, m.verdict.goid_offset);
	if (!wanted)
		return 0;
	if (!io.length) {
		store_end(c, &io, &stamp);
		return 0;
	}
	if (dir == OLLY_RECV && (flags & MSG_DONTWAIT))
		io.flags |= OLLY_IO_NONBLOCK;
	if (io.limit && io.skip < io.length) {
		if (!(dir == OLLY_RECV && (flags & MSG_TRUNC)))
			find_buffer(&b, m.task);
		look_at_bytes(c, &m, &io, &b);
	}
	if (is_large(&io, &b))
		store_pieces(&io, &stamp, &b);
	else
		store_io(&io, &stamp, &b);
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
