/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * TLS of Go's crypto/tls: one site to a call, at which all is known at once (see
 * src/hook/ebpf/tls/go_sites.h). A goroutine changes its thread and its stack as it likes, so
 * nothing is kept between two sites but what belongs to the connection.
 *
 * Which socket: a handshake notes its goroutine; the first record that this goroutine moves
 * afterwards is the hello of that handshake. Of a connection that is older than the agent the first
 * Write tells: it waits on its thread for the system call in it, which follows at once.
 */
#ifndef OLLY_BPF_TLS_GO_H
#define OLLY_BPF_TLS_GO_H

#include "tls/probes.h"

/* Calls of a connection in which a handshake may begin: before it there may be other talk
 * (STARTTLS). */
#define TLS_GO_YOUNG 32
#define TLS_APPLICATION_DATA 23

struct tls_goroutine {
	u64 g;
	u64 tgid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, OLLY_TLS_HANDSHAKES);
	__type(key, struct tls_goroutine);
	__type(value, u64); /* the object */
} tls_handshakes SEC(".maps");

static __always_inline bool speaks(const struct tls_object *o)
{
	return o && o->sock && !(o->flags & (TLS_RELEASED | TLS_STRANGE));
}

/*
 * The connection is new, though there may have been another one at this address; or it begins anew
 * (renegotiation): the socket will tell.
 */
static __always_inline void go_handshake(u64 object, u64 g, u32 tgid)
{
	struct tls_goroutine who = {.g = g, .tgid = tgid};
	struct tls_key key = {.object = object, .tgid = tgid};
	struct tls_object fresh = {.flags = TLS_FRESH}, *o = object_of(object, tgid);

	if (o && !(o->flags & TLS_STRANGE)) {
		fresh.last = o->sock ? o->sock : o->last;
		fresh.position[OLLY_SEND] = o->position[OLLY_SEND];
		fresh.position[OLLY_RECV] = o->position[OLLY_RECV];
	}
	bpf_map_update_elem(&tls_objects, &key, &fresh, BPF_ANY);
	bpf_map_update_elem(&tls_handshakes, &who, &object, BPF_ANY);
}

/* There is plaintext, and still no socket: its handshake was not seen there. */
static __always_inline void go_past_handshake(struct tls_object *o)
{
	if (o)
		o->flags &= ~TLS_FRESH;
}

/* Of a connection whose socket is not known: kept for the system call that sends it. */
static __always_inline void go_write_later(struct task_struct *task, u64 object, u64 g, u64 buffer,
					   u64 length)
{
	struct tls_call *call =
		bpf_task_storage_get(&tls_calls, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!call) {
		count_drop(OLLY_DROP_NO_STATE, 0);
		return;
	}
	call->object = object;
	call->buffer = buffer;
	call->length = length;
	call->count = g;
	call->sock = 0;
	call->kind = OLLY_TLS_GO_WRITE;
}

static __always_inline void on_go(struct pt_regs *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 cookie = bpf_get_attach_cookie(ctx);
	u64 object = ctx->ax, first = ctx->bx, second = ctx->cx, third = ctx->di, g = ctx->r14;
	u32 kind = cookie & 0xff;
	struct tls_object *o;
	struct verdict v;

	/* read here and once, see REGISTER */
	asm volatile("" : "+r"(object), "+r"(first), "+r"(second), "+r"(third), "+r"(g));
	v = process_verdict(task->tgid);
	if (!(v.flags & VERDICT_OBSERVE))
		return;
	if (kind == OLLY_TLS_GO_HANDSHAKE) {
		go_handshake(object, g, task->tgid);
		return;
	}
	if (kind == OLLY_TLS_GO_READ) {
		/* memmove(to, from, length) */
		o = object_of(user_u64(ctx->sp + (cookie >> OLLY_TLS_GO_HOME)), task->tgid);
		if (speaks(o)) {
			plaintext_moved(o, task, &v, OLLY_RECV, first, second);
			return;
		}
		go_past_handshake(o);
		if (second && known_to_be_observed(task->tgid))
			count_drop(OLLY_DROP_TLS_NO_SOCKET, 0);
		return;
	}
	/* writeRecordLocked(object, type, bytes, length) */
	if ((u8)first != TLS_APPLICATION_DATA || !third)
		return;
	o = object_of(object, task->tgid);
	if (speaks(o)) {
		plaintext_moved(o, task, &v, OLLY_SEND, second, third);
		return;
	}
	go_past_handshake(o);
	if (!o || !(o->flags & TLS_STRANGE))
		go_write_later(task, object, g, second, third);
}

TLS_PROGRAM(olly_tls_go, on_go)

/* Records of a handshake? Then the socket is that of its connection from now on. */
static __always_inline bool within_go_handshake(struct conn *c, struct sock *sk,
						const struct tls_move *m, const struct buffer *b,
						u64 g)
{
	struct tls_goroutine who = {.g = g, .tgid = (u32)m->task->tgid};
	u64 *object = bpf_map_lookup_elem(&tls_handshakes, &who);
	struct tls_object *o;
	u64 whose;

	c->young++;
	if (!object || !begins_a_record(m, b))
		return false;
	whose = *object;
	bpf_map_delete_elem(&tls_handshakes, &who);
	o = object_of(whose, who.tgid);
	return o && (o->flags & TLS_FRESH) && bind_object(whose, c, sk, m);
}

/* Records of a Write that waited to know its socket? */
static __always_inline bool within_go_write(struct tls_call *call, struct conn *c, struct sock *sk,
					    const struct tls_move *m, const struct buffer *b, u64 g)
{
	if (m->direction != OLLY_SEND)
		return false;
	call->kind = 0;
	if (call->count != g || !begins_a_record(m, b))
		return false;
	call->sock = bind_object(call->object, c, sk, m);
	return call->sock != 0;
}

/* Its bytes, once their connection has been announced. */
static __noinline void say_go_write(struct task_struct *task)
{
	struct tls_call *call = bpf_task_storage_get(&tls_calls, task, NULL, 0);
	struct verdict v = process_verdict(task->tgid);
	struct tls_object *o;

	if (!call)
		return;
	o = object_of(call->object, task->tgid);
	if (speaks(o))
		plaintext_moved(o, task, &v, OLLY_SEND, call->buffer, call->length);
}

#endif
