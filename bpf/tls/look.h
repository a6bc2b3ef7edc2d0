/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * TLS: what a call that moved bytes on a socket has to do with it. The same for both back ends. They
 * have said before: tcp_of, and find_buffer(), where the bytes of the thread's system call are.
 *
 * Of the stack (512 bytes for all functions that are open at a time, before Linux 6.13) this takes so
 * much that find_tls() is for a function which is called beside the ones that place the call's bytes
 * and store them, not within them.
 */
#ifndef OLLY_BPF_TLS_LOOK_H
#define OLLY_BPF_TLS_LOOK_H

#include "tls/go.h"

#define TLS_HEARD 8 /* of a connection: records that may have been within a call of a library */

/* Most calls have nothing to do with it, and pay for no more than this: `control.tls` where no program
 * is probed; where some are, the thread's storage and what is known of the connection. */
static __always_inline bool may_be_tls(const struct conn *c, u32 direction)
{
	const u32 armed = control.tls;
	struct task_struct *task;

	if (!setup.tls || !armed)
		return false;
	task = bpf_get_current_task_btf();
	if (task->bpf_storage || ((armed & OLLY_TLS_ARMED_GO) && c->young < TLS_GO_YOUNG))
		return true;
	return (armed & OLLY_TLS_ARMED) &&
	       (c->looked < HELLO_LOOKS ||
		(direction == OLLY_RECV && c->heard < TLS_HEARD && !(c->flags & S_TLS)));
}

/* Go's crypto/tls, while it is not known whose socket this is. */
static __always_inline bool go_part(struct tls_call *call, struct conn *c, struct sock *sk,
				    const struct tls_move *m, struct buffer *b, u64 g)
{
	const bool waits = call && call->kind == OLLY_TLS_GO_WRITE;

	if (!m->length || (!waits && c->young >= TLS_GO_YOUNG))
		return false;
	find_buffer(b, m->task);
	if (waits && within_go_write(call, c, sk, m, b, g)) {
		if (c->flags & S_ANNOUNCED)
			say_go_write(m->task);
		return true;
	}
	return c->young < TLS_GO_YOUNG && within_go_handshake(c, sk, m, b, g);
}

/* No call of a library is open on the thread: is there a record that one will want, or is it within
 * one that has no site at its beginning? */
static __always_inline u16 tls_beside(struct tls_call *call, struct conn *c, struct sock *sk,
				      const struct tls_move *m, struct buffer *b, u64 sp,
				      bool nonblocking)
{
	u64 stand_in;
	bool wanted;

	if (call && call->claimed == c->id) {
		call->claimed = 0;
		c->tls_object = call->claimed_object;
		c->tls_tgid = m->task->tgid;
		c->flags |= S_TLS;
	}
	if (call && m->direction == OLLY_RECV && m->length) {
		call->recv_sock = c->id;
		call->recv_nonblocking = nonblocking;
		if (call->seen && call->seen != c->id)
			call->seen = TWO_SOCKETS;
	}
	wanted = m->direction == OLLY_RECV && m->length && !(c->flags & S_TLS) &&
		 c->heard < TLS_HEARD;
	if (!worth_a_look(call, c, m, nonblocking) && !wanted)
		return c->flags & S_TLS ? OLLY_IO_CIPHERTEXT : 0;
	find_buffer(b, m->task);
	stand_in = beside_tls(call, c, m, b);
	if (stand_in)
		tell_socket(c, sk, stand_in);
	if (!wanted)
		return c->flags & S_TLS ? OLLY_IO_CIPHERTEXT : 0;
	if (!begins_a_record(m, b)) {
		c->heard += !call; /* it was looked at */
		return 0;
	}
	if (!call)
		call = bpf_task_storage_get(&tls_calls, m->task, NULL,
					    BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!call)
		return 0;
	call->recv_sock = c->id;
	call->recv_nonblocking = nonblocking;
	call->seen_sp = sp;
	note_seen(call, c, sk, m);
	return 0;
}

/* Moved by a TLS library? OLLY_IO_*. Only where may_be_tls(), and behind begin_io(): what a Write has
 * encrypted comes behind the OPEN of its connection. */
static __always_inline u32 find_tls(struct conn *c, struct sock *sk, u32 direction, u32 length,
				    bool nonblocking)
{
	struct tls_move m = {.direction = direction, .length = length};
	struct tls_call *call = NULL;
	struct buffer b = {};
	struct pt_regs *regs;
	u64 sp, g;

	m.task = bpf_get_current_task_btf();
	if (!has_user_call(m.task))
		return 0;
	if (m.task->bpf_storage)
		call = bpf_task_storage_get(&tls_calls, m.task, NULL, 0);
	regs = (struct pt_regs *)bpf_task_pt_regs(m.task);
	sp = regs->sp;
	g = regs->r14;
	if ((control.tls & OLLY_TLS_ARMED_GO) && go_part(call, c, sk, &m, &b, g))
		return OLLY_IO_CIPHERTEXT;
	if (call && call->kind == OLLY_TLS_GO_WRITE)
		return 0;
	if (!call || !call->kind)
		return control.tls & OLLY_TLS_ARMED
			       ? tls_beside(call, c, sk, &m, &b, sp, nonblocking)
			       : 0;
	if (call->sock != c->id)
		find_buffer(&b, m.task);
	if (!within_tls(call, c, sk, &m, &b, sp))
		return 0;
	if (direction == OLLY_RECV)
		call->received = nonblocking ? 2 : 1;
	return OLLY_IO_CIPHERTEXT;
}

#endif
