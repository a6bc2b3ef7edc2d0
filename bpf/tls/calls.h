/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * TLS: which call of a library runs on a thread, and which socket its connection is.
 *
 * A call is open from its arguments' site to a result site (src/hook/ebpf/tls/sites.h). A socket
 * event of the same thread in between says which socket the library's object stands for. It is
 * believed once the bytes begin like a record of TLS: a call that was left in a way nobody foresaw
 * must not claim the sockets that come after it.
 *
 * Plaintext has positions of its own, kept with the object: 0 is the first byte where the object
 * was made under our eyes, else they go on from where the ciphertext stands.
 */
#ifndef OLLY_BPF_TLS_CALLS_H
#define OLLY_BPF_TLS_CALLS_H

#include "common/buffer.h"
#include "common/conn.h"
#include "common/io.h"

#define TLS_FRESH 0x1u	  /* made under our eyes, not bound yet */
#define TLS_RELEASED 0x2u /* freed, unless another reference lives on */
#define TLS_STRANGE 0x4u  /* two sockets, or shares one: nothing is said of it any more */
#define TLS_APART 0x8u	  /* the program moves its ciphertext itself (memory BIOs) */
#define TLS_TOLD 0x10u	  /* the reader knows which socket its stand-in stands for */
#define TLS_NO_GUESS 0x20u /* something spoke against the socket that it seemed to have */

/* Where counting begins when the beginning was not seen and no socket says: anywhere but at 0. */
#define TLS_SOMEWHERE (1ull << 32)

/* In place of a socket: over which one ClientHello went (a relay in the same program); on which one
 * thread has received. */
#define TWO_SOCKETS (~0ull)

struct tls_call {
	u64 object;
	u64 buffer;
	u64 count; /* where the function will put the number of bytes */
	u64 sp; /* when the function was entered */
	u64 sock; /* the object's, as far as it is known */
	u64 length;
	u32 kind;     /* enum olly_tls_kind; 0 = no call is open */
	u32 received; /* a socket event of it brought bytes; 1 + whether it could not have slept */
	/* For what the program moves itself (beside.h). */
	u64 heard; /* the socket whose records were received last and not taken by a call yet */
	u64 took;  /* the one that the latest call took */
	u64 wrote; /* the object that was given plaintext, until the thread sends */
	u32 heard_length;
	u32 took_length;
	u32 wrote_length;
	u32 looks; /* at socket events, to come */
	u32 role;  /* of an object that has no socket: enum olly_role */
	u8 heard_nonblocking;
	u8 crowded; /* the order of its calls says nothing on this thread */
	u8 touched; /* a socket was moved within the call */
	u8 pad;
	/* The last socket event that brought bytes: was it one that could not have slept? */
	u32 recv_nonblocking;
	u64 recv_sock;
	/* The socket on which the thread has received a record since the library's last call, if it
	 * has received on no other one; how deep in the stack; where its plaintext stands. For sites
	 * that stand alone. */
	u64 seen;
	u64 seen_sp;
	u64 seen_position[2];
	/* Said of an object by such a site, and not yet noted in the socket's state. */
	u64 claimed;
	u64 claimed_object;
};

/* A call of the thread's has moved bytes on a socket. */
struct tls_move {
	struct task_struct *task;
	u32 direction;
	u32 length;
};

struct tls_key {
	u64 object;
	u64 tgid;
};

struct tls_object {
	u64 sock;
	u64 last; /* its socket before it was cleared: positions are that one's */
	u64 position[2];
	u32 flags;
	u32 nonblocking;
	u64 missed[2]; /* plaintext of a fresh object before its socket was known */
	u64 stand_in; /* in place of a socket; see beside.h for the rest */
	union {
		u64 guess;  /* with a stand-in */
		u64 fields; /* else: where in the object its ClientHello is, as cookies say it */
	};
	u32 tid;
	u8 tries;
	u8 fits[2]; /* records, by olly_direction */
	u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tls_call);
} tls_calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, OLLY_TLS_OBJECTS);
	__type(key, struct tls_key);
	__type(value, struct tls_object);
} tls_objects SEC(".maps");

static __always_inline struct tls_object *object_of(u64 object, u32 tgid)
{
	struct tls_key key = {.object = object, .tgid = tgid};

	return bpf_map_lookup_elem(&tls_objects, &key);
}

/* Copied from here: stack is dear. */
const volatile struct tls_object no_object SEC(".rodata.object") = {};

/* One that is met in its middle. */
static __always_inline struct tls_object *new_object(u64 object, u32 tgid)
{
	struct tls_key key = {.object = object, .tgid = tgid};

	bpf_map_update_elem(&tls_objects, &key, (const void *)&no_object, BPF_NOEXIST);
	return bpf_map_lookup_elem(&tls_objects, &key);
}

/* False: there are not so many in one piece. */
static __noinline bool first_bytes(const struct buffer *b, u8 *to, u32 size)
{
	struct user_iovec v;
	u64 base = b->base;

	if (b->kind == BUFFER_IOVEC) {
		if (!b->count || bpf_probe_read_user(&v, sizeof(v), (const void *)base) ||
		    v.len < size)
			return false;
		base = v.base;
	} else if (b->kind != BUFFER_PLAIN) {
		return false;
	}
	return !bpf_probe_read_user(to, size, (const void *)base);
}

static __always_inline u32 record_length(const u8 *head)
{
	return (u32)head[3] << 8 | head[4];
}

/* The head of a record (RFC 8446 section 5.1). */
#define TLS_HEAD 5
static __always_inline bool is_record(const u8 *head)
{
	u32 length = record_length(head);

	return head[0] >= 20 && head[0] <= 24 && head[1] == 3 && head[2] <= 4 && length &&
	       length <= 16384 + 2048;
}

static __always_inline bool begins_a_record(const struct tls_move *m, const struct buffer *b)
{
	u8 head[TLS_HEAD];

	return m->length >= TLS_HEAD && first_bytes(b, head, sizeof(head)) && is_record(head);
}

/* Where plaintext begins on a connection that is met in its middle. */
static __always_inline void place_object(u64 *position, struct conn *c, struct sock *sk,
					 const struct tls_move *m)
{
	if (c->flags & S_UNIX) {
		position[OLLY_SEND] = c->end[OLLY_SEND];
		position[OLLY_RECV] = c->end[OLLY_RECV];
	} else if (c->flags & S_KNOWN) {
		struct tcp_sock *tp = tcp_of(sk);

		position[OLLY_SEND] = tcp_sent(sk, tp, c->first[OLLY_SEND]);
		position[OLLY_RECV] = tcp_received(sk, tp, c->first[OLLY_RECV]);
	}
	if (position[m->direction & 1] > m->length)
		position[m->direction & 1] -= m->length;
	/* never 0, which means: seen from the beginning */
	position[OLLY_SEND] += !position[OLLY_SEND];
	position[OLLY_RECV] += !position[OLLY_RECV];
}

/*
 * Another object on a socket that had one: a child's copy, or the same one cleared. Its plaintext
 * goes on where the other's ended; where that is not known (false), nothing is said of it.
 */
static __always_inline bool follow_object(u64 *position, const struct tls_object *known,
					  struct conn *c, u64 object, u32 tgid)
{
	struct tls_key key = {.object = c->tls_object, .tgid = c->tls_tgid};
	const struct tls_object *other = known;

	if (!known || known->last != c->id) {
		other = bpf_map_lookup_elem(&tls_objects, &key);
		if (!other || other->sock != c->id ||
		    (c->tls_tgid == tgid && c->tls_object != object &&
		     !(other->flags & TLS_RELEASED)))
			return false; /* forgotten; or TLS within TLS */
	}
	position[OLLY_SEND] = other->position[OLLY_SEND];
	position[OLLY_RECV] = other->position[OLLY_RECV];
	return true;
}

/* The object's socket is found: its id, or 0 where that cannot be. */
static __noinline u64 bind_object(u64 object, struct conn *c, struct sock *sk,
				  const struct tls_move *m)
{
	struct tls_object *o = object_of(object, m->task->tgid);
	u64 position[2] = {}, stand_in;
	bool sure = true;

	if (o && o->sock == c->id) {
		o->flags &= ~TLS_RELEASED;
		return o->flags & TLS_STRANGE ? 0 : c->id;
	}
	if (o && o->sock && !(o->flags & TLS_RELEASED)) {
		o->flags |= TLS_STRANGE;
		return 0;
	}
	/* what is released, and has another socket now, is new memory at an old address */
	if (c->flags & S_TLS) {
		sure = follow_object(position, o, c, object, m->task->tgid);
	} else if (o && (o->flags & TLS_FRESH)) {
		position[OLLY_SEND] = o->missed[OLLY_SEND];
		position[OLLY_RECV] = o->missed[OLLY_RECV];
	} else {
		place_object(position, c, sk, m);
	}
	if (!o)
		o = new_object(object, m->task->tgid);
	if (!o)
		return 0;
	stand_in = o->stand_in;
	__builtin_memset(o, 0, sizeof(*o));
	o->stand_in = stand_in;
	o->position[OLLY_SEND] = position[OLLY_SEND];
	o->position[OLLY_RECV] = position[OLLY_RECV];
	o->sock = c->id;
	if (!sure) {
		o->flags = TLS_STRANGE;
		return 0;
	}
	c->tls_object = object;
	c->tls_tgid = m->task->tgid;
	c->flags |= S_TLS;
	return c->id;
}

/*
 * A record came in while no call was open. It may be within a call whose only site is at its end.
 * Looked at only as long as the connection is young; afterwards the answer is known.
 */
static __noinline void note_seen(struct tls_call *call, struct conn *c, struct sock *sk,
				 const struct tls_move *m)
{
	u64 position[2] = {};

	c->heard++;
	if (call->seen == TWO_SOCKETS)
		return;
	place_object(position, c, sk, m);
	call->seen = c->id;
	call->seen_position[0] = position[0];
	call->seen_position[1] = position[1];
}

/* Nothing says which socket is the object's. */
static __always_inline bool unsure_of(const struct tls_object *o)
{
	return !o || !o->sock || (o->flags & TLS_RELEASED);
}

/*
 * A call has read from an object whose socket is not known, and what this thread has received since
 * the call before it is a record on one socket, deeper in the stack than the call's frame: it was
 * within the call.
 */
static __always_inline struct tls_object *claim(struct tls_call *call, struct tls_object *o,
						u64 object, u32 tgid, u64 sp)
{
	struct tls_key key = {.object = object, .tgid = tgid};
	struct tls_object bound = {};

	if (!call->seen || call->seen == TWO_SOCKETS || call->seen_sp >= sp ||
	    (o && (o->flags & (TLS_STRANGE | TLS_APART))))
		return o;
	bound.sock = call->seen;
	bound.nonblocking = call->recv_nonblocking;
	if (o)
		bound.stand_in = o->stand_in;
	if (!o || !(o->flags & TLS_FRESH)) {
		bound.position[0] = call->seen_position[0];
		bound.position[1] = call->seen_position[1];
	} else {
		bound.position[0] = o->missed[0];
		bound.position[1] = o->missed[1];
	}
	call->claimed = call->seen;
	call->claimed_object = object;
	call->seen = 0;
	bpf_map_update_elem(&tls_objects, &key, &bound, BPF_ANY);
	return bpf_map_lookup_elem(&tls_objects, &key);
}

/*
 * A socket event: is it that of a TLS call on this thread? `b` are its bytes, `sp` the stack
 * pointer of the system call.
 */
static __always_inline bool within_tls(struct tls_call *call, struct conn *c, struct sock *sk,
				       const struct tls_move *m, const struct buffer *b, u64 sp)
{
	if (sp >= call->sp)
		return false; /* behind it */
	call->touched = 1;
	if (call->sock != c->id) {
		if (!begins_a_record(m, b))
			return false;
		call->sock = bind_object(call->object, c, sk, m);
	}
	return call->sock == c->id;
}

#endif
