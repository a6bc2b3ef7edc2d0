/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * TLS: the programs at the probed sites of a library. The cookie says which function it is.
 */
#ifndef OLLY_BPF_TLS_PROBES_H
#define OLLY_BPF_TLS_PROBES_H

#include "tls/beside.h"

/*
 * From 6.13 on a uprobe's program has a stack per CPU, and may be preempted in its middle, by
 * another one that takes the same stack; or with the lane open. So the programs forbid it first of
 * all. No global function may be called meanwhile: kernels before 6.15 refuse that. Where the two
 * functions are missing (before 6.11) the loader takes the programs without them: 5.15 refuses a call
 * of what it does not have, also where it is never made.
 */
extern void bpf_preempt_disable(void) __ksym __weak;
extern void bpf_preempt_enable(void) __ksym __weak;

#define TLS_PROGRAM(name, body)                                                                    \
	SEC("uprobe")                                                                              \
	int name(struct pt_regs *ctx)                                                              \
	{                                                                                          \
		if (setup.preempt_kfuncs)                                                          \
			bpf_preempt_disable();                                                     \
		body(ctx);                                                                         \
		if (setup.preempt_kfuncs)                                                          \
			bpf_preempt_enable();                                                      \
		return 0;                                                                          \
	}                                                                                          \
	SEC("uprobe")                                                                              \
	int name##_bare(struct pt_regs *ctx)                                                       \
	{                                                                                          \
		body(ctx);                                                                         \
		return 0;                                                                          \
	}

/*
 * A general register by its machine number. The asm keeps the compiler from making one load of a
 * computed address of these: the verifier allows none.
 */
#define REGISTER(n, name)                                                                          \
	case n:                                                                                    \
		value = regs->name;                                                                \
		asm volatile("# " #name : "+r"(value));                                            \
		break

static __always_inline u64 register_of(struct pt_regs *regs, u32 number)
{
	u64 value = 0;

	switch (number) {
		REGISTER(0, ax);
		REGISTER(1, cx);
		REGISTER(2, dx);
		REGISTER(3, bx);
	case OLLY_TLS_NOTHING:
		value = -1;
		break;
		REGISTER(5, bp);
		REGISTER(6, si);
		REGISTER(7, di);
		REGISTER(8, r8);
		REGISTER(9, r9);
		REGISTER(10, r10);
		REGISTER(12, r12);
		REGISTER(13, r13);
		REGISTER(14, r14);
		REGISTER(15, r15);
	}
	return value;
}

/* By enum olly_tls_kind's places: a register, or a word of the stack. */
static __noinline u64 value_at(struct pt_regs *regs, u32 place)
{
	if (place >= OLLY_TLS_WORD)
		return user_u64(regs->sp + 8 * (u64)(place - OLLY_TLS_WORD));
	return register_of(regs, place);
}

/* A condition of x86 by its code (Intel's manual, volume 1, appendix B). */
static __always_inline bool holds(u64 flags, u32 condition)
{
	const bool carry = flags & 0x1, parity = flags & 0x4, zero = flags & 0x40,
		   sign = flags & 0x80, overflow = flags & 0x800;
	bool is = false;

	switch (condition >> 1) {
	case 0:
		is = overflow;
		break;
	case 1:
		is = carry;
		break;
	case 2:
		is = zero;
		break;
	case 3:
		is = carry || zero;
		break;
	case 4:
		is = sign;
		break;
	case 5:
		is = parity;
		break;
	case 6:
		is = sign != overflow;
		break;
	case 7:
		is = zero || sign != overflow;
		break;
	}
	return is != (condition & 1);
}

/* What of the object is known from now on; its handshake is about to begin. */
static __always_inline void on_begin(struct tls_object *o, u64 object, u32 tgid, u64 cookie)
{
	struct tls_key key = {.object = object, .tgid = tgid};
	struct tls_object fresh = {.flags = TLS_FRESH, .fields = cookie};
	const u32 kind = cookie & 0xff;

	if (o && kind == OLLY_TLS_BEGIN && !(o->flags & TLS_RELEASED))
		return;
	if (o)
		close_stand_in(o);
	if (!o || (o->flags & TLS_STRANGE)) {
		bpf_map_update_elem(&tls_objects, &key, &fresh, BPF_ANY);
		return;
	}
	if (o->sock)
		o->last = o->sock;
	o->sock = 0;
	o->missed[OLLY_SEND] = o->missed[OLLY_RECV] = 0;
	o->fields = cookie;
	o->tries = o->fits[0] = o->fits[1] = 0;
	o->flags = TLS_FRESH;
}

static __always_inline void on_call(struct pt_regs *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 cookie = bpf_get_attach_cookie(ctx);
	u32 kind = cookie & 0xff;
	struct tls_object *o;
	struct tls_call *call;
	u64 object = ctx->di, length = ctx->dx, fourth = ctx->cx;

	/* read here and once, see REGISTER */
	asm volatile("" : "+r"(length), "+r"(fourth));
	if (!object || !(process_verdict(task->tgid).flags & VERDICT_OBSERVE))
		return;
	o = object_of(object, task->tgid);
	if (kind == OLLY_TLS_CLEAR || kind == OLLY_TLS_BEGIN) {
		on_begin(o, object, task->tgid, cookie);
		return;
	}
	if (kind == OLLY_TLS_FIRST && (!o || (o->flags & TLS_RELEASED))) {
		struct tls_key key = {.object = object, .tgid = (u32)task->tgid};
		struct tls_object fresh = {.flags = TLS_FRESH, .fields = cookie};

		bpf_map_update_elem(&tls_objects, &key, &fresh, BPF_ANY);
		return;
	}
	if (kind == OLLY_TLS_FREE) {
		if (o) {
			close_stand_in(o);
			o->flags |= TLS_RELEASED;
		}
		return;
	}
	if (!o)
		o = new_object(object, task->tgid);
	if (kind == OLLY_TLS_GIVE_UP && o)
		o->flags |= TLS_STRANGE;
	call = bpf_task_storage_get(&tls_calls, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!call || !o) {
		count_drop(OLLY_DROP_NO_STATE, 0);
		return;
	}
	if ((kind == OLLY_TLS_HANDSHAKE || kind == OLLY_TLS_FIRST) && call->kind &&
	    call->object == object && ctx->sp < call->sp) {
		/* the library's own, within the call that is open: that one goes on */
		if (kind == OLLY_TLS_FIRST && !o->sock && !o->stand_in && !o->flags)
			o->flags = TLS_FRESH;
		return;
	}
	call->seen = 0;
	take_up(call, o, object, cookie, task->tgid);
	if (kind == OLLY_TLS_HANDSHAKE || kind == OLLY_TLS_GIVE_UP || kind == OLLY_TLS_FIRST) {
		call->kind = 0;
		return;
	}
	call->object = object;
	call->buffer = ctx->si;
	call->length = length;
	if (kind == OLLY_TLS_READ || kind == OLLY_TLS_WRITE)
		call->length = (u32)length;
	if (kind == OLLY_TLS_SENDFILE) {
		call->buffer = 0;
		call->length = fourth;
	}
	call->count = fourth;
	call->sp = ctx->sp + (cookie >> OLLY_TLS_DEPTH_SHIFT) * 8;
	call->sock = !(o->flags & (TLS_RELEASED | TLS_STRANGE)) ? o->sock : 0;
	call->received = 0;
	call->touched = 0;
	call->kind = kind;
}

TLS_PROGRAM(olly_tls_call, on_call)

/* The lane is taken: the beginning of the bytes at least. */
static __always_inline int store_plaintext_aside(const struct io *io, const struct olly_task *task,
						 u64 address, u32 want)
{
	enum { MOST = 1024 };
	struct olly_io_record *rec;
	u64 captured = want;
	void *ring = this_ring();
	u16 flags = io->flags;

	rec = ring ? bpf_ringbuf_reserve(ring, sizeof(*rec) + MOST, 0) : NULL;
	if (!rec)
		return -ENOSPC;
	BOUND_BY(captured, MOST);
	if (captured && bpf_probe_read_user(rec + 1, captured, (const void *)address)) {
		captured = 0;
		flags |= OLLY_IO_FAULT;
	}
	fill_io(rec, io, task, sizeof(*rec) + MOST, captured, flags);
	bpf_ringbuf_submit(rec, submit_flags());
	return 0;
}

/* As store_plain of common/store.h, but for that it calls no global function: not everywhere is
 * that allowed while preemption is off. */
static __always_inline int store_plaintext(const struct io *io, const struct olly_task *task,
					   u64 address, u32 want)
{
	struct olly_io_record *rec;
	u64 captured = want;
	u16 flags = io->flags;
	struct place at;
	int err = open_lane(&at, want);

	if (err == -EBUSY)
		return store_plaintext_aside(io, task, address, want);
	if (err)
		return err;
	rec = record_at(&at);
	BOUND(captured);
	if (captured && bpf_probe_read_user(rec + 1, captured, (const void *)address)) {
		captured = 0;
		flags |= OLLY_IO_FAULT;
	}
	fill_io(rec, io, task, RECORD_SIZE(captured), captured, flags);
	close_lane(&at, RECORD_SIZE(captured), io->now);
	return 0;
}

/* `length` bytes of plaintext went through; 0: the peer has closed. */
static __always_inline void plaintext_moved(struct tls_object *o, struct task_struct *task,
					    const struct verdict *v, u32 dir, u64 buffer,
					    u64 length)
{
	const u64 sock = o->sock ? o->sock : o->stand_in;
	struct olly_policy *policy = policy_of(sock ^ OLLY_PLAINTEXT_POLICY);
	u64 start = o->position[dir & 1], want;
	struct olly_task stamp;
	struct io io = {};

	o->position[dir & 1] = start + length;
	if (control.off) /* counted on, so that what comes later is where it belongs */
		return;
	if (policy && policy->mode == OLLY_POLICY_QUIET)
		return;
	if (policy && length && start + length < policy->skip_until[dir & 1])
		return;
	io.now = bpf_ktime_get_ns();
	stamp_task(&stamp, task, io.now, v->goid_offset);
	io.sock = sock;
	io.direction = dir;
	io.position = start;
	io.length = length;
	io.flags = OLLY_IO_PLAINTEXT;
	if (!length)
		io.flags |= OLLY_IO_EOF;
	if (dir == OLLY_RECV && o->nonblocking)
		io.flags |= OLLY_IO_NONBLOCK;
	io.limit = control.max_copy;
	if (policy) {
		u64 until = policy->skip_until[dir & 1];

		if (io.limit > policy->max_copy)
			io.limit = policy->max_copy;
		if (until > start)
			io.skip = until - start > length ? length : until - start;
	}
	want = length - io.skip;
	if (!buffer) {
		want = 0;
		io.flags |= OLLY_IO_NO_BUFFER;
	}
	if (want > io.limit)
		want = io.limit;
	if (want > OLLY_MAX_COPY)
		want = OLLY_MAX_COPY;
	if (store_plaintext(&io, &stamp, buffer + io.skip, want))
		count_drop(OLLY_DROP_RING_FULL, length);
}

/* Of a process on which nobody has decided yet, what is not read is no loss. */
static __always_inline bool known_to_be_observed(u32 tgid)
{
	struct olly_process *p = bpf_map_lookup_elem(&processes, &tgid);

	return p && p->observe;
}

/* At such a site nothing is known of what happened within the call: only of an object that surely
 * has its ciphertext moved by the program. */
static __always_inline bool alone_beside(struct tls_call *call, struct tls_object *o,
					 struct task_struct *task, u64 object, u32 dir, u64 moved)
{
	if (!call)
		return false;
	call->took = call->heard;
	call->took_length = call->heard ? call->heard_length : 0;
	call->heard = 0;
	call->looks = GUESS_LOOKS;
	call->object = object;
	call->touched = 0;
	call->role = OLLY_ROLE_UNKNOWN;
	if (!(o->flags & TLS_APART) && (dir == OLLY_SEND || !call->took))
		return false;
	return stand_in_for(call, o, task, dir, moved);
}

/* A site at which all is at hand: nothing was noted when the call began. */
static __always_inline void on_alone(struct pt_regs *ctx, struct task_struct *task,
				     struct tls_call *call, u64 cookie, s32 result)
{
	u32 kind = cookie & 0xff, check = (cookie >> 44) & 0xff, dir;
	struct verdict v = {}; /* a library's caller is a thread, whatever it is written in */
	u64 object, moved;
	struct tls_object *o;

	if (check != OLLY_TLS_NOWHERE && (u32)value_at(ctx, check) != ((cookie >> 52) & 0xff))
		return; /* another function, which ends here, too */
	if (call && (result <= 0 || control.off))
		call->seen = 0; /* what came is not whole; or others came that were not looked at */
	if (result <= 0) {
		if (call)
			call->heard = 0; /* it was for this call, and not whole */
		return;
	}
	object = value_at(ctx, (cookie >> 20) & 0xff);
	if (!(process_verdict(task->tgid).flags & VERDICT_OBSERVE))
		return;
	moved = user_u64(value_at(ctx, (cookie >> 36) & 0xff));
	if (!object || !moved || moved > 0x7fffffff)
		return; /* not what the function says of itself */
	dir = kind == OLLY_TLS_READ_EX ? OLLY_RECV : OLLY_SEND;
	o = object_of(object, task->tgid);
	if (o && !o->sock && !o->stand_in && !(o->flags & (TLS_RELEASED | TLS_STRANGE)))
		know_by_hello(o, object, o->fields, task->tgid, role_of_object(object, o->fields));
	if (call && dir == OLLY_RECV) {
		if (unsure_of(o))
			o = claim(call, o, object, task->tgid, ctx->sp);
		call->seen = 0; /* it was this call's */
	}
	if (!o)
		o = new_object(object, task->tgid);
	if (!o || (o->flags & (TLS_RELEASED | TLS_STRANGE)) ||
	    (!o->sock && !alone_beside(call, o, task, object, dir, moved))) {
		if (o && !o->sock)
			o->missed[dir & 1] += moved;
		if (known_to_be_observed(task->tgid))
			count_drop(OLLY_DROP_TLS_NO_SOCKET, 0);
		return;
	}
	if (call && (o->flags & TLS_APART))
		o->nonblocking = call->heard_nonblocking;
	else if (call && call->recv_sock == o->sock)
		o->nonblocking = call->recv_nonblocking;
	plaintext_moved(o, task, &v, dir, value_at(ctx, (cookie >> 28) & 0xff), moved);
}

static __always_inline void on_result(struct pt_regs *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct tls_call *call = bpf_task_storage_get(&tls_calls, task, NULL, 0);
	u64 cookie = bpf_get_attach_cookie(ctx), moved;
	struct verdict v = {}; /* a library's caller is a thread, whatever it is written in */
	struct tls_object *o;
	u32 kind, dir;
	s32 result;

	result = register_of(ctx, (cookie >> 12) & 15);
	if ((cookie & OLLY_TLS_BRANCH) && holds(ctx->flags, (cookie >> 16) & 15)) {
		if (!(cookie & OLLY_TLS_ALONE))
			return; /* not the end yet */
		result = 0;
	}
	if (cookie & OLLY_TLS_ALONE) {
		if (call)
			call->kind = 0;
		on_alone(ctx, task, call, cookie, result);
		return;
	}
	if (!call || !call->kind || call->kind != (cookie & 0xff))
		return;
	if (ctx->sp + (cookie >> OLLY_TLS_RESULT_DEPTH_SHIFT) * 8 != call->sp)
		return; /* a call of the library's own, for its handshake */
	kind = call->kind;
	call->kind = 0;
	dir = kind == OLLY_TLS_READ || kind == OLLY_TLS_READ_EX ? OLLY_RECV : OLLY_SEND;
	moved = result;
	if (result < 0 || (!result && (kind != OLLY_TLS_READ || !call->length)))
		return;
	if (result && (kind == OLLY_TLS_READ_EX || kind == OLLY_TLS_WRITE_EX))
		moved = user_u64(call->count);
	if (moved > call->length || moved > 0x7fffffff || (!moved && dir == OLLY_SEND))
		return; /* not what the function says of itself; nothing was to be written */
	o = object_of(call->object, task->tgid);
	if (!o || call->sock != o->sock || (o->flags & (TLS_RELEASED | TLS_STRANGE)) ||
	    (!o->sock && !stand_in_for(call, o, task, dir, moved))) {
		if (o && !o->sock)
			o->missed[dir & 1] += moved;
		if (moved && known_to_be_observed(task->tgid))
			count_drop(OLLY_DROP_TLS_NO_SOCKET, 0);
		return;
	}
	if (o->flags & TLS_APART)
		o->nonblocking = call->heard_nonblocking;
	else if (call->received)
		o->nonblocking = call->received - 1;
	plaintext_moved(o, task, &v, dir, call->buffer, moved);
}

TLS_PROGRAM(olly_tls_result, on_result)

#endif
