/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * Programs of both back ends: opening, role and closing of TCP connections, from the sockets' own
 * tracepoints, whether blocking, interrupted or done by another process. The back end has said
 * before: new_conn, conn_of, conn_accepted, conn_gone, listening, tcp_of.
 */
#ifndef OLLY_BPF_LIFE_H
#define OLLY_BPF_LIFE_H

#include "common/buffer.h"
#include "common/conn.h"
#include "common/process.h"

/* connect() begins, in the caller's context. */
static __always_inline void on_syn_sent(struct sock *sk)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct verdict v = capture_verdict(current->tgid);
	struct conn *c;
	u64 id;

	if (!v.flags || (current->flags & PF_KTHREAD) ||
	    BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock))
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
	if (!(c->flags & S_OWN)) {
		struct olly_task task = c->connect_task;

		store_connect(id, 0, c->connect_start, &task);
	}
}

static __always_inline void on_established(struct conn *c, struct sock *sk, bool outbound)
{
	struct tcp_sock *tp = tcp_of(sk);
	u64 now = bpf_ktime_get_ns();
	struct opening as = {.id = c->id};
	struct olly_task task;

	if (outbound)
		c->connect_ns = now - c->connect_start;
	learn_tcp(c, sk, tp);
	if (!(c->flags & S_KNOWN))
		return;
	task = c->connect_task;
	as.position[OLLY_RECV] = c->end[OLLY_RECV];
	as.position[OLLY_SEND] = c->end[OLLY_SEND];
	announce(c, sk, now, &as, &task);
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

/* connect() has failed, or was given up. */
static __always_inline void on_refused(struct conn *c)
{
	struct olly_task task = c->connect_task;

	if (c->flags & S_OWN)
		return;
	/* no error: no port was free, or the caller gave up */
	store_connect(c->id, c->error ? c->error : ECANCELED, bpf_ktime_get_ns(), &task);
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
	if (to == TCP_LISTEN || from == TCP_LISTEN) {
		if ((u32)(bpf_get_current_pid_tgid() >> 32) == control.agent_tgid)
			listening(sk, to == TCP_LISTEN);
		return 0;
	}
	if (to == TCP_ESTABLISHED && from == TCP_SYN_RECV) {
		c = conn_accepted(sk);
		if (c)
			on_established(c, sk, false);
		return 0;
	}
	c = conn_of(sk);
	if (!c)
		return 0;
	if (to == TCP_ESTABLISHED) {
		if (from == TCP_SYN_SENT)
			on_established(c, sk, true);
		return 0;
	}
	if (to == TCP_CLOSE) {
		u32 error = sk->sk_err;

		if (error)
			c->error = error;
		if (from == TCP_SYN_SENT) {
			on_refused(c);
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
			store_close(c, sk, tcp_of(sk));
		c->flags |= S_FIN;
	}
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(olly_destroy, struct sock *sk)
{
	struct conn *c = conn_of(sk);

	if (c) {
		store_close(c, sk, tcp_of(sk));
		conn_gone(sk);
	}
	return 0;
}

#endif
