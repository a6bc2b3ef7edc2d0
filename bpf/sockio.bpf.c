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

#include "tls/look.h"

/* What a call has moved, as far as it is to be stored. */
struct ended {
	struct io io;
	struct olly_task stamp;
	struct buffer buffer;
	bool wanted;
};

/*
 * A call has moved bytes, or found the end of the stream. Its connection; NULL where nobody wants to
 * know of it.
 */
static __always_inline struct conn *finish(struct ended *call, struct sock *sk, u32 length, int flags,
					   const u32 dir)
{
	struct moved m = {.direction = dir, .length = length};
	const bool is_unix = sk->__sk_common.skc_family == AF_UNIX;
	struct io *io = &call->io;
	struct conn *c;

	m.task = bpf_get_current_task_btf();
	m.verdict = capture_verdict(m.task->tgid);
	if (!m.verdict.flags && !is_unix)
		return NULL; /* of a UNIX socket somebody else may observe, every byte counts */
	c = conn_of(sk);
	if (!c) {
		if (!m.verdict.flags)
			return NULL;
		c = meet(sk, m.task, is_unix);
		if (!c)
			return NULL;
	}
	if (is_unix)
		place_unix(c, &m);
	if (!of_interest(c, m.verdict.flags))
		return NULL;
	__builtin_memset(io, 0, sizeof(*io));
	__builtin_memset(&call->buffer, 0, sizeof(call->buffer));
	call->wanted = false;
	if (!begin_io(c, sk, tcp_of(sk), &m, io, &call->stamp))
		return c;
	if (!length) {
		store_end(c, io, &call->stamp);
		return c;
	}
	if (dir == OLLY_RECV && (flags & MSG_DONTWAIT))
		io->flags |= OLLY_IO_NONBLOCK;
	if (io->limit && io->skip < io->length) {
		if (!(dir == OLLY_RECV && (flags & MSG_TRUNC)))
			find_buffer(&call->buffer, m.task);
		look_at_bytes(c, &m, io, &call->buffer);
	}
	call->wanted = true;
	return c;
}

/*
 * Functions of their own for the sake of the stack, of which all that are open at a time may take 512
 * bytes together (before Linux 6.13): what one of them takes is not taken while another one runs, or
 * while bytes are stored.
 */
static __noinline struct conn *finish_send(struct ended *call, struct sock *sk, u32 length, int flags)
{
	return finish(call, sk, length, flags, OLLY_SEND);
}

static __noinline struct conn *finish_recv(struct ended *call, struct sock *sk, u32 length, int flags)
{
	return finish(call, sk, length, flags, OLLY_RECV);
}

static __noinline u32 look_at_tls(struct conn *c, struct sock *sk, u32 direction, u32 length,
				  u32 nonblocking)
{
	return find_tls(c, sk, direction, length, nonblocking);
}

static __always_inline int on_io(struct sock *sk, int ret, int flags, const u32 dir)
{
	struct ended call;
	struct conn *c;
	u16 family;

	if (ret < 0 || (dir == OLLY_SEND && ret == 0))
		return 0;
	if (dir == OLLY_RECV && (flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)))
		return 0;
	family = sk->__sk_common.skc_family;
	if (family == AF_UNIX) {
		if (sk->sk_type != SOCK_STREAM)
			return 0;
	} else if ((family != AF_INET && family != AF_INET6) || sk->sk_protocol != IPPROTO_TCP) {
		return 0;
	}
	if (dir == OLLY_RECV && ret == 0 && !at_end(sk))
		return 0;
	c = dir == OLLY_SEND ? finish_send(&call, sk, ret, flags)
			     : finish_recv(&call, sk, ret, flags);
	if (!c)
		return 0;
	if (may_be_tls(c, dir))
		call.io.flags |= look_at_tls(c, sk, dir, ret, !!(flags & MSG_DONTWAIT));
	if (!call.wanted)
		return 0;
	if (is_large(&call.io, &call.buffer))
		store_pieces(&call.io, &call.stamp, &call.buffer);
	else
		store_io(&call.io, &call.stamp, &call.buffer);
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
