/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * Syscall back end: the life of TCP sockets, from their own tracepoints.
 */
#ifndef OLLY_BPF_SYSCALL_LIFE_H
#define OLLY_BPF_SYSCALL_LIFE_H

#include "common/process.h"
#include "syscall/state.h"

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
	struct conn c = {};

	if (!v.flags || (current->flags & PF_KTHREAD) ||
	    BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock))
		return;
	c.flags = v.flags & VERDICT_OWN ? S_OWN : 0;
	c.role = OLLY_ROLE_OUTBOUND;
	c.connect_start = bpf_ktime_get_ns();
	stamp_task(&c.connect_task, current, c.connect_start, v.goid_offset);
	if (new_conn((u64)sk, &c) && !(c.flags & S_OWN))
		store_connect(c.id, 0, c.connect_start, &c.connect_task);
}

static __always_inline void on_established(struct sock *sk, bool outbound)
{
	u64 key = (u64)sk, now = bpf_ktime_get_ns();
	struct olly_task task;
	struct conn *c;

	if (outbound) {
		c = bpf_map_lookup_elem(&conns, &key);
		if (!c)
			return;
		c->connect_ns = now - c->connect_start;
	} else {
		struct conn fresh = {};
		u32 port = READ_ONCE(sk->__sk_common.skc_num);

		if (!bpf_map_lookup_elem(&own_ports, &port))
			return;
		fresh.flags = S_OWN;
		fresh.role = OLLY_ROLE_INBOUND;
		fresh.connect_task.pid = control.agent_tgid;
		c = new_conn(key, &fresh);
		if (!c)
			return;
	}
	learn_tcp(c, sk);
	if (!(c->flags & S_KNOWN))
		return;
	task = c->connect_task;
	announce(c, sk, now, &task);
}

/* Not shutdown(2), which sys_enter notes, nor io_uring's, which runs in a worker. */
static __always_inline bool closing(void)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct call *call;

	if (current->flags & (PF_KTHREAD | PF_IO_WORKER))
		return false;
	call = bpf_task_storage_get(&calls, current, NULL, 0);
	return !call || call->nr != SYS_shutdown + 1;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(olly_state, struct sock *sk, int from, int to)
{
	u64 key = (u64)sk;
	struct conn *c;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (to == TCP_SYN_SENT) {
		on_syn_sent(sk);
		return 0;
	}
	if (to == TCP_LISTEN || from == TCP_LISTEN) {
		u32 port = sk->__sk_common.skc_num;

		if ((u32)(bpf_get_current_pid_tgid() >> 32) != control.agent_tgid)
			return 0;
		if (to == TCP_LISTEN)
			bpf_map_update_elem(&own_ports, &port, &port, BPF_ANY);
		else
			bpf_map_delete_elem(&own_ports, &port);
		return 0;
	}
	if (to == TCP_ESTABLISHED) {
		if (from == TCP_SYN_SENT || from == TCP_SYN_RECV)
			on_established(sk, from == TCP_SYN_SENT);
		return 0;
	}
	c = bpf_map_lookup_elem(&conns, &key);
	if (!c)
		return 0;
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
			store_close(c, sk);
		c->flags |= S_FIN;
	}
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(olly_destroy, struct sock *sk)
{
	u64 key = (u64)sk;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!c)
		return 0;
	store_close(c, sk);
	bpf_map_delete_elem(&conns, &key);
	return 0;
}

#endif
