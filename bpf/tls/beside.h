/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * TLS: programs that move the ciphertext themselves (memory BIOs: Node, Python's asyncio). No socket
 * event is within a call of the library then. Whose plaintext an object has is known
 *
 *  - for certain from the ClientHello: it travels in the clear, and its random is in the object. Both
 *    sides are looked at, so it does not matter what the program does in between.
 *  - where the handshake was not seen: from what the thread receives right before it reads and sends
 *    right after it writes, if that happens both ways, more than once, the lengths of the records are
 *    those that the bytes make, and nothing ever speaks against it. Until then, and if it never comes
 *    to that, the plaintext is told under a number that stands for no socket (OPEN without endpoints).
 */
#ifndef OLLY_BPF_TLS_BESIDE_H
#define OLLY_BPF_TLS_BESIDE_H

#include "tls/calls.h"

#define HELLO_LOOKS 8	   /* calls of a connection that are looked at for its ClientHello */
#define HELLO_TRIES 16	   /* calls of an object that look for its ClientHello */
#define GUESS_LOOKS 64	   /* socket events that are looked at after a call of an unknown object */
#define GUESS_ENOUGH 2	   /* records that must fit, each way */

struct tls_hello {
	u64 random; /* 8 of its 32 bytes */
	u32 tgid;
	u32 direction; /* both ends may be in one program */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, OLLY_TLS_HELLOS);
	__type(key, struct tls_hello);
	__type(value, u64); /* the socket */
} tls_hellos SEC(".maps");

/* RFC 8446 section 4.1.2: behind the heads of record and message and the version. A library that has
 * the socket itself reads the record's head first, and then the rest. */
static __noinline void note_hello(struct conn *c, const struct tls_move *m, const struct buffer *b)
{
	struct tls_hello key = {.tgid = (u32)m->task->tgid, .direction = m->direction};
	u64 sock = c->id, *known;
	const bool rest = (c->flags & S_HELLO) && m->direction == OLLY_RECV;
	u8 head[27];

	c->looked++;
	c->flags &= ~S_HELLO;
	if (rest) {
		if (m->length < sizeof(head) - TLS_HEAD ||
		    !first_bytes(b, head + TLS_HEAD, sizeof(head) - TLS_HEAD))
			return;
	} else {
		if (m->length < TLS_HEAD || !first_bytes(b, head, TLS_HEAD) || !is_record(head) ||
		    head[0] != 22)
			return;
		if (m->length == TLS_HEAD && m->direction == OLLY_RECV)
			c->flags |= S_HELLO;
		if (m->length < sizeof(head) || !first_bytes(b, head, sizeof(head)))
			return;
	}
	if (head[TLS_HEAD] != 1)
		return;
	__builtin_memcpy(&key.random, head + 19, sizeof(key.random));
	known = bpf_map_lookup_elem(&tls_hellos, &key);
	if (!known)
		bpf_map_update_elem(&tls_hellos, &key, &sock, BPF_ANY);
	else if (*known != sock)
		*known = TWO_SOCKETS;
}

/* Whether the object is the server's end, as far as the library says where it has that. */
static __always_inline u32 role_of_object(u64 object, u64 cookie)
{
	u64 at = cookie >> OLLY_TLS_SERVER_SHIFT & OLLY_TLS_FIELD_MASK;
	u32 server;

	if (!at || bpf_probe_read_user(&server, sizeof(server), (const void *)(object + at * 4)))
		return OLLY_ROLE_UNKNOWN;
	return server & 1 ? OLLY_ROLE_INBOUND : OLLY_ROLE_OUTBOUND;
}

/* An object whose socket is not known: has its ClientHello been seen? */
static __noinline void know_by_hello(struct tls_object *o, u64 object, u64 cookie, u32 tgid,
				     u32 role)
{
	u64 at = cookie >> OLLY_TLS_RANDOM_SHIFT & OLLY_TLS_FIELD_MASK;
	u64 behind = cookie >> OLLY_TLS_BEHIND_SHIFT & OLLY_TLS_FIELD_MASK;
	struct tls_hello key = {.tgid = tgid};
	u64 *sock;

	if (!at || role == OLLY_ROLE_UNKNOWN || o->tries >= HELLO_TRIES)
		return;
	at = object + at * 8;
	if (behind)
		at = user_u64(at) + behind * 8;
	key.random = user_u64(at + 8);
	key.direction = role == OLLY_ROLE_INBOUND ? OLLY_RECV : OLLY_SEND;
	if (!key.random)
		return;
	o->tries++;
	sock = bpf_map_lookup_elem(&tls_hellos, &key);
	if (!sock || *sock == TWO_SOCKETS)
		return;
	if (!(o->flags & TLS_FRESH)) {
		o->position[OLLY_SEND] = o->position[OLLY_RECV] = TLS_SOMEWHERE;
	} else if (*sock != o->last) {
		o->position[OLLY_SEND] = o->missed[OLLY_SEND];
		o->position[OLLY_RECV] = o->missed[OLLY_RECV];
	}
	o->sock = *sock;
	o->flags = TLS_APART;
}

/* --- where the handshake was not seen ---------------------------------------------------------- */

/* What a record has more than its plaintext: TLS 1.3; 1.2 with AES-GCM; 1.2 with ChaCha20. */
static __always_inline bool fits(u32 record, u64 plaintext)
{
	u64 more = record - plaintext;

	return record > plaintext && (more == 17 || more == 24 || more == 16);
}

static __always_inline void count_evidence(struct tls_object *o, u64 sock, u32 tid, u32 dir)
{
	if (!o->guess) {
		o->guess = sock;
		o->tid = tid;
	}
	if (o->guess != sock || o->tid != tid)
		o->flags |= TLS_NO_GUESS;
	else if (o->fits[dir & 1] < 255)
		o->fits[dir & 1]++;
}

/* The thread has received outside of the library's calls. */
static __always_inline void hear(struct tls_call *call, struct conn *c, const struct buffer *b)
{
	u8 head[5];

	if (call->heard && call->heard != c->id)
		call->crowded = 1; /* two sockets before the library is called: whose is the next? */
	call->heard = 0;
	if (!first_bytes(b, head, sizeof(head)) || !is_record(head) || head[0] != 23)
		return;
	call->heard = c->id;
	call->heard_length = record_length(head);
}

/* From now on the reader knows which socket the stand-in stands for. */
static __noinline void tell_socket(struct conn *c, struct sock *sk, u64 stand_in)
{
	struct opening as = {.id = stand_in, .position = {c->end[0], c->end[1]}};
	struct task_struct *task = bpf_get_current_task_btf();
	struct olly_task stamp;
	u64 now = bpf_ktime_get_ns();

	stamp_task(&stamp, task, now, 0);
	announce(c, sk, now, &as, &stamp);
}

/* The thread has sent after the library was given plaintext. The stand-in that this socket is now known
 * for, or 0. */
static __always_inline u64 check_sent(struct tls_call *call, const struct conn *c,
				      const struct tls_move *m, const struct buffer *b)
{
	struct tls_object *o = object_of(call->wrote, m->task->tgid);
	u8 head[5];

	call->wrote = 0;
	if (call->crowded || !o || o->sock || !o->stand_in ||
	    (o->flags & (TLS_NO_GUESS | TLS_TOLD)) || !first_bytes(b, head, sizeof(head)) ||
	    !is_record(head) || head[0] != 23 || !fits(record_length(head), call->wrote_length))
		return 0;
	count_evidence(o, c->id, m->task->pid, OLLY_SEND);
	if ((o->flags & TLS_NO_GUESS) || o->fits[OLLY_SEND] < GUESS_ENOUGH ||
	    o->fits[OLLY_RECV] < GUESS_ENOUGH || !(c->flags & S_ANNOUNCED))
		return 0;
	o->flags |= TLS_TOLD;
	return o->stand_in;
}

/* A socket event while no call of the library is open on the thread: are its bytes looked at? */
static __always_inline bool worth_a_look(struct tls_call *call, const struct conn *c,
					 const struct tls_move *m, bool nonblocking)
{
	if (!m->length)
		return false;
	if (call && m->direction == OLLY_RECV)
		call->heard_nonblocking = nonblocking;
	return c->looked < HELLO_LOOKS || (call && call->looks);
}

/* What it returns is check_sent()'s. */
static __always_inline u64 beside_tls(struct tls_call *call, struct conn *c, const struct tls_move *m,
				      const struct buffer *b)
{
	if (c->looked < HELLO_LOOKS)
		note_hello(c, m, b);
	if (!call || !call->looks)
		return 0;
	call->looks--;
	if (m->direction == OLLY_RECV)
		hear(call, c, b);
	else if (call->wrote)
		return check_sent(call, c, m, b);
	return 0;
}

/* A call for an object begins. */
static __always_inline void take_up(struct tls_call *call, struct tls_object *o, u64 object,
				    u64 cookie, u32 tgid)
{
	call->took_length = call->heard ? call->heard_length : 0;
	call->took = call->heard;
	call->heard = 0;
	if (o->sock || (o->flags & (TLS_STRANGE | TLS_RELEASED)))
		return;
	call->looks = GUESS_LOOKS;
	call->role = role_of_object(object, cookie);
	if (!o->stand_in) {
		o->fields = cookie;
		know_by_hello(o, object, cookie, tgid, call->role);
	}
}

static __always_inline void close_stand_in(struct tls_object *o)
{
	struct olly_close_record *r;
	void *ring;

	if (!o->stand_in)
		return;
	ring = this_ring();
	r = ring ? bpf_ringbuf_reserve(ring, sizeof(*r), 0) : NULL;
	if (r) {
		fill_header(&r->h, OLLY_REC_CLOSE, 0, sizeof(*r), bpf_ktime_get_ns());
		r->sock = o->stand_in;
		r->recv_pos = o->position[OLLY_RECV];
		r->send_pos = o->position[OLLY_SEND];
		r->error = 0;
		r->reserved = 0;
		bpf_ringbuf_submit(r, submit_flags());
	} else {
		count_drop(OLLY_DROP_RING_FULL, 0);
	}
	o->stand_in = 0;
}

/*
 * Plaintext of an object without a socket was moved, `dir`. True: it is told under a number of its
 * own. Only of one that surely has no socket within its calls: a write that touched none, or a read
 * right after the thread itself has received records.
 */
static __always_inline bool stand_in_for(struct tls_call *call, struct tls_object *o,
					 struct task_struct *task, u32 dir, u64 length)
{
	struct olly_open_record *r;
	void *ring;
	u64 now;

	if (call->touched)
		return false;
	if (dir == OLLY_SEND || call->took)
		o->flags |= TLS_APART;
	if (!(o->flags & TLS_APART))
		return false;
	if (!o->stand_in) {
		now = bpf_ktime_get_ns();
		ring = this_ring();
		r = ring ? bpf_ringbuf_reserve(ring, sizeof(*r), 0) : NULL;
		if (!r)
			return false;
		__builtin_memset(r, 0, sizeof(*r));
		o->guess = 0;
		if (o->flags & TLS_FRESH) {
			/* written before its ClientHello went out: early data */
			o->position[OLLY_SEND] = o->missed[OLLY_SEND];
			o->position[OLLY_RECV] = o->missed[OLLY_RECV];
		} else {
			o->position[OLLY_SEND] = o->position[OLLY_RECV] = TLS_SOMEWHERE;
		}
		/* no socket has such a cookie, and no other process such a number */
		o->stand_in = 1ull << 63 | (u64)(u32)task->tgid << 40 | (now >> 4 & 0xffffffffffull);
		fill_header(&r->h, OLLY_REC_OPEN, OLLY_OPEN_MET, sizeof(*r), now);
		stamp_task(&r->task, task, now, 0);
		r->sock = o->stand_in;
		r->recv_pos = o->position[OLLY_RECV];
		r->send_pos = o->position[OLLY_SEND];
		r->role = call->role;
		bpf_ringbuf_submit(r, submit_flags());
	}
	if (dir == OLLY_RECV) {
		if (!call->crowded && call->took_length && fits(call->took_length, length))
			count_evidence(o, call->took, task->pid, OLLY_RECV);
	} else if (!call->wrote && length <= 16384) {
		call->wrote = call->object;
		call->wrote_length = length;
	} else if (call->wrote && call->wrote != call->object) {
		call->crowded = 1;
	}
	return true;
}

#endif
